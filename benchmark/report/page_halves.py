"""Base-to-new on the page: one more setting, whose numbers are H of the settings of both halves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from benchmark.protocols import ALL, BASE, BASE_TO_NEW, NEW
from benchmark.report.averages import Average
from benchmark.report.grouping import GroupedRecords
from benchmark.report.halves import Halves
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
    for setting, base in groups.items():
        new = groups.get(replace(setting, classes=NEW))
        if setting.evaluation == BASE_TO_NEW and setting.classes == BASE and new:
            both = {BASE: base, NEW: new}
            rows = {
                variant: [
                    found
                    for shots in used_shots({variant: base[variant]})
                    for found in _rows(halves_of(both, variant, shots), setting, shots, mean)
                ]
                for variant in base
                if variant in new
            }
            yield HarmonicRows(replace(setting, classes=ALL), base, rows)


def _rows(
    halves: Halves, setting: EvaluationSetting, shots: int, mean: str
) -> Iterator[tuple[str, int, Average]]:
    whole = setting.members
    for name, datasets in [*((name, [name]) for name in whole), (mean, list(whole))]:
        value = halves.harmonic(datasets)
        if value is not None and (name != mean or len(whole) > 1):
            yield name, shots, value
