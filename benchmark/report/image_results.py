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
    _labels: dict[str, Array | None] = field(default_factory=dict)  # each dataset is read once

    def labels_Q(self, dataset: str) -> Array | None:
        """The true class of every test image."""
        if dataset not in self._labels:
            self._labels[dataset] = _read_labels(dataset, self.root)
        return self._labels[dataset]

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
        labels_Q = None if predicted_Q is None else self.labels_Q(record.identity.dataset)
        if predicted_Q is None or labels_Q is None or len(labels_Q) != len(predicted_Q):
            return None
        right_Q: Array = predicted_Q == labels_Q
        return right_Q if int(right_Q.sum()) == sum(record.counts.correct) else None


def _read_labels(dataset: str, root: Path | None) -> Array | None:
    import numpy as np

    try:
        return np.asarray(data.load(dataset, root).test.labels)
    except UserError:
        return None
