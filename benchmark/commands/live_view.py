"""The view of a running grid, on stderr: a bar on a terminal, a line per cell elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from benchmark.commands.printing import duration, say, wants_plain
from benchmark.compute.runner import Outcome
from benchmark.compute.stages import OnStage
from benchmark.grid import Cell


@dataclass(frozen=True)
class LiveView:
    """Callbacks: `on_stage` for the cell that is running, `on_outcome` for a cell that ended."""

    on_stage: OnStage
    on_outcome: Callable[[Outcome], None]


def live_view(console: Console, total: int, plain: bool) -> AbstractContextManager[LiveView]:
    """A bar where the console is a terminal, lines elsewhere and where `plain` asks for them."""
    return lines(console, total) if wants_plain(console, plain) else bar(console, total)


@contextmanager
def lines(console: Console, total: int) -> Iterator[LiveView]:
    """A line per computed cell; cells that were on record already are counted in one line."""
    counts = {"ended": 0, "cached": 0}

    def on_outcome(outcome: Outcome) -> None:
        counts["ended"] += 1
        if outcome.cached:
            counts["cached"] += 1
            return
        number = str(counts["ended"]).rjust(len(str(total)))
        say(console, f"[{number}/{total}] {outcome.cell}: {_result(outcome)}")

    yield LiveView(lambda cell, stage: None, on_outcome)
    if counts["cached"]:
        say(console, f"{counts['cached']} of {total} cells were on record already")


@contextmanager
def bar(console: Console, total: int) -> Iterator[LiveView]:
    """One bar for the grid: cells done, time left, the running cell and its stage.

    Failures are printed above the bar.
    """
    progress = _grid_progress(console)
    task = progress.add_task("starting", total=total, left="", failures="")
    counts = {"ended": 0, "computed": 0, "failed": 0}
    start = time.monotonic()

    def on_stage(cell: Cell, name: str) -> None:
        progress.update(task, description=escape(f"{cell}: {name}"))

    def on_outcome(outcome: Outcome) -> None:
        counts["ended"] += 1
        counts["computed"] += not outcome.cached
        counts["failed"] += outcome.error is not None
        if outcome.error:
            message = f"[red]failed[/red] {escape(f'{outcome.cell}: {outcome.error}')}"
            progress.console.print(message, highlight=False)
        left = _left(time.monotonic() - start, counts["computed"], total - counts["ended"])
        failures = f"{counts['failed']} failed" if counts["failed"] else ""
        progress.update(task, advance=1, left=left, failures=failures)

    with progress:
        yield LiveView(on_stage, on_outcome)


def _grid_progress(console: Console) -> Progress:
    return Progress(
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("[cyan]{task.fields[left]}"),
        TextColumn("[red]{task.fields[failures]}"),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
    )


def _left(elapsed_s: float, computed: int, missing: int) -> str:
    """The time left at the mean pace of the cells computed so far; '' before the first."""
    return f"{duration(elapsed_s / computed * missing)} left" if computed else ""


def _result(outcome: Outcome) -> str:
    if not outcome.record:
        return f"failed: {outcome.error}"
    costs = outcome.record.costs
    seconds = costs.pretrain_s + costs.fit_s + costs.predict_s
    return f"{100 * outcome.record.accuracy:.1f} % ({seconds:.1f} s)"
