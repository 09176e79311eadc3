"""Base-to-new: one more setting, whose numbers are H of the settings of both halves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from benchmark.protocols import ALL, BASE, BASE_TO_NEW, NEW
from benchmark.records.record import Record
from benchmark.report.averages import Average
from benchmark.report.grouping import GroupedRecords
from benchmark.report.halves import Halves
from benchmark.report.page_views import Results, Score
from benchmark.report.protocol_tables import halves_of, used_shots
from benchmark.report.variants import EvaluationSetting, MethodVariant, VariantRecords


@dataclass(frozen=True)
class HarmonicRows:
    """The variants of both halves of a setting, and H of each: (dataset or '', shots, H)."""

    setting: EvaluationSetting  # of all classes
    base: VariantRecords
    rows: Mapping[MethodVariant, list[tuple[str, int, Average]]]

    def half(self, part: str) -> EvaluationSetting:
        return replace(self.setting, classes=part)


def harmonic_rows(groups: GroupedRecords, mean: str) -> Iterator[HarmonicRows]:
    """For every setting of base-to-new with records of both halves; `mean` names what stands for
    the mean over datasets.
    """
    for setting, both in _both_halves(groups):
        rows = {
            variant: [
                found
                for shots in used_shots({variant: both[BASE][variant]})
                for found in _rows(halves_of(both, variant, shots), setting, shots, mean)
            ]
            for variant in both[BASE]
            if variant in both[NEW]
        }
        yield HarmonicRows(replace(setting, classes=ALL), both[BASE], rows)


def _both_halves(
    groups: GroupedRecords,
) -> Iterator[tuple[EvaluationSetting, dict[str, VariantRecords]]]:
    """The settings of base classes whose new classes are there as well."""
    for setting, base in groups.items():
        new = groups.get(replace(setting, classes=NEW))
        if setting.evaluation == BASE_TO_NEW and setting.classes == BASE and new:
            yield setting, {BASE: base, NEW: new}


def halves_results(groups: GroupedRecords) -> Iterator[tuple[EvaluationSetting, Results]]:
    """For the page: the setting of base classes, and H; costs are those of the base classes."""
    for setting, both in _both_halves(groups):
        variants = {
            variant: {
                name: kept
                for name, records in both[BASE][variant].items()
                if (kept := _in_both(records, both[NEW][variant].get(name, ())))
            }
            for variant in both[BASE]
            if variant in both[NEW]
        }
        yield setting, Results(setting, variants, _harmonic(both), ranking=False)


def _in_both(base: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    """The records of base classes at numbers of shots that the new classes have."""
    shots = {record.identity.shots for record in new}
    return [record for record in base if record.identity.shots in shots]


def _harmonic(both: dict[str, VariantRecords]) -> Score:
    known = cache(lambda variant, shots: halves_of(both, variant, shots))

    def score(variant: MethodVariant, datasets: Sequence[str], shots: int) -> Average:
        return known(variant, shots).harmonic(datasets)

    return score


def _rows(
    halves: Halves, setting: EvaluationSetting, shots: int, mean: str
) -> Iterator[tuple[str, int, Average]]:
    whole = setting.members
    for name, datasets in [*((name, [name]) for name in whole), (mean, list(whole))]:
        value = halves.harmonic(datasets)
        if value is not None and (name != mean or len(whole) > 1):
            yield name, shots, value
