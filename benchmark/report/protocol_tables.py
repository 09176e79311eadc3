"""Tables of the protocols that learn once and test several times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from benchmark.protocols import ALL, BASE, BASE_TO_NEW, FEW_SHOT, NEW
from benchmark.records.record import Record
from benchmark.report.averages import (
    ACCURACY,
    Metric,
    SeedAccuracies,
    accuracies_by_shots,
    mean_over_datasets,
)
from benchmark.report.coverage import Coverage, coverage
from benchmark.report.grouping import GroupedRecords
from benchmark.report.halves import PARTS, Halves
from benchmark.report.headings import headings
from benchmark.report.result_table import ResultRow, ResultTable, seed_counts
from benchmark.report.table_notes import with_notes
from benchmark.report.tables import Rank, shots_of
from benchmark.report.variants import (
    EvaluationSetting,
    MethodVariant,
    VariantRecords,
)

OWN_H = "mean of H"  # over the datasets, beside the H of the means
H_IS = (
    "H: the harmonic mean of base and new over the seeds that both have; of means, that of the "
    "means"
)
ByPart = Mapping[str, VariantRecords]  # base, new, all


def tables(
    groups: GroupedRecords,
    kind: str,
    rank: Rank | None = None,
    metric: Metric = ACCURACY,
    *,
    own_h: bool = False,
) -> Iterator[ResultTable]:
    """The tables of every protocol but few-shot. Kind "dataset-shots" has a row per dataset where
    others have one per method; `own_h` adds the mean of the datasets' own H.
    """
    parts: dict[EvaluationSetting, dict[str, VariantRecords]] = defaultdict(dict)
    for setting, variants in groups.items():
        if setting.evaluation == BASE_TO_NEW:
            parts[replace(setting, classes=ALL)][setting.classes] = variants
        elif setting.evaluation != FEW_SHOT:
            yield from (
                _targets(setting, variants, shots, rank, metric) for shots in used_shots(variants)
            )
    for setting, by_part in parts.items():
        yield from _base_to_new(setting, by_part, kind, rank, metric, own_h)


def _targets(
    setting: EvaluationSetting,
    variants: VariantRecords,
    shots: int,
    rank: Rank | None,
    metric: Metric,
) -> ResultTable:
    """Methods against the source and its targets, whose mean leaves the source out."""
    heading_of = headings(variants)
    covered, source = coverage(setting, variants), setting.learned_on
    columns = [(source,), *covered.columns]
    marks = rank(variants, [(shots, names) for names in columns]) if rank else []
    rows = []
    for variant, records in variants.items():
        by_seed = {
            name: at_shots(records.get(name, ()), shots, metric)
            for name in (source, *covered.datasets)
        }
        if any(by_seed.values()):
            values = [mean_over_datasets([by_seed[name] for name in names]) for names in columns]
            marked = {at: found[variant] for at, found in enumerate(marks) if variant in found}
            seeds = seed_counts(values[: len(by_seed)])
            rows.append(ResultRow(heading_of[variant], (*values, seeds), marks=marked))
    title = f"{metric.title} in %, {shots}-shot: {setting}"
    heads = (source, *covered.datasets, *([covered.label] if covered.several else []), "seeds")
    return with_notes(ResultTable(title, ("", "method"), heads, tuple(rows)), setting, variants)


def _base_to_new(
    setting: EvaluationSetting,
    by_part: ByPart,
    kind: str,
    rank: Rank | None,
    metric: Metric,
    own_h: bool,
) -> Iterator[ResultTable]:
    every = _of_all_parts(by_part)
    detailed, covered = kind == "dataset-shots", coverage(setting, every)
    for shots in used_shots(every):
        halves = {variant: halves_of(by_part, variant, shots, metric) for variant in every}
        rows = (
            _rows_by_dataset(covered, halves, own_h)
            if detailed
            else _rows_by_method(covered.datasets, halves, own_h, by_part, rank, shots)
        )
        over = "" if detailed else covered.in_title
        table = ResultTable(
            f"{metric.title} in %, {shots}-shot{over}: {setting}".removesuffix(f", {ALL} classes"),
            ("method", "dataset") if detailed else ("", "method"),
            (BASE, NEW, "H", f"{ALL} classes", *([OWN_H] if own_h else []), "seeds"),
            tuple(rows),
            (H_IS,),
        )
        yield with_notes(table, setting, every)


def _of_all_parts(by_part: ByPart) -> VariantRecords:
    """The records of every method and dataset, whichever classes were tested."""
    every: dict[MethodVariant, dict[str, list[Record]]] = {}
    for variants in by_part.values():
        for variant, datasets in variants.items():
            merged = every.setdefault(variant, {})
            for name, records in datasets.items():
                merged[name] = [*merged.get(name, ()), *records]
    return every


def halves_of(
    by_part: ByPart, variant: MethodVariant, shots: int, metric: Metric = ACCURACY
) -> Halves:
    """The accuracies of a method on each part of the classes."""
    return Halves(
        {
            part: {
                name: at_shots(records, shots, metric)
                for name, records in by_part.get(part, {}).get(variant, {}).items()
            }
            for part in PARTS
        }
    )


def _rows_by_dataset(
    covered: Coverage, halves: Mapping[MethodVariant, Halves], own_h: bool
) -> Iterator[ResultRow]:
    heading_of, whole = headings(halves), covered.datasets
    for variant, each in halves.items():
        for name in whole:
            if any(each.values([name])):
                yield _row(name, each, [name], heading_of[variant], own_h)
        if covered.several and any(each.values(whole)):
            row = _row(covered.label, each, whole, heading_of[variant], own_h)
            yield replace(row, mean=True)


def _rows_by_method(
    datasets: Sequence[str],
    halves: Mapping[MethodVariant, Halves],
    own_h: bool,
    by_part: ByPart,
    rank: Rank | None,
    shots: int,
) -> Iterator[ResultRow]:
    heading_of = headings(halves)
    column = [(shots, datasets)]
    marks = {}
    if rank:
        places = ((0, BASE), (1, NEW), (3, ALL))
        marks = {at: rank(by_part[part], column)[0] for at, part in places if part in by_part}
    for variant, each in halves.items():
        if any(each.values(datasets)):
            row = _row(heading_of[variant], each, datasets, "", own_h)
            own = {at: found[variant] for at, found in marks.items() if variant in found}
            yield replace(row, marks=own)


def _row(label: str, halves: Halves, names: Sequence[str], group: str, own_h: bool) -> ResultRow:
    values = halves.values(names)
    extra = [halves.own_harmonics(names)] if own_h else []
    return ResultRow(label, (*values, *extra, seed_counts(values)), group)


def used_shots(variants: VariantRecords) -> list[int]:
    """The numbers of shots of a table each; a method without any stands in all of them."""
    return [shots for shots in shots_of(variants) if shots] or [0]


def at_shots(
    records: Sequence[Record], shots: int, metric: Metric = ACCURACY
) -> SeedAccuracies | None:
    """seed -> accuracy at these shots, or of a method that never uses any."""
    by_shots = accuracies_by_shots(records, metric)
    return by_shots.get(shots) or by_shots.get(0)
