"""Getting datasets: fetched or adopted, checked, and written down. Nothing here prints; it yields
events.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.data import catalog, reading, verification
from benchmark.data.fetch_parts import fetch_missing_parts
from benchmark.data.http_download import STANDARD, RetryPolicy
from benchmark.data.image_rows import ImageRows
from benchmark.data.locations import (
    DatasetLocation,
    Receipt,
    dataset_location,
    receipt_file,
    there,
    write_receipt,
)
from benchmark.data.prepare_events import PrepareEvent, PrepareRequest
from benchmark.data.sources import Generated
from benchmark.data.specs import read_spec
from benchmark.errors import MISSING, UserError
from benchmark.paths import data_dir, write_atomic


def prepare_datasets(
    names: Sequence[str],
    root: Path | None = None,
    accept_licences: Collection[str] = (),
    source: str | None = None,
    adopt_from: Path | None = None,
    verify: bool = False,
    offline: bool = False,
    retries: RetryPolicy = STANDARD,
) -> Iterator[PrepareEvent]:
    """Get datasets, suites or "all" ready under the data root; what is ready already is only
    checked.

    `accept_licences` holds dataset names or "all": nothing is downloaded whose licence was not
    accepted. `source` prefers the offers of that label, also those that are opt-in. `adopt_from`
    takes a folder the user already has, where it lies. `verify` reads every image again. `offline`
    downloads nothing. A failure is an event with the step "failed" and a UserError, and the next
    dataset follows; unknown names raise at once.
    """
    specs = [read_spec(name) for name in catalog.expand(names)]
    accepted = frozenset(spec.name for spec in specs if {spec.name, "all"} & set(accept_licences))
    data_root = root or data_dir()
    return _events(
        [
            PrepareRequest(
                each, data_root, each.name in accepted, source, adopt_from, verify, offline, retries
            )
            for each in specs
        ]
    )


def _events(requests: Sequence[PrepareRequest]) -> Iterator[PrepareEvent]:
    for request in requests:
        try:
            yield from _prepared(request)
        except UserError as error:
            yield PrepareEvent(request.name, "failed", str(error), error=error)


def _prepared(request: PrepareRequest) -> Iterator[PrepareEvent]:
    if isinstance(request.spec.source, Generated):
        yield PrepareEvent(request.name, "ready", "drawn when asked for")
        return
    if request.adopt_from:
        yield _adopt(request, request.adopt_from)
    if reading.lacking(request.spec, dataset_location(request.spec, request.root)):
        yield from fetch_missing_parts(request)
    location = dataset_location(request.spec, request.root)
    rows = reading.read_rows(request.spec, location, contents=not request.verify)
    if rows.problems:
        raise UserError(
            f"{request.name}: {rows.problems[0]}; {_cure(request, location)}", exit_code=MISSING
        )
    if request.verify:
        yield from _verify(request, rows, location)
    yield from _write_down(
        request,
        replace(
            dataset_location(request.spec, request.root).receipt,
            listing=rows.digest(),
            sample=rows.sample(),
        ),
    )
    counts = " / ".join(f"{len(rows)} {split}" for split, rows in rows.by_split.items())
    yield PrepareEvent(request.name, "ready", f"{counts} in {location.folders[0]}")


def _cure(request: PrepareRequest, location: DatasetLocation) -> str:
    if location.receipt.adopted:
        return f"correct {location.receipt.adopted}, or adopt another folder with --from"
    return f"delete what is wrong in {location.own} and prepare {request.name} again"


def _verify(
    request: PrepareRequest, rows: ImageRows, location: DatasetLocation
) -> Iterator[PrepareEvent]:
    """Read all images; what is wrong is remembered, so that no later reading of the dataset passes
    over it.
    """
    total, found = len(rows.keys()), []
    for line in verification.lines(rows):
        found.append(line)
        yield PrepareEvent(request.name, "verify", "every image is read", len(found), total)
    manifest = verification.manifest(request.spec, request.root)
    wrong = verification.problem(request.spec, found, manifest)
    receipt = replace(
        dataset_location(request.spec, request.root).receipt,
        broken=wrong and f"verification failed: {wrong}",
    )
    yield from _write_down(request, receipt)
    if wrong:
        raise UserError(f"{request.name}: {wrong}; {_cure(request, location)}", exit_code=MISSING)
    if not manifest.exists():
        yield from _kept(request, manifest, "\n".join(found))


def _kept(request: PrepareRequest, file: Path, text: str) -> Iterator[PrepareEvent]:
    """Write a note of ours; a data root that cannot be written only loses the note."""
    try:
        write_atomic(file, text.encode())
    except UserError as error:
        yield PrepareEvent(request.name, "note", f"what was found is not written down: {error}")


def _write_down(request: PrepareRequest, receipt: Receipt) -> Iterator[PrepareEvent]:
    if receipt != dataset_location(request.spec, request.root).receipt:
        yield from _kept(request, receipt_file(request.spec, request.root), receipt.text())


def _adopt(request: PrepareRequest, given: Path) -> PrepareEvent:
    """Point at a folder of the dataset, or at a data root that has one; what it lacks, a split file
    perhaps, is for us to get.
    """
    if not given.is_dir():
        raise UserError(
            f"{given} is no folder; give --from the folder that holds {request.name}",
            exit_code=MISSING,
        )
    below: str = getattr(request.spec.source, "folder", ".")
    needed = reading.needs(request.spec)
    for folder in (given / below, given):
        if any(there(folder, path) for path in needed):
            write_receipt(request.spec, Receipt(adopted=str(folder.resolve())), request.root)
            return PrepareEvent(request.name, "adopted", str(folder.resolve()))
    raise UserError(
        f"neither {given / below} nor {given} holds what {request.name} needs: {', '.join(needed)}",
        exit_code=MISSING,
    )
