"""The layout of CoOp: a folder of images, listed by one JSON file or by a text file per split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.data import digests
from benchmark.data.image_rows import SPLITS, ImageRow, ImageRows, absent, deeper, without
from benchmark.data.locations import DatasetLocation
from benchmark.data.pictures import PictureFiles
from benchmark.data.sources import CoopFolder, SplitFile, SplitLists, stays_below
from benchmark.data.specs import Spec
from benchmark.errors import MISSING, UserError


def required_paths(source: CoopFolder) -> tuple[str, ...]:
    """Paths that must lie in the dataset's folder: its lists of images, and its image folder."""
    lists = [getattr(source.lists, split) for split in SPLITS] if source.lists else []
    if source.split:
        lists = [source.split.file]
    return (*lists, source.images) if source.images != "." else tuple(lists)


def read(spec: Spec, source: CoopFolder, location: DatasetLocation) -> ImageRows:
    """Rows in the list's own order, which few-shot sampling depends on.

    Missing images are left out and named as a problem.
    """
    if source.split:
        rows, problems = _from_json(spec, source.split, location.find(source.split.file))
    else:
        assert source.lists, "a folder has a split file or lists"
        rows, problems = _from_lists(spec, source.lists, location)
    rows = {split: _below(source.images, rows[split]) for split in SPLITS}
    keys = [key for split in SPLITS for key, _ in rows[split]]
    # Of paths below the dataset's own folder, the first part tells which copy of it is meant.
    images = source.images if source.images != "." or not keys else keys[0].partition("/")[0]
    folder = location.holding(images)
    missing = absent(folder, keys)
    if missing:
        problems += (
            f"{len(missing)} of {len(keys)} images are missing in {folder}, "
            f"the first is {missing[0]}{deeper(folder, missing[0])}",
        )
    pinned = is_pinned(source)
    return ImageRows(without(rows, missing), PictureFiles(folder, source.exif), pinned, problems)


def is_pinned(source: CoopFolder) -> bool:
    """Whether the spec holds the checksum of what lists the images."""
    listing = source.split or source.lists
    return listing is not None and listing.sha256 is not None


def split_problem(spec: Spec, split: SplitFile, file: Path) -> str | None:
    """What is wrong with a split file that is not in its place yet; None where nothing is."""
    try:
        _, problems = _from_json(spec, split, file)
    except UserError as error:
        return str(error)
    return problems[0] if problems else None


def _below(images: str, rows: list[ImageRow]) -> list[ImageRow]:
    """Rows with paths below the dataset's folder instead of below its image folder."""
    return rows if images == "." else [(f"{images}/{path}", label) for path, label in rows]


def _from_json(
    spec: Spec, split: SplitFile, file: Path
) -> tuple[Mapping[str, list[ImageRow]], tuple[str, ...]]:
    try:
        problems = _other_file(file, split.sha256)
        lists: dict[str, Any] = json.loads(file.read_bytes())
        return {name: _checked_rows(lists[name], spec) for name in SPLITS}, problems
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{file} is no split file of {spec.name} ({error}); "
            f"it needs train, val and test lists of [path, label, class name]",
            exit_code=MISSING,
        ) from error


def _other_file(file: Path, sha256: str | None) -> tuple[str, ...]:
    """The problem of a listing with another checksum than the spec's."""
    digest = digests.hashed(file)  # which also refuses what is no regular file
    if not sha256 or digest == sha256:
        return ()
    sentence = f"{file} is another split file: its sha256 is {digest[:12]}, expected {sha256[:12]}"
    return (sentence,)


def _checked_rows(rows: Any, spec: Spec) -> list[ImageRow]:
    return [_checked_row(row, spec) for row in rows]


def _checked_row(row: Any, spec: Spec) -> ImageRow:
    path, label, name = row
    if (type(path), type(label), type(name)) != (str, int, str):
        raise TypeError("a row is not text, number, text")
    _check_path(path)
    if not 0 <= label < len(spec.class_names):
        raise ValueError(f"label {label} of {len(spec.class_names)} classes")
    if _plain(name) != _plain(spec.class_names[label]):
        raise ValueError(f"class {label} is called '{name}' instead of '{spec.class_names[label]}'")
    return path, label


def _plain(name: str) -> str:
    return name.replace("_", " ").lower()


def _check_path(path: str) -> None:
    """A split file comes from elsewhere, so its paths may not lead out of the folder."""
    if not stays_below(path):
        raise ValueError(f"path '{path[:60]}' leads out of the folder")


def _from_lists(
    spec: Spec, lists: SplitLists, location: DatasetLocation
) -> tuple[Mapping[str, list[ImageRow]], tuple[str, ...]]:
    labels = {name: label for label, name in enumerate(spec.class_names)}
    files = {split: location.find(getattr(lists, split)) for split in SPLITS}
    rows = {split: _lines(files[split], labels, lists.suffix) for split in SPLITS}
    problems = [
        problem
        for split in SPLITS
        for problem in _other_file(files[split], getattr(lists.sha256, split, None))
    ]
    return rows, tuple(problems)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read as text ({error}); restore the official list", exit_code=MISSING
        ) from error


def _lines(file: Path, labels: Mapping[str, int], suffix: str) -> list[ImageRow]:
    rows = []
    for number, line in enumerate(_text(file).splitlines(), start=1):
        image, _, name = line.strip().partition(" ")
        if name not in labels or "/" in image or not stays_below(image + suffix):
            raise UserError(
                f"{file} line {number} names an unknown class: '{line.strip()}'; "
                f"restore the official list",
                exit_code=MISSING,
            )
        rows.append((image + suffix, labels[name]))
    return rows
