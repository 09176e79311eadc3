"""Tables as plain data: what stands where. How it looks is the business of rendering.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmark.grid import IMBALANCED
from benchmark.protocols import FEW_SHOT
from benchmark.records.record import Record
from benchmark.report.averages import (
    ACCURACY,
    AccuraciesByShots,
    MeanAccuracy,
    Metric,
    SeedAccuracies,
    accuracies_by_shots,
    mean_over_datasets,
    mean_over_seeds,
)
from benchmark.report.coverage import Coverage, coverage
from benchmark.report.grouping import GroupedRecords
from benchmark.report.headings import headings
from benchmark.report.result_table import ResultRow, ResultTable, seed_counts
from benchmark.report.table_notes import records_of, with_notes
from benchmark.report.variants import EvaluationSetting, VariantRecords

if TYPE_CHECKING:
    from benchmark.report.image_results import ImageResults
    from benchmark.report.ranking import Column, Marks

Rank = Callable[[VariantRecords, "Sequence[Column]"], "list[Marks]"]
NOT_RANKED = "not ranked"  # group of rows
KINDS = ("dataset-shots", "method-shots", "method-dataset")


def tables(
    groups: GroupedRecords,
    kind: str = KINDS[0],
    *,
    ranked: bool = False,
    images: ImageResults | None = None,
    metric: Metric = ACCURACY,
) -> list[ResultTable]:
    """The tables of a kind, one or more per setting of the few-shot protocol; those of the others
    are in protocol_tables.py. Backbones and protocols are never averaged.

    With `ranked`, methods side by side are tested and the leading ones marked, which takes a
    moment. Columns of one dataset are decided over test images where `images` has predictions. The
    tests are of accuracy: tables of another metric bear no marks.
    """
    groups = {
        setting: variants for setting, variants in groups.items() if setting.evaluation == FEW_SHOT
    }
    if kind == "dataset-shots":
        return [dataset_shots(setting, variants, metric) for setting, variants in groups.items()]
    rank = ranking_by(images) if ranked and metric is ACCURACY else None
    if kind == "method-shots":
        return [
            method_shots(setting, variants, rank, metric) for setting, variants in groups.items()
        ]
    return [
        table
        for setting, variants in groups.items()
        for table in method_dataset(setting, variants, rank, metric)
    ]


def imbalanced(groups: GroupedRecords) -> GroupedRecords:
    """Variants whose support sets were drawn in proportion to the pool, beside those without any:
    what mean per-class accuracy is shown of unasked.
    """
    return {
        setting: {
            variant: datasets
            for variant, datasets in variants.items()
            if variant.sampler in (*IMBALANCED, "none")
        }
        for setting, variants in groups.items()
        if any(variant.sampler in IMBALANCED for variant in variants)
    }


def ranking_by(images: ImageResults | None) -> Rank:
    """Imported where methods are compared: numpy takes a fifth of the time of a plain table."""

    def rank(variants: VariantRecords, columns: Sequence[Column]) -> list[Marks]:
        from benchmark.report.ranking import column_marks

        return column_marks(variants, columns, images)

    return rank


def dataset_shots(
    setting: EvaluationSetting, variants: VariantRecords, metric: Metric = ACCURACY
) -> ResultTable:
    """Every method's datasets, and their mean, against shots."""
    heading_of, covered = headings(variants), coverage(setting, variants)
    shots = shots_of(variants)
    rows = []
    for variant, by_dataset in variants.items():
        numbers = {
            dataset: accuracies_by_shots(by_dataset.get(dataset, ()), metric)
            for dataset in covered.datasets
        }
        apart = "" if variant.ranked else f" ({NOT_RANKED})"
        group = f"{heading_of[variant]}{apart}"
        for dataset, by_shots in numbers.items():
            values = [_score(by_shots.get(shot)) for shot in shots]
            rows.append(ResultRow(dataset, (*values, seed_counts(values)), group))
        if covered.several:
            rows.append(_mean_row(covered.label, numbers.values(), shots, group))
    title, columns = f"{metric.title} in %: {setting}", (*_shot_heads(shots), "seeds")
    table = ResultTable(title, ("method", "dataset"), columns, tuple(rows))
    return with_notes(table, setting, variants)


def method_shots(
    setting: EvaluationSetting,
    variants: VariantRecords,
    rank: Rank | None = None,
    metric: Metric = ACCURACY,
) -> ResultTable:
    """The mean over the suite of every method against shots."""
    heading_of, shots = headings(variants), shots_of(variants)
    covered = coverage(setting, variants)
    rows = []
    for variant, by_dataset in variants.items():
        records = [by_dataset.get(dataset, ()) for dataset in covered.datasets]
        numbers = [accuracies_by_shots(each, metric) for each in records]
        rows.append(_mean_row(heading_of[variant], numbers, shots))
    rows = _marked(rows, variants, rank, [(shot, covered.datasets) for shot in shots])
    title = f"{metric.title} in %{covered.in_title}: {setting}"
    table = ResultTable(title, ("", "method"), (*_shot_heads(shots), "seeds"), tuple(rows))
    return with_notes(table, setting, variants)


def method_dataset(
    setting: EvaluationSetting,
    variants: VariantRecords,
    rank: Rank | None = None,
    metric: Metric = ACCURACY,
) -> list[ResultTable]:
    """For each number of shots, methods against datasets; methods without shots stand in each of
    them.
    """
    covered, heading_of = coverage(setting, variants), headings(variants)
    wanted = [shot for shot in shots_of(variants) if shot] or [0]
    tables = []
    for shot in wanted:
        across = {
            variant: _across(heading_of[variant], datasets, covered, shot, metric)
            for variant, datasets in variants.items()
        }
        shown = {variant: variants[variant] for variant, row in across.items() if row}
        rows = [row for row in across.values() if row]
        rows = _marked(rows, shown, rank, [(shot, names) for names in covered.columns])
        title = f"{metric.title} in %, {shot}-shot: {setting}"
        columns = (*covered.headings, "seeds")
        table = ResultTable(title, ("", "method"), columns, tuple(rows))
        tables.append(with_notes(table, setting, variants))
    return tables


def _marked(
    rows: Sequence[ResultRow],
    variants: VariantRecords,
    rank: Rank | None,
    columns: Sequence[Column],
) -> list[ResultRow]:
    """The rows of `variants`, with the leading values of every column marked; those that are not
    ranked form a group of their own, which comes last.
    """
    marks = rank(variants, columns) if rank else []
    return [
        replace(
            row,
            marks={at: each[variant] for at, each in enumerate(marks) if variant in each},
            group="" if variant.ranked else NOT_RANKED,
        )
        for row, variant in zip(rows, variants, strict=True)
    ]


def _across(
    name: str,
    datasets: Mapping[str, Sequence[Record]],
    covered: Coverage,
    shot: int,
    metric: Metric,
) -> ResultRow | None:
    """A method's row at one number of shots, or at none where it never uses any; nothing where it
    was not run there.
    """
    numbers = [
        accuracies_by_shots(datasets.get(dataset, ()), metric) for dataset in covered.datasets
    ]
    by_seed = [by_shots.get(shot) or by_shots.get(0) for by_shots in numbers]
    if not any(by_seed):
        return None
    values = [_score(each) for each in by_seed]
    mean = [mean_over_datasets(by_seed)] if covered.several else []
    return ResultRow(name, (*values, *mean, seed_counts(values)))


def _mean_row(
    label: str, numbers: Iterable[AccuraciesByShots], shots: Sequence[int], group: str = ""
) -> ResultRow:
    numbers = list(numbers)
    values = [mean_over_datasets([by_shots.get(shot) for by_shots in numbers]) for shot in shots]
    return ResultRow(label, (*values, seed_counts(values)), group, mean=bool(group))


def _score(by_seed: SeedAccuracies | None) -> MeanAccuracy | None:
    return mean_over_seeds(by_seed) if by_seed else None


def shots_of(variants: VariantRecords) -> list[int]:
    return sorted({record.identity.shots for record in records_of(variants)})


def _shot_heads(shots: Sequence[int]) -> list[str]:
    return [f"{shot}-shot" for shot in shots]
