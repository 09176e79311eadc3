"""Which files of a table are which split, and which columns hold pictures and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.data import proposals
from benchmark.data.parquet import distinct_labels, label_columns, picture_columns
from benchmark.errors import MISSING, UserError

USUAL_LABELS = ("label", "labels", "class", "target", "fine_label")


def table_source(
    folder: Path, by_split: Mapping[str, Sequence[Path]]
) -> tuple[dict[str, Any], list[str], list[str]]:
    """The table [source] without its folder, the files' names of the classes, and what to say.

    UserError where a split, a column or the names of the classes are missing.
    """
    places, notes = dict(by_split), []
    if "test" not in places and "val" in places:
        places["test"] = places.pop("val")
        notes.append("there is no test split, so the validation split is what is tested")
    if not ("train" in places and "test" in places):
        raise UserError(
            f"the tables of {folder} need a train and a test split, and there is"
            f" {' and '.join(by_split) or 'none'}; files are known by names as"
            " train-00000.parquet, or by a folder of that name",
            exit_code=MISSING,
        )
    first = places["train"][0]
    images, labels = picture_columns(first), label_columns(first)
    label = next((name for name in (*labels, *USUAL_LABELS) if name in labels), "")
    if not images or not label:
        raise UserError(
            f"{first} has no column of pictures with a column of labels beside it; columns of"
            f" pictures: {', '.join(images) or 'none'}, of labels: {', '.join(labels) or 'none'}",
            exit_code=MISSING,
        )
    names = labels[label] or _named(places["train"], label)
    source: dict[str, Any] = {"kind": "table", "image": images[0], "label": label}
    source |= {split: _pattern(folder, files) for split, files in places.items()}
    if "val" not in places and (taken := _val_out(places["train"], label)):
        source["held_out"] = taken
    return source, names, notes


def _named(files: Sequence[Path], label: str) -> list[str]:
    """The names that a column of text has, by letters; UserError for numbers without names."""
    values = distinct_labels(files, label)
    if not all(isinstance(value, str) for value in values):
        raise UserError(
            f"{files[0]} has numbers for labels and does not say what they mean; write the TOML by"
            " hand, with class_names in their order",
            exit_code=MISSING,
        )
    return sorted(values)


def _val_out(files: Sequence[Path], label: str) -> dict[str, int]:
    counts: Counter[Any] = distinct_labels(files, label)
    return proposals.held_out(min(counts.values(), default=0), test=False, val=True)


def _pattern(folder: Path, files: Sequence[Path]) -> str:
    """The pattern below `folder` that fits these files and no other."""
    names = [file.relative_to(folder).as_posix() for file in files]
    if len(names) == 1:
        return names[0]
    start = names[0]
    while not all(name.startswith(start) for name in names):
        start = start[:-1]
    pattern = f"{start}*.parquet"
    if sorted(folder.glob(pattern)) != sorted(files):
        raise UserError(
            f"no pattern fits the tables {names[0]} to {names[-1]} and no other; let the names of a"
            " split's files begin alike",
            exit_code=MISSING,
        )
    return pattern
