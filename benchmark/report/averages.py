"""Mean and spread: over the seeds of one dataset, and over the datasets of a suite."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.records.record import Record


@dataclass(frozen=True)
class MeanAccuracy:
    """Mean accuracy in [0, 1] and sample deviation (ddof 1; nothing where there is one seed) over
    seeds.
    """

    mean: float
    std: float | None
    seeds: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True)
class IncompleteMean:
    """A mean over datasets that cannot be given, because only some of them are there."""

    have: int
    want: int


Average = MeanAccuracy | IncompleteMean | None


def mean_over_seeds(by_seed: Mapping[int, float]) -> MeanAccuracy:
    """Mean and sample deviation of one number per seed."""
    numbers = list(by_seed.values())
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) == 1:
        return MeanAccuracy(mean, None, tuple(by_seed))
    square = math.fsum((number - mean) ** 2 for number in numbers)
    return MeanAccuracy(mean, math.sqrt(square / (len(numbers) - 1)), tuple(sorted(by_seed)))


def accuracies_by_shots(records: Sequence[Record]) -> dict[int, dict[int, float]]:
    """shots -> seed -> accuracy, of records of one line and dataset."""
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for record in records:
        found[record.identity.shots][record.identity.seed] = record.accuracy
    return found


def mean_over_datasets(datasets: Sequence[Mapping[int, float] | None]) -> Average:
    """The mean over datasets, each given as seed -> accuracy: first within a seed, then over the
    seeds all of them have.

    With a dataset missing there is no mean but a `IncompleteMean`: ten of eleven is another quantity.
    Seeds that some dataset lacks are left out where all datasets share others; where they share
    none, the datasets' own means are averaged, without spread.
    """
    present = [by_seed for by_seed in datasets if by_seed]
    if len(present) < len(datasets):
        return IncompleteMean(len(present), len(datasets)) if present else None
    shared = sorted(set.intersection(*(set(by_seed) for by_seed in present)))
    if shared:
        return mean_over_seeds(
            {
                seed: math.fsum(by_seed[seed] for by_seed in present) / len(present)
                for seed in shared
            }
        )
    return MeanAccuracy(
        math.fsum(mean_over_seeds(by_seed).mean for by_seed in present) / len(present), None, ()
    )
