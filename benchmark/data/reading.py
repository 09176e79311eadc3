"""From a spec to a dataset: one reader per kind of source, and the promises each dataset must keep."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from benchmark.data import class_folders, coop_layout
from benchmark.data.image_rows import SPLITS, ImageRows
from benchmark.data.image_table import Dataset
from benchmark.data.locations import DatasetLocation, dataset_location, there
from benchmark.data.pictures import GeneratedPictures
from benchmark.data.sources import ClassFolders, CoopFolder, Generated, HubTable
from benchmark.data.specs import Spec, read_spec
from benchmark.errors import MISSING, UserError


def load(
    name: str, root: Path | None = None, classes: str = "all", *, accept_changed_data: bool = False
) -> Dataset:
    """A dataset by name, or by the path of a TOML; `root` is the data root, paths.data_dir() where
    it is None.

    `classes` "base" or "new" keeps CoOp's first or second half of the classes. Few-shot sets are
    drawn before the classes are halved: draw from the whole dataset, then call `ImageTable.only`. Data
    that is not what the spec promises (another split file, missing or renamed images, other
    contents, other counts) is refused, or read and marked where `accept_changed_data`. Raises
    UserError for that, for an unknown name, for mistakes in a spec and for data that is missing
    (exit code 4).
    """
    spec = read_spec(name)
    rows = read_rows(spec, dataset_location(spec, root))
    if rows.problems and not accept_changed_data:
        raise UserError(
            f"{spec.name}: {rows.problems[0]}; run `python -m benchmark prepare {name}` to restore it, "
            f"or go on with --accept-changed-data, which marks every record",
            exit_code=MISSING,
        )
    if not rows.by_split["test"]:
        raise UserError(
            f"{spec.name} has no test images, so nothing could be measured on it; add some",
            exit_code=MISSING,
        )
    return _dataset(spec, rows, root).half(classes)


def digest(name: str, root: Path | None = None, *, accept_changed_data: bool = False) -> str:
    """`load(...).digest` without reading the data where the spec alone decides it: drawn pictures,
    or a pinned split file.
    """
    spec = read_spec(name)
    pinned = (
        isinstance(spec.source, CoopFolder)
        and spec.source.split is not None
        and spec.source.split.sha256 is not None
    )
    if isinstance(spec.source, Generated) or (pinned and not accept_changed_data):
        return spec.digest
    return load(name, root, accept_changed_data=accept_changed_data).digest


def prepared(name: str, root: Path | None = None) -> bool:
    """Whether the data of a dataset seem to be there: a glance, no count and no checksum."""
    spec = read_spec(name)
    return isinstance(spec.source, Generated) or not lacking(spec, dataset_location(spec, root))


def lacking(spec: Spec, location: DatasetLocation) -> list[str]:
    """What a glance misses in a dataset's folders."""
    return [
        path for path in needs(spec) if not any(there(folder, path) for folder in location.folders)
    ]


def needs(spec: Spec) -> tuple[str, ...]:
    """Paths and patterns below the dataset's folder without which it cannot be read."""
    parts = [path for part in spec.parts for path in part.gives]
    match spec.source:
        case CoopFolder() as source:
            return tuple(dict.fromkeys([*coop_layout.needs(source), *parts]))
        case ClassFolders() | HubTable() as source:
            return tuple(
                dict.fromkeys(
                    [*(path for split in SPLITS if (path := getattr(source, split))), *parts]
                )
            )
    return ()


def read_rows(spec: Spec, location: DatasetLocation, contents: bool = True) -> ImageRows:
    """The rows of a dataset with everything that is not as promised. Raises UserError where it
    cannot be read at all.

    `contents` False leaves out what concerns the images' bytes, for one who is about to read them
    all.
    """
    missing = lacking(spec, location)
    if missing:
        raise UserError(
            f"{spec.name} is not prepared: {location.own} lacks {missing[0]}; "
            f"run `python -m benchmark prepare {spec.file or spec.name}` or give --data-root",
            exit_code=MISSING,
        )
    rows = _read(spec, location)
    problems = (
        rows.problems
        or _wrong_rows(spec, rows, location)
        or (_wrong_contents(spec, rows, location) if contents else ())
    )
    return replace(rows, problems=problems)


def _read(spec: Spec, location: DatasetLocation) -> ImageRows:
    match spec.source:
        case Generated() as source:
            return _drawn(spec.class_names, source)
        case CoopFolder() as source:
            return coop_layout.read(spec, source, location)
        case ClassFolders() as source:
            return class_folders.read(spec, source, location)
        case HubTable() as source:
            from benchmark.data import parquet

            return parquet.read(spec, source, location)


def _drawn(class_names: tuple[str, ...], source: Generated) -> ImageRows:
    rows = {
        split: [
            (f"{split}/{name}/{i}", label)
            for label, name in enumerate(class_names)
            for i in range(getattr(source.per_class, split))
        ]
        for split in SPLITS
    }
    return ImageRows(rows, GeneratedPictures(source), pinned=True)


def _wrong_rows(spec: Spec, rows: ImageRows, location: DatasetLocation) -> tuple[str, ...]:
    found = {split: len(rows.by_split[split]) for split in SPLITS}
    if spec.counts and found != dict(spec.counts):
        return (f"{_listed(found)} images found, {_listed(dict(spec.counts))} expected",)
    if not rows.pinned and location.receipt.listing and location.receipt.listing != rows.digest():
        return ("the list of images is no longer what it was when the dataset was prepared",)
    return ()


def _wrong_contents(spec: Spec, rows: ImageRows, location: DatasetLocation) -> tuple[str, ...]:
    """What the last verification found, and what a look at 32 images finds."""
    if location.receipt.broken:
        return (location.receipt.broken,)
    expected = getattr(spec.source, "sample_sha256", None) or location.receipt.sample
    if expected and expected != rows.sample():
        return ("the images are not the expected ones: a sample of 32 has other contents",)
    return ()


def _listed(counts: dict[str, int]) -> str:
    return " / ".join(f"{count} {split}" for split, count in counts.items())


def _dataset(spec: Spec, rows: ImageRows, root: Path | None) -> Dataset:
    changed = bool(rows.problems)
    named = spec.digest
    if changed or not rows.pinned:  # the spec alone does not say which images these are
        facts = f"{spec.digest} {rows.digest()} {rows.sample() if changed else ''}"
        named = hashlib.sha256(facts.encode()).hexdigest()
    train, val, test = (rows.table(split) for split in SPLITS)
    return Dataset(
        spec.name,
        spec.class_names,
        spec.templates,
        named,
        train,
        val,
        test,
        changed,
        spec.parent_labels,
    )
