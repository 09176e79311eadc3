"""The result of every reader: which images with which labels are in each split, and problems."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.image_table import ImageTable, PictureReader

ImageRow = tuple[str, int]  # key, label
SPLITS = ("train", "val", "test")
SAMPLED = 32  # images whose contents are checked whenever a dataset is read


@dataclass(frozen=True)
class ImageRows:
    """Rows per split, their pictures, and what differs from the spec.

    `pinned` says that the spec's own digest already names these rows.
    """

    by_split: Mapping[str, list[ImageRow]]
    pictures: PictureReader
    pinned: bool = False
    problems: tuple[str, ...] = ()

    def table(self, split: str) -> ImageTable:
        rows = self.by_split[split]
        return ImageTable(
            tuple(key for key, _ in rows), tuple(label for _, label in rows), self.pictures
        )

    def keys(self) -> list[str]:
        """Every key once, in order of appearance; val and test may share images."""
        rows = [row for split in SPLITS for row in self.by_split[split]]
        return list(dict.fromkeys(key for key, _ in rows))

    def digest(self) -> str:
        """sha256 over splits, keys and labels."""
        lines = (
            f"{split} {label} {key}" for split in SPLITS for key, label in self.by_split[split]
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def sample(self) -> str:
        """sha256 over the contents of 32 images, evenly spaced."""
        keys = self.keys()
        count = min(SAMPLED, len(keys))
        return content(self.pictures, [keys[i * len(keys) // count] for i in range(count)])


def content(pictures: PictureReader, keys: Iterable[str]) -> str:
    """sha256 over the contents of images, each line its own sha256 and its key, sorted by key."""
    lines = (f"{pictures.digest(key)} {key}" for key in sorted(keys))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def absent(folder: Path, keys: Sequence[str]) -> list[str]:
    """The keys without a file. Listing each folder once is far cheaper than a query per file."""
    folders = {os.path.dirname(key) for key in keys}
    names_in = {name: _names(folder / name) for name in folders}
    return [key for key in keys if os.path.basename(key) not in names_in[os.path.dirname(key)]]


def without(rows: Mapping[str, list[ImageRow]], keys: Iterable[str]) -> dict[str, list[ImageRow]]:
    """The rows except those of the given keys."""
    left_out = frozenset(keys)
    return {
        split: [row for row in members if row[0] not in left_out] for split, members in rows.items()
    }


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()
