"""What lies in a dataset's folder and is not read: sentences for whoever prepares it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmark.data.class_folders import SUFFIXES
from benchmark.data.image_rows import SPLITS, ImageRows
from benchmark.data.locations import DatasetLocation
from benchmark.data.sources import ClassFolders, CoopFolder, HubTable
from benchmark.data.specs import Spec

MOST_NAMED = 5


def leftovers(spec: Spec, rows: ImageRows, location: DatasetLocation) -> list[str]:
    """Folders and files that are not read. Files whose names begin with a dot are nobody's data."""
    keys = rows.keys()
    match spec.source:
        case ClassFolders() as source:
            return _beside_classes(spec, source, location)
        case CoopFolder() as source:
            folder = location.find(source.images)
            return _unlisted(folder, source.images, frozenset(keys))
        case HubTable() as source:
            tables = {key.rpartition("#")[0] for key in keys}
            return _other_tables(location.folders[0], tables)
    return []


def _beside_classes(spec: Spec, source: ClassFolders, location: DatasetLocation) -> list[str]:
    """Of each split: folders that no class names, and what its class folders hold beside images."""
    below = [split for split in SPLITS if getattr(source, split)]
    home = location.holding(source.train or source.test or ".")
    splits = {_real(home / getattr(source, split)) for split in below}
    return [
        sentence
        for split in below
        for sentence in _of_split(home / getattr(source, split), spec.folders, splits)
    ]


def _of_split(folder: Path, classes: Sequence[str], splits: set[str]) -> list[str]:
    named = {_real(folder / name) for name in classes}
    parents = {_real((folder / name).parent) for name in classes}  # of classes like "birds/jay"
    known = named | parents | splits
    entries = _entries(str(folder))
    unnamed = {
        entry.name: _images_below(entry.path)
        for entry in entries
        if entry.is_dir() and _real(entry.path) not in known
    }
    loose = {entry.name: 1 for entry in entries if _is_image(entry)}
    nested, others = Counter[str](), Counter[str]()
    for name in classes:
        for entry in _entries(str(folder / name)):
            if entry.is_dir() and _real(entry.path) not in named:
                nested[f"{name}/{entry.name}"] = _images_below(entry.path)
            elif not entry.is_dir() and not _is_image(entry):
                others[os.path.splitext(entry.name)[1].lower() or entry.name] += 1
    return [
        *_sentence(folder, unnamed, "{count} folders that no class names, with {sum} images"),
        *_sentence(folder, loose, "{count} images in no class folder"),
        *_sentence(folder, nested, "{count} folders within class folders, with {sum} images"),
        *_sentence(folder, others, "{sum} files that are no images by their names"),
    ]


def _sentence(folder: Path, counts: Mapping[str, int], what: str) -> Iterator[str]:
    if counts:
        named = ", ".join(_counted(name, counts[name]) for name in sorted(counts)[:MOST_NAMED])
        more = " and so on" if len(counts) > MOST_NAMED else ""
        total = what.format(count=len(counts), sum=sum(counts.values()))
        yield f"not read in {folder}: {total}: {named}{more}"


def _counted(name: str, count: int) -> str:
    return f"{name} ({count})" if count != 1 else name


def _unlisted(folder: Path, prefix: str, keys: frozenset[str]) -> list[str]:
    """Images below a folder that the lists of a dataset in CoOp's layout do not name."""
    found = _images(str(folder))
    start = "" if prefix == "." else f"{prefix}/"
    paths = (start + os.path.relpath(path, folder).replace(os.sep, "/") for path in found)
    unlisted = sorted(path for path in paths if path not in keys)
    if not unlisted:
        return []
    return [
        f"not read in {folder}: {len(unlisted)} images that no list names, "
        f"the first is {unlisted[0]}"
    ]


def _other_tables(folder: Path, tables: set[str]) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    others = sorted(name for name in names if name not in tables)
    if not others:
        return []
    shown = ", ".join(others[:MOST_NAMED]) + (" and so on" if len(others) > MOST_NAMED else "")
    return [f"not read in {folder}: {len(others)} tables that no split names: {shown}"]


def _images_below(folder: str) -> int:
    return sum(1 for _ in _images(folder))


def _images(folder: str) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        yield from (
            os.path.join(parent, name)
            for name in names
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        )


def _is_image(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(SUFFIXES) and not entry.is_dir()


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []


def _real(path: str | Path) -> str:
    return os.path.realpath(path)
