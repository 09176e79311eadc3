"""Tables for a terminal, by rich: what is wider than the terminal is cut between columns."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmark.report.cell_texts import SUFFIXES, footnotes, row_cells
from benchmark.report.marks import BEST
from benchmark.report.result_table import ResultTable

UNLIMITED = 10_000  # columns, where no terminal limits a line
Column = tuple[Sequence[Text], int]  # heading and values, and their width
GAP = 2  # spaces between columns
NARROWEST_NAME = 16  # characters that a name keeps in the narrowest terminal


def text_table(table: ResultTable, width: int = UNLIMITED) -> Group:
    """A table for a terminal of `width` columns.

    Columns that do not fit stand in another block below, the names of the rows again beside them.
    A name that takes more than two fifths of the width is wrapped; a number never is.
    """
    names = _name_cells(table)
    longest = max(len(name) for name in names)
    name_width = min(longest, max(NARROWEST_NAME, width * 2 // 5))
    columns = list(zip(*_value_cells(table), strict=True))
    widths = [max(map(len, column)) for column in columns]
    parts: list[RenderableType] = [Text(table.title, style="bold cyan")]
    for number, block in enumerate(_blocks(widths, width - name_width)):
        parts += [Text()] if number else []
        grid = [(names, name_width), *((columns[at], widths[at]) for at in block)]
        parts += _block(grid, [row.group for row in table.rows])
    return Group(*parts, *(Text(note, style="dim") for note in footnotes(table)))


def plain_text(table: ResultTable, width: int = UNLIMITED) -> str:
    """`text_table` without colours, for files and pipes; no line ends in spaces."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(text_table(table, width))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _name_cells(table: ResultTable) -> list[Text]:
    """The heading of the names, then the name of every row, indented below those of groups."""
    indent = " " * GAP if table.heads[0] else ""
    styles = ["dim", *("bold" if row.mean else "" for row in table.rows)]
    names = [table.heads[1], *(row.label for row in table.rows)]
    return [Text(indent + name, style=style) for name, style in zip(names, styles, strict=True)]


def _value_cells(table: ResultTable) -> list[list[Text]]:
    """The headings of the values, then the values of every row."""
    rows = [[Text(name, style="dim") for name in table.columns]]
    for row in table.rows:
        cells = row_cells(row)
        bold = [row.mean or mark == BEST for _, mark in cells]
        texts = [text + SUFFIXES[mark] for text, mark in cells]
        rows.append(
            [Text(text, style="bold" if b else "") for text, b in zip(texts, bold, strict=True)]
        )
    return rows


def _blocks(widths: Sequence[int], space: int) -> Iterator[range]:
    """The columns of every block: as many as fit into `space`, at least one."""
    start, used = 0, 0
    for at, width in enumerate(widths):
        if at > start and used + GAP + width > space:
            yield range(start, at)
            start, used = at, 0
        used += GAP + width
    yield range(start, len(widths))


def _block(grid: Sequence[Column], groups: Sequence[str]) -> Iterator[RenderableType]:
    """Some columns of all rows: the headings, then every group below its name."""
    yield _table(grid, range(1))
    for group, members in groupby(enumerate(groups, start=1), key=lambda item: item[1]):
        if group:
            yield Text(group, style="bold")
        yield _table(grid, [row for row, _ in members])


def _table(grid: Sequence[Column], rows: Iterable[int]) -> Table:
    """Some rows, in columns of fixed widths, so that tables below one another are aligned."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=0)
    for number, (_, width) in enumerate(grid):
        if number:
            # the gap is part of the width, since rich takes its time over padding
            table.add_column(width=GAP + width, no_wrap=True, justify="right")
        else:
            table.add_column(width=width, overflow="fold")
    for row in rows:
        table.add_row(*(cells[row] for cells, _ in grid))
    return table
