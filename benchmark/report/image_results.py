"""Which test images a run got right, from the predictions beside its record and the labels here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import data
from benchmark.errors import UserError
from benchmark.records.record import Record
from benchmark.records.store import Store

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ImageResults:
    """Labels and predictions of test images; None stands for what is not at hand."""

    store: Store
    root: Path | None = None  # of datasets
    # dataset -> digest and labels; each is read once
    _labels: dict[str, tuple[str, Array] | None] = field(default_factory=dict)

    def labels_Q(self, dataset: str, digest: str | None = None) -> Array | None:
        """The true class of every test image; None where the images here are not those that
        `digest` names.
        """
        if dataset not in self._labels:
            self._labels[dataset] = _read_labels(dataset, self.root)
        read = self._labels[dataset]
        return read[1] if read and digest in (None, read[0]) else None

    def predicted_Q(self, record: Record) -> Array | None:
        """The predicted class of every test image."""
        if not self.store.beside(record.key).is_file():
            return None
        try:
            return self.store.predictions(record.key)
        except UserError:
            return None

    def right_Q(self, record: Record) -> Array | None:
        """True where the prediction is right; None also where the record counts otherwise.

        Class halves have test lists of their own, which are not looked up here.
        """
        if record.identity.classes != "all":
            return None
        predicted_Q = self.predicted_Q(record)
        named = record.identity
        if predicted_Q is None:
            return None
        labels_Q = self.labels_Q(named.dataset, named.dataset_digest)
        if labels_Q is None or len(labels_Q) != len(predicted_Q):
            return None
        right_Q: Array = predicted_Q == labels_Q
        return right_Q if int(right_Q.sum()) == record.right else None


def _read_labels(dataset: str, root: Path | None) -> tuple[str, Array] | None:
    import numpy as np

    try:
        read = data.load(dataset, root)
        return read.digest, np.asarray(read.test.labels)
    except UserError:
        return None
