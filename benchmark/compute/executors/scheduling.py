"""What is handed out: cells that share a backbone and a dataset, in batches that are trained
in one go, with what they need.

How cells are grouped changes when a record is made and where, never what it says.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol
from uuid import uuid4

from benchmark.grid import Cell
from benchmark.records.leases import LEASE_S
from benchmark.records.record import Identity

TaskState = Literal["started", "found", "computed", "failed", "busy"]
# cells of one method, dataset and backbone that are trained in one go; or a single cell
Batch = tuple["Task", ...]
# the cell that stands for a batch, equal for all its members; None for a cell trained alone
BatchOf = Callable[[Cell], Cell | None]
# of a slot's fair share of the whole: small enough to even out, large enough to load things rarely
LONGEST_JOB = 0.25
SETTINGS = (
    "FSBENCH_CACHE",
    "FSBENCH_DATA",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "OMP_NUM_THREADS",
)
UNKNOWN_S = 60.0  # taken for a cell of which nothing is known


@dataclass(frozen=True)
class Task:
    """A cell to be computed, and what its record will be called."""

    cell: Cell
    identity: Identity
    key: str
    expected_s: float | None = None  # None: nothing is known
    gpu_share: float | None = None  # of a GPU's memory, likewise
    # when the last attempt failed or was cut off, by the file system's clock; 0: it did not
    failed_at: float = 0.0

    @property
    def weight_s(self) -> float:
        return UNKNOWN_S if self.expected_s is None else self.expected_s


@dataclass(frozen=True)
class Job:
    """Batches that load the same backbone and dataset."""

    batches: tuple[Batch, ...]

    @property
    def tasks(self) -> Iterator[Task]:
        return (task for batch in self.batches for task in batch)

    @property
    def weight_s(self) -> float:
        return sum(task.weight_s for task in self.tasks)

    def rest(self, reported: Set[str], started: Set[str]) -> Job | None:
        """What is left once `reported` are done; a batch that had started is taken apart.

        None when nothing is left.
        """
        left: list[Batch] = []
        for batch in self.batches:
            open_ = tuple(task for task in batch if task.key not in reported)
            apart = any(task.key in started for task in batch)
            left += [(task,) for task in open_] if apart else [open_] if open_ else []
        return Job(tuple(left)) if left else None


@dataclass(frozen=True)
class RunOptions:
    """What all jobs of a run share; plain data, so that it can be sent anywhere."""

    results: Path
    root: Path | None = None  # of the datasets
    device: str = "cpu"
    accept_changed_data: bool = False
    force: bool = False
    limit_s: float | None = None  # for one cell
    lease_s: float = LEASE_S  # of claims (store.Store)
    keep: bool = False  # what was learnt, beside each record
    folder: Path = field(default_factory=Path.cwd)  # what plug-ins and dataset files are named from
    settings: tuple[tuple[str, str], ...] = field(default_factory=lambda: settings(os.environ))
    run_name: str = field(default_factory=lambda: uuid4().hex)  # no other run has it
    grid_file: str = ""  # that the cells are from, as records name it


def settings(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Environment variables that say where things lie, what may be asked of a network, and how many
    threads to use.
    """
    return tuple((name, environ[name]) for name in SETTINGS if name in environ)


@dataclass(frozen=True)
class TaskReport:
    """What became of a task. 'busy': another process has claimed it; 'started' comes before the
    outcome of each task of a batch.
    """

    key: str
    state: TaskState
    error: str = ""


class Executor(Protocol):
    """Runs jobs somewhere and reports every task as it ends, in any order."""

    def slots(self, tasks: Sequence[Task], options: RunOptions) -> int:
        """How many of these can be computed at the same time, for grouping; 1 keeps the order of
        the plan."""

    @property
    def on_this_machine(self) -> bool:
        """Whether all cells are computed here, so that devices can be checked beforehand."""

    def run(self, jobs: Sequence[Job], options: RunOptions) -> Iterator[TaskReport]: ...


def batches(tasks: Iterable[Task], batch_of: BatchOf) -> list[Batch]:
    """Tasks of a batch side by side, in order of first appearance; what failed before is alone."""
    members: dict[object, list[Task]] = defaultdict(list)
    for task in tasks:
        batch = None if task.failed_at else batch_of(task.cell)
        members[batch or task.key].append(task)
    return [tuple(batch) for batch in members.values()]


def jobs(tasks: Sequence[Task], batch_of: BatchOf, slots: int) -> list[Job]:
    """Jobs for `slots` workers. What failed before comes last, what failed last at the very end, so
    that a cell that takes its process with it does not stand in the way of any other; with several
    slots the longest come first.
    """
    made = [Job(tuple(part)) for part in _parts(batches(tasks, batch_of), slots)]
    if slots > 1:
        made.sort(key=lambda job: -job.weight_s)
    return sorted(made, key=lambda job: max(task.failed_at for task in job.tasks))


def _parts(all_batches: Sequence[Batch], slots: int) -> Iterator[list[Batch]]:
    """Batches of one backbone and dataset, no part longer than a share of what each slot has to do;
    what failed before, alone.
    """
    groups: dict[tuple[str, str, float], list[Batch]] = defaultdict(list)
    for batch in all_batches:
        groups[batch[0].cell.backbone, batch[0].cell.dataset, batch[0].failed_at].append(batch)
    most_s = (
        LONGEST_JOB * sum(_weight_s(batch) for batch in all_batches) / slots
        if slots > 1
        else float("inf")
    )
    for group in groups.values():
        part: list[Batch] = []
        for batch in group:
            if part and sum(map(_weight_s, part)) + _weight_s(batch) > most_s:
                yield part
                part = []
            part.append(batch)
        yield part


def _weight_s(batch: Batch) -> float:
    return sum(task.weight_s for task in batch)


def shard(cells: Sequence[Cell], number: int, count: int) -> list[Cell]:
    """Part `number` (from 1) of `count`: a pure function of the plan, so that the parts fit
    together whenever each of them starts.

    Cells are dealt like cards, and whoever starts a round moves on by one: rounds as long as the
    grid's own rhythm (three seeds, five shots) would else give all 16-shot cells to one part.
    """
    return [
        cell
        for position, cell in enumerate(cells)
        if (position + position // count) % count == number - 1
    ]
