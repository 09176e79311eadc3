"""Names of rows that fit: a long one is cut to its title and numbered, and a note says it whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from benchmark.report.result_table import ResultTable

# a title, what tells the row from others, and a condition in brackets at the end
PARTS = re.compile(r"(?P<title>.*?)(?:, .*?)?(?P<condition> \([^()]*\))?", re.DOTALL)
ELLIPSIS = "…"


def shortened(table: ResultTable, longest_label: int, longest_group: int) -> ResultTable:
    """The table with labels and groups of at most so many characters. What was cut ends in a number
    in brackets, which the notes explain.
    """
    shorter: dict[str, str] = {}
    for row in table.rows:
        for name, longest in ((row.group, longest_group), (row.label, longest_label)):
            if len(name) > longest and name not in shorter:
                shorter[name] = cut(name, longest, f" [{len(shorter) + 1}]")
    if not shorter:
        return table
    rows = tuple(
        replace(
            row, label=shorter.get(row.label, row.label), group=shorter.get(row.group, row.group)
        )
        for row in table.rows
    )
    return replace(table, rows=rows, notes=(*table.notes, *_explained(shorter)))


def cut(name: str, longest: int, number: str) -> str:
    """The title, the number and the condition of a name, in at most `longest` characters."""
    parts = PARTS.fullmatch(name)
    title, condition = (parts["title"], parts["condition"] or "") if parts else (name, "")
    if len(condition) > longest // 2:
        condition = ""
    space = longest - len(number) - len(condition)
    if len(title) > space:
        title = title[: space - 1].rstrip() + ELLIPSIS
    return f"{title}{number}{condition}"


def _explained(shorter: Mapping[str, str]) -> list[str]:
    return [f"[{place}] {name}" for place, name in enumerate(shorter, start=1)]
