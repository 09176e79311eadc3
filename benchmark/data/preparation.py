"""Getting datasets: fetched or adopted, checked, and written down. Nothing here prints; it yields
events.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.data import catalog, reading, verifying
from benchmark.data.download import STANDARD, Patience
from benchmark.data.events import Event, Job
from benchmark.data.listings import Listing
from benchmark.data.locations import Place, Receipt, place, receipt_file, there, write_receipt
from benchmark.data.obtain import obtain
from benchmark.data.sources import Generated
from benchmark.data.specs import spec
from benchmark.errors import MISSING, UserError
from benchmark.paths import data_dir, write_atomic


def prepare(
    names: Sequence[str],
    root: Path | None = None,
    accept_licences: Collection[str] = (),
    source: str | None = None,
    adopt_from: Path | None = None,
    verify: bool = False,
    offline: bool = False,
    patience: Patience = STANDARD,
) -> Iterator[Event]:
    """Get datasets, suites or "all" ready under the data root; what is ready already is only
    checked.

    `accept_licences` holds dataset names or "all": nothing is downloaded whose licence was not
    accepted. `source` prefers the offers of that label, also those that are opt-in. `adopt_from`
    takes a folder the user already has, where it lies. `verify` reads every image again. `offline`
    downloads nothing. A failure is an event with the step "failed" and a UserError, and the next
    dataset follows; unknown names raise at once.
    """
    promises = [spec(name) for name in catalog.expand(names)]
    accepted = frozenset(
        promise.name for promise in promises if {promise.name, "all"} & set(accept_licences)
    )
    where = root or data_dir()
    return _events(
        [
            Job(each, where, each.name in accepted, source, adopt_from, verify, offline, patience)
            for each in promises
        ]
    )


def _events(jobs: Sequence[Job]) -> Iterator[Event]:
    for job in jobs:
        try:
            yield from _prepared(job)
        except UserError as error:
            yield Event(job.name, "failed", str(error), error=error)


def _prepared(job: Job) -> Iterator[Event]:
    if isinstance(job.promise.source, Generated):
        yield Event(job.name, "ready", "drawn when asked for")
        return
    if job.adopt_from:
        yield _adopt(job, job.adopt_from)
    if reading.lacking(job.promise, place(job.promise, job.root)):
        yield from obtain(job)
    where = place(job.promise, job.root)
    listing = reading.listed(job.promise, where, contents=not job.verify)
    if listing.complaints:
        raise UserError(
            f"{job.name}: {listing.complaints[0]}; {_cure(job, where)}", exit_code=MISSING
        )
    if job.verify:
        yield from _verify(job, listing, where)
    yield from _write_down(
        job,
        replace(
            place(job.promise, job.root).receipt, listing=listing.digest(), sample=listing.sample()
        ),
    )
    counts = " / ".join(f"{len(rows)} {split}" for split, rows in listing.rows.items())
    yield Event(job.name, "ready", f"{counts} in {where.folders[0]}")


def _cure(job: Job, where: Place) -> str:
    if where.receipt.adopted:
        return f"correct {where.receipt.adopted}, or adopt another folder with --from"
    return f"delete what is wrong in {where.own} and prepare {job.name} again"


def _verify(job: Job, listing: Listing, where: Place) -> Iterator[Event]:
    """Read all images; what is wrong is remembered, so that no later reading of the dataset passes
    over it.
    """
    total, found = len(listing.keys()), []
    for line in verifying.lines(listing):
        found.append(line)
        yield Event(job.name, "verify", "every image is read", len(found), total)
    manifest = verifying.manifest(job.promise, job.root)
    wrong = verifying.complaint(job.promise, found, manifest)
    receipt = replace(
        place(job.promise, job.root).receipt, broken=wrong and f"verification failed: {wrong}"
    )
    yield from _write_down(job, receipt)
    if wrong:
        raise UserError(f"{job.name}: {wrong}; {_cure(job, where)}", exit_code=MISSING)
    if not manifest.exists():
        yield from _kept(job, manifest, "\n".join(found))


def _kept(job: Job, file: Path, text: str) -> Iterator[Event]:
    """Write a note of ours; a data root that cannot be written only loses the note."""
    try:
        write_atomic(file, text.encode())
    except UserError as error:
        yield Event(job.name, "note", f"what was found is not written down: {error}")


def _write_down(job: Job, receipt: Receipt) -> Iterator[Event]:
    if receipt != place(job.promise, job.root).receipt:
        yield from _kept(job, receipt_file(job.promise, job.root), receipt.text())


def _adopt(job: Job, given: Path) -> Event:
    """Point at a folder of the dataset, or at a data root that has one; what it lacks, a split file
    perhaps, is for us to get.
    """
    if not given.is_dir():
        raise UserError(
            f"{given} is no folder; give --from the folder that holds {job.name}", exit_code=MISSING
        )
    below: str = getattr(job.promise.source, "folder", ".")
    needed = reading.needs(job.promise)
    for folder in (given / below, given):
        if any(there(folder, path) for path in needed):
            write_receipt(job.promise, Receipt(adopted=str(folder.resolve())), job.root)
            return Event(job.name, "adopted", str(folder.resolve()))
    raise UserError(
        f"neither {given / below} nor {given} holds what {job.name} needs: {', '.join(needed)}",
        exit_code=MISSING,
    )
