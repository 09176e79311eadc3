"""What a dataset looks like once read: three tables of keys, labels and pictures that are decoded
when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from benchmark.data.sampling import class_half

if TYPE_CHECKING:
    from PIL.Image import Image


class Pictures(Protocol):
    """Where the pictures of a table come from; a key names one."""

    def open(self, key: str) -> Image:
        """The picture in RGB; UserError naming it where it cannot be decoded."""

    def digest(self, key: str) -> str:
        """sha256 of the content."""


@dataclass(frozen=True)
class ImageTable:
    """One split: N keys (official path below the dataset's folder, or split/class/index where
    drawn) and N labels.
    """

    keys: tuple[str, ...]
    labels: tuple[int, ...]
    pictures: Pictures = field(repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    def open(self, i: int) -> Image:
        """Picture i in RGB. Raises UserError naming the path where it cannot be decoded."""
        return self.pictures.open(self.keys[i])

    def digest(self, i: int) -> str:
        """sha256 of the content of picture i: the file's bytes, or what a drawn picture is drawn
        from.
        """
        return self.pictures.digest(self.keys[i])

    def take(self, positions: Sequence[int]) -> ImageTable:
        """The rows at `positions`, in that order."""
        return ImageTable(
            tuple(self.keys[i] for i in positions),
            tuple(self.labels[i] for i in positions),
            self.pictures,
        )

    def only(self, classes: Sequence[int]) -> ImageTable:
        """The rows of the chosen classes, labelled anew by their position among `classes`."""
        new = {label: position for position, label in enumerate(classes)}
        kept = self.take([i for i, label in enumerate(self.labels) if label in new])
        return replace(kept, labels=tuple(new[label] for label in kept.labels))


@dataclass(frozen=True)
class Dataset:
    """A few-shot problem before sampling: K class names in label order, prompt templates, and three
    splits.
    """

    name: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    digest: str  # changes with everything that can change a number
    train: ImageTable
    val: ImageTable
    test: ImageTable
    changed: bool = False  # read although it is not what its spec promises
    parent_labels: tuple[
        int, ...
    ] = ()  # label here -> label in the parent dataset, for a shifted test set
    classes: str = "all"

    def half(self, which: str) -> Dataset:
        """The dataset reduced to the "base" or "new" half of its classes; "all" is the dataset
        itself.
        """
        if which == "all":
            return self
        kept = class_half(len(self.class_names), which)
        return replace(
            self,
            class_names=tuple(self.class_names[label] for label in kept),
            parent_labels=tuple(self.parent_labels[label] for label in kept)
            if self.parent_labels
            else (),
            train=self.train.only(kept),
            val=self.val.only(kept),
            test=self.test.only(kept),
            classes=which,
        )
