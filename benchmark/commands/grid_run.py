"""Run a grid to its end: a live view while it runs, tables after it, and the exit code."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from rich.console import Console

from benchmark import data
from benchmark.commands.executor_choice import ExecutorChoice
from benchmark.commands.live_view import LiveView, live_view
from benchmark.commands.outcome_output import as_dict, print_failures, print_tables
from benchmark.commands.printing import forecast_text, say
from benchmark.compute import runner
from benchmark.compute.history import History
from benchmark.compute.runner import Outcome
from benchmark.errors import UserError, counted
from benchmark.grid import Cell
from benchmark.records.store import Store

OK, FAILED, INTERRUPTED = 0, 1, 130
MANY = 100  # cells to compute, more than which a run says how many they are


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """How a grid is to be run and shown."""

    data_root: Path | None = None
    accept_changed_data: bool = False
    device: str = "auto"
    force: bool = False
    keep: bool = False  # what was learnt
    executor: ExecutorChoice = field(default_factory=ExecutorChoice)
    limit_s: float | None = None  # seconds for one cell
    batch: bool | None = None
    plain: bool = False
    as_json: bool = False
    grid_file: str = ""  # that the cells are from, as records name it


def run_grid(
    cells: Sequence[Cell], store: Store, request: RunRequest, out: Console, err: Console
) -> int:
    """Run all cells, print their results and return the exit code."""
    outcomes: list[Outcome] = []
    stop: BaseException | None = None
    plain = request.plain or request.as_json
    _announce_data(cells, request, err)
    try:
        with live_view(err, len(cells), plain) as view, _termination_as_interrupt():
            say_many = partial(_announce_many, err)
            for outcome in _outcomes(cells, store, request, view, say_many):
                outcomes.append(outcome)
                view.on_outcome(outcome)
                if request.as_json:
                    print(json.dumps(as_dict(outcome, store)), file=out.file, flush=True)
    except KeyboardInterrupt as interrupt:
        stop = interrupt
    except UserError as error:
        if not error.stops or all(outcome.cached for outcome in outcomes):
            raise
        stop = error
    if not request.as_json:
        print_tables(outcomes, out)
    print_failures(outcomes, store, err)
    if stop:
        return _report_stop(stop, outcomes, len(cells), store, err)
    return FAILED if any(outcome.error for outcome in outcomes) else OK


def _announce_data(cells: Sequence[Cell], request: RunRequest, err: Console) -> None:
    """Say what is doubtful about images that nobody but the user has looked at."""
    seen: dict[str, str] = {}
    for name in dict.fromkeys(cell.dataset for cell in cells):
        if data.read_spec(name).named_by_content:
            dataset = data.load(
                name, request.data_root, accept_changed_data=request.accept_changed_data
            )
            other = seen.setdefault(dataset.digest, name)
            if other != name:
                same = "hold the same images with the same labels: they are one dataset"
                say(err, f"{other} and {name} {same}, which runs once")
            for remark in dataset.remarks:
                say(err, f"{name}: {remark}")


def _announce_many(err: Console, cells: Sequence[Cell], history: History) -> None:
    """Say how many cells are to be computed, and for how long, where these are more than MANY."""
    if len(cells) <= MANY:
        return
    of = counted(len({cell.method for cell in cells}), "method")
    forecasts = list(map(history.forecast, cells))
    time = f"; {forecast_text(forecasts)}" if any(forecasts) else ""
    say(err, f"to compute: {counted(len(cells), 'cell')} of {of}{time}; `plan` tells more")


def _outcomes(
    cells: Sequence[Cell],
    store: Store,
    request: RunRequest,
    view: LiveView,
    on_missing: runner.OnMissing,
) -> Iterator[Outcome]:
    with request.executor.open(view.on_stage) as executor:
        yield from runner.run(
            cells,
            store,
            root=request.data_root,
            accept_changed_data=request.accept_changed_data,
            device=request.device,
            force=request.force,
            keep=request.keep,
            limit_s=request.limit_s,
            batch=request.batch,
            executor=executor,
            grid_file=request.grid_file,
            on_missing=on_missing,
        )


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C: a scheduler sends it some time before it kills."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    usual = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


def _report_stop(
    reason: BaseException, outcomes: Sequence[Outcome], total: int, store: Store, err: Console
) -> int:
    """Say what is kept of a grid that was stopped; the exit code."""
    kept = sum(outcome.record is not None for outcome in outcomes)
    verb = "is" if total == 1 else "are"
    state = f"{kept} of {counted(total, 'cell')} {verb} kept in {store.root}"
    if isinstance(reason, UserError):
        say(err, f"stopped: {reason}; {state}, and then the same command goes on from there")
        return FAILED
    say(err, f"interrupted: {state}; the same command goes on from there")
    return INTERRUPTED
