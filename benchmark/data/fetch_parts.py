"""Parts of a dataset, fetched from the first source that works, unpacked and moved into place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from benchmark.data import http_download, hub_download, reading, unpack
from benchmark.data.http_download import Progress
from benchmark.data.locations import (
    NOTES,
    DatasetLocation,
    dataset_location,
    read_receipt,
    write_receipt,
)
from benchmark.data.prepare_events import PrepareEvent, PrepareRequest, Step
from benchmark.data.sources import Offer, Part
from benchmark.errors import MISSING, UserError


def fetch_missing_parts(request: PrepareRequest) -> Iterator[PrepareEvent]:
    """Fetch what a dataset lacks.

    Raises UserError where its licence was not accepted and where no source gives a part.
    """
    location = dataset_location(request.spec, request.root)
    missing = [part for part in request.spec.parts if not _is_there(part, location)]
    if not missing:
        path = reading.missing_paths(request.spec, location)[0]
        raise UserError(
            f"{request.name}: {location.own} lacks {path}; put it there",
            exit_code=MISSING,
        )
    if request.offline:
        raise UserError(
            f"{request.name} lacks {', '.join(missing[0].gives)} and --offline forbids to fetch it",
            exit_code=MISSING,
        )
    with _alone(request):
        for part in missing:
            yield from _part(request, part, location.own)


def _is_there(part: Part, location: DatasetLocation) -> bool:
    return all(location.find(path).exists() for path in part.gives)


def _part(request: PrepareRequest, part: Part, folder: Path) -> Iterator[PrepareEvent]:
    """One part from the first of its offers that works."""
    offers = _chosen(request, part)
    by_hand = f"by hand: {part.by_hand} (into {folder})" if part.by_hand else ""
    if not offers:
        raise UserError(
            f"{request.name} cannot be fetched without your help; {by_hand or 'see its page'}",
            exit_code=MISSING,
        )
    _require_licence(request)
    reasons = []
    for offer in offers:
        try:
            yield from _from_offer(request, part, offer, folder)
            return
        except UserError as error:
            reasons.append(f"{offer.label}: {error}")
            yield PrepareEvent(request.name, "note", reasons[-1])
    tried = f"{request.name}: no source gave {', '.join(part.gives)} ({'; '.join(reasons)})"
    raise UserError(
        "; ".join(filter(None, (tried, by_hand or _other_labels(part, offers)))), exit_code=MISSING
    )


def _chosen(request: PrepareRequest, part: Part) -> tuple[Offer, ...]:
    """The offers of the requested label; of a part without any, those that are not opt-in."""
    labels = {offer.label for each in request.spec.parts for offer in each.offers}
    if request.source and request.source not in labels:
        raise UserError(
            f"{request.name} has no source '{request.source}'; "
            f"it has {', '.join(sorted(labels)) or 'none'}"
        )
    named = tuple(offer for offer in part.offers if offer.label == request.source)
    return named or tuple(offer for offer in part.offers if not offer.opt_in)


def _other_labels(part: Part, tried: Sequence[Offer]) -> str:
    others = [offer for offer in part.offers if offer not in tried]
    return f"try --source {others[0].label} ({others[0].doubt})" if others else ""


def _require_licence(request: PrepareRequest) -> None:
    if not request.licence_accepted:
        seen = f" ({request.spec.licence_seen})" if request.spec.licence_seen else ""
        raise UserError(
            f"the licence of {request.name} is: {request.spec.licence}{seen}; "
            f"if you accept it, add --accept-licence {request.name}",
            exit_code=MISSING,
        )
    receipt = read_receipt(request.spec, request.root)
    if receipt.licence != request.spec.licence:
        write_receipt(request.spec, replace(receipt, licence=request.spec.licence), request.root)


def _from_offer(
    request: PrepareRequest, part: Part, offer: Offer, folder: Path
) -> Iterator[PrepareEvent]:
    """Download, check, unpack in a folder beside, and move: a part is whole or absent."""
    # On the disk of the images, so that moving is renaming.
    downloads, staging = folder / ".fetching", folder / ".unpacking"
    file = downloads / _file_name(offer.url or "")
    if offer.url and not file.exists():
        yield from _steps(
            request, "download", offer.url, http_download.fetch(offer.url, file, request.retries)
        )
    elif not offer.url:
        yield PrepareEvent(request.name, "download", f"{offer.file} of {offer.repo}")
        file = hub_download.fetch(offer, downloads)
    if file.is_file():
        http_download.check(file, md5=offer.md5, sha256=offer.sha256)
    unpack.clear(staging)
    try:
        staging.mkdir(parents=True)
        yield from _unpacked(request, part, offer, file, staging)
        for path in part.gives:
            if not (folder / path).exists():
                _move(staging / path, folder / path)
    except OSError as error:
        raise http_download.full_disk(error, folder) from error
    finally:
        unpack.clear(staging)
    unpack.clear(downloads)


def _file_name(url: str) -> str:
    """What a url ends with, where that can be the name of a file."""
    name = PurePosixPath(urlsplit(url).path).name[-100:]
    return "download" if name in ("", "..") else name


def _unpacked(
    request: PrepareRequest, part: Part, offer: Offer, file: Path, staging: Path
) -> Iterator[PrepareEvent]:
    """What a part gives, put below `staging`: from a file, an archive, an archive within an
    archive, or a folder of files.
    """
    if file.is_dir():
        for path in part.gives:
            _move(file / path, staging / path)
    elif not unpack.is_archive(file):
        _move(file, staging / part.gives[0])
    else:
        if offer.inner:
            yield from _steps(
                request, "unpack", file.name, unpack.unpack(file, staging, {offer.inner: "inner"})
            )
            file = staging / "inner"
        wanted = dict(zip(offer.holds or part.gives, part.gives, strict=True))
        yield from _steps(
            request, "unpack", offer.inner or file.name, unpack.unpack(file, staging, wanted)
        )


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _steps(
    request: PrepareRequest, step: Step, text: str, progress: Iterator[Progress]
) -> Iterator[PrepareEvent]:
    for done, total in progress:
        yield PrepareEvent(request.name, step, text, done, total)


@contextmanager
def _alone(request: PrepareRequest) -> Iterator[None]:
    """Two processes must not prepare one dataset at a time."""
    from filelock import FileLock, Timeout

    notes = request.root / NOTES
    try:
        notes.mkdir(parents=True, exist_ok=True)
        with FileLock(notes / f"{request.spec.key}.lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"another process is preparing {request.name}; wait for it", exit_code=MISSING
        ) from error
    except OSError as error:
        raise http_download.full_disk(error, notes) from error
