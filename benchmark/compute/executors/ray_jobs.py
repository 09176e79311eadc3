"""The jobs that Ray is running: their reports as they come, a new attempt when a worker dies, an
end when one hangs.

Retries are ours rather than Ray's, because a job whose worker died has finished cells that must not
be asked for again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from benchmark.compute.executors import cell_logs
from benchmark.compute.executors.limits import GRACE_S
from benchmark.compute.executors.scheduling import Job, RunOptions, Task, TaskReport
from benchmark.compute.stages import OnStage
from benchmark.records.announcements import read_step
from benchmark.records.store import Store

LOST_AT_MOST = 3  # workers that may die over a cell before it counts as failed
LOOK_S = 0.5  # between looks at what hangs
FAREWELL_S = 2.0  # for workers to tidy up when a run is interrupted


@dataclass(eq=False)
class RunningJob:
    """A job that was handed to Ray, and the keys of its tasks that started or were reported."""

    job: Job
    stream: Any  # Ray's generator of references to reports
    started: set[str] = field(default_factory=set)
    reported: set[str] = field(default_factory=set)
    since: float | None = None  # monotonic time of the last sign that a batch began

    @property
    def open(self) -> list[Task]:
        """Tasks that began and of which nothing was heard since: what the worker is, or was, busy
        with.
        """
        return [task for task in self.job.tasks if task.key in self.started - self.reported]


@dataclass(eq=False)
class RunningJobs:
    """All jobs of a run, and how often a worker died over a cell. `launch` hands a job to Ray, or
    says that it fits nowhere.
    """

    ray: Any  # the module
    options: RunOptions
    on_stage: OnStage
    launch: Callable[[Job], Any]
    running: list[RunningJob] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)

    def run(self, jobs: Sequence[Job]) -> Iterator[TaskReport]:
        try:
            for job in jobs:
                self._launch(job)
            looked = time.monotonic()
            while self.running:
                yield from self._next()
                if time.monotonic() - looked > LOOK_S:
                    looked = time.monotonic()
                    self._show_steps()
                    yield from self._overdue()
        finally:
            self._end_all()

    def _show_steps(self) -> None:
        """How far the cell has come that has been running longest."""
        store = Store(self.options.results)
        for entry in [entry for entry in self.running if entry.open][:1]:
            first = min(entry.open, key=lambda task: task.key)
            if step := read_step(store, first.key):
                self.on_stage(first.cell, f"running, {step}")

    def _end_all(self) -> None:
        """Interrupted: what still runs is of no use to anybody. Asked first, so that workers tidy
        up, then ended.
        """
        for force in (False, True):
            for entry in self.running:
                with suppress(Exception):  # a worker that is gone already
                    self.ray.cancel(entry.stream, force=force)
            if self.running and not force:
                time.sleep(FAREWELL_S)

    def _launch(self, job: Job) -> None:
        self.running.append(RunningJob(job, self.launch(job)))

    def _next(self) -> Iterator[TaskReport]:
        """The next report of any job; nothing where none comes within LOOK_S."""
        ready, _ = self.ray.wait(
            [entry.stream for entry in self.running], num_returns=1, timeout=LOOK_S
        )
        for entry in [entry for entry in self.running if entry.stream in ready]:
            yield from self._heard(entry)

    def _heard(self, entry: RunningJob) -> Iterator[TaskReport]:
        ray = self.ray
        try:
            report: TaskReport = ray.get(next(entry.stream))
        except StopIteration:
            self.running.remove(entry)
        except (
            ray.exceptions.RayTaskError
        ) as error:  # what our own code raised: it ends the run here as it would in this process
            raise _cause(error) from None
        except ray.exceptions.RayError as error:
            yield from self._died(entry, type(error).__name__)
        else:
            yield from self._noted(entry, report)

    def _noted(self, entry: RunningJob, report: TaskReport) -> Iterator[TaskReport]:
        if report.state == "started":
            entry.started.add(report.key)
            entry.since = time.monotonic()
            self.on_stage(
                next(task.cell for task in entry.job.tasks if task.key == report.key), "running"
            )
        else:
            entry.reported.add(report.key)
        yield report

    def _died(self, entry: RunningJob, how: str) -> Iterator[TaskReport]:
        """The worker is gone: its open cells are tried again, up to a point, and what it had not
        started goes to another one.
        """
        self.running.remove(entry)
        # died before it began: something is wrong with loading
        suspects = entry.open or list(entry.job.tasks)[:1]
        self.lost.update(task.key for task in suspects)
        for task in suspects:
            if self.lost[task.key] >= LOST_AT_MOST:
                died = (
                    f"its worker died {LOST_AT_MOST} times ({how}): killed, out of memory, or a "
                    "crash in native code"
                )
                yield self._failed(entry, task, died)
        self._relaunch(entry)

    def _overdue(self) -> Iterator[TaskReport]:
        """End workers that hang beyond the limit they were given; the cells they hang in have
        failed.
        """
        for entry in [entry for entry in self.running if self._hangs(entry)]:
            self.ray.cancel(entry.stream, force=True)
            self.running.remove(entry)
            for task in entry.open:
                yield self._failed(
                    entry,
                    task,
                    f"hung beyond the time limit of {self.options.limit_s:g} s; its "
                    "worker was ended",
                )
            self._relaunch(entry)

    def _hangs(self, entry: RunningJob) -> bool:
        if self.options.limit_s is None or entry.since is None or not entry.open:
            return False
        return time.monotonic() - entry.since > self.options.limit_s + 2 * GRACE_S

    def _failed(self, entry: RunningJob, task: Task, sentence: str) -> TaskReport:
        entry.reported.add(task.key)
        store = Store(self.options.results, self.options.lease_s)
        store.fail(task.key, f"{sentence}\n\n{cell_logs.tail(store, task.key)}")
        return TaskReport(task.key, "failed", sentence)

    def _relaunch(self, entry: RunningJob) -> None:
        if rest := entry.job.rest(entry.reported, entry.started):
            self._launch(rest)


def _cause(error: Any) -> BaseException:
    """The exception as the worker raised it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error
