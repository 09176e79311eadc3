"""What figures of one setting show: accuracies of its ranked methods, and what training cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from benchmark.report.averages import (
    AccuraciesByShots,
    MeanAccuracy,
    SeedAccuracies,
    accuracies_by_shots,
    mean_over_datasets,
)
from benchmark.report.coverage import Coverage, coverage
from benchmark.report.headings import headings
from benchmark.report.significance import half_width
from benchmark.report.variants import (
    DatasetRecords,
    EvaluationSetting,
    MethodVariant,
    VariantRecords,
)

FEWEST_SEEDS = 3  # of an interval; that of two is longer than an axis
INTERVALS = "95\u00a0% intervals over seeds"


@dataclass(frozen=True)
class Shown:
    """The ranked methods of a setting by their headings, and the datasets that means are over."""

    setting: EvaluationSetting
    variants: Mapping[str, MethodVariant]
    records: Mapping[str, DatasetRecords]
    covered: Coverage

    @cached_property
    def accuracies(self) -> dict[str, dict[str, AccuraciesByShots]]:
        """heading -> dataset -> shots -> seed -> accuracy"""
        return {
            name: {each: accuracies_by_shots(found.get(each, ())) for each in self.covered.datasets}
            for name, found in self.records.items()
        }

    @cached_property
    def shots(self) -> list[int]:
        """The numbers of shots but none."""
        by_dataset = [each for found in self.accuracies.values() for each in found.values()]
        return sorted({shots for by_shots in by_dataset for shots in by_shots if shots})

    @cached_property
    def fullest(self) -> int:
        """The number of shots at which most trained methods have all datasets; of several, that
        with most results, then the largest.
        """
        means = [self.scores(name, None) for name in self.accuracies]
        results = [each for found in self.accuracies.values() for each in found.values()]

        def completeness(shots: int) -> tuple[int, int, int]:
            whole = sum(shots in each for each in means)
            return whole, sum(shots in each for each in results), shots

        return max(self.shots, key=completeness)

    def at(self, name: str, dataset: str, shots: int) -> SeedAccuracies | None:
        """At these shots, or of a method that never uses any."""
        by_shots = self.accuracies[name][dataset]
        return by_shots.get(shots) or by_shots.get(0)

    def scores(self, name: str, dataset: str | None) -> dict[int, MeanAccuracy]:
        """shots -> score of a dataset, or (None) of the mean over all where none is missing."""
        datasets = [dataset] if dataset else list(self.covered.datasets)
        by_shots = [self.accuracies[name][each] for each in datasets]
        means = {
            shots: mean_over_datasets([each.get(shots) for each in by_shots])
            for shots in sorted({shots for each in by_shots for shots in each})
        }
        return {shots: mean for shots, mean in means.items() if isinstance(mean, MeanAccuracy)}

    def training_s(self, name: str, shots: int) -> float:
        """Mean seconds of training (pretraining included) per cell; 0 of a method without shots."""
        costs = [
            record.costs
            for dataset in self.covered.datasets
            for record in self.records[name].get(dataset, ())
            if record.identity.shots == shots
        ]
        return fmean(each.pretrain_s + each.fit_s for each in costs) if costs else 0.0


def shown(setting: EvaluationSetting, variants: VariantRecords) -> Shown:
    """The methods of a setting that may stand in a ranking."""
    heading_of = headings(variants)
    ranked = [variant for variant in variants if variant.ranked]
    return Shown(
        setting,
        {heading_of[variant]: variant for variant in ranked},
        {heading_of[variant]: variants[variant] for variant in ranked},
        coverage(setting, {variant: variants[variant] for variant in ranked}),
    )


def half_interval(score: MeanAccuracy) -> float:
    """Half the 95 % t-interval over seeds, as a fraction; 0 for fewer than FEWEST_SEEDS."""
    if score.std is None or score.count < FEWEST_SEEDS:
        return 0.0
    return half_width(score.std, score.count)
