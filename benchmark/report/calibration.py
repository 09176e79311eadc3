"""How far the probabilities that a method gives can be believed, from what is kept beside records.

ECE    expected calibration error: the mean distance between confidence and accuracy, in 15 bins of
       equal width (Guo et al. 2017, arXiv:1706.04599), and in 15 with as many images each
at c   selective accuracy: of the share c of the test images that the method is surest of
AURC   area under the risk-coverage curve: the mean error over all coverages (Geifman and El-Yaniv
       2017, arXiv:1705.08500)

A confidence is the softmax of a method's logits as the method scales them. Among images of one
confidence, which half precision makes more frequent, the order is left open: each counts with their
mean accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError
from benchmark.records.record import Record
from benchmark.records.store import Store

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

BINS = 15
COVERAGES = (0.5, 0.8, 0.9)


@dataclass(frozen=True)
class Calibration:
    """Of one record; all numbers lie in [0, 1]."""

    ece: float
    ece_mass: float
    at_coverage: tuple[float, ...]  # of COVERAGES
    aurc: float


@dataclass(frozen=True)
class Calibrations:
    """Of the records of a store, each read once; None where no confidences were kept, or where
    they do not belong to the record.
    """

    store: Store
    _known: dict[str, Calibration | None] = field(default_factory=dict)

    def of(self, record: Record) -> Calibration | None:
        if record.key not in self._known:
            self._known[record.key] = self._read(record)
        return self._known[record.key]

    def _read(self, record: Record) -> Calibration | None:
        if not self.store.beside(record.key).is_file():
            return None
        try:
            kept = self.store.confidences(record.key)
        except UserError:
            return None
        if kept is None or not len(kept.right_Q):
            return None
        if len(kept.right_Q) != record.tested or kept.right_Q.sum() != record.right:
            return None
        return calibration(kept.confidence_Q, kept.right_Q)


def calibration(confidence_Q: Array, right_Q: Array) -> Calibration:
    """Of confidences in [0, 1] and whether each prediction is right; Q is at least 1."""
    import numpy as np

    sorted_Q, right_Q = _surest_first(confidence_Q.astype(np.float64), right_Q)
    accuracy_Q = np.cumsum(right_Q) / np.arange(1, len(right_Q) + 1)
    covered = [max(1, round(coverage * len(right_Q))) for coverage in COVERAGES]
    return Calibration(
        ece=_error(equal_width(sorted_Q), sorted_Q, right_Q),
        ece_mass=_error(equal_mass(len(right_Q)), sorted_Q, right_Q),
        at_coverage=tuple(float(accuracy_Q[count - 1]) for count in covered),
        aurc=float(1 - accuracy_Q.mean()),
    )


def _surest_first(confidence_Q: Array, right_Q: Array) -> tuple[Array, Array]:
    """Confidences in falling order, and the mean accuracy of all images that have each."""
    import numpy as np

    levels, level_Q, count = np.unique(-confidence_Q, return_inverse=True, return_counts=True)
    mean = np.bincount(level_Q, weights=right_Q) / count
    return np.repeat(-levels, count), np.repeat(mean, count)


def equal_width(confidence_Q: Array) -> Array:
    """The bin of every image: bin b holds the confidences in (b / BINS, (b + 1) / BINS]."""
    import numpy as np

    edges = np.arange(1, BINS) / BINS
    return np.searchsorted(edges, confidence_Q, side="left")


def equal_mass(count: int) -> Array:
    """The bin of every image where images are sorted: as many in each, to within one."""
    import numpy as np

    return np.arange(count) * BINS // count


def _error(bin_Q: Array, confidence_Q: Array, right_Q: Array) -> float:
    """The mean over images of |confidence - accuracy| of their bin."""
    import numpy as np

    gap = np.bincount(bin_Q, weights=confidence_Q - right_Q)
    return float(np.abs(gap).sum() / len(bin_Q))
