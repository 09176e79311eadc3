"""The result of every reader: which images with which labels are in each split, and problems."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

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

    @cached_property
    def contents(self) -> dict[str, str]:
        """The digest of every image's content, by key in order."""
        keys = sorted(self.keys())
        return dict(zip(keys, self.pictures.digests(keys), strict=True))

    def content(self) -> str:
        """sha256 over the contents of all images."""
        return content(self.contents)

    def sampled(self) -> list[str]:
        """The keys of 32 images, evenly spaced."""
        keys = self.keys()
        count = min(SAMPLED, len(keys))
        return [keys[i * len(keys) // count] for i in range(count)]

    def sample(self) -> str:
        """sha256 over their contents."""
        sampled = self.sampled()
        return content(dict(zip(sampled, self.pictures.digests(sampled), strict=True)))


def content(digest_of: Mapping[str, str]) -> str:
    """sha256 over the contents of images: a line for each, its digest and its key."""
    return hashlib.sha256("\n".join(content_lines(digest_of)).encode()).hexdigest()


def content_lines(digest_of: Mapping[str, str]) -> list[str]:
    """One line 'sha256 key' per image, sorted by key."""
    return [f"{digest_of[key]} {key}" for key in sorted(digest_of)]


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


def deeper(folder: Path, path: str) -> str:
    """What to say of a missing path that lies one folder deeper, in a folder of the same name, as
    in some copies; '' where it does not.
    """
    parts = PurePosixPath(path).parts
    for i in range(len(parts)):
        nested = PurePosixPath(*parts[: i + 1], *parts[i:])
        if (folder / nested).exists():
            return f" (it lies in {folder / nested.parent}: move what is there one folder up)"
    return ""
