"""From a spec to a dataset: one reader per kind of source, and the promises each dataset must keep."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from benchmark.data import coop, folders
from benchmark.data.image_table import Dataset
from benchmark.data.listings import SPLITS, Listing
from benchmark.data.locations import Place, place, there
from benchmark.data.pictures import Drawn
from benchmark.data.sources import Folder, Generated, HubTable, ImageFolder
from benchmark.data.specs import Spec, spec
from benchmark.errors import MISSING, UserError


def load(
    name: str, root: Path | None = None, classes: str = "all", *, accept_changed_data: bool = False
) -> Dataset:
    """A dataset by name, or by the path of a TOML; `root` is the data root, paths.data_dir() where
    it is None.

    `classes` "base" or "new" keeps CoOp's first or second half of the classes. Few-shot sets are
    drawn before the classes are halved: draw from the whole dataset, then call `Table.only`. Data
    that is not what the spec promises (another split file, missing or renamed images, other
    contents, other counts) is refused, or read and marked where `accept_changed_data`. Raises
    UserError for that, for an unknown name, for mistakes in a spec and for data that is missing
    (exit code 4).
    """
    promise = spec(name)
    listing = listed(promise, place(promise, root))
    if listing.complaints and not accept_changed_data:
        raise UserError(
            f"{promise.name}: {listing.complaints[0]}; run `python -m benchmark prepare {name}` to restore it, "
            f"or go on with --accept-changed-data, which marks every record",
            exit_code=MISSING,
        )
    if not listing.rows["test"]:
        raise UserError(
            f"{promise.name} has no test images, so nothing could be measured on it; add some",
            exit_code=MISSING,
        )
    return _dataset(promise, listing, root).half(classes)


def digest(name: str, root: Path | None = None, *, accept_changed_data: bool = False) -> str:
    """`load(...).digest` without reading the data where the spec alone decides it: drawn pictures,
    or a pinned split file.
    """
    promise = spec(name)
    pinned = (
        isinstance(promise.source, Folder)
        and promise.source.split is not None
        and promise.source.split.sha256 is not None
    )
    if isinstance(promise.source, Generated) or (pinned and not accept_changed_data):
        return promise.digest
    return load(name, root, accept_changed_data=accept_changed_data).digest


def prepared(name: str, root: Path | None = None) -> bool:
    """Whether the data of a dataset seem to be there: a glance, no count and no checksum."""
    promise = spec(name)
    return isinstance(promise.source, Generated) or not lacking(promise, place(promise, root))


def lacking(promise: Spec, where: Place) -> list[str]:
    """What a glance misses in a dataset's folders."""
    return [
        path for path in needs(promise) if not any(there(folder, path) for folder in where.folders)
    ]


def needs(promise: Spec) -> tuple[str, ...]:
    """Paths and patterns below the dataset's folder without which it cannot be read."""
    parts = [path for part in promise.parts for path in part.gives]
    match promise.source:
        case Folder() as source:
            return tuple(dict.fromkeys([*coop.needs(source), *parts]))
        case ImageFolder() | HubTable() as source:
            return tuple(
                dict.fromkeys(
                    [*(path for split in SPLITS if (path := getattr(source, split))), *parts]
                )
            )
    return ()


def listed(promise: Spec, where: Place, contents: bool = True) -> Listing:
    """The rows of a dataset with everything that is not as promised. Raises UserError where it
    cannot be read at all.

    `contents` False leaves out what concerns the images' bytes, for one who is about to read them
    all.
    """
    missing = lacking(promise, where)
    if missing:
        raise UserError(
            f"{promise.name} is not prepared: {where.own} lacks {missing[0]}; "
            f"run `python -m benchmark prepare {promise.file or promise.name}` or give --data-root",
            exit_code=MISSING,
        )
    listing = _read(promise, where)
    complaints = (
        listing.complaints
        or _wrong_rows(promise, listing, where)
        or (_wrong_contents(promise, listing, where) if contents else ())
    )
    return replace(listing, complaints=complaints)


def _read(promise: Spec, where: Place) -> Listing:
    match promise.source:
        case Generated() as source:
            return _drawn(promise.class_names, source)
        case Folder() as source:
            return coop.read(promise, source, where)
        case ImageFolder() as source:
            return folders.read(promise, source, where)
        case HubTable() as source:
            from benchmark.data import parquet

            return parquet.read(promise, source, where)


def _drawn(class_names: tuple[str, ...], source: Generated) -> Listing:
    rows = {
        split: [
            (f"{split}/{name}/{i}", label)
            for label, name in enumerate(class_names)
            for i in range(getattr(source.per_class, split))
        ]
        for split in SPLITS
    }
    return Listing(rows, Drawn(source), pinned=True)


def _wrong_rows(promise: Spec, listing: Listing, where: Place) -> tuple[str, ...]:
    found = {split: len(listing.rows[split]) for split in SPLITS}
    if promise.counts and found != dict(promise.counts):
        return (f"{_listed(found)} images found, {_listed(dict(promise.counts))} expected",)
    if not listing.pinned and where.receipt.listing and where.receipt.listing != listing.digest():
        return ("the list of images is no longer what it was when the dataset was prepared",)
    return ()


def _wrong_contents(promise: Spec, listing: Listing, where: Place) -> tuple[str, ...]:
    """What the last verification found, and what a look at 32 images finds."""
    if where.receipt.broken:
        return (where.receipt.broken,)
    expected = getattr(promise.source, "sample_sha256", None) or where.receipt.sample
    if expected and expected != listing.sample():
        return ("the images are not the expected ones: a sample of 32 has other contents",)
    return ()


def _listed(counts: dict[str, int]) -> str:
    return " / ".join(f"{count} {split}" for split, count in counts.items())


def _dataset(promise: Spec, listing: Listing, root: Path | None) -> Dataset:
    changed = bool(listing.complaints)
    named = promise.digest
    if changed or not listing.pinned:  # the spec alone does not say which images these are
        facts = f"{promise.digest} {listing.digest()} {listing.sample() if changed else ''}"
        named = hashlib.sha256(facts.encode()).hexdigest()
    train, val, test = (listing.table(split) for split in SPLITS)
    return Dataset(
        promise.name,
        promise.class_names,
        promise.templates,
        named,
        train,
        val,
        test,
        changed,
        promise.parent_labels,
    )
