"""What accuracy is bought with: one row per method, its costs beside its mean at the most shots it
was run at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from benchmark.records.record import Costs
from benchmark.report.averages import (
    IncompleteMean,
    accuracies_by_shots,
    mean_over_datasets,
)
from benchmark.report.coverage import Coverage, coverage, not_shared
from benchmark.report.grouping import GroupedRecords
from benchmark.report.headings import headings
from benchmark.report.result_table import ResultRow, ResultTable
from benchmark.report.table_notes import records_of
from benchmark.report.variants import DatasetRecords, EvaluationSetting, VariantRecords

COLUMNS = (
    "shots",
    "accuracy",
    "trainable",
    "added MAC",
    "encode s",
    "pretrain s",
    "fit s",
    "predict s",
    "peak MiB",
    "images/s",
)
POWER = ("energy J", "GPU %")  # where any record has them
NOTES = (
    "costs are means over datasets and seeds; peak and trainable parameters are the largest",
    "added MAC: multiply-accumulates per image at prediction, beyond the frozen image encoder",
    "encode s: of features that the run encoded itself, none that were stored, and peak MiB then "
    "counts encoding; predict s leaves it out, images/s counts it",
)
POWER_NOTE = (
    "energy J and GPU %: of the whole GPU while fitting and predicting, features encoded on "
    "the way and other programs included"
)
BATCH_NOTE = (
    "fit s of seeds that were trained in one batch is each one's share, their peak MiB that of all"
)


def cost_tables(groups: GroupedRecords) -> list[ResultTable]:
    """One table per setting."""
    return [_table(setting, variants) for setting, variants in groups.items()]


def _table(setting: EvaluationSetting, variants: VariantRecords) -> ResultTable:
    heading_of, covered = headings(variants), coverage(setting, variants)
    costs = [record.costs for record in records_of(variants)]
    power = any(each.energy_j is not None or each.gpu_use is not None for each in costs)
    batched = any(each.batched_runs > 1 for each in costs)
    rows = [
        _row(heading_of[variant], covered, datasets, power)
        for variant, datasets in variants.items()
    ]
    notes = (*NOTES, *([POWER_NOTE] if power else []), *([BATCH_NOTE] if batched else []))
    return ResultTable(
        f"Costs{covered.in_title}: {setting}",
        ("", "method"),
        COLUMNS + POWER if power else COLUMNS,
        tuple(rows),
        (*notes, *not_shared(covered, variants)),
    )


def _row(label: str, covered: Coverage, datasets: DatasetRecords, power: bool) -> ResultRow:
    averaged = {name: datasets[name] for name in covered.datasets if name in datasets} or datasets
    most = max(record.identity.shots for records in averaged.values() for record in records)
    at_most_shots = {
        dataset: [record for record in records if record.identity.shots == most]
        for dataset, records in averaged.items()
    }
    by_dataset = [at_most_shots.get(dataset, ()) for dataset in covered.datasets]
    accuracy = mean_over_datasets([accuracies_by_shots(each).get(most) for each in by_dataset])
    costs = [record.costs for records in at_most_shots.values() for record in records]
    lacking = (
        f" ({accuracy.have} of {accuracy.want} datasets)"
        if isinstance(accuracy, IncompleteMean)
        else ""
    )
    values = (str(most), accuracy, *_costs(costs), *(_power(costs) if power else ()))
    return ResultRow(f"{label}{lacking}", values)


def _costs(costs: Sequence[Costs]) -> tuple[str, ...]:
    """The texts of COLUMNS after the accuracy."""
    seconds = [
        f"{fmean(getattr(cost, part) for cost in costs):.2f}"
        for part in ("encode_s", "pretrain_s", "fit_s", "predict_s")
    ]
    return (
        _short(max(cost.trainable_params for cost in costs)),
        _short(_mean(costs, lambda cost: cost.added_macs)),
        *seconds,
        f"{max(cost.peak_mb for cost in costs):.0f}",
        _short(_mean(costs, lambda cost: cost.images_per_s)),
    )


def _power(costs: Sequence[Costs]) -> tuple[str, str]:
    use = _mean(costs, lambda cost: cost.gpu_use)
    return _short(
        _mean(costs, lambda cost: cost.energy_j)
    ), "-" if use is None else f"{100 * use:.0f}"


def _mean(costs: Sequence[Costs], of: Callable[[Costs], float | None]) -> float | None:
    """The mean of a cost that old records lack; nothing where one of them does."""
    values = [of(cost) for cost in costs]
    return fmean(value for value in values if value is not None) if None not in values else None


def _short(number: float | None) -> str:
    """1,916,940 as 1.92M."""
    if number is None:
        return "-"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
