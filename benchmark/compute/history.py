"""What the next cells may cost in seconds and GPU memory, estimated from records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median

from benchmark.grid import Cell
from benchmark.records.record import Identity, Record

CostKey = tuple[object, ...]
LARGEST_MB = 1e12  # of a GPU; more is somebody's invention
# how far away the records of a forecast are, by the places of _cost_keys
APART = ("", "of other datasets", "of other protocols", "at other shots")


@dataclass(frozen=True)
class Forecast:
    """Seconds of a cell: the median of its nearest relations."""

    seconds: float
    records: int  # it rests on
    apart: str  # from the cell, one of APART


@dataclass(eq=False)
class History:
    """Costs of records by method, backbone, dataset and shots, and by fewer of these."""

    seconds: dict[CostKey, list[float]] = field(default_factory=lambda: defaultdict(list))
    # of the memory of the GPU it ran on, at most
    gpu_share: dict[CostKey, float] = field(default_factory=lambda: defaultdict(float))

    @staticmethod
    def of(records: Iterable[Record]) -> History:
        history = History()
        for record in records:
            history._add(record)
        return history

    def _add(self, record: Record) -> None:
        named, costs = record.identity, record.costs
        # encoding is shared between cells, so it is left out
        cost_s = costs.pretrain_s + costs.fit_s + costs.predict_s
        gpu_mb = _gpu_mb(record)
        for cost_key in _cost_keys(named):
            self.seconds[cost_key].append(cost_s)
            if gpu_mb:
                self.gpu_share[cost_key] = max(self.gpu_share[cost_key], costs.peak_mb / gpu_mb)

    def forecast(self, cell: Cell) -> Forecast | None:
        """None for a method that never ran with this backbone."""
        for apart, at in zip(APART, _cost_keys(cell), strict=True):
            if near := self.seconds.get(at):
                return Forecast(median(near), len(near), apart)
        return None

    def expected_s(self, cell: Cell) -> float | None:
        """The seconds of `forecast`."""
        forecast = self.forecast(cell)
        return forecast.seconds if forecast else None

    def expected_gpu_share(self, cell: Cell) -> float | None:
        """The largest share of a GPU that the nearest relations took; None where none of them ran
        on one.
        """
        return next((self.gpu_share[at] for at in _cost_keys(cell) if at in self.gpu_share), None)


def _gpu_mb(record: Record) -> float:
    """The memory of the GPU it ran on; 0 where it says none, or what is no size."""
    said = record.provenance.get("gpu_mb")
    if isinstance(said, bool) or not isinstance(said, int | float):
        return 0.0
    return float(said) if 0 < said <= LARGEST_MB else 0.0


def _cost_keys(named: Cell | Identity) -> Iterator[CostKey]:
    """The keys under which a cell's cost is kept, the most specific one first."""
    yield (named.method, named.backbone, named.evaluation, named.dataset, named.shots)
    yield (named.method, named.backbone, named.evaluation, named.shots)
    yield (named.method, named.backbone, named.shots)
    yield (named.method, named.backbone)
