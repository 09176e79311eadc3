"""Statistics: against scipy and against a second implementation, and on stores with planted
differences.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats as scipy_stats

from benchmark.report import significance
from benchmark.report.marks import Mark
from benchmark.report.significance import DatasetAccuracies

RNG = np.random.default_rng(7)
DRAWS = 1000


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_the_interval_over_seeds_is_scipys(count: int) -> None:
    values = RNG.normal(size=count)
    low, high = scipy_stats.t.interval(
        0.95, count - 1, loc=values.mean(), scale=scipy_stats.sem(values)
    )
    assert significance.half_width(float(values.std(ddof=1)), count) == pytest.approx(
        (high - low) / 2
    )
    assert values.mean() - low == pytest.approx((high - low) / 2)
    assert significance.half_width(1.0, 1) == math.inf


def test_the_paired_t_test_is_scipys() -> None:
    first, second = RNG.normal(size=5), RNG.normal(size=5)
    result = significance.paired_t(list(first - second))
    assert result is not None
    assert result.p == pytest.approx(scipy_stats.ttest_rel(first, second).pvalue)
    assert significance.paired_t([0.3]) is None
    assert significance.paired_t([0.25, 0.25]) == significance.MeanDifference(0.25, 0.25, 0.25, 0.0)


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 9), (9, 1), (40, 61), (5, 5)])
def test_mcnemar_is_the_binomial_test_on_the_images_that_differ(
    only_first: int, only_second: int
) -> None:
    first = np.array([True] * only_first + [False] * only_second + [True] * 30 + [False] * 9)
    second = np.array([False] * only_first + [True] * only_second + [True] * 30 + [False] * 9)
    total = only_first + only_second
    by_hand = 1.0
    if total:
        chances = [math.comb(total, count) / 2**total for count in range(total + 1)]
        by_hand = min(
            1.0, sum(chance for chance in chances if chance <= chances[only_first] * (1 + 1e-9))
        )
    assert significance.mcnemar(first, second) == pytest.approx(by_hand)
    if total:
        assert significance.mcnemar(first, second) == pytest.approx(
            scipy_stats.binomtest(only_first, total).pvalue
        )


def test_the_paired_bootstrap_agrees_with_one_that_draws_images() -> None:
    first, second = RNG.random((3, 400)) < 0.72, RNG.random((3, 400)) < 0.68
    fast = significance.paired_bootstrap(first, second)
    gaps = first.mean(axis=0) - second.mean(axis=0)
    slow = [gaps[RNG.integers(0, 400, 400)].mean() for _ in range(4000)]
    assert fast.mean == pytest.approx(gaps.mean())
    assert (fast.low, fast.high) == pytest.approx(
        tuple(np.quantile(slow, [0.025, 0.975])), abs=0.004
    )
    scipys = scipy_stats.bootstrap(
        (gaps,), np.mean, method="percentile", n_resamples=4000, rng=RNG
    ).confidence_interval
    assert (fast.low, fast.high) == pytest.approx((scipys.low, scipys.high), abs=0.004)


def test_wilcoxon_agrees_with_counting_all_signs() -> None:
    gaps = [0.5, -0.1, 0.3, 0.7, 0.2, 0.9, -0.4]
    ranks = scipy_stats.rankdata(np.abs(gaps))
    seen = min(ranks[np.array(gaps) > 0].sum(), ranks[np.array(gaps) < 0].sum())
    sums = [
        sum(rank for rank, up in zip(ranks, signs, strict=True) if up)
        for signs in itertools.product([0, 1], repeat=7)
    ]
    expected = min(1.0, 2 * np.mean(np.array(sums) <= seen))
    assert significance.wilcoxon(gaps) == pytest.approx(expected)
    assert significance.wilcoxon(gaps) == pytest.approx(scipy_stats.wilcoxon(gaps).pvalue)
    assert significance.wilcoxon(gaps[:5]) is None
    assert significance.wilcoxon([0.0] * 8) == 1.0


def test_wilcoxon_counts_ties_exactly_and_drops_zeros() -> None:
    gaps = [0.1, 0.1, -0.1, 0.2, 0.2, 0.3, 0.0]
    ranks = scipy_stats.rankdata(np.abs(gaps[:-1]))
    seen = min(ranks[np.array(gaps[:-1]) > 0].sum(), ranks[np.array(gaps[:-1]) < 0].sum())
    sums = [
        sum(rank for rank, up in zip(ranks, signs, strict=True) if up)
        for signs in itertools.product([0, 1], repeat=6)
    ]
    assert significance.wilcoxon(gaps) == pytest.approx(
        min(1.0, 2 * np.mean(np.array(sums) <= seen))
    )


@pytest.mark.parametrize("count", [6, 11, 20])
def test_wilcoxon_is_scipys_where_nothing_ties(count: int) -> None:
    gaps = list(RNG.normal(0.3, 1, count))
    assert significance.wilcoxon(gaps) == pytest.approx(
        scipy_stats.wilcoxon(gaps, method="exact").pvalue
    )


def test_holm_is_the_step_down_by_definition() -> None:
    given = [0.01, 0.04, 0.03, 0.005]
    assert significance.holm(given) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([]) == []
    assert significance.holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    rejected = {index for index, p in enumerate(significance.holm(given)) if p < 0.05}
    by_definition: set[int] = set()
    for rank, index in enumerate(np.argsort(given)):
        if given[index] >= 0.05 / (len(given) - rank):
            break
        by_definition.add(int(index))
    assert rejected == by_definition


def nominal(rate: float) -> bool:
    """Whether a rate over DRAWS is what 5 % gives, within four of its own deviations; a cautious
    test may give less.
    """
    return rate <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / DRAWS)


def test_false_positives_come_at_the_nominal_rate() -> None:
    rng = np.random.default_rng(1)
    rejections = {"t": 0, "mcnemar": 0, "bootstrap": 0, "wilcoxon": 0}
    for _ in range(DRAWS):
        over_seeds = significance.paired_t(list(rng.normal(0, 0.01, 3)))
        assert over_seeds is not None
        hard = rng.random(300)  # the same images are hard for both
        first, second = rng.random((3, 300)) < hard, rng.random((3, 300)) < hard
        over_datasets = significance.wilcoxon(list(rng.normal(0, 0.02, 11)))
        assert over_datasets is not None
        rejections["t"] += over_seeds.p < 0.05
        rejections["mcnemar"] += significance.mcnemar(first[0], second[0]) < 0.05
        rejections["bootstrap"] += (
            significance.paired_bootstrap(first, second, resamples=500).p < 0.05
        )
        rejections["wilcoxon"] += over_datasets < 0.05
    rates = {name: count / DRAWS for name, count in rejections.items()}
    assert all(map(nominal, rates.values())), rates
    assert min(rates.values()) > 0.01, rates  # none of them sleeps


def planted(lift: float, datasets: int, rng: np.random.Generator) -> dict[str, dict[int, float]]:
    return {
        f"set{index}": {
            seed: 0.5 + 0.03 * index + lift + rng.normal(0, 0.004) for seed in (1, 2, 3)
        }
        for index in range(datasets)
    }


def leaders(methods: Mapping[str, DatasetAccuracies]) -> dict[str, Mark]:
    """The marks by the test over datasets, or over seeds where there are few datasets."""
    return significance.leaders(
        methods,
        lambda best, others: significance.difference_ps(
            methods[best], [methods[other] for other in others]
        ),
    )


@pytest.mark.parametrize("datasets", [3, 11])
def test_leaders_are_the_planted_ones_and_nothing_else(datasets: int) -> None:
    rng = np.random.default_rng(3)
    methods = {
        "best": planted(0.08, datasets, rng),
        "worse": planted(0.0, datasets, rng),
        "worst": planted(-0.1, datasets, rng),
    }
    methods["twin"] = {
        name: {seed: value + rng.normal(-0.0005, 0.002) for seed, value in by.items()}
        for name, by in methods["best"].items()
    }
    assert leaders(methods) == {"best": "best", "twin": "tied"}
    methods["equal"] = methods["best"]
    assert leaders(methods) == {"best": "best", "twin": "tied", "equal": "best"}


def test_equal_methods_are_told_apart_no_oftener_than_allowed() -> None:
    rng = np.random.default_rng(5)
    wrong = sum(
        len(leaders({name: planted(0.0, 11, rng) for name in "abc"})) < 3 for _ in range(DRAWS // 2)
    )
    # the best of three is chosen first, which costs some of the 5 %
    assert wrong / (DRAWS // 2) < 0.12


def test_a_method_with_a_dataset_missing_is_no_leader_and_one_seed_proves_nothing() -> None:
    rng = np.random.default_rng(5)
    whole, part = planted(0.0, 4, rng), planted(0.3, 3, rng)
    worse = planted(-0.2, 4, rng)
    assert leaders({"whole": whole, "part": part, "worse": worse}) == {"whole": "best"}
    once = {"a": {"x": {1: 0.9}}, "b": {"x": {1: 0.1}}}
    assert leaders(once) == {}
    assert leaders({}) == {}


def test_a_method_without_seeds_is_compared_with_every_seed_of_the_other() -> None:
    zero, trained = {"x": {None: 0.5}}, {"x": {1: 0.70, 2: 0.71, 3: 0.69}}
    (p,) = significance.difference_ps(zero, [trained])
    assert p is not None
    assert p < 0.01
    other = {"y": {1: 0.5}}
    assert significance.difference_ps(trained, [zero, other]) == [pytest.approx(p), None]


def test_a_few_shot_run_with_seed_0_is_one_run_and_not_a_method_without_seeds() -> None:
    once, trained = {"x": {0: 0.5}}, {"x": {1: 0.70, 2: 0.71, 3: 0.69}}
    assert significance.difference_ps(once, [trained]) == [None]
    assert significance.seed_gaps({0: 0.5, 1: 0.6}, {0: 0.25, 2: 0.9}) == {0: 0.25}


def test_image_differences_pair_seeds_and_take_mcnemar_for_one_run_each() -> None:
    first = {seed: RNG.random(300) < 0.8 for seed in (1, 2, 3)}
    second = {seed: RNG.random(300) < 0.7 for seed in (2, 3, 4)}
    stacked = [np.array([hits[seed] for seed in (2, 3)]) for hits in (first, second)]
    p = significance.image_difference_p(first, second)
    assert p == significance.paired_bootstrap(*stacked).p
    once = {2: second[2]}
    discordant = int((first[2] & ~second[2]).sum()), int((~first[2] & second[2]).sum())
    expected = scipy_stats.binomtest(discordant[0], sum(discordant)).pvalue
    assert significance.image_difference_p(first, once) == pytest.approx(expected)
    zero_shot = {None: second[2]}
    against_all = significance.paired_bootstrap(np.array(list(first.values())), second[2][None])
    assert significance.image_difference_p(first, zero_shot) == against_all.p


def test_image_differences_need_a_common_seed_and_the_same_images() -> None:
    hits = RNG.random(300) < 0.8
    assert significance.image_difference_p({1: hits}, {2: hits}) is None
    assert significance.image_difference_p({1: hits}, {1: hits[:200]}) is None
    assert significance.image_difference_p({1: hits}, None) is None
    assert significance.image_difference_p({1: hits}, {1: hits}) == 1.0
