"""Datasets made ready: fetched or adopted, checked, and recorded. Yields events, prints nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.data import catalog, reading, verification
from benchmark.data.fetch_parts import fetch_missing_parts
from benchmark.data.http_download import DEFAULT_RETRIES, RetryPolicy
from benchmark.data.image_rows import ImageRows
from benchmark.data.locations import (
    DatasetLocation,
    Receipt,
    dataset_location,
    read_receipt,
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
    retries: RetryPolicy = DEFAULT_RETRIES,
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
    requests = [
        PrepareRequest(
            spec=spec,
            root=data_root,
            licence_accepted=spec.name in accepted,
            source=source,
            adopt_from=adopt_from,
            verify=verify,
            offline=offline,
            retries=retries,
        )
        for spec in specs
    ]
    return _events(requests)


def _events(requests: Sequence[PrepareRequest]) -> Iterator[PrepareEvent]:
    for request in requests:
        try:
            yield from _prepared(request)
        except UserError as error:
            yield PrepareEvent(request.name, "failed", str(error), error=error)


def _prepared(request: PrepareRequest) -> Iterator[PrepareEvent]:
    if isinstance(request.spec.source, Generated):
        yield PrepareEvent(request.name, "ready", "generated when needed")
        return
    if request.adopt_from:
        yield _adopt(request, request.adopt_from)
    if reading.missing_paths(request.spec, dataset_location(request.spec, request.root)):
        yield from fetch_missing_parts(request)
    location = dataset_location(request.spec, request.root)
    rows = reading.read_rows(request.spec, location, contents=not request.verify)
    if rows.problems:
        raise UserError(
            f"{request.name}: {rows.problems[0]}; {_remedy(request, location)}", exit_code=MISSING
        )
    if request.verify:
        yield from _verify(request, rows, location)
    yield from _record(request, listing=rows.digest(), sample=rows.sample())
    sizes = " / ".join(f"{len(members)} {split}" for split, members in rows.by_split.items())
    yield PrepareEvent(request.name, "ready", f"{sizes} in {location.folders[0]}")


def _remedy(request: PrepareRequest, location: DatasetLocation) -> str:
    """What to do about wrong data; never to delete files that may be the user's only copy."""
    if location.receipt.adopted:
        return f"correct {location.receipt.adopted}, or adopt another folder with --from"
    if any(part.offers for part in request.spec.parts):
        return f"move {location.own} elsewhere and prepare {request.name} again to fetch it anew"
    return f"restore the files in {location.own} and prepare {request.name} again"


def _verify(
    request: PrepareRequest, rows: ImageRows, location: DatasetLocation
) -> Iterator[PrepareEvent]:
    """Read all images and record what is wrong, so that every later reading reports it."""
    total, lines = len(rows.keys()), []
    for line in verification.manifest_lines(rows):
        lines.append(line)
        yield PrepareEvent(request.name, "verify", "every image is read", len(lines), total)
    manifest = verification.manifest_file(request.spec, request.root)
    problem = verification.problem(request.spec, lines, manifest)
    yield from _record(request, broken=problem and f"verification failed: {problem}")
    if problem:
        raise UserError(
            f"{request.name}: {problem}; {_remedy(request, location)}", exit_code=MISSING
        )
    if not manifest.exists():
        yield from _write(request, manifest, "\n".join(lines))


def _record(request: PrepareRequest, **changes: str | None) -> Iterator[PrepareEvent]:
    """Change the receipt, if there is anything to change."""
    before = read_receipt(request.spec, request.root)
    after = replace(before, **changes)
    if after != before:
        yield from _write(request, receipt_file(request.spec, request.root), after.text())


def _write(request: PrepareRequest, file: Path, text: str) -> Iterator[PrepareEvent]:
    """Write a file of ours; a data root that cannot be written loses no more than that file."""
    try:
        write_atomic(file, text.encode())
    except UserError as error:
        yield PrepareEvent(request.name, "note", f"the result is not recorded: {error}")


def _adopt(request: PrepareRequest, given: Path) -> PrepareEvent:
    """Record a folder of the dataset, or of a data root that has one, as where its files are.

    What it lacks, such as a split file, is fetched into the data root.
    """
    if not given.is_dir():
        raise UserError(
            f"{given} is no folder; give --from the folder that holds {request.name}",
            exit_code=MISSING,
        )
    dataset_folder: str = getattr(request.spec.source, "folder", ".")
    required = reading.required_paths(request.spec)
    for folder in (given / dataset_folder, given):
        if any(there(folder, path) for path in required):
            write_receipt(request.spec, Receipt(adopted=str(folder.resolve())), request.root)
            return PrepareEvent(request.name, "adopted", str(folder.resolve()))
    raise UserError(
        f"neither {given / dataset_folder} nor {given} holds what {request.name} needs: "
        f"{', '.join(required)}",
        exit_code=MISSING,
    )
