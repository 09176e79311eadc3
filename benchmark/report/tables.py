"""Tables as plain data: what stands where. How it looks is the business of rendering.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from benchmark.grid import IMBALANCED
from benchmark.protocols import FEW_SHOT
from benchmark.records.record import Record
from benchmark.report.averages import (
    ACCURACY,
    AccuraciesByShots,
    Average,
    MeanAccuracy,
    Metric,
    SeedAccuracies,
    accuracies_by_shots,
    mean_over_datasets,
    mean_over_seeds,
)
from benchmark.report.contamination import seen_notes
from benchmark.report.grouping import GroupedRecords
from benchmark.report.headings import headings
from benchmark.report.marks import Mark
from benchmark.report.variants import EvaluationSetting, VariantRecords

if TYPE_CHECKING:
    from benchmark.report.image_results import ImageResults
    from benchmark.report.ranking import Column, Marks

Rank = Callable[[VariantRecords, "Sequence[Column]"], "list[Marks]"]
NOT_RANKED = "not ranked"  # group of rows
KINDS = ("dataset-shots", "method-shots", "method-dataset")


@dataclass(frozen=True)
class ResultRow:
    """One row; rows of the same group stand together under its name."""

    label: str
    values: tuple[Average | str, ...]
    group: str = ""
    mean: bool = False
    # position of a value -> whether it is the best of its column, or cannot be told from the best
    marks: Mapping[int, Mark] = field(default_factory=dict)


@dataclass(frozen=True)
class ResultTable:
    """Numbers under one setting, with everything a reader needs to know about them."""

    title: str
    heads: tuple[str, str]  # above groups ('' where there are none) and above labels
    columns: tuple[str, ...]
    rows: tuple[ResultRow, ...]
    notes: tuple[str, ...] = ()


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
    from benchmark.report.ranking import column_marks

    return partial(column_marks, images=images)


def dataset_shots(
    setting: EvaluationSetting, variants: VariantRecords, metric: Metric = ACCURACY
) -> ResultTable:
    """Every method's datasets, and their mean, against shots."""
    heading_of, present = headings(variants), _present(setting, variants)
    shots = shots_of(variants)
    rows = []
    for variant, by_dataset in variants.items():
        numbers = {
            dataset: accuracies_by_shots(by_dataset.get(dataset, ()), metric)
            for dataset in setting.members
        }
        apart = "" if variant.ranked else f" ({NOT_RANKED})"
        group = f"{heading_of[variant]}{apart}"
        for dataset in present:
            values = [_score(numbers[dataset].get(shot)) for shot in shots]
            rows.append(ResultRow(dataset, (*values, seed_counts(values)), group))
        if len(numbers) > 1:
            rows.append(_mean_row(f"mean of {len(numbers)}", numbers.values(), shots, group))
    return ResultTable(
        f"{metric.title} in %: {setting}",
        ("method", "dataset"),
        (*_shot_heads(shots), "seeds"),
        tuple(rows),
        notes_below(setting, variants),
    )


def method_shots(
    setting: EvaluationSetting,
    variants: VariantRecords,
    rank: Rank | None = None,
    metric: Metric = ACCURACY,
) -> ResultTable:
    """The mean over the suite of every method against shots."""
    heading_of, shots = headings(variants), shots_of(variants)
    whole = setting.members
    rows = [
        _mean_row(
            heading_of[variant],
            [accuracies_by_shots(by_dataset.get(dataset, ()), metric) for dataset in whole],
            shots,
        )
        for variant, by_dataset in variants.items()
    ]
    rows = _marked(rows, variants, rank, [(shot, whole) for shot in shots])
    over = f", mean of {len(whole)} datasets" if len(whole) > 1 else ""
    return ResultTable(
        f"{metric.title} in %{over}: {setting}",
        ("", "method"),
        (*_shot_heads(shots), "seeds"),
        tuple(rows),
        notes_below(setting, variants),
    )


def method_dataset(
    setting: EvaluationSetting,
    variants: VariantRecords,
    rank: Rank | None = None,
    metric: Metric = ACCURACY,
) -> list[ResultTable]:
    """For each number of shots, methods against datasets; methods without shots stand in each of
    them.
    """
    present, heading_of = _present(setting, variants), headings(variants)
    wanted = [shot for shot in shots_of(variants) if shot] or [0]
    tables = []
    for shot in wanted:
        across = {
            variant: _across(heading_of[variant], datasets, setting, present, shot, metric)
            for variant, datasets in variants.items()
        }
        shown = {variant: variants[variant] for variant, row in across.items() if row}
        rows = [row for row in across.values() if row]
        columns = [(shot, (name,)) for name in present] + [(shot, setting.members)]
        rows = _marked(rows, shown, rank, columns)
        title = f"{metric.title} in %, {shot}-shot: {setting}"
        tables.append(
            ResultTable(
                title,
                ("", "method"),
                (*present, "mean", "seeds"),
                tuple(rows),
                notes_below(setting, variants),
            )
        )
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
    setting: EvaluationSetting,
    present: Sequence[str],
    shot: int,
    metric: Metric,
) -> ResultRow | None:
    """A method's row at one number of shots, or at none where it never uses any; nothing where it
    was not run there.
    """
    numbers = {
        dataset: accuracies_by_shots(datasets.get(dataset, ()), metric)
        for dataset in setting.members
    }
    by_seed = {
        dataset: by_shots.get(shot) or by_shots.get(0) for dataset, by_shots in numbers.items()
    }
    if not any(by_seed.values()):
        return None
    values = [_score(by_seed[dataset]) for dataset in present]
    return ResultRow(
        name, (*values, mean_over_datasets(list(by_seed.values())), seed_counts(values))
    )


def _mean_row(
    label: str, numbers: Iterable[AccuraciesByShots], shots: Sequence[int], group: str = ""
) -> ResultRow:
    numbers = list(numbers)
    values = [mean_over_datasets([by_shots.get(shot) for by_shots in numbers]) for shot in shots]
    return ResultRow(label, (*values, seed_counts(values)), group, mean=bool(group))


def _score(by_seed: SeedAccuracies | None) -> MeanAccuracy | None:
    return mean_over_seeds(by_seed) if by_seed else None


def seed_counts(values: Sequence[Average]) -> str:
    """How many seeds stand behind a row's numbers: '3', or '2-3' where they differ."""
    counts = [value.count for value in values if isinstance(value, MeanAccuracy)]
    if not counts:
        return "-"
    return str(max(counts)) if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"


def _present(setting: EvaluationSetting, variants: VariantRecords) -> list[str]:
    """The suite's datasets that any variant has records of, in the suite's order."""
    tested = {dataset for by_dataset in variants.values() for dataset in by_dataset}
    return [dataset for dataset in setting.members if dataset in tested]


def shots_of(variants: VariantRecords) -> list[int]:
    return sorted(
        {
            record.identity.shots
            for datasets in variants.values()
            for records in datasets.values()
            for record in records
        }
    )


def _shot_heads(shots: Sequence[int]) -> list[str]:
    return [f"{shot}-shot" for shot in shots]


def notes_below(setting: EvaluationSetting, variants: VariantRecords) -> tuple[str, ...]:
    """What applies to the numbers of a whole table, which rows may not be ranked, and what is known
    of what the backbone has seen.
    """
    heading_of = headings(variants)
    used = {(variant.val, variant.sampler) for variant in variants if variant.sampler != "none"}
    shared = (
        [
            f"validation images: {_policy(val, sampler)}; sampling: {sampler}"
            for val, sampler in sorted(used)
        ]
        if len(used) == 1
        else []
    )
    priors = sorted(
        {f"{variant.exposure}" for variant in variants if variant.exposure.pool and variant.ranked}
    )
    barred = [f"{heading_of[variant]}: {variant.bar}" for variant in variants if not variant.ranked]
    versions = f"image pipeline {setting.transform}, protocol {setting.protocol}"
    known = seen_notes(setting.backbone, _present(setting, variants))
    return ("; ".join([*shared, versions]), *priors, *barred, *known)


def _policy(val: str, sampler: str) -> str:
    on_average = " on average" if sampler in IMBALANCED else ""
    return {"up-to-4": f"min(shots, 4) per class{on_average}", "none": "none"}.get(val, val)
