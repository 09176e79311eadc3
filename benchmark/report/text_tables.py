"""Tables for a terminal, by rich: what is wider than the terminal is cut between columns."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmark.report.cell_texts import SUFFIXES, row_cells, two_lines
from benchmark.report.footnotes import WIDEST, footnotes, wrapped
from benchmark.report.marks import BEST, Mark
from benchmark.report.result_table import ResultRow, ResultTable
from benchmark.report.short_names import shortened

UNLIMITED = 10_000  # columns, where no terminal limits a line
Column = tuple[Sequence[Text], int]  # headings and values, and their width
GAP = 2  # spaces between columns
NARROWEST_NAME = 16  # characters that a name keeps in the narrowest terminal
HEADS = 2  # lines above the values; the first is left out where it is empty


def text_tables(tables: Sequence[ResultTable], width: int = UNLIMITED) -> Group:
    """Tables for a terminal of `width` columns, notes that all of them share below the last.

    Columns that do not fit stand in another block below, the names of the rows again beside them.
    A name that takes more than two fifths of the width is cut, and said whole in a note.
    """
    label = max(NARROWEST_NAME, width * 2 // 5)
    tables = [shortened(table, label, width) for table in tables]
    alone, together = footnotes(tables)
    parts: list[RenderableType] = []
    for table, notes in zip(tables, alone, strict=True):
        parts += [Text()] if parts else []
        parts += [*_one(table, width), *_notes(notes, width)]
    if len(tables) > 1:
        parts.append(Text())
    return Group(*parts, *_notes(together, width))


def plain_text(tables: Sequence[ResultTable], width: int = UNLIMITED) -> str:
    """`text_tables` without colours, for files and pipes; no line ends in spaces."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(text_tables(tables, width))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _notes(notes: Iterable[str], width: int) -> list[Text]:
    return [Text(wrapped(note, min(width, WIDEST)), style="dim") for note in notes]


def _one(table: ResultTable, width: int) -> Iterator[RenderableType]:
    """The title and the blocks of one table."""
    yield Text(wrapped(table.title, width), style="bold cyan")
    names = _name_cells(table)
    name_width = max(len(name) for name in names)
    space = width - name_width
    columns, widths = _columns(table, split=False)
    if sum(widths) + GAP * len(widths) > space:
        columns, widths = _columns(table, split=True)
    for number, block in enumerate(_blocks(widths, space)):
        if number:
            yield Text()
        grid = [(names, name_width), *((columns[at], widths[at]) for at in block)]
        yield from _block(grid, [row.group for row in table.rows])


def _name_cells(table: ResultTable) -> list[Text]:
    """The heading of the names, then the name of every row, indented below those of groups."""
    indent = " " * GAP if table.heads[0] else ""
    styles = ["dim", "dim", *("bold" if row.mean else "" for row in table.rows)]
    names = ["", table.heads[1], *(row.label for row in table.rows)]
    return [Text(indent + name, style=style) for name, style in zip(names, styles, strict=True)]


def _columns(table: ResultTable, *, split: bool) -> tuple[list[list[Text]], list[int]]:
    """Every column, two lines of its heading first, and its width. With `split` a heading that is
    longer than its values takes both lines where it can.
    """
    lines = [row_cells(row) for row in table.rows]
    columns = []
    for at, heading in enumerate(table.columns):
        values = [_value(row, *cells[at]) for row, cells in zip(table.rows, lines, strict=True)]
        longest = max(map(len, values), default=0) if split else len(heading)
        columns.append([*(Text(each, "dim") for each in two_lines(heading, longest)), *values])
    return columns, [max(map(len, column)) for column in columns]


def _value(row: ResultRow, text: str, mark: Mark | None) -> Text:
    return Text(text + SUFFIXES[mark], style="bold" if row.mean or mark == BEST else "")


def _blocks(widths: Sequence[int], space: int) -> list[range]:
    """The columns of every block: as few blocks as `space` allows, and these as even as they can
    be, so that none has a single column where others are full.
    """
    blocks = list(_filled(widths, space))
    narrower = space
    while len(blocks) > 1 and narrower > max(widths) + GAP:
        narrower -= 1
        even = list(_filled(widths, narrower))
        if len(even) > len(blocks):
            break
        blocks = even
    return blocks


def _filled(widths: Sequence[int], space: int) -> Iterator[range]:
    """The columns of every block, as many as fit into `space`, at least one."""
    start, used = 0, 0
    for at, width in enumerate(widths):
        if at > start and used + GAP + width > space:
            yield range(start, at)
            start, used = at, 0
        used += GAP + width
    yield range(start, len(widths))


def _block(grid: Sequence[Column], groups: Sequence[str]) -> Iterator[RenderableType]:
    """Some columns of all rows: the headings, then every group below its name."""
    two = any(cells[0].plain.strip() for cells, _ in grid)
    yield _table(grid, range(0 if two else 1, HEADS))
    for group, members in groupby(enumerate(groups, start=HEADS), key=lambda item: item[1]):
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
            table.add_column(width=width, no_wrap=True)
    for row in rows:
        table.add_row(*(cells[row] for cells, _ in grid))
    return table
