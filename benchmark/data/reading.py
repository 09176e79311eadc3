"""From a spec to a dataset: one reader per kind of source, and the checks against the spec."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from benchmark.data import class_folders, coop_layout
from benchmark.data.image_rows import SPLITS, ImageRow, ImageRows
from benchmark.data.image_table import Dataset
from benchmark.data.locations import DatasetLocation, dataset_location
from benchmark.data.pictures import GeneratedPictures
from benchmark.data.sources import ClassFolders, CoopFolder, Generated, HubTable
from benchmark.data.specs import Spec, read_spec
from benchmark.errors import MISSING, UserError


def load(
    name: str, root: Path | None = None, classes: str = "all", *, accept_changed_data: bool = False
) -> Dataset:
    """A dataset by name, or by the path of a TOML.

    `root` is the data root, by default paths.data_dir(). `classes` "base" or "new" keeps CoOp's
    first or second half of the classes. Few-shot sets are drawn before the classes are halved: draw
    from the whole dataset, then call `ImageTable.only`. Data that differ from the spec (another
    split file, missing or renamed images, other contents, other counts) are refused, or read and
    marked where `accept_changed_data`. Raises UserError for that, for an unknown name, for mistakes
    in a spec and for missing data (exit code 4).
    """
    spec = read_spec(name)
    rows = read_rows(spec, dataset_location(spec, root))
    if rows.problems and not accept_changed_data:
        raise UserError(
            f"{spec.name}: {rows.problems[0]}; run `python -m benchmark prepare {name}` to "
            f"restore it, or go on with --accept-changed-data, which marks every record",
            exit_code=MISSING,
        )
    if not rows.by_split["test"]:
        raise UserError(
            f"{spec.name} has no test images, so nothing could be measured on it; add some",
            exit_code=MISSING,
        )
    return _dataset(spec, rows, root).half(classes)


def digest(name: str, root: Path | None = None, *, accept_changed_data: bool = False) -> str:
    """`load(...).digest`, without reading the data where the spec alone decides it.

    It does for generated pictures and for a split file with a sha256 in the spec.
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
    """Whether the files of a dataset seem to be there; nothing is counted or read."""
    spec = read_spec(name)
    if isinstance(spec.source, Generated):
        return True
    return not missing_paths(spec, dataset_location(spec, root))


def missing_paths(spec: Spec, location: DatasetLocation) -> list[str]:
    """The required paths that none of a dataset's folders has."""
    return [path for path in required_paths(spec) if not location.has(path)]


def required_paths(spec: Spec) -> tuple[str, ...]:
    """Paths and patterns below the dataset's folder without which it cannot be read."""
    parts = [path for part in spec.parts for path in part.gives]
    match spec.source:
        case CoopFolder() as source:
            return tuple(dict.fromkeys([*coop_layout.required_paths(source), *parts]))
        case ClassFolders() | HubTable() as source:
            splits = [getattr(source, split) for split in SPLITS]
            return tuple(dict.fromkeys([*filter(None, splits), *parts]))
    return ()


def read_rows(spec: Spec, location: DatasetLocation, contents: bool = True) -> ImageRows:
    """The rows of a dataset, with the problems found in them.

    `contents` False leaves out the check of a few images, for a caller who is about to read all.
    Raises UserError where the dataset cannot be read at all.
    """
    missing = missing_paths(spec, location)
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
            return _generated(spec.class_names, source)
        case CoopFolder() as source:
            return coop_layout.read(spec, source, location)
        case ClassFolders() as source:
            return class_folders.read(spec, source, location)
        case HubTable() as source:
            from benchmark.data import parquet

            return parquet.read(spec, source, location)


def _generated(class_names: tuple[str, ...], source: Generated) -> ImageRows:
    by_split: dict[str, list[ImageRow]] = {split: [] for split in SPLITS}
    for split, per_class in source.per_class:
        for label, name in enumerate(class_names):
            by_split[split] += [(f"{split}/{name}/{i}", label) for i in range(per_class)]
    return ImageRows(by_split, GeneratedPictures(source), pinned=True)


def _wrong_rows(spec: Spec, rows: ImageRows, location: DatasetLocation) -> tuple[str, ...]:
    sizes = {split: len(rows.by_split[split]) for split in SPLITS}
    if spec.counts and sizes != dict(spec.counts):
        return (f"{_sizes_text(sizes)} images found, {_sizes_text(dict(spec.counts))} expected",)
    if not rows.pinned and location.receipt.listing and location.receipt.listing != rows.digest():
        return ("the list of images is no longer what it was when the dataset was prepared",)
    return ()


def _wrong_contents(spec: Spec, rows: ImageRows, location: DatasetLocation) -> tuple[str, ...]:
    """Why the last verification failed, or a difference in a sample of 32 images."""
    if location.receipt.broken:
        return (location.receipt.broken,)
    expected = getattr(spec.source, "sample_sha256", None) or location.receipt.sample
    if expected and expected != rows.sample():
        return ("the images are not the expected ones: a sample of 32 has other contents",)
    return ()


def _sizes_text(sizes: dict[str, int]) -> str:
    return " / ".join(f"{count} {split}" for split, count in sizes.items())


def _dataset(spec: Spec, rows: ImageRows, root: Path | None) -> Dataset:
    changed = bool(rows.problems)
    digest = spec.digest
    if changed or not rows.pinned:  # the spec alone does not say which images these are
        facts = f"{spec.digest} {rows.digest()} {rows.sample() if changed else ''}"
        digest = hashlib.sha256(facts.encode()).hexdigest()
    train, val, test = (rows.table(split) for split in SPLITS)
    return Dataset(
        name=spec.name,
        class_names=spec.class_names,
        templates=spec.templates,
        digest=digest,
        train=train,
        val=val,
        test=test,
        changed=changed,
        parent_labels=spec.parent_labels,
    )
