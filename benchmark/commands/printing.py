"""Printing that commands share: results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmark.errors import counted, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.compute.history import Forecast
    from benchmark.report.result_table import ResultTable

BRIEF_S = 10  # of forecasts that are no better told


def consoles() -> tuple[Console, Console]:
    """Consoles for stdout and stderr, bound to the streams of this moment.

    A running cell's prints are redirected into its log, so the streams must be taken before.
    """
    from rich.console import Console

    return Console(file=sys.stdout), Console(file=sys.stderr)


def say(console: Console, text: str) -> None:
    """Print `text` as it is: no markup, no highlighting, no wrapping."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print `value` on stdout as indented JSON."""
    print(json.dumps(value, indent=1))


def warn(notes: Sequence[str]) -> None:
    """Print one warning per note on stderr; names of strangers' files may stand in it."""
    for note in notes:
        print(f"warning: {one_line(note)}", file=sys.stderr)


def print_tables(tables: Sequence[ResultTable], out: Console) -> None:
    """On a terminal as wide as that; elsewhere as wide as they are, unless COLUMNS says a width."""
    from benchmark.report.text_tables import plain_text, text_tables

    if not tables:
        return
    if out.is_terminal:
        out.print(text_tables(tables, out.width))
    else:
        width = [out.width] if os.environ.get("COLUMNS", "").isdecimal() else []
        out.file.write(plain_text(tables, *width))


def wants_plain(console: Console, requested: bool) -> bool:
    """Whether to print lines instead of a live view.

    True on request, without a terminal, and under continuous integration (CI set).
    """
    in_ci = os.environ.get("CI", "") not in ("", "0", "false")
    return requested or not console.is_terminal or in_ci


def forecast_text(forecasts: Sequence[Forecast | None]) -> str:
    """'about 19 s for 3 cells, by 1 to 4 records each (2 by records at other shots); nothing is
    known of 5 more', of cells of which one at least is known.
    """
    known = [each for each in forecasts if each]
    fewest, most = (of(each.records for each in known) for of in (min, max))
    records = counted(most, "record") if fewest == most else f"{fewest:,} to {most:,} records"
    apart = Counter(each.apart for each in known if each.apart)
    guessed = ", ".join(f"{count:,} by records {how}" for how, count in apart.items())
    unknown = len(forecasts) - len(known)
    return (
        f"{_roughly(sum(each.seconds for each in known))} for {counted(len(known), 'cell')}"
        f", by {records} each{guessed and f' ({guessed})'}"
        f"{f'; nothing is known of {unknown:,} more' if unknown else ''}"
    )


def _roughly(seconds: float) -> str:
    """Records leave out what it takes to start, which is seconds."""
    return f"less than {BRIEF_S} s" if seconds < BRIEF_S else f"about {duration(seconds)}"


def duration(seconds: float) -> str:
    """'9 s', '3 min 20 s' or '5 h 10 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
