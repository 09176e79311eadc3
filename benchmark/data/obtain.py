"""Parts of a dataset fetched from the first of their sources that works, unpacked beside the
dataset and moved into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from benchmark.data import download, hub, reading, unpack
from benchmark.data.download import Progress
from benchmark.data.events import Event, Job, Step
from benchmark.data.locations import NOTES, place, read_receipt, write_receipt
from benchmark.data.sources import Offer, Part
from benchmark.errors import MISSING, UserError


def obtain(job: Job) -> Iterator[Event]:
    """Fetch what a dataset lacks. Raises UserError where its licence was not accepted and where no
    source gives a part.
    """
    where = place(job.promise, job.root)
    missing = [
        part
        for part in job.promise.parts
        if not all(where.find(path).exists() for path in part.gives)
    ]
    if not missing:
        raise UserError(
            f"{job.name}: {where.own} lacks {reading.lacking(job.promise, where)[0]}; put it there",
            exit_code=MISSING,
        )
    if job.offline:
        raise UserError(
            f"{job.name} lacks {', '.join(missing[0].gives)} and --offline forbids to fetch it",
            exit_code=MISSING,
        )
    with _alone(job):
        for part in missing:
            yield from _part(job, part, where.own)


def _part(job: Job, part: Part, folder: Path) -> Iterator[Event]:
    """One part from the first of its offers that works."""
    offers = _chosen(job, part)
    by_hand = f"by hand: {part.by_hand} (into {folder})" if part.by_hand else ""
    if not offers:
        raise UserError(
            f"{job.name} cannot be fetched without your help; {by_hand or 'see its page'}",
            exit_code=MISSING,
        )
    _require_licence(job)
    reasons = []
    for offer in offers:
        try:
            yield from _from_offer(job, part, offer, folder)
            return
        except UserError as error:
            reasons.append(f"{offer.label}: {error}")
            yield Event(job.name, "note", reasons[-1])
    tried = f"{job.name}: no source gave {', '.join(part.gives)} ({'; '.join(reasons)})"
    raise UserError(
        "; ".join(filter(None, (tried, by_hand or _other_labels(part, offers)))), exit_code=MISSING
    )


def _chosen(job: Job, part: Part) -> tuple[Offer, ...]:
    """The offers of the label asked for; where a part has none of it, those that need no asking."""
    labels = {offer.label for each in job.promise.parts for offer in each.offers}
    if job.source and job.source not in labels:
        raise UserError(
            f"{job.name} has no source '{job.source}'; it has {', '.join(sorted(labels)) or 'none'}"
        )
    named = tuple(offer for offer in part.offers if offer.label == job.source)
    return named or tuple(offer for offer in part.offers if not offer.opt_in)


def _other_labels(part: Part, tried: Sequence[Offer]) -> str:
    others = [offer for offer in part.offers if offer not in tried]
    return f"try --source {others[0].label} ({others[0].doubt})" if others else ""


def _require_licence(job: Job) -> None:
    if not job.accepted:
        seen = f" ({job.promise.licence_seen})" if job.promise.licence_seen else ""
        raise UserError(
            f"the licence of {job.name} is: {job.promise.licence}{seen}; if you accept it, add --accept-licence {job.name}",
            exit_code=MISSING,
        )
    receipt = read_receipt(job.promise, job.root)
    if receipt.licence != job.promise.licence:
        write_receipt(job.promise, replace(receipt, licence=job.promise.licence), job.root)


def _from_offer(job: Job, part: Part, offer: Offer, folder: Path) -> Iterator[Event]:
    """Download, check, unpack beside the dataset's folder, and move into it: a part is whole or
    absent.
    """
    downloads, staging = (
        folder / ".fetching",
        folder / ".unpacking",
    )  # on the disk the images will be on
    file = downloads / _file_name(offer.url or "")
    if offer.url and not file.exists():
        yield from _steps(job, "download", offer.url, download.fetch(offer.url, file, job.patience))
    elif not offer.url:
        yield Event(job.name, "download", f"{offer.file} of {offer.repo}")
        file = hub.fetch(offer, downloads)
    if file.is_file():
        download.check(file, md5=offer.md5, sha256=offer.sha256)
    unpack.clear(staging)
    try:
        staging.mkdir(parents=True)
        yield from _unpacked(job, part, offer, file, staging)
        for path in part.gives:
            if not (folder / path).exists():
                _move(staging / path, folder / path)
    except OSError as error:
        raise download.full_disk(error, folder) from error
    finally:
        unpack.clear(staging)
    unpack.clear(downloads)


def _file_name(url: str) -> str:
    """What a url ends with, where that can be the name of a file."""
    name = PurePosixPath(urlsplit(url).path).name[-100:]
    return "download" if name in ("", "..") else name


def _unpacked(job: Job, part: Part, offer: Offer, file: Path, staging: Path) -> Iterator[Event]:
    """Bring what a part gives below `staging`, out of a file, an archive, an archive within it, or
    a folder of files.
    """
    if file.is_dir():
        for path in part.gives:
            _move(file / path, staging / path)
    elif not unpack.is_archive(file):
        _move(file, staging / part.gives[0])
    else:
        if offer.inner:
            yield from _steps(
                job, "unpack", file.name, unpack.unpack(file, staging, {offer.inner: "inner"})
            )
            file = staging / "inner"
        wanted = dict(zip(offer.holds or part.gives, part.gives, strict=True))
        yield from _steps(
            job, "unpack", offer.inner or file.name, unpack.unpack(file, staging, wanted)
        )


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _steps(job: Job, step: Step, text: str, progress: Iterator[Progress]) -> Iterator[Event]:
    for done, total in progress:
        yield Event(job.name, step, text, done, total)


@contextmanager
def _alone(job: Job) -> Iterator[None]:
    """Two processes must not prepare one dataset at a time."""
    from filelock import FileLock, Timeout

    notes = job.root / NOTES
    try:
        notes.mkdir(parents=True, exist_ok=True)
        with FileLock(notes / f"{job.promise.key}.lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"another process is preparing {job.name}; wait for it", exit_code=MISSING
        ) from error
    except OSError as error:
        raise download.full_disk(error, notes) from error
