"""One offer of a part: downloaded, checked, unpacked beside the dataset, and moved into place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from benchmark.data import coop_layout, file_kinds, http_download, hub_download, unpack
from benchmark.data.disk_space import full_disk, make, require_space
from benchmark.data.http_download import FileFacts, Progress
from benchmark.data.prepare_events import PrepareEvent, PrepareRequest, Step
from benchmark.data.sources import CoopFolder, Offer, Part
from benchmark.errors import MISSING, UserError

# In the dataset's folder, so that moving is renaming.
DOWNLOADS, STAGING = ".fetching", ".unpacking"


@dataclass(frozen=True)
class Download:
    """One file to fetch, where to, and what it must be."""

    url: str
    path: str  # below the folder of the offer's downloads
    facts: FileFacts
    md5: str | None = None
    sha256: str | None = None


def install(
    request: PrepareRequest, part: Part, offer: Offer, folder: Path
) -> Iterator[PrepareEvent]:
    """Put what a part gives into the dataset's folder, whole or not at all.

    What was downloaded and has the right checksum is kept until then. Raises UserError where the
    offer does not give the part.
    """
    wanted = _downloads(part, offer)
    of_part = folder / DOWNLOADS / _key(part.gives)
    below = of_part / _key([each.url for each in wanted])
    yield from _fetched(request, wanted, below)
    staging = folder / STAGING
    unpack.clear(staging)
    moved: dict[Path, Path] = {}
    try:
        make(staging)
        yield from _unpacked(request, part, offer, below, wanted, staging, moved)
        _require_listing(request, part, offer, staging)
        for path in part.gives:
            if not (folder / path).exists():
                _move(staging / path, folder / path)
    except unpack.BadArchive as error:
        raise _refused(offer, below, str(error)) from error
    except OSError as error:
        raise full_disk(error, folder) from error
    finally:
        _put_back(moved, wanted, below)
        unpack.clear(staging)
    unpack.clear(of_part)
    with suppress(OSError):  # another part's downloads are in it
        (folder / DOWNLOADS).rmdir()


def _downloads(part: Part, offer: Offer) -> list[Download]:
    """What an offer consists of: one file, or all that match its pattern."""
    if offer.repo and "*" in (offer.file or ""):
        secrets = hub_download.secrets()
        return [
            Download(
                file.url,
                file.path,
                FileFacts(file.size, file.sha256 is not None, secrets=secrets),
                sha256=file.sha256,
            )
            for file in hub_download.matching(offer)
        ]
    url = offer.url or hub_download.address(offer)
    name = _file_name(url)
    facts = FileFacts(
        offer.size,
        has_checksum=bool(offer.md5 or offer.sha256),
        copies=1 if _is_the_part(part, name) else 2 + bool(offer.inner),
        secrets=hub_download.secrets() if offer.repo else None,
    )
    return [Download(url, name, facts, offer.md5, offer.sha256)]


def _key(names: Sequence[str]) -> str:
    """Names a folder of downloads: two offers may give files of one name."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def _file_name(url: str) -> str:
    """What a url ends with, where that can be the name of a file."""
    name = PurePosixPath(urlsplit(url).path).name[-100:]
    return "download" if name in ("", "..") else name


def _is_the_part(part: Part, name: str) -> bool:
    """Whether the downloaded file itself is the part, by its name; else it is an archive."""
    given, fetched = PurePosixPath(part.gives[0]), PurePosixPath(name)
    same_kind = given.suffix == fetched.suffix if fetched.suffix else given.name == fetched.name
    return len(part.gives) == 1 and same_kind


def _fetched(
    request: PrepareRequest, wanted: Sequence[Download], below: Path
) -> Iterator[PrepareEvent]:
    """Fetch what is not there yet, and check it."""
    missing = [each for each in wanted if not (below / each.path).exists()]
    make(below)
    if len(missing) > 1:
        require_space(below, sum(each.facts.size or 0 for each in missing))
    for each in missing:
        progress = http_download.fetch(each.url, below / each.path, request.retries, each.facts)
        yield from _steps(request, "download", each.url, progress)
    for each in wanted:
        http_download.check(below / each.path, md5=each.md5, sha256=each.sha256)


def _unpacked(
    request: PrepareRequest,
    part: Part,
    offer: Offer,
    below: Path,
    wanted: Sequence[Download],
    staging: Path,
    moved: dict[Path, Path],
) -> Iterator[PrepareEvent]:
    """What a part gives, put below `staging`: from files, an archive, or an archive within one.

    Notes in `moved` which downloads lie there now: where they are -> where they were.
    """
    file = below / wanted[0].path
    if offer.repo and "*" in (offer.file or ""):
        _require_given(part, offer, below)
        moved |= {staging / path: below / path for path in part.gives}
    elif _is_the_part(part, file.name) or not file_kinds.is_archive(file):
        if not PurePosixPath(part.gives[0]).suffix or len(part.gives) > 1:
            raise unpack.BadArchive(f"{file.name} is neither a zip nor a tar")
        moved[staging / part.gives[0]] = file
    else:
        if offer.inner:
            inner = f".inner/{PurePosixPath(offer.inner).name}"
            yield from _steps(
                request, "unpack", file.name, unpack.unpack(file, staging, {offer.inner: inner})
            )
            file = staging / inner
        names = dict(zip(offer.holds or part.gives, part.gives, strict=True))
        yield from _steps(request, "unpack", file.name, unpack.unpack(file, staging, names))
    for target, source in moved.items():
        _move(source, target)


def _require_given(part: Part, offer: Offer, below: Path) -> None:
    """Raises UserError where the files that match a pattern lack something that the part gives."""
    for path in part.gives:
        if not (below / path).exists():
            raise UserError(
                f"{offer.file} of {offer.repo} holds no {path}; use another --source",
                exit_code=MISSING,
            )


def _put_back(moved: dict[Path, Path], wanted: Sequence[Download], below: Path) -> None:
    """Return downloads that did not reach their place; without a checksum they may be at fault, and
    are fetched anew.
    """
    left = {target: source for target, source in moved.items() if target.exists()}
    for target, source in left.items():
        _move(target, source)
    for each in wanted if left else ():
        if not (each.md5 or each.sha256):
            (below / each.path).unlink(missing_ok=True)


def _require_listing(request: PrepareRequest, part: Part, offer: Offer, staging: Path) -> None:
    """Raises UserError where a file that should list the images does not, as a login page."""
    source = request.spec.source
    if not isinstance(source, CoopFolder) or not source.split:
        return
    file = source.split.file
    if file in part.gives:
        problem = coop_layout.split_problem(request.spec, source.split, staging / file)
        if problem:
            raise UserError(
                f"{offer.url or offer.file} is not {file}: {problem}; use another --source",
                exit_code=MISSING,
            )


def _refused(offer: Offer, below: Path, why: str) -> UserError:
    """The error for an archive that cannot serve.

    It is deleted, so that the next attempt fetches it anew, unless its checksum says that the next
    one would be the same.
    """
    if offer.md5 or offer.sha256:
        kept = f"its checksum is right, so it is kept in {below}; use another --source"
        return UserError(f"{why}; {kept}", exit_code=MISSING)
    unpack.clear(below)
    return UserError(f"{why}; it was deleted", exit_code=MISSING)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _steps(
    request: PrepareRequest, step: Step, text: str, progress: Iterator[Progress]
) -> Iterator[PrepareEvent]:
    for done, total in progress:
        yield PrepareEvent(request.name, step, text, done, total)
