"""Datasets in memory: three tables of keys, labels and pictures, decoded when opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from benchmark.data import rgb
from benchmark.data.sampling import class_half

if TYPE_CHECKING:
    from PIL.Image import Image


class PictureReader(Protocol):
    """Where the pictures of a table come from; a key names one."""

    @property
    def exif(self) -> rgb.Exif:
        """Whether pictures are turned as their EXIF data say."""

    def open(self, key: str) -> Image:
        """The picture in RGB. Raises UserError naming it where it cannot be decoded."""

    def digests(self, keys: Sequence[str]) -> list[str]:
        """sha256 of the content of each. Raises UserError naming one that cannot be read."""


@dataclass(frozen=True)
class ImageTable:
    """One split: N keys and N labels.

    A key is the official path below the dataset's folder, or split/class/index of a generated
    picture, or file#row of a picture in a Parquet file.
    """

    keys: tuple[str, ...]
    labels: tuple[int, ...]
    pictures: PictureReader = field(repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    def open(self, i: int) -> Image:
        """Picture i in RGB. Raises UserError naming the path where it cannot be decoded."""
        return self.pictures.open(self.keys[i])

    def digests(self) -> list[str]:
        """What names every picture: sha256 of its bytes, or of what a generated one depends on."""
        exif = self.pictures.exif
        return [rgb.named(digest, exif) for digest in self.pictures.digests(self.keys)]

    def digest(self, i: int) -> str:
        """The digest of picture i."""
        return self.take([i]).digests()[0]

    def take(self, positions: Sequence[int]) -> ImageTable:
        """The rows at `positions`, in that order."""
        return ImageTable(
            tuple(self.keys[i] for i in positions),
            tuple(self.labels[i] for i in positions),
            self.pictures,
        )

    def only(self, classes: Sequence[int]) -> ImageTable:
        """The rows of the given classes; new labels are positions in `classes`."""
        new_label = {label: position for position, label in enumerate(classes)}
        kept = self.take([i for i, label in enumerate(self.labels) if label in new_label])
        return replace(kept, labels=tuple(new_label[label] for label in kept.labels))


@dataclass(frozen=True)
class Dataset:
    """A few-shot problem before sampling: K class names in label order, templates, three splits."""

    name: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    digest: str  # changes with everything that can change a number
    train: ImageTable
    val: ImageTable
    test: ImageTable
    changed: bool = False  # read although it differs from its spec
    remarks: tuple[str, ...] = ()  # what a person should know of its images, a sentence each
    # Label here -> label in the parent dataset, for a shifted test set.
    parent_labels: tuple[int, ...] = ()
    classes: str = "all"

    def half(self, which: str) -> Dataset:
        """The dataset with the "base" or "new" half of its classes, or with "all" of them."""
        if which == "all":
            return self
        parent_labels = self.parent_labels
        kept = class_half(len(self.class_names), which)
        return replace(
            self,
            class_names=tuple(self.class_names[label] for label in kept),
            parent_labels=tuple(parent_labels[label] for label in kept) if parent_labels else (),
            train=self.train.only(kept),
            val=self.val.only(kept),
            test=self.test.only(kept),
            classes=which,
        )
