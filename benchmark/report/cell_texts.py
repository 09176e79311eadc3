"""What stands in a cell and above a column, in every format. Percent exists from here on only."""

from __future__ import annotations

import re
from collections.abc import Mapping

from benchmark.report.averages import Average, IncompleteMean, MeanAccuracy
from benchmark.report.marks import BEST, TIED, Mark
from benchmark.report.result_table import ResultRow, ResultTable

DASH = "-"
FEWER = "†"
SUFFIXES: Mapping[Mark | None, str] = {None: "", BEST: "*", TIED: "~"}  # in plain text


def cell_text(value: Average | str, most: int = 0) -> str:
    """71.3±0.8; a dagger says that fewer than `most` seeds, those of its row, stand behind it."""
    match value:
        case None:
            return DASH
        case str():
            return value
        case IncompleteMean(have, want):
            return f"{DASH} ({have}/{want})"
        case MeanAccuracy(mean, std, seeds):
            spread = "" if std is None else f"±{100 * std:.1f}"
            return f"{100 * mean:.1f}{spread}{FEWER if len(seeds) < most else ''}"


def row_cells(row: ResultRow) -> list[tuple[str, Mark | None]]:
    """The text of every value of a row and its mark, which a cell without a number never has."""
    most = max((value.count for value in row.values if isinstance(value, MeanAccuracy)), default=0)
    return [
        (cell_text(value, most), row.marks.get(at) if isinstance(value, MeanAccuracy) else None)
        for at, value in enumerate(row.values)
    ]


def heads(table: ResultTable) -> list[str]:
    """The heading of every column, those of the names included."""
    return [*filter(None, table.heads), *table.columns]


def names(table: ResultTable, row: ResultRow) -> list[str]:
    """What stands before the values of a row: its group, where the table has groups, and label."""
    if table.heads[0]:
        return [row.group, row.label]
    return [f"{row.label} ({row.group})" if row.group else row.label]


def two_lines(heading: str, width: int) -> tuple[str, str]:
    """A heading over two lines, broken at the space or underscore nearest to its middle; on the
    second alone where it is no longer than `width`, or cannot be broken.
    """
    breaks = [found.end() for found in re.finditer(r"[ _]", heading)]
    if len(heading) <= width or not breaks:
        return "", heading
    at = min(breaks, key=lambda place: abs(2 * place - len(heading)))
    return heading[:at].rstrip(), heading[at:]
