"""How sure a difference is: intervals over seeds, paired tests over seeds, images and datasets.

What is random differs: over seeds it is the draw of the support set, over images the test set, over
datasets the choice of problems. Every function says which of them it is about. Tests are two-sided
and scipy's; `scipy.stats` is imported where a test is made, since that takes half a second.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from benchmark.report.averages import SeedAccuracies

LEVEL = 0.95
RESAMPLES = 10_000
FEWEST_DATASETS = 6  # with fewer, no outcome of Wilcoxon's test is rarer than 5 %

SAME = 1e-12  # accuracies that differ by less are equal

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
    if len(differences) < 2:
        return None
    values = np.asarray(differences, dtype=float)
    mean = float(values.mean())
    if values.std(ddof=1) < SAME:
        return MeanDifference(mean, mean, mean, 1.0 if abs(mean) < SAME else 0.0)
    from scipy import stats

    result = stats.ttest_1samp(values, 0.0)
    low, high = result.confidence_interval(level)
    return MeanDifference(mean, float(low), float(high), float(result.pvalue))


def paired_t_ps(samples: Sequence[Sequence[float]]) -> list[float | None]:
    """The p of `paired_t` for many samples: one call of scipy for all samples of one length."""
    from scipy import stats

    ps: list[float | None] = [None] * len(samples)
    varied: dict[int, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        if len(sample) >= 2 and np.std(sample) < SAME:
            ps[index] = 1.0 if abs(sample[0]) < SAME else 0.0
        elif len(sample) >= 2:
            varied[len(sample)].append(index)
    for indices in varied.values():
        values_MS = np.array([samples[index] for index in indices])
        pvalues_M = np.atleast_1d(stats.ttest_1samp(values_MS, 0.0, axis=1).pvalue)
        for index, pvalue in zip(indices, pvalues_M, strict=True):
            ps[index] = float(pvalue)
    return ps


def mcnemar(first: Array, second: Array) -> float:
    """Over images, one run against another: McNemar's exact test on the images that only one of
    them gets right.
    """
    from scipy import stats

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    total = only_first + only_second
    return float(stats.binomtest(only_first, total).pvalue) if total else 1.0


def paired_bootstrap(
    first: Array, second: Array, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> MeanDifference:
    """Over images, several runs against several: image by image the share of runs that are right,
    images resampled.

    `first` and `second` are runs x images, true where right. There are few distinct differences,
    so counts of each are drawn (multinomial): the same distribution as drawing images, but fast.
    """
    gaps = first.mean(axis=0) - second.mean(axis=0)
    values, counts = np.unique(np.round(gaps, 9), return_counts=True)
    draws = np.random.default_rng(seed).multinomial(
        counts.sum(), counts / counts.sum(), size=resamples
    )
    means = draws @ values / counts.sum()
    tail = min((means <= 0).sum(), (means >= 0).sum())
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return MeanDifference(
        float(gaps.mean()), float(low), float(high), min(1.0, 2 * float(tail + 1) / (resamples + 1))
    )


def wilcoxon(differences: Sequence[float]) -> float | None:
    """Over datasets: Wilcoxon's signed-rank test on one difference per dataset; None with fewer
    than six datasets.

    Differences of zero are dropped. Exact without ties; with ties exact up to 13 differences and
    from RESAMPLES random signs beyond.
    """
    return wilcoxon_ps([differences])[0]


def wilcoxon_ps(samples: Sequence[Sequence[float]]) -> list[float | None]:
    """`wilcoxon` of many samples: one call of scipy for all of one length without ties."""
    from scipy import stats

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
        gaps_MN = np.array([gaps[index] for index in indices])
        pvalues_M = np.atleast_1d(stats.wilcoxon(gaps_MN, method="exact", axis=1).pvalue)
        for index, pvalue in zip(indices, pvalues_M, strict=True):
            ps[index] = float(pvalue)
    return ps


def _nonzero(differences: Sequence[float]) -> Array:
    """The differences but those of zero; rounded, so that equal ones are seen to be equal."""
    rounded = np.round(np.asarray(differences, dtype=float), 12)
    return rounded[rounded != 0]


def _tied_wilcoxon(gaps: Array) -> float:
    """The signed-rank test by its permutation distribution, which ties do not disturb."""
    from scipy import stats

    if not len(gaps):
        return 1.0
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


def seed_gaps(first: SeedAccuracies, second: SeedAccuracies) -> dict[int | None, float]:
    """seed -> difference; a result without seeds is compared with each of the other's."""
    if set(first) == {None}:
        return {seed: first[None] - value for seed, value in second.items()}
    if set(second) == {None}:
        return {seed: value - second[None] for seed, value in first.items()}
    return {seed: first[seed] - second[seed] for seed in first if seed in second}


def difference_p(first: DatasetAccuracies, second: DatasetAccuracies) -> float | None:
    """One probability for two methods over a suite; see `difference_ps`."""
    return difference_ps(first, [second])[0]


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
    return paired_t_ps([_mean_gaps(each) for each in gaps])


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


def tied_with_best(
    methods: Mapping[str, DatasetAccuracies], threshold: float = 1 - LEVEL
) -> set[str]:
    """The methods that cannot be told from the best one (Holm over all comparisons with it); the
    best is among them.

    The set is empty where no comparison can be tested, with one seed and few datasets. Only methods
    with all datasets that any of them has take part: a mean over fewer is another quantity.
    """
    whole = set().union(*methods.values())
    complete = {
        name: accuracies
        for name, accuracies in methods.items()
        if whole and set(accuracies) == whole and all(accuracies.values())
    }
    if not complete:
        return set()
    means = {name: math.fsum(map(_mean, each.values())) for name, each in complete.items()}
    best = max(means, key=means.__getitem__)
    others = [name for name in complete if name != best]
    ps = difference_ps(complete[best], [complete[name] for name in others])
    if all(p is None for p in ps):
        return set()
    adjusted = holm([1.0 if p is None else p for p in ps])
    return {best} | {name for name, p in zip(others, adjusted, strict=True) if p >= threshold}
