"""Base and new classes: the accuracies of both halves, and their harmonic mean H.

Over several datasets H is that of the two means, as the field reports it (CoCoOp's 80.47 and 71.69
give 75.83), not the mean of the datasets' own H.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark.protocols import ALL, BASE, NEW
from benchmark.report.averages import (
    Average,
    IncompleteMean,
    MeanAccuracy,
    SeedAccuracies,
    mean_over_datasets,
    mean_over_seeds,
)

PARTS = (BASE, NEW, ALL)
ByDataset = Mapping[str, SeedAccuracies | None]


@dataclass(frozen=True)
class Halves:
    """What a method has at some shots: the accuracies of each part of the classes."""

    parts: Mapping[str, ByDataset]

    def values(self, datasets: Sequence[str]) -> tuple[Average, ...]:
        """Base, new, H and all classes: of one dataset, or as means over several."""
        base, new, whole = (self._mean(part, datasets) for part in PARTS)
        return base, new, self.harmonic(datasets), whole

    def harmonic(self, datasets: Sequence[str]) -> Average:
        """H of the two means, and its spread, over the seeds that all datasets have of both halves;
        where they share none, of the means over their own seeds.
        """
        shared = self._shared_seeds(datasets)
        if not shared:
            return harmonic_mean(*(self._mean(part, datasets) for part in (BASE, NEW)))
        value = harmonic_mean(*self._at(shared, datasets))
        if not isinstance(value, MeanAccuracy) or value.count < 2:
            return value
        own = {seed: harmonic_mean(*self._at([seed], datasets)) for seed in shared}
        numbers = {seed: h.mean for seed, h in own.items() if isinstance(h, MeanAccuracy)}
        return replace(value, std=mean_over_seeds(numbers).std)

    def own_harmonics(self, datasets: Sequence[str]) -> Average:
        """The mean of the datasets' own H, over the seeds that all of them have."""
        shared = self._shared_seeds(datasets)
        if shared:
            return mean_over_seeds({seed: self._mean_of_own(seed, datasets) for seed in shared})
        each = [self.harmonic([dataset]) for dataset in datasets]
        found = [h.mean for h in each if isinstance(h, MeanAccuracy)]
        if len(found) < len(each):
            return IncompleteMean(len(found), len(each)) if found else None
        return MeanAccuracy(sum(found) / len(found), None, ())

    def _mean_of_own(self, seed: int | None, datasets: Sequence[str]) -> float:
        each = [harmonic_mean(*self._at([seed], [dataset])) for dataset in datasets]
        return sum(h.mean for h in each if isinstance(h, MeanAccuracy)) / len(each)

    def _mean(self, part: str, datasets: Sequence[str]) -> Average:
        return mean_over_datasets([self.parts.get(part, {}).get(name) for name in datasets])

    def _shared_seeds(self, datasets: Sequence[str]) -> set[int | None]:
        """The seeds that all datasets have of both halves."""
        found = [
            self.parts.get(part, {}).get(name) or {} for part in (BASE, NEW) for name in datasets
        ]
        return set.intersection(*map(set, found)) if found else set()

    def _at(self, seeds: Collection[int | None], datasets: Sequence[str]) -> list[Average]:
        chosen = {
            part: {
                name: {seed: (self.parts[part][name] or {})[seed] for seed in seeds}
                for name in datasets
            }
            for part in (BASE, NEW)
        }
        return [Halves(chosen)._mean(part, datasets) for part in (BASE, NEW)]


def harmonic_mean(first: Average, second: Average) -> Average:
    """Of two accuracies, without a spread; incomplete or absent where one of them is."""
    if first is None or second is None:
        return None
    incomplete = [each for each in (first, second) if isinstance(each, IncompleteMean)]
    if incomplete:
        return min(incomplete, key=lambda each: each.have)
    assert isinstance(first, MeanAccuracy)
    assert isinstance(second, MeanAccuracy)
    both = first.mean + second.mean
    seeds = tuple(seed for seed in first.seeds if seed in second.seeds)
    return MeanAccuracy(2 * first.mean * second.mean / both if both else 0.0, None, seeds)
