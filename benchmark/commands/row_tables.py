"""Plain rows as tables for a person: one line per row, cut to a terminal's width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, object]
UNLIMITED = 10_000  # columns, where no terminal limits a line
LEAST = 12  # characters of a column that is cut
GAP = 2  # between columns


def print_rows(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print some columns of rows on stdout, with a heading.

    On a terminal columns are left out from the right until all but the last shown are whole; that
    one is cut. Elsewhere every line has its full length.
    """
    columns = _fitting(rows, columns, _width())
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        numeric = all(isinstance(row[name], (int, float)) for row in rows)
        table.add_column(
            name,
            no_wrap=name != columns[-1],
            justify="right" if numeric and not _all_bool(rows, name) else "left",
        )
    for row in rows:
        *cells, last = (_grouped(row[name]) for name in columns)
        table.add_row(*map(Text, cells), Text(last, no_wrap=True, overflow="ellipsis"))
    _print(table)


def _fitting(rows: Sequence[Row], columns: Sequence[str], width: int) -> Sequence[str]:
    """The first columns, all whole but the last, which has room for LEAST characters at least."""
    shown = list(columns)
    while len(shown) > 1:
        *whole, last = (
            max(len(name), *(len(_grouped(row[name])) for row in rows)) for name in shown
        )
        if sum(whole) + GAP * len(whole) + min(last, LEAST) <= width:
            break
        shown.pop()
    return shown


def print_details(row: Row) -> None:
    """Print everything about one row on stdout, an item per line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, value in row.items():
        if isinstance(value, Mapping):
            table.add_row(Text(name), Text("" if value else "-"))
            for key, item in value.items():
                table.add_row(Text(f"  {key}"), Text(cell_text(item)))
        else:
            items = list(map(str, value)) if isinstance(value, (list, tuple)) else []
            table.add_row(Text(name), Text(", ".join(items) or cell_text(value)))
    _print(table)


def cell_text(value: object) -> str:
    """'-' for nothing, 'yes' or 'no', the items of a list, or the value as text."""
    if value is None or value in ("", [], ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value)


def _grouped(value: object) -> str:
    """`cell_text` with thousands separators; details show numbers as --set takes them."""
    plain_int = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if plain_int else cell_text(value)


def _all_bool(rows: Sequence[Row], name: str) -> bool:
    return all(isinstance(row[name], bool) for row in rows)


def _width() -> int:
    console = Console()
    return console.width if console.is_terminal else UNLIMITED


def _print(table: Table) -> None:
    console = Console(width=_width())
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())
