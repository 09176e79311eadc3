"""What becomes of a grid that runs somewhere else, read from its results folder by file names and
small files; no record is opened.

Whoever looks writes nothing and disturbs nobody: a claim is judged by its process and its last sign
of life, and never asked for. announcements.py describes the files.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

from pydantic import Field, TypeAdapter

from benchmark.paths import clock_of
from benchmark.records.announcements import Planned, read_step
from benchmark.records.progress_files import last_words, mtime, read, sentence
from benchmark.records.store import Store

Wanted = Callable[[str], bool]  # whether a cell, in words, is asked for
Seconds = Annotated[float, Field(ge=0, le=1e9)] | None


@dataclass(frozen=True)
class Announced:
    """What a running file says."""

    cell: str
    host: str
    pid: Annotated[int, Field(ge=1, lt=1 << 31)]
    expected_s: Seconds = None


@dataclass(frozen=True)
class Running:
    """A cell that is being computed, or was when its process ended without a word."""

    key: str
    cell: str
    host: str
    pid: int
    since: float  # seconds of the file system's clock
    for_s: float
    expected_s: float | None
    last_words: str  # of its log, and how far it has come

    @property
    def worker(self) -> tuple[str, int]:
        return self.host, self.pid


@dataclass(frozen=True)
class Failed:
    key: str
    cell: str
    sentence: str
    log: Path


@dataclass(frozen=True)
class Progress:
    """What stands in a results folder, and what becomes of the cells of its unfinished plans."""

    records: int  # in all, of whatever plan
    failures: int
    plans: int  # that are unfinished and not part of a larger one
    cells: int  # of unfinished plans, and running ones of none; each is in one of the following
    done: int
    running: tuple[Running, ...]
    failed: tuple[Failed, ...]
    lost: tuple[Running, ...]  # their process was killed or cut off; the next run tries them again
    waiting: int
    left_s: float | None  # None where nothing is known, or nobody is at work

    @property
    def workers(self) -> int:
        return len({each.worker for each in self.running})


@dataclass(frozen=True)
class _Plan:
    cells: Planned
    since: float  # by the file system's clock


PLAN = TypeAdapter(dict[Annotated[str, Field(pattern="^[0-9a-f]{12}$")], tuple[str, Seconds]])
ANNOUNCED = TypeAdapter(Announced)


def read_progress(
    store: Store, remarks: list[str] | None = None, wanted: Wanted = bool
) -> Progress:
    """How things stand with the `wanted` cells of plans. What is no plan and no announcement is
    passed over and added to `remarks`."""
    remarks = [] if remarks is None else remarks
    # before the records: a cell that ends meanwhile is then not missed
    running, dead = (
        tuple(each for each in found if wanted(each.cell))
        for found in _announcements(store, remarks)
    )
    records, busy = store.keys(), {each.key for each in running}
    plans = [plan for plan in _plans(store, remarks, wanted) if not plan.cells.keys() <= records]
    planned = {key: item for plan in plans for key, item in plan.cells.items()}
    waiting = planned.keys() - records - busy
    failed = _failures(store, planned, waiting, _tried_anew(plans if busy else [], dead))
    lost = tuple(each for each in dead if each.key in waiting - {other.key for other in failed})
    waiting -= {each.key for each in failed} | {each.key for each in lost}
    return Progress(
        records=len(records),
        failures=sum(1 for _ in (store.root / "failures").glob("*.txt")),
        plans=sum(
            not any(plan.cells.keys() < other.cells.keys() for other in plans) for plan in plans
        ),
        cells=len(planned.keys() | busy),
        done=len((planned.keys() & records) - busy),
        running=running,
        failed=failed,
        lost=lost,
        waiting=len(waiting),
        left_s=_left_s(
            {key: expected_s for key, (_, expected_s) in planned.items()}, waiting, running
        ),
    )


def _plans(store: Store, remarks: list[str], wanted: Wanted) -> list[_Plan]:
    """What is wanted of all plans, the oldest first."""
    plans = []
    for path in (store.root / "plans").glob("*.json"):
        if (cells := read(path, PLAN, remarks)) and (at := mtime(path)) is not None:
            kept = {key: item for key, item in cells.items() if wanted(item[0])}
            plans.append(_Plan(kept, at))
    return sorted(plans, key=lambda plan: plan.since)


def forget_finished_plans(store: Store) -> None:
    """Remove plans of which nothing is left to do, whoever finished them."""
    done = store.keys()
    for path in (store.root / "plans").glob("*.json"):
        if (cells := read(path, PLAN, [])) and cells.keys() <= done:
            path.unlink(missing_ok=True)


def _announcements(
    store: Store, remarks: list[str]
) -> tuple[tuple[Running, ...], tuple[Running, ...]]:
    """Cells whose process is at work, and those whose process is gone and has not taken its
    announcement back.
    """
    alive, dead = [], []
    paths = sorted((store.root / "running").glob("*.json"))
    now = clock_of(store.root / "running") if paths else 0.0
    for path in paths:
        if (announced := read(path, ANNOUNCED, remarks)) and (since := mtime(path)) is not None:
            said = [last_words(store.log(path.stem)), read_step(store, path.stem)]
            running_cell = Running(
                path.stem,
                announced.cell,
                announced.host,
                announced.pid,
                since,
                max(0.0, now - since),
                announced.expected_s,
                ", ".join(filter(None, said)),
            )
            if _alive(store, running_cell, now):
                alive.append(running_cell)
            elif path.exists():  # else it ended while we looked
                dead.append(running_cell)
    return tuple(alive), tuple(dead)


def _alive(store: Store, running_cell: Running, now: float) -> bool:
    """Whether its claim holds: heard of within the lease, and on this machine its process must live
    as well.

    The age counts on this machine too, since a number of a process that is gone may be another's
    after a restart.
    """
    heard = mtime(store.root / "locks" / f"{running_cell.key}.lock")
    if heard is None or now - heard > store.lease_s:
        return False
    return running_cell.host != socket.gethostname() or _lives(running_cell.pid)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends nothing, only asks
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def _tried_anew(plans: Sequence[_Plan], dead: Sequence[Running]) -> dict[str, float]:
    """When a cell was last meant or begun to be tried: an older failure is no longer what is to be
    said of it.
    """
    return {key: plan.since for plan in plans for key in plan.cells} | {
        each.key: each.since for each in dead
    }


def _failures(
    store: Store, planned: Planned, among: Iterable[str], anew: Mapping[str, float]
) -> tuple[Failed, ...]:
    failures = []
    for key in sorted(among):
        path = store.failure(key)
        if (at := mtime(path)) is not None and at >= anew.get(key, 0.0):
            failures.append(Failed(key, planned[key][0], sentence(path, planned[key][0]), path))
    return tuple(failures)


def _left_s(
    planned: Mapping[str, float | None], waiting: Iterable[str], running: Sequence[Running]
) -> float | None:
    """Seconds until all is done, shared out evenly; a cell of which nothing is known is taken at
    the mean of the others.

    Cells of one worker are trained in a batch, so what has passed counts once for all of them.
    """
    expected = {**planned, **{each.key: each.expected_s for each in running}}
    known = [seconds for seconds in expected.values() if seconds is not None]
    if not known or not running:
        return None
    mean = fmean(known)
    taken = {key: mean if seconds is None else seconds for key, seconds in expected.items()}
    by_worker: dict[tuple[str, int], list[Running]] = defaultdict(list)
    for each in running:
        by_worker[each.worker].append(each)
    begun_s = [
        sum(taken[each.key] for each in cells) - max(each.for_s for each in cells)
        for cells in by_worker.values()
    ]
    return (sum(taken[key] for key in waiting) + sum(max(0.0, left) for left in begun_s)) / len(
        by_worker
    )
