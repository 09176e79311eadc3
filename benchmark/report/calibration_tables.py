"""Tables of calibration and selective accuracy: one row per method and number of shots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from benchmark.records.record import Record
from benchmark.report.averages import (
    Average,
    SeedAccuracies,
    accuracies_by_shots,
    mean_over_datasets,
    seed_of,
)
from benchmark.report.calibration import BINS, COVERAGES, Calibration, Calibrations
from benchmark.report.coverage import coverage, not_shared
from benchmark.report.grouping import GroupedRecords
from benchmark.report.headings import headings
from benchmark.report.result_table import ResultRow, ResultTable
from benchmark.report.table_notes import records_of
from benchmark.report.variants import DatasetRecords, EvaluationSetting, VariantRecords

Number = Callable[[Calibration], float]


def _at(place: int) -> Number:
    return lambda found: found.at_coverage[place]


NUMBERS: dict[str, Number] = {
    "ECE": lambda found: found.ece,
    "ECE mass": lambda found: found.ece_mass,
    **{f"at {100 * coverage:.0f} %": _at(place) for place, coverage in enumerate(COVERAGES)},
    "AURC": lambda found: found.aurc,
}
NOTES = (
    f"ECE: expected calibration error, {BINS} bins of equal width (arXiv:1706.04599); ECE mass: "
    "bins with as many images each",
    "at c %: accuracy on the c % of the test images that the method is surest of; AURC: mean error "
    "over all coverages",
    "probabilities are the softmax of the logits as each method scales them; of a method whose "
    "logits mean something else they say nothing",
)


def calibration_tables(groups: GroupedRecords, found: Calibrations) -> list[ResultTable]:
    """One table per setting, in %."""
    return [_table(setting, variants, found) for setting, variants in groups.items()]


def _table(
    setting: EvaluationSetting, variants: VariantRecords, found: Calibrations
) -> ResultTable:
    heading_of, covered = headings(variants), coverage(setting, variants)
    records = list(records_of(variants))
    lacking = sum(found.of(record) is None for record in records)
    lack = f"{lacking} of {len(records)} records keep no confidences: they are left out"
    notes = (*NOTES, *([lack] if lacking else []), *not_shared(covered, variants))
    return ResultTable(
        f"Calibration in %{covered.in_title}: {setting}",
        ("method", "shots"),
        ("accuracy", *NUMBERS),
        tuple(
            ResultRow(f"{shots}-shot", values, heading_of[variant])
            for variant, datasets in variants.items()
            for shots, values in _rows(covered.datasets, datasets, found)
        ),
        notes,
    )


def _rows(
    whole: Sequence[str], datasets: DatasetRecords, found: Calibrations
) -> list[tuple[int, tuple[Average, ...]]]:
    by_shots = {name: accuracies_by_shots(datasets.get(name, ())) for name in whole}
    return [
        (
            shots,
            (
                mean_over_datasets([by_shots[name].get(shots) for name in whole]),
                *(_mean(whole, datasets, shots, partial(_of, found, n)) for n in NUMBERS.values()),
            ),
        )
        for shots in sorted({shots for each in by_shots.values() for shots in each})
    ]


def _of(found: Calibrations, number: Number, record: Record) -> float | None:
    kept = found.of(record)
    return None if kept is None else number(kept)


def _mean(
    whole: Sequence[str],
    datasets: DatasetRecords,
    shots: int,
    of: Callable[[Record], float | None],
) -> Average:
    """The mean over datasets of one number of those records that have it."""
    by_seed: list[SeedAccuracies] = []
    for name in whole:
        same_shots = [each for each in datasets.get(name, ()) if each.identity.shots == shots]
        numbers = {seed_of(record): of(record) for record in same_shots}
        by_seed.append({seed: value for seed, value in numbers.items() if value is not None})
    return mean_over_datasets(by_seed)
