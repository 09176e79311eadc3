"""Datasets made ready: fetched or adopted, checked, and recorded. Yields events, prints nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.data import catalog, digests, reading, verification
from benchmark.data.duplicates import duplicates
from benchmark.data.fetch_parts import fetch_missing_parts
from benchmark.data.http_download import DEFAULT_RETRIES, RetryPolicy
from benchmark.data.image_rows import SAMPLED, ImageRows, content_lines
from benchmark.data.leftovers import leftovers
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
    takes a folder the user already has, where it lies. `verify` reads and decodes every image.
    `offline` downloads nothing. A failure is an event with the step "failed" and a UserError, and
    the next dataset follows; unknown names raise at once.
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
        digest = request.spec.digest
        yield PrepareEvent(request.name, "ready", f"generated when needed, {_named(digest)}")
        return
    if request.adopt_from:
        yield _adopt(request, request.adopt_from)
    if reading.missing_paths(request.spec, dataset_location(request.spec, request.root)):
        yield from fetch_missing_parts(request)
    location = dataset_location(request.spec, request.root)
    rows = reading.read_rows(request.spec, location, contents=False)
    _refuse(request, location, rows.problems)
    if request.verify:
        yield from _verify(request, rows, location)
    else:
        yield from _read(request, rows)
        sampled = list(verification.examined(rows, rows.sampled()))
        _refuse(request, location, [verification.faults(sampled)])
        _refuse(request, location, reading.wrong_contents(request.spec, rows, location))
    for sentence in _remarks(request, rows, location):
        yield PrepareEvent(request.name, "note", sentence)
    yield from _recorded(request, rows)
    yield _ready(request, rows, location)


def _ready(request: PrepareRequest, rows: ImageRows, location: DatasetLocation) -> PrepareEvent:
    sizes = " / ".join(f"{len(members)} {split}" for split, members in rows.by_split.items())
    count = len(rows.keys())
    decoded = (
        f"all {count} images were decoded"
        if request.verify or count <= SAMPLED
        else f"{SAMPLED} of {count} images were decoded, --verify decodes all"
    )
    digest = reading.dataset_digest(request.spec, rows)
    text = f"{sizes} in {location.folders[0]}, {_named(digest)}; {decoded}"
    return PrepareEvent(request.name, "ready", text)


def _named(digest: str) -> str:
    return f"digest {digest[:12]}"


def _refuse(
    request: PrepareRequest, location: DatasetLocation, problems: Sequence[str | None]
) -> None:
    """Raise the first problem with what to do about it."""
    for problem in filter(None, problems):
        raise UserError(
            f"{request.name}: {problem}; {_remedy(request, location)}", exit_code=MISSING
        )


def _remedy(request: PrepareRequest, location: DatasetLocation) -> str:
    """What to do about wrong data; never to delete files that may be the user's only copy."""
    if location.receipt.adopted:
        return f"correct {location.receipt.adopted}, or adopt another folder with --from"
    if any(part.offers for part in request.spec.parts):
        return f"move {location.own} elsewhere and prepare {request.name} again to fetch it anew"
    return f"restore the files in {location.own} and prepare {request.name} again"


def _read(request: PrepareRequest, rows: ImageRows) -> Iterator[PrepareEvent]:
    """Read all images once where they are part of the dataset's digest; it is remembered."""
    if not request.spec.named_by_content:
        return
    keys = sorted(rows.keys())
    for start in range(0, len(keys), digests.AT_ONCE):
        rows.pictures.digests(keys[start : start + digests.AT_ONCE])
        done = min(start + digests.AT_ONCE, len(keys))
        yield PrepareEvent(request.name, "read", "images for their digest", done, len(keys))


def _verify(
    request: PrepareRequest, rows: ImageRows, location: DatasetLocation
) -> Iterator[PrepareEvent]:
    """Read and decode all images and record what is wrong, so that every later reading reports it.

    A user's own images may be mended, so of those nothing is recorded.
    """
    keys, images = sorted(rows.keys()), list[verification.Examined]()
    for image in verification.examined(rows, keys):
        images.append(image)
        yield PrepareEvent(request.name, "verify", "every image", len(images), len(keys))
    lines = [image.line for image in images]
    manifest = verification.manifest_file(request.spec, request.root)
    faults = verification.faults(images)
    problem = faults or verification.problem(request.spec, lines, manifest)
    if problem and not faults and request.spec.own:
        problem += " (without --verify they are taken as they are now)"
    if not request.spec.own:
        yield from _record(request, broken=problem and f"verification failed: {problem}")
    _refuse(request, location, [problem])
    if not manifest.exists():
        yield from _write(request, manifest, "\n".join(lines))
    for sentence in verification.remarks(images, getattr(request.spec.source, "exif", "ignore")):
        yield PrepareEvent(request.name, "note", sentence)


def _remarks(request: PrepareRequest, rows: ImageRows, location: DatasetLocation) -> Iterator[str]:
    """What a person should know of data that can be used."""
    yield from leftovers(request.spec, rows, location)
    if request.spec.named_by_content or request.verify:
        yield from duplicates(rows).sentences()
    before = location.receipt.content
    if request.spec.own and before and before != rows.content():
        yield (
            "the images are not those of the last preparation, which makes another dataset of "
            "them: their cells will be computed again"
        )


def _recorded(request: PrepareRequest, rows: ImageRows) -> Iterator[PrepareEvent]:
    """Note what later readings are compared with: of a user's own images, which may change, only
    what this preparation saw.
    """
    if not request.spec.own:
        yield from _record(request, listing=rows.digest(), sample=rows.sample())
        return
    yield from _record(request, content=rows.content(), listing=None, sample=None)
    manifest = verification.manifest_file(request.spec, request.root)
    if manifest.exists():
        yield from _write(request, manifest, "\n".join(content_lines(rows.contents)))


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
