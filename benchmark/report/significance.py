"""How sure a difference is: intervals over seeds, paired tests over seeds, images and datasets.

What is random differs: over seeds it is the draw of the support set, over images the test set, over
datasets the choice of problems. Every function says which of them it is about. Tests are two-sided
and scipy's. It is imported where a probability is needed: `scipy.special` takes a fifth of a
second, `scipy.stats` more than half of one, so only Wilcoxon's test waits for that.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np

from benchmark.report.averages import SeedAccuracies
from benchmark.report.marks import BEST, TIED, Mark

LEVEL = 0.95
RESAMPLES = 10_000
FEWEST_DATASETS = 6  # with fewer, no outcome of Wilcoxon's test is rarer than 5 %
SAME = 1e-12  # accuracies that differ by less are equal

Array = np.ndarray[Any, Any]
Key = TypeVar("Key")


@dataclass(frozen=True)
class MeanDifference:
    """A mean difference, its interval, and the probability of one as large if there were none."""

    mean: float
    low: float
    high: float
    p: float


def half_width(std: float, count: int, level: float = LEVEL) -> float:
    """Half the t-interval of a mean over seeds with sample deviation `std`; infinite for one."""
    if count < 2:
        return math.inf
    return _t_quantile(count - 1, level) * std / math.sqrt(count)


@cache
def _t_quantile(freedom: int, level: float) -> float:
    """Kept, since a report asks for a few of them thousands of times."""
    from scipy import special

    return float(special.stdtrit(freedom, 0.5 + level / 2))


def paired_t(differences: Sequence[float], level: float = LEVEL) -> MeanDifference | None:
    """Over seeds: the mean of per-seed differences, by Student's t. Needs two seeds.

    Seeds that all differ by exactly the same amount leave no doubt where that is not zero.
    """
    if len(differences) < 2:
        return None
    values = np.asarray(differences, dtype=float)
    mean = float(values.mean())
    if values.std(ddof=1) < SAME:
        return MeanDifference(mean, mean, mean, 1.0 if abs(mean) < SAME else 0.0)
    from scipy import special

    std, count = float(values.std(ddof=1)), len(values)
    half = half_width(std, count, level)
    statistic = abs(mean) / (std / math.sqrt(count))
    p = 2 * float(special.stdtr(count - 1, -statistic))
    return MeanDifference(mean, mean - half, mean + half, p)


def mcnemar(first: Array, second: Array) -> float:
    """Over images, one run against another, by McNemar's exact test.

    It is the binomial test on the images that only one of them gets right.
    """
    from scipy import special

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    rarer, total = min(only_first, only_second), only_first + only_second
    return min(1.0, 2 * float(special.bdtr(rarer, total, 0.5)))


def paired_bootstrap(
    first: Array, second: Array, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> MeanDifference:
    """Over images, several runs against several: images resampled, runs kept.

    `first` and `second` are runs x images, true where right; compared is, image by image, the share
    of runs that are right. There are few distinct differences, so counts of each are drawn
    (multinomial): the same distribution as drawing images, but fast.
    """
    gaps_Q = first.sum(axis=0) * len(second) - second.sum(axis=0) * len(first)  # whole numbers
    values, counts = np.unique(gaps_Q, return_counts=True)
    values, images = values / (len(first) * len(second)), counts.sum()
    draws = np.random.default_rng(seed).multinomial(images, counts / images, size=resamples)
    means = draws @ values / images
    tail = min((means <= 0).sum(), (means >= 0).sum())
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    mean = float(counts @ values / images)
    p = min(1.0, 2 * float(tail + 1) / (resamples + 1))
    return MeanDifference(mean, float(low), float(high), p)


SeedHits = Mapping[int | None, Array]  # seed -> true where the run got a test image right


def image_difference_p(first: SeedHits | None, second: SeedHits | None) -> float | None:
    """Over images, on the seeds both have: McNemar's test for one run each, else the bootstrap.

    None where the images of one are not at hand, where they share no seed, or where their numbers
    of images differ.
    """
    if not first or not second:
        return None
    rights = [(first[one], second[other]) for one, other in matching_seeds(first, second)]
    if not rights or len({right_Q.shape for pair in rights for right_Q in pair}) > 1:
        return None
    firsts_SQ, seconds_SQ = (np.array(side) for side in zip(*rights, strict=True))
    if len(rights) == 1:
        return mcnemar(firsts_SQ[0], seconds_SQ[0])
    return paired_bootstrap(firsts_SQ, seconds_SQ).p


def wilcoxon(differences: Sequence[float]) -> float | None:
    """Over datasets: Wilcoxon's signed-rank test on one difference per dataset; None with fewer
    than six datasets.

    Differences of zero are dropped. Exact without ties; with ties exact up to 13 differences and
    from RESAMPLES random signs beyond.
    """
    return wilcoxon_ps([differences])[0]


def wilcoxon_ps(samples: Sequence[Sequence[float]]) -> list[float | None]:
    """`wilcoxon` of many samples: one call of scipy for all of one length without ties."""
    ps: list[float | None] = [None] * len(samples)
    untied: dict[int, list[int]] = defaultdict(list)
    gaps = [_nonzero(sample) for sample in samples]
    for index, gap in enumerate(gaps):
        if len(samples[index]) < FEWEST_DATASETS:
            continue
        if len(np.unique(np.abs(gap))) < len(gap) or not len(gap):
            ps[index] = _tied_wilcoxon(gap)
        else:
            untied[len(gap)].append(index)
    for indices in untied.values():
        for index, p in zip(indices, _untied_wilcoxon([gaps[at] for at in indices]), strict=True):
            ps[index] = p
    return ps


def _nonzero(differences: Sequence[float]) -> Array:
    """The differences but those of zero; rounded, so that equal ones are seen to be equal."""
    rounded = np.round(np.asarray(differences, dtype=float), 12)
    return rounded[rounded != 0]


def _untied_wilcoxon(gaps: Sequence[Array]) -> list[float]:
    """The exact signed-rank test of samples of one length."""
    from scipy import stats

    pvalues_M = stats.wilcoxon(np.array(gaps), method="exact", axis=1).pvalue
    return [float(p) for p in np.atleast_1d(pvalues_M)]


def _tied_wilcoxon(gaps: Array) -> float:
    """The signed-rank test by its permutation distribution, which ties do not disturb."""
    if not len(gaps):
        return 1.0
    from scipy import stats

    signed_ranks = np.sign(gaps) * stats.rankdata(np.abs(gaps))
    test = stats.permutation_test(
        (signed_ranks,),
        np.sum,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=0,
    )
    return float(test.pvalue)


def holm(probabilities: Sequence[float]) -> list[float]:
    """Probabilities adjusted for several tests (Holm's step-down), in the order given."""
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__)
    adjusted, highest = [0.0] * len(probabilities), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(probabilities) - rank) * probabilities[index]))
        adjusted[index] = highest
    return adjusted


DatasetAccuracies = Mapping[str, SeedAccuracies]


def matching_seeds(
    first: Collection[int | None], second: Collection[int | None]
) -> list[tuple[int | None, int | None]]:
    """Pairs of the same seed; a result without seeds (None) stands beside each of the other's."""
    if None in first:
        return [(None, seed) for seed in second]
    if None in second:
        return [(seed, None) for seed in first]
    return [(seed, seed) for seed in first if seed in second]


def seed_gaps(first: SeedAccuracies, second: SeedAccuracies) -> dict[int | None, float]:
    """seed -> difference, of `matching_seeds`."""
    pairs = matching_seeds(first, second)
    return {
        second_seed if first_seed is None else first_seed: first[first_seed] - second[second_seed]
        for first_seed, second_seed in pairs
    }


def difference_ps(
    first: DatasetAccuracies, others: Sequence[DatasetAccuracies]
) -> list[float | None]:
    """The probability of each difference to `first`: over datasets where there are enough of them,
    else over seeds.

    None where nothing can be tested: fewer than six datasets and fewer than two seeds in common, or
    other datasets.
    """
    gaps = [_gaps(first, other) for other in others]
    if len(first) >= FEWEST_DATASETS:
        return wilcoxon_ps([[_mean(by_seed) for by_seed in each] for each in gaps])
    over_seeds = [paired_t(_mean_gaps(each)) for each in gaps]
    return [None if difference is None else difference.p for difference in over_seeds]


def _gaps(first: DatasetAccuracies, second: DatasetAccuracies) -> list[dict[int | None, float]]:
    """Per dataset, seed -> difference; nothing where the datasets or all seeds of one differ."""
    if set(first) != set(second):
        return []
    gaps = [seed_gaps(first[dataset], second[dataset]) for dataset in first]
    return gaps if all(gaps) else []


def _mean_gaps(gaps: Sequence[Mapping[int | None, float]]) -> list[float]:
    """The mean difference over datasets, for each seed that all of them have."""
    shared = set.intersection(*map(set, gaps)) if gaps else set()
    return [math.fsum(by_seed[seed] for by_seed in gaps) / len(gaps) for seed in shared]


def _mean(by_seed: SeedAccuracies) -> float:
    return math.fsum(by_seed.values()) / len(by_seed)


def leaders(
    methods: Mapping[Key, DatasetAccuracies],
    test: Callable[[Key, Sequence[Key]], list[float | None]],
    threshold: float = 1 - LEVEL,
) -> dict[Key, Mark]:
    """The best method and those that cannot be told from it (Holm over all comparisons with it).

    `test` gives the probability of each other method's difference to the best; None where it cannot
    tell. Equal means are best together. The result is empty where it can tell nothing, with one
    seed and few datasets. Only methods with all datasets that any of them has take part: a mean
    over fewer is another quantity.
    """
    whole = set().union(*methods.values())
    means = {
        method: math.fsum(map(_mean, accuracies.values()))
        for method, accuracies in methods.items()
        if whole and set(accuracies) == whole and all(accuracies.values())
    }
    if not means:
        return {}
    best = max(means, key=means.__getitem__)
    others = [method for method in means if method != best]
    ps = test(best, others)
    if all(p is None for p in ps):
        return {}
    adjusted = holm([1.0 if p is None else p for p in ps])
    marks = {best: BEST}
    for method, p in zip(others, adjusted, strict=True):
        if means[best] - means[method] < SAME:
            marks[method] = BEST
        elif p >= threshold:
            marks[method] = TIED
    return marks
