"""How a folder of pictures is arranged: what its TOML must say to be read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.data import proposals
from benchmark.data.class_folders import SUFFIXES
from benchmark.data.sources import stays_below
from benchmark.data.table_layout import table_source
from benchmark.errors import MISSING, UserError

# what people call the splits; a split is named by a whole word at the start
SPLIT_WORDS = {
    "train": "train|training",
    "val": "val|valid|validation|dev",
    "test": "test|testing|eval|evaluation",
}
ROOTS = (".", "images", "data", "imgs")  # where the folders of the splits may lie
MOST_SPLIT_FILE = 1 << 28  # bytes


@dataclass(frozen=True)
class Draft:
    """What was recognised: the table [source] without its folder, the names in label order, and
    what to tell a person."""

    layout: str  # in words
    source: Mapping[str, Any]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def recognised(folder: Path) -> Draft:
    """The first arrangement that fits; UserError where none does."""
    for recognise in (_table, _coop, _splits, _classes):
        if draft := recognise(folder):
            return draft
    loose = sum(1 for each in folder.iterdir() if _is_picture(each))
    beside = f"; it holds {loose} pictures in no class folder" if loose else ""
    raise UserError(
        f"{folder} is arranged in no way that is known{beside}: make a folder per class, in folders"
        " train and test or side by side",
        exit_code=MISSING,
    )


def split_of(name: str) -> str | None:
    """The split that the name of a folder or a file begins with."""
    for split, words in SPLIT_WORDS.items():
        if re.match(rf"({words})([^a-z]|$)", name.casefold()):
            return split
    return None


def _is_picture(path: Path) -> bool:
    named = path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
    return named and path.is_file()


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder that are not hidden, by name."""
    if not folder.is_dir():
        return []
    return sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] != ".")


def _classes_in(folder: Path) -> dict[str, int]:
    """Class folder -> how many pictures it holds; folders without any are none."""
    counts = {each.name: sum(map(_is_picture, each.iterdir())) for each in _folders(folder)}
    return {name: count for name, count in counts.items() if count}


# --- class folders


def _splits(folder: Path) -> Draft | None:
    """Folders of the splits, each with a folder per class; of train and val alone, as in ImageNet,
    val is what is tested."""
    for root in ROOTS:
        found = {split_of(each.name): each.name for each in _folders(folder / root)}
        named = {split: found[split] for split in SPLIT_WORDS if split in found}
        classes = {split: _classes_in(folder / root / name) for split, name in named.items()}
        counts = {split: found for split, found in classes.items() if found}
        if counts.get("train"):
            places = {split: f"{root}/{named[split]}".removeprefix("./") for split in counts}
            return _of_splits(places, counts)
    return None


def _of_splits(places: dict[str, str], counts: dict[str, dict[str, int]]) -> Draft:
    notes = []
    if "test" not in counts and "val" in counts:
        places["test"], counts["test"] = places.pop("val"), counts.pop("val")
        notes.append(f"there is no test folder, so {places['test']} is what is tested")
    shared = set.intersection(*(set(found) for found in counts.values()))
    for split, found in counts.items():
        if alone := sorted(set(found) - shared):
            notes.append(
                f"left out, since another split lacks them, of {places[split]}:"
                f" {proposals.listed(alone)}"
            )
    if not shared:
        raise UserError(
            f"{' and '.join(places.values())} have no class in common; call the folder of a class"
            " the same in every split",
            exit_code=MISSING,
        )
    kept = {name: counts["train"][name] for name in shared}
    words = "class folders in " + ", ".join(places[split] for split in counts)
    return _of_folders(words, places, kept, notes)


def _classes(folder: Path) -> Draft | None:
    """Class folders side by side, or in a folder train alone."""
    counts = _classes_in(folder)
    if not counts:
        return None
    single = sorted(name for name, count in counts.items() if count < 2)
    kept = {name: count for name, count in counts.items() if count > 1}
    if len(kept) < 2:
        raise UserError(
            f"{folder} has {len(kept)} class folders with two pictures or more, one to learn from"
            " and one to test; two such classes are the least",
            exit_code=MISSING,
        )
    notes = []
    if single:
        notes = [f"left out, since they have one picture each: {proposals.listed(single)}"]
    return _of_folders("class folders side by side", {"train": "."}, kept, notes)


def _of_folders(
    layout: str, places: Mapping[str, str], counts: Mapping[str, int], notes: Sequence[str]
) -> Draft:
    """`counts` are the pictures of every class to learn from."""
    folders = proposals.in_order(list(counts))
    found = proposals.class_names(folders)
    source: dict[str, Any] = {"kind": "image_folder", **places}
    taken = proposals.held_out(
        min(counts.values()), test="test" not in places, val="val" not in places
    )
    if taken:
        source["held_out"] = taken
    if found.names != tuple(folders):
        source["class_folders"] = folders
    return Draft(layout, source, found.names, (*notes, *found.notes))


# --- lists and tables


def _coop(folder: Path) -> Draft | None:
    """A folder of pictures listed by one of CoOp's split files."""
    file = next(iter(sorted(folder.glob("split_*.json"))), None)
    if file is None:
        return None
    try:
        if file.stat().st_size > MOST_SPLIT_FILE:
            raise ValueError("it is larger than 256 MB")
        lists = json.loads(file.read_bytes())
        rows = [(str(path), int(label), str(name)) for rows in lists.values()
                for path, label, name in rows]  # fmt: skip
        names = {label: name for _, label, name in rows}
        class_names = tuple(names[label] for label in range(len(names)))
    except (
        OSError,
        ValueError,
        LookupError,
        OverflowError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise UserError(
            f"{file} looks like a split file of CoOp and is none ({error}); it needs train, val and"
            " test lists of [path, label, class name] with labels from 0",
            exit_code=MISSING,
        ) from error
    images = _holding(folder, rows[0][0])
    source = {"kind": "folder", "images": images, "split": {"file": file.name}}
    layout = f"CoOp's layout, pictures of {images} listed in {file.name}"
    return Draft(layout, source, class_names, proposals.class_names(class_names).notes)


def _holding(folder: Path, picture: str) -> str:
    """The folder, below this one, from which a split file counts its paths."""
    for each in (".", *(found.name for found in _folders(folder))):
        if stays_below(picture) and (folder / each / picture).is_file():
            return each
    raise UserError(
        f"{picture[:60]}, the first picture of the split file, is in no folder of {folder}; put the"
        " pictures beside the split file",
        exit_code=MISSING,
    )


def _table(folder: Path) -> Draft | None:
    """Parquet files, as datasets of the Hugging Face hub have them."""
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        _refuse_arrow(folder)
        return None
    by_split: dict[str, list[Path]] = {}
    for file in files:
        split = split_of(file.name) or split_of(file.parent.name)
        if split:
            by_split.setdefault(split, []).append(file)
    source, names, notes = table_source(folder, by_split)
    found = proposals.class_names(names)
    if found.names != tuple(names):
        source["label_names"] = names
    layout = f"Parquet tables, pictures in '{source['image']}', labels in '{source['label']}'"
    return Draft(layout, source, found.names, (*notes, *found.notes))


def _refuse_arrow(folder: Path) -> None:
    if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
        raise UserError(
            f"{folder} was written by save_to_disk of the `datasets` library, whose files are not"
            " read here; write every split with to_parquet('train.parquet'), 'test.parquet'",
            exit_code=MISSING,
        )
