"""Archives from strangers: only the wanted members are unpacked, and never outside their folder."""

from __future__ import annotations

import errno
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from benchmark.data import file_kinds
from benchmark.data.disk_space import full_disk, require_space, write
from benchmark.data.http_download import Progress
from benchmark.errors import MISSING, UserError
from benchmark.toml_text import is_text

CHUNK_BYTES = 1 << 20
HEADER_BYTES = 16 << 20  # more than any header of a tar needs, which is read whole
# What the libraries raise for bytes that are no archive.
BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(ValueError, LookupError, RuntimeError, MemoryError),
)


class BadArchive(Exception):
    """An archive that is refused; the message names it and says why."""


@dataclass(frozen=True)
class Limits:
    """What an archive may grow to: images are compressed already and hardly grow."""

    factor: int = 20  # of the archive's own size
    spare_bytes: int = 1 << 30
    files: int = 3_000_000  # ImageNet has 1.3 million


@dataclass(frozen=True)
class Member:
    """One entry of an archive; `open` is None for anything but a regular file or a folder."""

    name: str
    size: int
    folder: bool
    open: Callable[[], IO[bytes]] | None


@dataclass(frozen=True)
class Tar:
    """A stream for tarfile that refuses huge headers and positions beyond a limit.

    The limit holds for members that are skipped as well.
    """

    stream: IO[bytes]
    limit: int

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= HEADER_BYTES:
            raise OverflowError("a header without end")
        self._require(self.stream.tell() + size - HEADER_BYTES)
        return self.stream.read(size)

    def seek(self, position: int) -> int:
        self._require(position)
        return self.stream.seek(position)

    def tell(self) -> int:
        return self.stream.tell()

    def _require(self, position: int) -> None:
        if position > self.limit:
            raise OverflowError("a tar without end")


DEFAULT_LIMITS = Limits()


def unpack(
    archive: Path, into: Path, wanted: Mapping[str, str], limits: Limits = DEFAULT_LIMITS
) -> Iterator[Progress]:
    """Unpack the wanted files and folders of an archive below `into`, and yield progress.

    `wanted` maps a path in the archive, at any depth, to the path it gets. Raises BadArchive for
    one that is damaged or cut short, that holds a path or link leading out, that grows beyond the
    limits, or that lacks something, and UserError where the disk is full.
    """
    limit = archive.stat().st_size * limits.factor + limits.spare_bytes
    chooser = _chooser(wanted)
    done = 0
    try:
        with _opened(archive, limit) as (members, total):
            require_space(into.parent, total or archive.stat().st_size)
            for number, member in enumerate(members):
                target = chooser(_safe_parts(archive, member))
                if number >= limits.files:
                    raise OverflowError("files without end")
                if target is None or member.folder:
                    continue
                for written in _extract(archive, member, into / target):
                    done += written
                    if done > limit:
                        raise OverflowError("a file without end")
                yield done, total
    except OverflowError as error:
        raise _refused(archive, f"grows beyond {limit} bytes or {limits.files} files") from error
    except OSError as error:
        # No number: raised by a decompressor. EINVAL: an impossible position in the file.
        if error.errno in {None, errno.EINVAL}:
            raise _refused(archive, "is damaged or cut short") from error
        raise UserError(
            f"{archive} cannot be read ({error.strerror}); try again", exit_code=MISSING
        ) from error
    except BROKEN as error:
        raise _refused(archive, "is damaged or cut short") from error
    missing = [name for name, target in wanted.items() if not (into / target).exists()]
    if missing:
        raise _refused(archive, f"holds no '{missing[0]}'")


@contextmanager
def _opened(archive: Path, limit: int) -> Iterator[tuple[Iterator[Member], int | None]]:
    """The members of a zip or tar, and their size in all where the archive states it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield _zip_members(opened), sum(info.file_size for info in opened.infolist())
    else:
        with (
            file_kinds.unpacked(archive) as stream,
            tarfile.open(fileobj=Tar(stream, limit), mode="r:") as tar,  # type: ignore[call-overload]
        ):
            yield _tar_members(tar), None


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        # Any other Unix mode is that of a link or a device.
        plain = (info.external_attr >> 16) & 0o170000 in {0, 0o100000, 0o040000}

        def opened(info: zipfile.ZipInfo = info) -> IO[bytes]:
            return archive.open(info)

        yield Member(info.filename, info.file_size, info.is_dir(), opened if plain else None)


def _tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    while (info := archive.next()) is not None:
        # tarfile remembers every member, and there may be millions.
        archive.members.clear()  # type: ignore[attr-defined]

        def opened(info: tarfile.TarInfo = info) -> IO[bytes]:
            stream = archive.extractfile(info)
            assert stream, "a regular file can be opened"
            return stream

        yield Member(
            info.name, info.size, info.isdir(), opened if info.isreg() or info.isdir() else None
        )


def _safe_parts(archive: Path, member: Member) -> tuple[str, ...]:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name[:2]:
        raise _refused(archive, f"holds the path '{member.name}', which leads out of its folder")
    return path.parts


def _chooser(wanted: Mapping[str, str]) -> Callable[[tuple[str, ...]], str | None]:
    """A function from a member's path to the path it is unpacked to, None for the unwanted.

    Folders above a wanted path are dropped; where it occurs twice, the first one is taken.
    """
    paths = {PurePosixPath(name).parts: target for name, target in wanted.items()}
    above: dict[tuple[str, ...], tuple[str, ...]] = {}

    def target(parts: tuple[str, ...]) -> str | None:
        # Files that the archiver of macOS adds.
        if "__MACOSX" in parts or not parts or parts[-1].startswith("._"):
            return None
        for path, name in paths.items():
            for i in range(len(parts) - len(path) + 1):
                matches = parts[i : i + len(path)] == path
                if matches and above.setdefault(path, parts[:i]) == parts[:i]:
                    return str(PurePosixPath(name, *parts[i + len(path) :]))
        return None

    return target


def _extract(archive: Path, member: Member, target: Path) -> Iterator[int]:
    if member.open is None:
        raise _refused(archive, f"holds '{member.name}', a link or a device where a file should be")
    if "\0" in member.name or not is_text(member.name):
        raise _refused(archive, f"holds the name {member.name!a}, which is no text")
    with closing(member.open()) as source, _created(archive, member, target) as sink:
        while chunk := source.read(CHUNK_BYTES):
            write(sink, chunk, target.parent)
            yield len(chunk)


def _created(archive: Path, member: Member, target: Path) -> IO[bytes]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("xb")
    except FileExistsError as error:
        raise _refused(archive, f"holds '{member.name}' twice") from error
    except OSError as error:
        raise full_disk(error, target.parent) from error


def _refused(archive: Path, why: str) -> BadArchive:
    return BadArchive(f"{archive.name} {why}")


def clear(folder: Path) -> None:
    """Remove what an interrupted unpacking left."""
    shutil.rmtree(folder, ignore_errors=True)
