"""The progress of a grid in words: printed once, or again and again until nothing runs any more."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from benchmark.commands.printing import duration, wants_plain
from benchmark.commands.row_tables import UNLIMITED
from benchmark.errors import UserError
from benchmark.records.progress import Failed, Progress, Running, Wanted, read_progress
from benchmark.records.store import Store

PAUSE_S = 2.0  # between two readings of the folder
# Readings in a row without a running cell before watching ends: workers that are still loading
# have not begun a cell.
QUIET_READINGS = 5
SHOWN = 10  # entries of a section; the rest are a number
WIDEST = 300  # characters of text written by other processes
STAMP = re.compile(r"^\[ *[0-9.]+ s\] ")  # before a stage in a log
ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # colours and cursor moves of terminals

Show = Callable[[Progress], None]
GAP = "  "
Row = tuple[str, ...]  # the columns of a line
Entry = list[Text]  # lines about one cell or worker


def print_once(
    store: Store, out: Console, remarks: list[str], *, as_json: bool, wanted: Wanted = bool
) -> None:
    """Print the progress of now; unreadable files are named in `remarks`."""
    progress = existing_progress(store, remarks, wanted)
    _print(progress, str(store.root), out, as_json=as_json, indent=1)


def print_until_done(
    store: Store,
    out: Console,
    remarks: list[str],
    *,
    as_json: bool,
    plain: bool,
    wanted: Wanted = bool,
) -> None:
    """Print the progress until `watch` ends: a live picture, lines, or a JSON object per line."""
    root = str(store.root)
    with _display(out, root, as_json=as_json, plain=plain) as show:
        progress = watch(store, show, remarks, wanted=wanted)
    _print(progress, root, out, as_json=as_json, indent=None)


def _display(
    out: Console, root: str, *, as_json: bool, plain: bool
) -> AbstractContextManager[Show]:
    if as_json:
        return changes(lambda progress: _print_json(progress, root, out, None))
    if wants_plain(out, plain):
        return changes(lambda progress: _print_lines(out, [headline(progress, root)]))
    return picture(out, root)


def _print(
    progress: Progress, root: str, out: Console, *, as_json: bool, indent: int | None
) -> None:
    if as_json:
        _print_json(progress, root, out, indent)
    else:
        _print_lines(out, lines(progress, root, out.width if out.is_terminal else UNLIMITED))


def _print_json(progress: Progress, root: str, out: Console, indent: int | None) -> None:
    print(json.dumps(as_dict(progress, root), indent=indent), file=out.file, flush=True)


def _print_lines(out: Console, shown: Sequence[Text]) -> None:
    for line in shown:
        out.print(line, soft_wrap=True, highlight=False)


def existing_progress(
    store: Store, remarks: list[str] | None = None, wanted: Wanted = bool
) -> Progress:
    """The progress of now; UserError where the folder holds no results at all."""
    progress = read_progress(store, remarks, wanted)
    if not (progress.records or progress.failures or progress.cells):
        raise UserError(
            f"there are no results in {store.root}, or none that may be read; "
            "name the folder of a run with --results"
        )
    return progress


def watch(
    store: Store,
    show: Show,
    remarks: list[str],
    pause: Callable[[float], None] = time.sleep,
    wanted: Wanted = bool,
) -> Progress:
    """Read and show the progress again and again; return the last one.

    Ends when all cells are done or have failed, when nothing has been running for a while, and on
    Ctrl-C.
    """
    progress, quiet = existing_progress(store, remarks, wanted), 0
    try:
        while not _over(progress, quiet):
            show(progress)
            pause(PAUSE_S)
            progress = read_progress(store, wanted=wanted)
            quiet = 0 if progress.running else quiet + 1
    except KeyboardInterrupt:  # the usual way to end it
        pass
    return progress


def _over(progress: Progress, quiet: int) -> bool:
    unfinished = progress.waiting or progress.lost
    return not progress.running and (quiet >= QUIET_READINGS or not unfinished)


@contextmanager
def picture(out: Console, root: str) -> Iterator[Show]:
    """Show every progress at the same spot of the terminal."""
    with Live(console=out, transient=True, auto_refresh=False) as live:

        def show(progress: Progress) -> None:
            live.update(Group(*_cropped(lines(progress, root, out.width))), refresh=True)

        yield show


@contextmanager
def changes(write: Show) -> Iterator[Show]:
    """Call `write` only when a cell began or ended."""
    last: tuple[object, ...] | None = None

    def show(progress: Progress) -> None:
        nonlocal last
        if last != _state(progress):
            last = _state(progress)
            write(progress)

    yield show


def _state(progress: Progress) -> tuple[object, ...]:
    return (
        progress.done,
        progress.waiting,
        [cell.key for cell in (*progress.running, *progress.lost)],
        [cell.key for cell in progress.failed],
    )


def _cropped(shown: Sequence[Text]) -> list[Text]:
    for line in shown:
        line.no_wrap, line.overflow = True, "ellipsis"
    return list(shown)


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
    return Text(f"{progress.done} of {progress.cells} cells done{counts}", style="bold")


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
