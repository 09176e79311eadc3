"""The progress of a grid in words, for people and for programs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.text import Text

from benchmark.commands.printing import duration
from benchmark.commands.row_tables import UNLIMITED
from benchmark.errors import counted
from benchmark.records.progress import Failed, Progress, Running

SHOWN = 10  # entries of a section; the rest are a number
WIDEST = 300  # characters of text written by other processes
STAMP = re.compile(r"^\[ *[0-9.]+ s\] ")  # before a stage in a log
ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # colours and cursor moves of terminals
GAP = "  "
Row = tuple[str, ...]  # the columns of a line
Entry = list[Text]  # lines about one cell or worker


def as_dict(progress: Progress, root: str) -> dict[str, Any]:
    """What `status --json` prints."""
    numbers = ("records", "failures", "plans", "cells", "done", "waiting", "workers", "left_s")
    facts: dict[str, Any] = {"results": root}
    facts |= {name: getattr(progress, name) for name in numbers}
    for state in ("running", "failed", "lost"):
        facts[state] = [_cell_dict(cell) for cell in getattr(progress, state)]
    return facts


def _cell_dict(cell: Running | Failed) -> dict[str, Any]:
    """The fields of a cell; whatever JSON does not know, a path, becomes text."""
    return {
        name: value if isinstance(value, (int, float)) or value is None else str(value)
        for name, value in asdict(cell).items()
    }


def lines(progress: Progress, root: str, width: int = UNLIMITED) -> list[Text]:
    """What a person reads; the most important words come first, as terminals may be narrow."""
    shown = [headline(progress, root)]
    if progress.cells:
        shown.append(Text(_pace(progress, root)))
    if progress.plans > 1:
        hint = f"to forget one, delete its file in {root}/plans"
        shown.append(Text(f"{progress.plans} grids are unfinished; {hint}", style="dim"))
    return [
        *shown,
        *_section("running", _workers(progress.running, width), "green"),
        *_section(
            "lost: killed or cut off; the next run tries them again",
            _lost(progress.lost, width),
            "yellow",
        ),
        *_section(
            "failed; the next run tries them again",
            [_failed(cell) for cell in progress.failed],
            "red",
        ),
    ]


def headline(progress: Progress, root: str) -> Text:
    """'12 of 45 cells done, 2 running, 31 waiting'."""
    if not progress.cells:
        records = _count(progress.records, "record")
        failures = _count(progress.failures, "failure")
        return Text(f"{root}: {records}, {failures}; no grid is under way")
    states = {
        "running": len(progress.running),
        "failed": len(progress.failed),
        "lost": len(progress.lost),
        "waiting": progress.waiting,
    }
    counts = "".join(f", {count} {state}" for state, count in states.items() if count)
    return Text(f"{progress.done} of {counted(progress.cells, 'cell')} done{counts}", style="bold")


def _pace(progress: Progress, root: str) -> str:
    """'about 12 min 3 s left with 2 workers on results'."""
    if not progress.running:
        return f"nobody is working on it; the same command goes on ({root})"
    left = "" if progress.left_s is None else f"about {duration(progress.left_s)} left with "
    return f"{left}{_count(progress.workers, 'worker')} on {root}"


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _workers(running: Sequence[Running], width: int) -> list[Entry]:
    """An entry per worker with its cells; those that began first come first."""
    by_worker = groupby(sorted(running, key=lambda cell: cell.worker), key=lambda cell: cell.worker)
    groups = [list(cells) for _, cells in by_worker]
    groups.sort(key=lambda cells: -cells[0].for_s)
    if not groups:
        return []
    lines = iter(_aligned([row for cells in groups for row in _worker(cells)], width))
    return [[line for _ in cells for line in next(lines)] for cells in groups]


def _worker(cells: Sequence[Running]) -> list[Row]:
    """A row per cell; the first has the time, the stage and the process of all."""
    first, expected = cells[0], [cell.expected_s for cell in cells if cell.expected_s is not None]
    of = f" of about {duration(sum(expected))}" if len(expected) == len(cells) else ""
    time_taken = f"{duration(max(cell.for_s for cell in cells))}{of}"
    stage = _clean(STAMP.sub("", first.last_words))
    rows = [(_clean(cell.cell), "", "", "") for cell in cells]
    return [(rows[0][0], time_taken, stage, _process(first)), *rows[1:]]


def _lost(cells: Sequence[Running], width: int) -> list[Entry]:
    rows = [
        (_clean(cell.cell), f"begun {duration(cell.for_s)} ago", f"by {_process(cell)}")
        for cell in cells
    ]
    return _aligned(rows, width) if rows else []


def _aligned(rows: Sequence[Row], width: int) -> list[list[Text]]:
    """Rows as lines with columns below one another; each in two lines where one is too long."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    fits = sum(widths) + len(GAP) * len(widths) <= width
    entries = []
    for name, *details in rows:
        if fits:
            columns = [text.ljust(wide) for text, wide in zip(details, widths[1:], strict=True)]
            behind = GAP.join(text for text in columns if text).rstrip()
            line = Text.assemble(f"{GAP}{name.ljust(widths[0])}", (f"{GAP}{behind}", "dim"))
            line.rstrip()
            entries.append([line])
        else:
            below = ", ".join(filter(None, details))
            lines = [Text(f"{GAP}{name}"), Text(f"{GAP}{GAP}{below}", style="dim")]
            entries.append(lines[: 2 if below else 1])
    return entries


def _process(cell: Running) -> str:
    return f"process {cell.pid} on {_clean(cell.host)}"


def _failed(cell: Failed) -> Entry:
    return [
        Text(f"  {_clean(cell.cell)}"),
        Text(f"    {_clean(cell.sentence)}"),
        Text(f"    {cell.log}", style="dim"),
    ]


def _section(title: str, entries: Sequence[Entry], style: str) -> list[Text]:
    """A blank line, a title and at most SHOWN entries; nothing where there are none."""
    if not entries:
        return []
    shown = [Text(), Text(title, style=style)]
    for entry in entries[:SHOWN]:
        shown += entry
    if len(entries) > SHOWN:
        more = f"  and {len(entries) - SHOWN} more; --json names them all"
        shown.append(Text(more, style="dim"))
    return shown


def _clean(text: str) -> str:
    """Text of other processes, on one line and without anything that a terminal would obey."""
    plain = ESCAPE.sub("", text)
    printable = "".join(letter if letter.isprintable() else " " for letter in plain)
    return " ".join(printable.split())[:WIDEST]
