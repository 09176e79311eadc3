"""What a person sees while datasets are prepared: bars on a terminal, a line now and then
elsewhere. Everything goes to stderr.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from benchmark.data.prepare_events import PrepareEvent

Show = Callable[[PrepareEvent], None]
LINES = 5  # lines for one download, or one look at all images
DONE = {"download": "bytes", "unpack": "bytes", "verify": "images"}


@contextmanager
def lines(console: Console) -> Iterator[Show]:
    """A line when a step begins, a few while it goes on, and one for its end."""
    told: dict[tuple[str, str, str], int] = {}

    def show(event: PrepareEvent) -> None:
        at = (event.dataset, event.step, event.text)
        part = LINES * event.done // event.total if event.total else 0
        if told.get(at, -1) < part:
            told[at] = part
            _say(console, _line(event))

    yield show


@contextmanager
def bars(console: Console) -> Iterator[Show]:
    """One bar for the step that is going on; what is worth keeping scrolls by above it."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    tasks: dict[tuple[str, str, str], TaskID] = {}

    def show(event: PrepareEvent) -> None:
        if event.step not in DONE:
            _say(progress.console, _line(event))
            return
        at = (event.dataset, event.step, event.text)
        if at not in tasks:
            for task in tasks.values():
                progress.update(task, visible=False)
            tasks[at] = progress.add_task(
                escape(f"{event.dataset}: {event.step} {event.text}"), total=event.total
            )
        progress.update(tasks[at], completed=event.done, total=event.total)

    with progress:
        yield show


def _line(event: PrepareEvent) -> str:
    if event.step == "failed":
        return f"{event.dataset}: failed, see below"
    share = (
        f" ({event.done:,} of {event.total:,} {DONE.get(event.step, '')})" if event.total else ""
    )
    return f"{event.dataset}: {event.step}{f' {event.text}' if event.text else ''}{share}"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
