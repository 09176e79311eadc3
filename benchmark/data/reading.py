"""From a spec to a dataset: one reader per kind of source, and the checks against the spec."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from benchmark.data import class_folders, coop_layout
from benchmark.data.duplicates import dropped, duplicates
from benchmark.data.image_rows import SPLITS, ImageRow, ImageRows
from benchmark.data.image_table import Dataset
from benchmark.data.locations import DatasetLocation, Receipt, dataset_location
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
    spec, rows = _accepted(name, root, accept_changed_data)
    return _dataset(spec, rows).half(classes)


def train_labels(
    name: str, root: Path | None = None, *, accept_changed_data: bool = False
) -> tuple[tuple[str, ...], list[int]]:
    """Class names in label order, and the label of every training image; reads no image."""
    spec, rows = _accepted(name, root, accept_changed_data, contents=False)
    return spec.class_names, [label for _, label in rows.by_split["train"]]


def _accepted(
    name: str, root: Path | None, accept_changed_data: bool, *, contents: bool = True
) -> tuple[Spec, ImageRows]:
    """The rows of a dataset; UserError where they have problems that were not accepted."""
    spec = read_spec(name)
    rows = read_rows(spec, dataset_location(spec, root), contents)
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
    return spec, rows


def digest(name: str, root: Path | None = None, *, accept_changed_data: bool = False) -> str:
    """`load(...).digest`, without reading the data where the spec alone decides it.

    It does for generated pictures, and for a shipped dataset whose split file has a sha256 in the
    spec.
    """
    spec = read_spec(name)
    pinned = (
        not spec.named_by_content
        and isinstance(spec.source, CoopFolder)
        and coop_layout.is_pinned(spec.source)
    )
    if isinstance(spec.source, Generated) or (pinned and not accept_changed_data):
        return spec.digest
    return dataset_digest(*_accepted(name, root, accept_changed_data))


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

    `contents` False leaves out the check of what is in the images, for a caller who is about to
    read them all. Raises UserError where the dataset cannot be read at all.
    """
    missing = missing_paths(spec, location)
    if missing:
        raise UserError(
            f"{spec.name} is not prepared: {location.own} lacks {missing[0]}; "
            f"run `python -m benchmark prepare {spec.file or spec.name}` or give --data-root",
            exit_code=MISSING,
        )
    rows = _read(spec, location)
    if getattr(spec.source, "drop_duplicates", False):
        rows = dropped(rows)
    problems = (
        rows.problems
        or _wrong_rows(spec, rows, location)
        or (wrong_contents(spec, rows, location) if contents else ())
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
    listing = location.receipt.listing
    if listing and not rows.pinned and not spec.own and listing != rows.digest():
        return ("the list of images is no longer what it was when the dataset was prepared",)
    return ()


def wrong_contents(spec: Spec, rows: ImageRows, location: DatasetLocation) -> tuple[str, ...]:
    """Why the last verification failed, or a difference from what the spec or the preparation said
    of all images, or of a sample of 32.

    A user's own images may change, which makes another dataset of them, unless the TOML says what
    they are.
    """
    receipt = Receipt() if spec.own else location.receipt
    if receipt.broken:
        return (receipt.broken,)
    if expected := getattr(spec.source, "content_sha256", None):
        return _other_content(expected, rows.content())
    expected = getattr(spec.source, "sample_sha256", None) or receipt.sample
    if expected and expected != rows.sample():
        return ("the images are not the expected ones: a sample of 32 has other contents",)
    return ()


def _other_content(expected: str, found: str) -> tuple[str, ...]:
    """A problem where all images together have another digest than the spec says."""
    if expected == found:
        return ()
    return (f"the images are not the published ones: sha256 {found[:12]}, not {expected[:12]}",)


def _sizes_text(sizes: dict[str, int]) -> str:
    return " / ".join(f"{count} {split}" for split, count in sizes.items())


def dataset_digest(spec: Spec, rows: ImageRows) -> str:
    """What names these images with these labels: the spec, the list of images where the spec does
    not pin it, and what is in the images where nobody has named them.
    """
    changed = bool(rows.problems)
    by_content = changed or spec.named_by_content
    if rows.pinned and not by_content:
        return spec.digest
    facts = f"{spec.digest} {rows.digest()} {rows.content() if by_content else ''}"
    return hashlib.sha256(facts.encode()).hexdigest()


def _dataset(spec: Spec, rows: ImageRows) -> Dataset:
    train, val, test = (rows.table(split) for split in SPLITS)
    remarks = duplicates(rows).sentences() if spec.named_by_content else []
    return Dataset(
        name=spec.name,
        class_names=spec.class_names,
        templates=spec.templates,
        digest=dataset_digest(spec, rows),
        train=train,
        val=val,
        test=test,
        changed=bool(rows.problems),
        remarks=tuple(remarks),
        parent_labels=spec.parent_labels,
    )
