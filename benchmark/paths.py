"""Folders on disk; files written whole or not at all; whether a file is still the same."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import platformdirs

from benchmark.errors import UserError

PART = ".part"  # ends the name of a file that is being written
# A file that was changed so recently may be changed again within one tick of the file system's
# clock, which its stamp would not show.
SETTLED_S = 2.0


def cache_dir() -> Path:
    """The folder of what can be computed again, such as features; FSBENCH_CACHE sets it."""
    return Path(os.environ.get("FSBENCH_CACHE") or platformdirs.user_cache_path("fsbench"))


def data_dir() -> Path:
    """The folder of datasets in CoOp's layout; FSBENCH_DATA or --data-root set it."""
    return Path(os.environ.get("FSBENCH_DATA") or platformdirs.user_data_path("fsbench"))


def _umask() -> int:
    """The process's file mode mask; the system has no call that only reads it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path` so that readers see the old file or the whole new one.

    `durable` waits until the file and its name are on the disk, so that a power cut loses nothing;
    without it the last seconds can be lost. Raises UserError where the disk is full or read-only.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    except OSError as error:
        raise UserError(
            f"cannot write to {path.parent} ({error.strerror}); choose another folder or free it",
            stops=True,
        ) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
            # mkstemp gives 0600, which would lock out others who share the folder
            os.fchmod(stream.fileno(), 0o666 & ~_umask())
        os.replace(temporary, path)
        if durable:
            _flush_names(path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); nothing was left half-written", stops=True
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _flush_names(folder: Path) -> None:
    """Flush a folder, so that a rename in it is on the disk; some network file systems refuse."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def remove_parts(folder: Path, older_than_s: float = 3600) -> None:
    """Remove the unfinished files that killed writers left in `folder`.

    Ages are measured by the file system's clock, which may differ from this machine's.
    """
    parts = list(folder.glob(f".*{PART}"))
    if parts:
        now = clock_of(folder)
        for part in parts:
            with suppress(OSError):  # another process may be sweeping too
                if now - part.stat().st_mtime > older_than_s:
                    part.unlink()


def clock_of(folder: Path) -> float:
    """The time in seconds by the clock of the file system that holds `folder`.

    Ages of files are right by this clock, whichever machine wrote them.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock.", suffix=PART) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:  # a folder that may only be read
        return time.time()


def require_regular(path: Path | str) -> os.stat_result:
    """The state of a file; raises OSError for a pipe or a device, which may have no end."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return status


def stamp_of(path: Path | str) -> str:
    """What is another once a file has changed: size, time of its last writing, time of its last
    change of any kind, which a rename moves as well and no program can set back, and inode.
    """
    status = require_regular(path)
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"


def is_settled(path: Path | str, stamp: str) -> bool:
    """Whether a file that was just read is as its stamp said, and has been so for a while."""
    try:
        old = time.time() - os.stat(path).st_ctime > SETTLED_S
        return old and is_fine(stamp) and stamp == stamp_of(path)
    except OSError:
        return False


def is_fine(stamp: str) -> bool:
    """Whether the time of the last change has parts of a second; two changes within one second
    would else leave one stamp.
    """
    return not stamp.rsplit("-", 2)[1].endswith("0" * 9)
