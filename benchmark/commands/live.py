"""What a person sees while a grid runs: a bar on a terminal, a line per cell elsewhere. Everything
goes to stderr.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from benchmark.compute.runner import Outcome
from benchmark.grid import Cell


@dataclass(frozen=True)
class View:
    """Where a run's news go: `stage` for the cell that is running, `outcome` for one that ended."""

    stage: Callable[[Cell, str], None]
    outcome: Callable[[Outcome], None]


def wants_plain(console: Console, asked: bool) -> bool:
    """Lines instead of a moving picture: on request, without a terminal, and under continuous
    integration.
    """
    return asked or not console.is_terminal or os.environ.get("CI", "") not in ("", "0", "false")


@contextmanager
def lines(console: Console, total: int) -> Iterator[View]:
    """A line per computed cell; those found on record are counted in one line."""
    counts = {"ended": 0, "cached": 0}

    def outcome(news: Outcome) -> None:
        counts["ended"] += 1
        if news.cached:
            counts["cached"] += 1
            return
        _say(
            console,
            f"[{str(counts['ended']).rjust(len(str(total)))}/{total}] {news.cell}: {_result(news)}",
        )

    yield View(lambda cell, stage: None, outcome)
    if counts["cached"]:
        _say(console, f"{counts['cached']} of {total} cells were on record already")


@contextmanager
def bar(console: Console, total: int) -> Iterator[View]:
    """One bar for the grid with the time left, the running cell and its stage; failures scroll by
    above it.
    """
    progress = Progress(
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("[cyan]{task.fields[left]}"),
        TextColumn("[red]{task.fields[failures]}"),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
    )
    task = progress.add_task("starting", total=total, left="", failures="")
    counts = {"ended": 0, "computed": 0, "failed": 0}
    start = time.monotonic()

    def stage(cell: Cell, name: str) -> None:
        progress.update(task, description=escape(f"{cell}: {name}"))

    def outcome(news: Outcome) -> None:
        counts["ended"] += 1
        counts["computed"] += not news.cached
        counts["failed"] += news.error is not None
        if news.error:
            progress.console.print(
                f"[red]failed[/red] {escape(f'{news.cell}: {news.error}')}", highlight=False
            )
        left = _left(time.monotonic() - start, counts["computed"], total - counts["ended"])
        failures = f"{counts['failed']} failed" if counts["failed"] else ""
        progress.update(task, advance=1, left=left, failures=failures)

    with progress:
        yield View(stage, outcome)


def _left(elapsed_s: float, computed: int, missing: int) -> str:
    """Time left as far as the cells computed so far tell; nothing before the first. What is on
    record has been counted by then.
    """
    return f"{duration(elapsed_s / computed * missing)} left" if computed else ""


def duration(seconds: float) -> str:
    """9 s, 3 min 20 s, 5 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _result(news: Outcome) -> str:
    if not news.record:
        return f"failed: {news.error}"
    costs = news.record.costs
    return f"{100 * news.record.accuracy:.1f} % ({costs.pretrain_s + costs.fit_s + costs.predict_s:.1f} s)"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
