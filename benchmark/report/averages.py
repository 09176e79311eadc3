"""Mean and spread: over the seeds of one dataset, and over the datasets of a suite."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmark.records.record import Record


@dataclass(frozen=True)
class MeanAccuracy:
    """Mean accuracy in [0, 1] and sample deviation (ddof 1; nothing where there is one seed) over
    seeds. A method that draws no support set has one result, of the seed None.
    """

    mean: float
    std: float | None
    seeds: tuple[int | None, ...]

    @property
    def count(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True)
class IncompleteMean:
    """A mean over datasets that cannot be given, because only some of them are there."""

    have: int
    want: int


@dataclass(frozen=True)
class Metric:
    """What a table is about: a number in [0, 1] of every record."""

    title: str
    of: Callable[[Record], float]


ACCURACY = Metric("Accuracy", lambda record: record.accuracy)
PER_CLASS = Metric("Mean per-class accuracy", lambda record: record.class_accuracy)
METRICS = {"accuracy": ACCURACY, "per-class": PER_CLASS}


SeedAccuracies = Mapping[int | None, float]  # seed -> accuracy; None where nothing is drawn
AccuraciesByShots = dict[int, dict[int | None, float]]  # shots -> seed -> accuracy
Average = MeanAccuracy | IncompleteMean | None


def mean_over_seeds(by_seed: SeedAccuracies) -> MeanAccuracy:
    """Mean and sample deviation of one number per seed."""
    numbers = list(by_seed.values())
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) == 1:
        return MeanAccuracy(mean, None, tuple(by_seed))
    square = math.fsum((number - mean) ** 2 for number in numbers)
    return MeanAccuracy(mean, math.sqrt(square / (len(numbers) - 1)), _sorted_seeds(by_seed))


def _sorted_seeds(seeds: Iterable[int | None]) -> tuple[int | None, ...]:
    """None, of a method without seeds, before the numbers."""
    return tuple(sorted(seeds, key=lambda seed: -1 if seed is None else seed))


def accuracies_by_shots(records: Sequence[Record], metric: Metric = ACCURACY) -> AccuraciesByShots:
    """shots -> seed -> accuracy, of records of one variant and dataset."""
    by_shots: AccuraciesByShots = defaultdict(dict)
    for record in records:
        by_shots[record.identity.shots][seed_of(record)] = metric.of(record)
    return by_shots


def seed_of(record: Record) -> int | None:
    """The seed of the support set; None where there is none."""
    return record.identity.seed if record.identity.shots else None


def mean_over_datasets(datasets: Sequence[SeedAccuracies | None]) -> Average:
    """The mean over datasets, each given as seed -> accuracy: first within a seed, then over the
    seeds all of them have.

    With a dataset missing the result is an `IncompleteMean`: ten of eleven is another quantity.
    Seeds that some dataset lacks are left out where all datasets share others; where they share
    none, the datasets' own means are averaged, without spread.
    """
    present = [by_seed for by_seed in datasets if by_seed]
    if not present:
        return None
    if len(present) < len(datasets):
        return IncompleteMean(len(present), len(datasets))
    shared = _sorted_seeds(set.intersection(*map(set, present)))
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
