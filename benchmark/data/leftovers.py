"""What lies in a dataset's folder and is not read: sentences for whoever prepares it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

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
    """What no class folder holds, beside and within the folders of the splits, and what class
    folders hold beside images.
    """
    home = location.holding(source.train or source.test or ".")
    splits = [getattr(source, split) for split in SPLITS if getattr(source, split)]
    places = [f"{split}/{name}" for split in splits for name in spec.folders]
    read = frozenset(_real(home / place) for place in places)
    parents = {parent for place in places for parent in PurePosixPath(place).parents}
    holding = frozenset(_real(home / parent) for parent in parents)  # "birds" of "birds/jay"
    roots = list(dict.fromkeys([home, *(home / split for split in splits)]))
    seen = {_real(root) for root in roots}
    sentences: list[str] = []
    for root in roots:
        unread = _Unread(read, holding, seen)
        unread.walk(str(root), "")
        sentences += unread.sentences(root, with_empty=root != home)
    return sentences


@dataclass(frozen=True)
class _Unread:
    """What is not read below a folder, counted by its place in it. `read` folders are those of
    classes, `holding` those that hold some; `seen` folders are not entered again.
    """

    read: frozenset[str]
    holding: frozenset[str]
    seen: set[str]
    unnamed: Counter[str] = field(default_factory=Counter)
    nested: Counter[str] = field(default_factory=Counter)
    loose: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def walk(self, folder: str, start: str) -> None:
        is_read = _real(folder) in self.read
        for entry in _entries(folder):
            if entry.is_dir():
                self._enter(entry, start + entry.name, is_read)
            elif is_read and not _is_image(entry):
                self.others[os.path.splitext(entry.name)[1].lower() or entry.name] += 1
            elif not is_read and _is_image(entry):
                self.loose[start + entry.name] = 1

    def _enter(self, entry: os.DirEntry[str], place: str, within_class: bool) -> None:
        real = _real(entry.path)
        if real in self.seen:
            return
        if real in self.read or real in self.holding:
            self.seen.add(real)
            self.walk(entry.path, f"{place}/")
        else:
            found = self.nested if within_class else self.unnamed
            found[place] = _images_below(entry.path)

    def sentences(self, root: Path, with_empty: bool) -> Iterator[str]:
        kept = {place: n for place, n in self.unnamed.items() if n or with_empty}
        yield from _sentence(root, kept, "{count} folders that no class names, with {sum} images")
        yield from _sentence(root, self.loose, "{count} images in no class folder")
        nested = "{count} folders within class folders, with {sum} images"
        yield from _sentence(root, self.nested, nested)
        yield from _sentence(root, self.others, "{sum} files that are no images by their names")


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
