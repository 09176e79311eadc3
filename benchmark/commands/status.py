"""How a grid that runs elsewhere is getting on, in words: once, or again and again until nothing
runs any more.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from benchmark.commands.live import duration, wants_plain
from benchmark.errors import UserError
from benchmark.records.progress import Failed, Progress, Running, look
from benchmark.records.store import Store

LOOK_S = 2.0  # between looks
QUIET_LOOKS = 5  # in a row without anything running before a watch ends: workers that load things have not begun a cell yet
SHOWN = 10  # of a kind: the rest are a number
WIDEST = 300  # characters of what others wrote
STAMP = re.compile(r"^\[ *[0-9.]+ s\] ")  # before a stage in a log
ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # colours and cursor moves of terminals

Show = Callable[[Progress], None]


def conduct(
    store: Store, out: Console, remarks: list[str], watching: bool, as_json: bool, plain: bool
) -> None:
    """Look and tell; what was passed over on the first look is added to `remarks`. Watching in JSON
    gives an object per line.
    """
    root = str(store.root)
    indent = None if watching else 1

    def write(found: Progress) -> None:
        print(json.dumps(as_dict(found, root), indent=indent), file=out.file, flush=True)

    if watching:
        moving = not as_json and not wants_plain(out, plain)
        with (
            picture(out, root)
            if moving
            else changes(write if as_json else lambda now: _say(out, headline(now, root))) as show
        ):
            found = watch(store, show, remarks)
    else:
        found = examine(store, remarks)
    write(found) if as_json else _say(out, *lines(found, root))


def examine(store: Store, remarks: list[str] | None = None) -> Progress:
    """How things stand; UserError where nothing stands at all."""
    found = look(store, remarks)
    if not (found.records or found.failures or found.cells):
        raise UserError(
            f"there are no results in {store.root}, or none that may be read; name the folder of a run with --results"
        )
    return found


def watch(
    store: Store, show: Show, remarks: list[str], pause: Callable[[float], None] = time.sleep
) -> Progress:
    """Look again and again, until all is done or has failed, or nothing has been running for a
    while, or Ctrl-C; the last look.
    """
    found, quiet = examine(store, remarks), 0
    try:
        while not _over(found, quiet):
            show(found)
            pause(LOOK_S)
            found = look(store)
            quiet = 0 if found.running else quiet + 1
    except KeyboardInterrupt:  # the usual way to end it
        pass
    return found


def _over(found: Progress, quiet: int) -> bool:
    return not found.running and (quiet >= QUIET_LOOKS or not (found.waiting or found.lost))


@contextmanager
def picture(out: Console, root: str) -> Iterator[Show]:
    """The same place of the terminal, drawn anew."""
    with Live(console=out, transient=True, auto_refresh=False) as live:
        yield lambda found: live.update(Group(*_cropped(lines(found, root))), refresh=True)


@contextmanager
def changes(write: Show) -> Iterator[Show]:
    """`write` is called when a cell began or ended."""
    told: list[object] = []

    def show(found: Progress) -> None:
        if told[-1:] != [_standing(found)]:
            told[:] = [_standing(found)]
            write(found)

    yield show


def _standing(found: Progress) -> tuple[object, ...]:
    return (
        found.done,
        found.waiting,
        [one.key for one in (*found.running, *found.lost)],
        [one.key for one in found.failed],
    )


def _cropped(shown: Sequence[Text]) -> list[Text]:
    for line in shown:
        line.no_wrap, line.overflow = True, "ellipsis"
    return list(shown)


def _say(out: Console, *shown: Text) -> None:
    for line in shown:
        out.print(line, soft_wrap=True, highlight=False)


def as_dict(found: Progress, root: str) -> dict[str, Any]:
    """What `status --json` prints."""
    counts = {
        name: getattr(found, name)
        for name in ("records", "failures", "plans", "cells", "done", "waiting", "workers")
    }
    cells = {
        name: [_plain(one) for one in getattr(found, name)]
        for name in ("running", "failed", "lost")
    }
    return {"results": root} | counts | {"left_s": found.left_s} | cells


def _plain(one: Running | Failed) -> dict[str, Any]:
    return {
        name: value if isinstance(value, (int, float)) or value is None else str(value)
        for name, value in asdict(one).items()
    }


def lines(found: Progress, root: str) -> list[Text]:
    """What a person reads; what matters most stands where a narrow terminal does not cut it off."""
    shown = [headline(found, root)]
    if found.cells:
        shown.append(Text(_pace(found, root)))
    if found.plans > 1:
        shown.append(
            Text(
                f"{found.plans} grids are unfinished; to forget one, delete its file in {root}/plans",
                style="dim",
            )
        )
    shown += _running(found.running)
    shown += _section(
        "lost: killed or cut off; the next run tries them again",
        [_lost(one) for one in found.lost],
        "yellow",
    )
    return shown + _section(
        "failed; the next run tries them again", [_failed(one) for one in found.failed], "red"
    )


def headline(found: Progress, root: str) -> Text:
    """'12 of 45 cells done, 2 running, 31 waiting'."""
    if not found.cells:
        return Text(
            f"{root}: {_count(found.records, 'record')}, {_count(found.failures, 'failure')}; no grid is under way"
        )
    states = {
        "running": len(found.running),
        "failed": len(found.failed),
        "lost": len(found.lost),
        "waiting": found.waiting,
    }
    counts = "".join(f", {count} {state}" for state, count in states.items() if count)
    return Text(f"{found.done} of {found.cells} cells done{counts}", style="bold")


def _pace(found: Progress, root: str) -> str:
    """'about 12 min 3 s left with 2 workers on results'."""
    if not found.running:
        return f"nobody is working on it; the same command goes on ({root})"
    left = "" if found.left_s is None else f"about {duration(found.left_s)} left with "
    return f"{left}{_count(found.workers, 'worker')} on {root}"


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _running(running: Sequence[Running]) -> list[Text]:
    """Cells by worker, those that began first at the top."""
    workers = [
        list(cells)
        for _, cells in groupby(
            sorted(running, key=lambda one: one.worker), key=lambda one: one.worker
        )
    ]
    workers.sort(key=lambda cells: -cells[0].for_s)
    return _section("running", [_worker(cells) for cells in workers], "green")


def _worker(cells: Sequence[Running]) -> list[Text]:
    first, expected = cells[0], [one.expected_s for one in cells if one.expected_s is not None]
    of = f" of about {duration(sum(expected))}" if len(expected) == len(cells) else ""
    facts = [
        f"{duration(max(one.for_s for one in cells))}{of}, {_process(first)}",
        _clean(STAMP.sub("", first.last_words)),
    ]
    return [
        *(Text(f"  {_clean(one.cell)}") for one in cells),
        *(Text(f"    {fact}", style="dim") for fact in facts if fact),
    ]


def _lost(one: Running) -> list[Text]:
    return [
        Text(f"  {_clean(one.cell)}"),
        Text(f"    {duration(one.for_s)} ago begun by {_process(one)}", style="dim"),
    ]


def _process(one: Running) -> str:
    return f"process {one.pid} on {_clean(one.host)}"


def _failed(one: Failed) -> list[Text]:
    return [
        Text(f"  {_clean(one.cell)}"),
        Text(f"    {_clean(one.sentence)}"),
        Text(f"    {one.log}", style="dim"),
    ]


def _section(title: str, entries: Sequence[Sequence[Text]], style: str) -> list[Text]:
    if not entries:
        return []
    more = (
        [Text(f"  and {len(entries) - SHOWN} more; --json names them all", style="dim")]
        if len(entries) > SHOWN
        else []
    )
    return [
        Text(),
        Text(title, style=style),
        *(line for entry in entries[:SHOWN] for line in entry),
        *more,
    ]


def _clean(text: str) -> str:
    """What others wrote, without anything that a terminal would obey."""
    seen = "".join(letter if letter.isprintable() else " " for letter in ESCAPE.sub("", text))
    return " ".join(seen.split())[:WIDEST]
