"""Which datasets a mean is over, and what it is called: decided here for all tables and figures.

Every mean of a table is over the same datasets: those of the suite that any of its rows was tested
on, be they three of eleven. A row that lacks some of them has their number in place of a mean.
Where there is one dataset, its own numbers are all there is, and they bear its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.report.variants import EvaluationSetting, VariantRecords


@dataclass(frozen=True)
class Coverage:
    """The datasets of the means of one table, in the suite's order."""

    datasets: tuple[str, ...]
    suite_size: int

    @property
    def several(self) -> bool:
        return len(self.datasets) > 1

    @property
    def label(self) -> str:
        """'mean of 3', of a part of a suite 'mean of 3 of 11', of one dataset its name."""
        if not self.several:
            return "".join(self.datasets)
        have = len(self.datasets)
        return f"mean of {have}" + (f" of {self.suite_size}" if have < self.suite_size else "")

    @property
    def columns(self) -> list[tuple[str, ...]]:
        """The datasets of each column where datasets stand side by side: one each, then all."""
        return [*((name,) for name in self.datasets), *([self.datasets] if self.several else [])]

    @property
    def headings(self) -> tuple[str, ...]:
        """The heading of each of these columns; that of a whole suite is 'mean'."""
        whole = len(self.datasets) == self.suite_size
        mean = ("mean" if whole else self.label,) if self.several else ()
        return (*self.datasets, *mean)

    @property
    def in_title(self) -> str:
        """', mean of 3 of 11 datasets'; nothing where the suite is one dataset."""
        if self.several:
            return f", {self.label} datasets"
        return f", {self.label}" if self.suite_size > 1 else ""


def coverage(setting: EvaluationSetting, variants: VariantRecords) -> Coverage:
    """What the means of a table of these rows are over."""
    tested = {name for datasets in variants.values() for name, found in datasets.items() if found}
    return Coverage(tuple(name for name in setting.members if name in tested), len(setting.members))


def not_shared(covered: Coverage, variants: VariantRecords) -> list[str]:
    """Where rows lack datasets of the mean: which, or the few that all of them have. `--dataset`
    with the shared ones compares all rows.
    """
    has = [{name for name in covered.datasets if found.get(name)} for found in variants.values()]
    shared = [name for name in covered.datasets if all(name in each for each in has)]
    lacking = [name for name in covered.datasets if name not in shared]
    if not lacking:
        return []
    if len(shared) < len(lacking):
        return [_few(shared)]
    return [f"not every row has {', '.join(lacking)}"]


def _few(shared: Sequence[str]) -> str:
    """A sentence about the few datasets that all rows have."""
    if not shared:
        return "there is no dataset that all rows have"
    if len(shared) == 1:
        return f"{shared[0]} is the only dataset that all rows have"
    return f"{', '.join(shared)} are the only datasets that all rows have"
