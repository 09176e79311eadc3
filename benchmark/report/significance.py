"""How sure a difference is. Intervals over seeds, paired tests on the same images and over
datasets, groups that tie.

What is random differs: over seeds it is the draw of the support set, over images the test set, over
datasets the choice of problems. Every function says which of them it is about. Tests are two-sided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

LEVEL = 0.95
RESAMPLES = 10_000
FEWEST_DATASETS = 6  # with fewer, no outcome of Wilcoxon's test is rarer than 5 %

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class MeanDifference:
    """A mean difference with its interval and the probability of one at least as large if there
    were none.
    """

    mean: float
    low: float
    high: float
    p: float


def half_width(std: float, count: int, level: float = LEVEL) -> float:
    """Half the t-interval of a mean over `count` seeds with sample deviation `std`; infinite for
    one seed.
    """
    if count < 2:
        return math.inf
    return float(special.stdtrit(count - 1, 0.5 + level / 2)) * std / math.sqrt(count)


def paired_t(differences: Sequence[float], level: float = LEVEL) -> MeanDifference | None:
    """Over seeds: the mean of per-seed differences, by Student's t. Needs two seeds.

    Seeds that all differ by exactly the same amount leave no doubt where that is not zero.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        return None
    mean, std = float(values.mean()), float(values.std(ddof=1))
    if std < 1e-12:
        return MeanDifference(mean, mean, mean, 1.0 if abs(mean) < 1e-12 else 0.0)
    t = mean / (std / math.sqrt(len(values)))
    width = half_width(std, len(values), level)
    return MeanDifference(
        mean, mean - width, mean + width, float(2 * special.stdtr(len(values) - 1, -abs(t)))
    )


def mcnemar(first: Array, second: Array) -> float:
    """Over images, one run against another: McNemar's exact test on the images that only one of
    them gets right.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    total = only_first + only_second
    return (
        min(1.0, 2 * float(special.bdtr(min(only_first, only_second), total, 0.5)))
        if total
        else 1.0
    )


def paired_bootstrap(
    first: Array, second: Array, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> MeanDifference:
    """Over images, several runs against several: image by image the share of runs that are right,
    images drawn anew.

    `first` and `second` are runs x images, true where right. Few distinct differences exist, so
    that drawing how often each occurs (multinomial) is the same as drawing images, and takes no
    time.
    """
    gaps = first.mean(axis=0) - second.mean(axis=0)
    values, counts = np.unique(np.round(gaps, 9), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(
        counts.sum(), counts / counts.sum(), size=resamples
    )
    means = drawn @ values / counts.sum()
    tail = min((means <= 0).sum(), (means >= 0).sum())
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return MeanDifference(
        float(gaps.mean()), float(low), float(high), min(1.0, 2 * float(tail + 1) / (resamples + 1))
    )


def wilcoxon(differences: Sequence[float]) -> float | None:
    """Over datasets: Wilcoxon's signed-rank test on one difference per dataset; None with fewer
    than six datasets.

    Exact, ties included: the distribution of the rank sum is counted over all signs. Differences of
    zero are dropped.
    """
    if len(differences) < FEWEST_DATASETS:
        return None
    gaps = [round(gap, 12) for gap in differences if round(gap, 12)]
    ranks = _doubled_ranks([abs(gap) for gap in gaps])
    above = sum(rank for rank, gap in zip(ranks, gaps, strict=True) if gap > 0)
    ways = np.ones(1)
    for rank in ranks:
        ways = np.convolve(ways, np.bincount([0, rank], minlength=rank + 1))
    below = float(ways[: min(above, sum(ranks) - above) + 1].sum() / ways.sum())
    return min(1.0, 2 * below)


def _doubled_ranks(sizes: Sequence[float]) -> list[int]:
    """Twice the rank of each, so that the mean rank of ties is a whole number too."""
    ordered = sorted(sizes)
    return [2 * ordered.index(size) + 1 + ordered.count(size) for size in sizes]


def holm(probabilities: Sequence[float]) -> list[float]:
    """Probabilities adjusted for having made several tests (Holm's step-down), in the order given."""
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__)
    adjusted, highest = [0.0] * len(probabilities), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(probabilities) - rank) * probabilities[index]))
        adjusted[index] = highest
    return adjusted


Numbers = Mapping[str, Mapping[int, float]]  # dataset -> seed -> accuracy


def difference_p(first: Numbers, second: Numbers) -> float | None:
    """One probability for two methods over a suite: over datasets where there are enough of them,
    else over seeds.

    A method without seeds (seed 0 alone, zero-shot) is compared with every seed of the other. None
    where nothing can be said: fewer than six datasets and fewer than two seeds in common, or other
    datasets.
    """
    if set(first) != set(second) or not first:
        return None
    gaps = {dataset: seed_gaps(first[dataset], second[dataset]) for dataset in first}
    if not all(gaps.values()):
        return None
    if len(gaps) >= FEWEST_DATASETS:
        return wilcoxon([float(np.mean(list(by_seed.values()))) for by_seed in gaps.values()])
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in gaps.values())))
    found = paired_t(
        [float(np.mean([by_seed[seed] for by_seed in gaps.values()])) for seed in seeds]
    )
    return found.p if found else None


def seed_gaps(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """seed -> difference; a result without seeds stands beside each of the other's."""
    if set(first) == {0}:
        return {seed: first[0] - value for seed, value in second.items()}
    if set(second) == {0}:
        return {seed: value - second[0] for seed, value in first.items()}
    return {seed: first[seed] - second[seed] for seed in sorted(set(first) & set(second))}


def tied_with_best(methods: Mapping[str, Numbers], threshold: float = 1 - LEVEL) -> set[str]:
    """The methods that cannot be told from the best one (Holm over all comparisons with it); the
    best is among them.

    Nobody leads where no comparison can be tested, with one seed and few datasets. Only methods
    with all datasets that any of them has take part: a mean over fewer is another quantity.
    """
    whole = set().union(*methods.values()) if methods else set()
    able = {
        name: numbers
        for name, numbers in methods.items()
        if set(numbers) == whole and all(numbers.values())
    }
    if not able:
        return set()
    means = {
        name: float(np.mean([np.mean(list(by_seed.values())) for by_seed in numbers.values()]))
        for name, numbers in able.items()
    }
    best = max(means, key=means.__getitem__)
    others = [name for name in able if name != best]
    doubts = [difference_p(able[best], able[name]) for name in others]
    if all(doubt is None for doubt in doubts):
        return set()
    adjusted = holm([1.0 if doubt is None else doubt for doubt in doubts])
    return {best} | {name for name, p in zip(others, adjusted, strict=True) if p >= threshold}
