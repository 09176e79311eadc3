"""The view of a preparation, on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from benchmark.commands.printing import say, wants_plain
from benchmark.data.prepare_events import PrepareEvent

OnEvent = Callable[[PrepareEvent], None]
LINES = 5  # printed per download, or per verification of all images
UNITS = {
    "download": "bytes",
    "unpack": "bytes",
    "read": "images",
    "verify": "images",
}  # of steps with progress


def prepare_view(console: Console, plain: bool) -> AbstractContextManager[OnEvent]:
    """Bars where the console is a terminal, lines elsewhere and where `plain` asks for them."""
    return lines(console) if wants_plain(console, plain) else bars(console)


@contextmanager
def lines(console: Console) -> Iterator[OnEvent]:
    """A line when a step begins, a few while it goes on, and one for its end."""
    printed: dict[tuple[str, str, str], int] = {}

    def on_event(event: PrepareEvent) -> None:
        step = (event.dataset, event.step, event.text)
        part = LINES * event.done // event.total if event.total else 0
        if printed.get(step, -1) < part:
            printed[step] = part
            say(console, _line(event))

    yield on_event


@contextmanager
def bars(console: Console) -> Iterator[OnEvent]:
    """One bar for the step that is going on; lines for all other events scroll by above it."""
    progress = _step_progress(console)
    tasks: dict[tuple[str, str, str], TaskID] = {}

    def on_event(event: PrepareEvent) -> None:
        if event.step not in UNITS:
            say(progress.console, _line(event))
            return
        step = (event.dataset, event.step, event.text)
        if step not in tasks:
            for task in tasks.values():
                progress.update(task, visible=False)
            title = escape(f"{event.dataset}: {event.step} {event.text}")
            tasks[step] = progress.add_task(title, total=event.total)
        progress.update(tasks[step], completed=event.done, total=event.total)

    with progress:
        yield on_event


def _step_progress(console: Console) -> Progress:
    """What a narrow terminal may cut, the name of the step, comes last."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
    )


def _line(event: PrepareEvent) -> str:
    if event.step == "failed":
        return f"{event.dataset}: failed, see below"
    text = f" {event.text}" if event.text else ""
    unit = UNITS.get(event.step, "")
    share = f" ({event.done:,} of {event.total:,} {unit})" if event.total else ""
    return f"{event.dataset}: {event.step}{text}{share}"
