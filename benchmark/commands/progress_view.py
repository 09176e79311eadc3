"""The progress of a grid in words: printed once, or again and again until nothing runs any more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from benchmark.commands.printing import wants_plain
from benchmark.commands.progress_text import as_dict, headline, lines
from benchmark.commands.row_tables import UNLIMITED
from benchmark.errors import UserError
from benchmark.records.progress import Progress, Wanted, read_progress
from benchmark.records.store import Store

PAUSE_S = 2.0  # between two readings of the folder
# Readings in a row without a running cell before watching ends: workers that are still loading
# have not begun a cell.
QUIET_READINGS = 5

Show = Callable[[Progress], None]


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
