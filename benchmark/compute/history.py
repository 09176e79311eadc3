"""What cells have cost so far, and so what the next ones may cost: seconds and GPU memory, learned
from the records at hand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median

from benchmark.grid import Cell
from benchmark.records.record import Record

Place = tuple[object, ...]


@dataclass(frozen=True)
class History:
    """Costs of records by method, backbone, dataset and shots, and by fewer of these where nothing
    nearer is known.
    """

    seconds: dict[Place, list[float]] = field(default_factory=lambda: defaultdict(list))
    gpu_share: dict[Place, float] = field(
        default_factory=lambda: defaultdict(float)
    )  # of the memory of the GPU it ran on, at most

    @staticmethod
    def of(records: Iterable[Record]) -> History:
        made = History()
        for record in records:
            made._learn(record)
        return made

    def _learn(self, record: Record) -> None:
        named, costs = record.identity, record.costs
        cost_s = (
            costs.pretrain_s + costs.fit_s + costs.predict_s
        )  # encoding is shared between cells, so it is left out
        for at in _places(named.method, named.backbone, named.dataset, named.shots):
            self.seconds[at].append(cost_s)
            if gpu_mb := record.provenance.get("gpu_mb"):
                self.gpu_share[at] = max(self.gpu_share[at], costs.peak_mb / gpu_mb)

    def expected_s(self, cell: Cell) -> float | None:
        """Seconds of the nearest relations; None for a method that never ran with this backbone."""
        return next((median(self.seconds[at]) for at in _nearest(cell) if at in self.seconds), None)

    def expected_gpu_share(self, cell: Cell) -> float | None:
        """The largest share of a GPU that the nearest relations took; None where none of them ran
        on one.
        """
        return next((self.gpu_share[at] for at in _nearest(cell) if at in self.gpu_share), None)


def _nearest(cell: Cell) -> Iterator[Place]:
    return _places(cell.method, cell.backbone, cell.dataset, cell.shots)


def _places(method: str, backbone: str, dataset: str, shots: int) -> Iterator[Place]:
    """Where to look for the cost of a cell, nearest relation first."""
    yield (method, backbone, dataset, shots)
    yield (method, backbone, shots)
    yield (method, backbone)
