"""A table as plain data: rows of numbers, and what a reader needs to know about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmark.report.averages import Average, MeanAccuracy
from benchmark.report.marks import Mark


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
    notes: tuple[str, ...] = ()  # about this table
    facts: tuple[str, ...] = ()  # that name what they are about, so that one place can say them


def seed_counts(values: Sequence[Average]) -> str:
    """How many seeds stand behind a row's numbers: '3', or '2-3' where they differ."""
    counts = [value.count for value in values if isinstance(value, MeanAccuracy)]
    if not counts:
        return "-"
    return str(max(counts)) if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"
