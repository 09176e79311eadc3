"""Which classes and test images a record is about, as far as its dataset is here unchanged, and
which of them its run got right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark import data
from benchmark.data.sampling import class_half
from benchmark.errors import UserError
from benchmark.records import class_names as kept_names
from benchmark.records.record import Record
from benchmark.records.store import Store

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class _TestImages(NamedTuple):
    """The test images of some classes of a dataset; `labels_Q` counts within these classes."""

    digest: str
    table: data.ImageTable
    labels_Q: Array
    classes: int


@dataclass(frozen=True)
class ImageResults:
    """Labels and predictions of test images; None stands for what is not at hand.

    Images and labels are those of the classes that a record was tested on: all, or a half.
    """

    store: Store
    root: Path | None = None  # of datasets
    files: Mapping[str, str] = field(default_factory=dict)  # name of a dataset -> its TOML
    # dataset and classes -> what is here; each is read once
    _tests: dict[tuple[str, str], _TestImages | None] = field(default_factory=dict)
    # digest -> class names kept in this store
    _kept: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False)

    def images(self, record: Record) -> data.ImageTable | None:
        """The test images; None where those here are not the ones that the record names."""
        found = self._test(record)
        return found and found.table

    def labels_Q(self, record: Record) -> Array | None:
        """The true class of every test image, in [0, tested classes)."""
        found = self._test(record)
        return found and found.labels_Q

    def classes(self, record: Record) -> int | None:
        """How many classes were tested, whatever the record counts."""
        found = self._test(record)
        return found and found.classes

    def class_names(self, record: Record) -> tuple[str, ...]:
        """The names of the tested classes, in label order: of the dataset here, else those kept
        beside the records; nothing where neither is of what the record counts.
        """
        named = record.identity
        names = _own_names(record) or self._kept_names(named.dataset_digest)
        try:
            tested = class_half(len(names), named.classes)
        except UserError:  # a stranger's record may name any classes
            return ()
        same = len(tested) == len(record.counts.total)
        return tuple(names[label] for label in tested) if same else ()

    def predicted_Q(self, record: Record) -> Array | None:
        """The predicted class of every test image."""
        if not self.store.beside(record.key).is_file():
            return None
        try:
            return self.store.predictions(record.key)
        except UserError:
            return None

    def right_Q(self, record: Record) -> Array | None:
        """True where the prediction is right; None also where the record counts otherwise."""
        predicted_Q = self.predicted_Q(record)
        labels_Q = None if predicted_Q is None else self.labels_Q(record)
        if predicted_Q is None or labels_Q is None or len(labels_Q) != len(predicted_Q):
            return None
        right_Q: Array = predicted_Q == labels_Q
        return right_Q if int(right_Q.sum()) == record.right else None

    def _kept_names(self, digest: str) -> tuple[str, ...]:
        if digest not in self._kept:
            self._kept[digest] = kept_names.read(self.store, digest)
        return self._kept[digest]

    def _test(self, record: Record) -> _TestImages | None:
        named = record.identity
        place = named.dataset, named.classes
        if place not in self._tests:
            given = self.files.get(named.dataset, named.dataset)
            self._tests[place] = _read(given, named.classes, self.root)
        found = self._tests[place]
        return found if found and found.digest == named.dataset_digest else None


def _read(dataset: str, classes: str, root: Path | None) -> _TestImages | None:
    import numpy as np

    try:
        read = data.load(dataset, root, classes=classes)
    except UserError:
        return None
    return _TestImages(read.digest, read.test, np.asarray(read.test.labels), len(read.class_names))


def _own_names(record: Record) -> tuple[str, ...]:
    """All class names of the dataset that has this name here; nothing where it has changed since or
    is unknown.
    """
    try:
        spec = data.read_spec(record.identity.dataset)
    except UserError:
        return ()
    return spec.class_names if spec.digest == record.identity.dataset_digest else ()
