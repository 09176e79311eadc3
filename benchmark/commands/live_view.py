"""The view of a running grid, on stderr: a bar on a terminal, a line per cell elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from benchmark.commands.printing import duration, say, wants_plain
from benchmark.compute.runner import Outcome
from benchmark.compute.stages import OnStage
from benchmark.errors import counted
from benchmark.grid import Cell

QUIET_S = 10.0  # without a line
REFRESHES = 5  # a second: enough for a spinner, and a hundredth of a processor


@dataclass(frozen=True)
class LiveView:
    """Callbacks: `on_stage` for the cell that is running, `on_outcome` for a cell that ended."""

    on_stage: OnStage
    on_outcome: Callable[[Outcome], None]


def live_view(console: Console, total: int, plain: bool) -> AbstractContextManager[LiveView]:
    """A bar where the console is a terminal, lines elsewhere and where `plain` asks for them."""
    return lines(console, total) if wants_plain(console, plain) else bar(console, total)


@contextmanager
def lines(
    console: Console, total: int, now: Callable[[], float] = time.monotonic
) -> Iterator[LiveView]:
    """A line per computed cell, and one about what is running where none came for QUIET_S; cells
    that were on record already are counted in one line.
    """
    counts = {"ended": 0, "cached": 0}
    last_s = now()  # when a line was written

    def write(text: str) -> None:
        nonlocal last_s
        last_s = now()
        say(console, text)

    def on_stage(cell: Cell, name: str) -> None:
        if now() - last_s >= QUIET_S:
            write(f"{cell}: {name}")

    def on_outcome(outcome: Outcome) -> None:
        counts["ended"] += 1
        if outcome.cached:
            counts["cached"] += 1
            return
        number = str(counts["ended"]).rjust(len(str(total)))
        write(f"[{number}/{total}] {outcome.cell}: {_result(outcome)}")

    yield LiveView(on_stage, on_outcome)
    if counts["cached"]:
        verb = "was" if total == 1 else "were"
        say(console, f"{counts['cached']} of {counted(total, 'cell')} {verb} on record already")


@contextmanager
def bar(console: Console, total: int) -> Iterator[LiveView]:
    """Three lines that are never cut at 80 columns but for their ends: the grid, the running cell,
    and how far it has come. A spinner and the time move even where nothing is told.

    Failures are printed above.
    """
    progress = _grid_progress(console)
    task = progress.add_task("", total=total, left="", failures="")
    counts = {"ended": 0, "computed": 0, "failed": 0}
    running = ["", "starting"]  # the cell, and its stage
    ends_at: list[float] = []  # by the monotonic clock; empty before the first cell
    start = time.monotonic()

    def on_stage(cell: Cell, name: str) -> None:
        running[:] = [str(cell), name]

    def on_outcome(outcome: Outcome) -> None:
        counts["ended"] += 1
        counts["computed"] += not outcome.cached
        counts["failed"] += outcome.error is not None
        if outcome.error:
            message = f"[red]failed[/red] {escape(f'{outcome.cell}: {outcome.error}')}"
            live.console.print(message, highlight=False)
        paces = time.monotonic() - start, counts["computed"], total - counts["ended"]
        ends_at[:] = [time.monotonic() + left_s for left_s in _left_s(*paces)]
        failures = f"{counts['failed']} failed" if counts["failed"] else ""
        progress.update(task, advance=1, failures=failures)

    def picture() -> Group:
        left = [f"{duration(max(0.0, at - time.monotonic()))} left" for at in ends_at]
        progress.update(task, left="".join(left))
        lines = [Text(f"  {text}", no_wrap=True, overflow="ellipsis") for text in running if text]
        return Group(progress.get_renderable(), *lines)

    live = Live(
        console=console,
        get_renderable=picture,
        transient=True,
        refresh_per_second=REFRESHES,
    )
    with live:
        yield LiveView(on_stage, on_outcome)


def _grid_progress(console: Console) -> Progress:
    """The line of the grid: its count comes before what a narrow terminal may cut."""
    return Progress(
        SpinnerColumn(),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("[cyan]{task.fields[left]}"),
        TextColumn("[red]{task.fields[failures]}"),
        console=console,
    )


def _left_s(elapsed_s: float, computed: int, missing: int) -> list[float]:
    """Seconds left at the mean pace of the cells computed so far; empty before the first."""
    return [elapsed_s / computed * missing] if computed else []


def _result(outcome: Outcome) -> str:
    if not outcome.record:
        return f"failed: {outcome.error}"
    costs = outcome.record.costs
    seconds = costs.pretrain_s + costs.fit_s + costs.predict_s
    # of images and texts that later cells find stored
    encoding = f", encoding {costs.encode_s:.1f} s" if costs.encode_s >= 0.1 else ""
    return f"{100 * outcome.record.accuracy:.1f} % ({seconds:.1f} s{encoding})"
