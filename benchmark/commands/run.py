"""Drive a grid to its end: the view while it runs, the tables after it, and what the exit code
says.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from benchmark.commands import live
from benchmark.compute import runner
from benchmark.compute.executors import scheduling
from benchmark.compute.executors.scheduling import Executor
from benchmark.compute.executors.serial import Serial
from benchmark.compute.runner import Outcome
from benchmark.compute.stages import OnStage
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.records.store import Store
from benchmark.report import grouping, rendering, tables

OK, FAILED, INTERRUPTED = 0, 1, 130


@dataclass(frozen=True)
class Place:
    """Where cells are computed."""

    executor: str = "serial"
    address: str | None = None  # of a Ray cluster
    gpus_per_cell: float | None = None

    def __post_init__(self) -> None:
        if self.executor not in ("serial", "ray"):
            raise UserError(f"unknown executor '{self.executor}'; take serial or ray")
        if self.executor == "serial" and (self.address or self.gpus_per_cell is not None):
            raise UserError(
                "--address and --gpus-per-cell say how Ray places cells; add --executor ray"
            )

    @contextmanager
    def open(self, on_stage: OnStage) -> Iterator[Executor]:
        if self.executor == "serial":
            yield Serial(on_stage)
            return
        from benchmark.compute.executors.ray_workers import Ray

        workers = Ray(self.address, gpus_per_cell=self.gpus_per_cell, on_stage=on_stage)
        with redirect_stdout(
            sys.stderr
        ):  # Ray tells of nodes that died on stdout, which belongs to results; some of it at its end
            try:
                yield workers
            finally:
                workers.close()


@dataclass(frozen=True)
class Manner:
    """How a grid is run and shown."""

    root: Path | None = None  # of the datasets
    accept_changed_data: bool = False
    device: str = "auto"
    force: bool = False
    place: Place = Place()
    limit_s: float | None = None
    batch: bool | None = None
    plain: bool = False
    as_json: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """Where the data lie and what is accepted of them, as the runner's arguments."""
        return {"root": self.root, "accept_changed_data": self.accept_changed_data}


def part(cells: Sequence[Cell], shard: str | None) -> list[Cell]:
    """The cells of --shard i/n; all of them without."""
    if shard is None:
        return list(cells)
    number, slash, count = shard.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(
            f"--shard takes I/N with I from 1 to N, not '{shard}'; the third of eight parts is --shard 3/8"
        )
    return scheduling.shard(cells, int(number), int(count))


def conduct(cells: Sequence[Cell], store: Store, manner: Manner, out: Console, err: Console) -> int:
    """Run all cells, show what came of them, return the exit code."""
    outcomes: list[Outcome] = []
    stopped: BaseException | None = None
    try:
        with _view(len(cells), manner, err) as show, _termination_as_interrupt():
            for outcome in _outcomes(cells, store, manner, show):
                outcomes.append(outcome)
                _tell(outcome, store, show, manner, out)
    except KeyboardInterrupt as interrupt:
        stopped = interrupt
    except UserError as error:
        if not error.stops or all(outcome.cached for outcome in outcomes):
            raise
        stopped = error
    if not manner.as_json:
        show_tables(outcomes, out)
    _report_failures(outcomes, store, err)
    if stopped:
        return _report_stop(stopped, outcomes, len(cells), store, err)
    return FAILED if any(outcome.error for outcome in outcomes) else OK


def _outcomes(
    cells: Sequence[Cell], store: Store, manner: Manner, show: live.View
) -> Iterator[Outcome]:
    with manner.place.open(show.stage) as executor:
        how: dict[str, Any] = {
            "device": manner.device,
            "force": manner.force,
            "limit_s": manner.limit_s,
            "batch": manner.batch,
        }
        yield from runner.run(cells, store, **manner.data, **how, executor=executor)


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """A scheduler that ends a job says SIGTERM before it kills: time enough to tidy up, as after
    Ctrl-C.
    """
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
    kept = f"{sum(outcome.record is not None for outcome in outcomes)} of {total} cells are kept in {store.root}"
    if isinstance(reason, UserError):
        _say(err, f"stopped: {reason}; {kept}, and then the same command goes on from there")
        return FAILED
    _say(err, f"interrupted: {kept}; the same command goes on from there")
    return INTERRUPTED


def _view(total: int, manner: Manner, err: Console) -> AbstractContextManager[live.View]:
    if live.wants_plain(err, manner.plain or manner.as_json):
        return live.lines(err, total)
    return live.bar(err, total)


def _tell(outcome: Outcome, store: Store, show: live.View, manner: Manner, out: Console) -> None:
    show.outcome(outcome)
    if manner.as_json:
        print(json.dumps(as_dict(outcome, store)), file=out.file, flush=True)


def as_dict(outcome: Outcome, store: Store) -> dict[str, Any]:
    """One line of `run --json`."""
    cell, record = outcome.cell, outcome.record
    facts: dict[str, Any] = {
        name: getattr(cell, name) for name in ("method", "dataset", "shots", "seed", "backbone")
    }
    facts |= {"key": outcome.key, "params": dict(cell.params)}
    if not record:
        return facts | {
            "status": "failed",
            "error": outcome.error,
            "log": str(store.failure(outcome.key)),
        }
    counts = {"correct": sum(record.counts.correct), "total": sum(record.counts.total)}
    return (
        facts
        | {
            "status": "found" if outcome.cached else "computed",
            "accuracy": round(record.accuracy, 6),
        }
        | counts
    )


def show_tables(outcomes: Sequence[Outcome], out: Console) -> None:
    """Dataset x shots for every method; with several methods their means side by side as well."""
    groups = grouping.group_records(outcome.record for outcome in outcomes if outcome.record)
    several = any(len(by_line) > 1 for by_line in groups.values())
    for kind in tables.KINDS[:2] if several else tables.KINDS[:1]:
        for table in tables.tables(groups, kind):
            out.print()
            out.print(rendering.terminal(table), soft_wrap=True, end="")


def _report_failures(outcomes: Sequence[Outcome], store: Store, err: Console) -> None:
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        _say(
            err,
            f"\n{len(failed)} of {len(outcomes)} cells failed; the same command tries them again:",
        )
    for outcome in failed:
        _say(err, f"  {outcome.cell}: {outcome.error} (log: {store.failure(outcome.key)})")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
