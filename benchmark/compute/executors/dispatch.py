"""Jobs in the air: handed to Ray, heard of report by report, tried again when their worker dies,
ended when it hangs.

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
from benchmark.compute.executors.scheduling import Job, Report, RunOptions, Task
from benchmark.compute.stages import OnStage
from benchmark.records.store import Store

LOST_AT_MOST = 3  # workers that may die over a cell before it counts as failed
LOOK_S = 0.5  # between looks at what hangs
FAREWELL_S = 2.0  # for workers to tidy up when a run is interrupted


@dataclass(eq=False)
class Flight:
    """A job under way."""

    job: Job
    stream: Any  # Ray's generator of references to reports
    begun: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    since: float | None = None  # monotonic time of the last sign that a batch began

    @property
    def open(self) -> list[Task]:
        """Tasks that began and of which nothing was heard since: what the worker is, or was, busy
        with.
        """
        return [task for task in self.job.tasks if task.key in self.begun - self.told]


@dataclass(frozen=True, eq=False)
class Flights:
    """All jobs of a run, and how often a worker died over a cell. `launch` hands a job to Ray, or
    says that it fits nowhere.
    """

    ray: Any  # the module
    options: RunOptions
    on_stage: OnStage
    launch: Callable[[Job], Any]
    air: list[Flight] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)

    def conduct(self, jobs: Sequence[Job]) -> Iterator[Report]:
        try:
            for job in jobs:
                self._launch(job)
            looked = time.monotonic()
            while self.air:
                yield from self._next()
                if time.monotonic() - looked > LOOK_S:
                    looked = time.monotonic()
                    yield from self._overdue()
        finally:
            self._end_all()

    def _end_all(self) -> None:
        """Interrupted: what still runs is of no use to anybody. Asked first, so that workers tidy
        up, then ended.
        """
        for force in (False, True):
            for flight in self.air:
                with suppress(Exception):  # a worker that is gone already
                    self.ray.cancel(flight.stream, force=force)
            if self.air and not force:
                time.sleep(FAREWELL_S)

    def _launch(self, job: Job) -> None:
        self.air.append(Flight(job, self.launch(job)))

    def _next(self) -> Iterator[Report]:
        """What one flight has to say, if any has."""
        ready, _ = self.ray.wait(
            [flight.stream for flight in self.air], num_returns=1, timeout=LOOK_S
        )
        for flight in [flight for flight in self.air if flight.stream in ready]:
            yield from self._heard(flight)

    def _heard(self, flight: Flight) -> Iterator[Report]:
        ray = self.ray
        try:
            report: Report = ray.get(next(flight.stream))
        except StopIteration:
            self.air.remove(flight)
        except (
            ray.exceptions.RayTaskError
        ) as error:  # what our own code raised: it ends the run here as it would in this process
            raise _cause(error) from None
        except ray.exceptions.RayError as error:
            yield from self._died(flight, type(error).__name__)
        else:
            yield from self._noted(flight, report)

    def _noted(self, flight: Flight, report: Report) -> Iterator[Report]:
        if report.state == "started":
            flight.begun.add(report.key)
            flight.since = time.monotonic()
            self.on_stage(
                next(task.cell for task in flight.job.tasks if task.key == report.key), "running"
            )
        else:
            flight.told.add(report.key)
        yield report

    def _died(self, flight: Flight, how: str) -> Iterator[Report]:
        """The worker is gone: its open cells are tried again, up to a point, and what it had not
        begun goes to another one.
        """
        self.air.remove(flight)
        suspects = (
            flight.open or list(flight.job.tasks)[:1]
        )  # died before it began: something is wrong with loading
        self.lost.update(task.key for task in suspects)
        for task in suspects:
            if self.lost[task.key] >= LOST_AT_MOST:
                died = f"its worker died {LOST_AT_MOST} times ({how}): killed, out of memory, or a crash in native code"
                yield self._failed(flight, task, died)
        self._relaunch(flight)

    def _overdue(self) -> Iterator[Report]:
        """End workers that hang beyond the limit they were given; the cells they hang in have
        failed.
        """
        for flight in [flight for flight in self.air if self._hangs(flight)]:
            self.ray.cancel(flight.stream, force=True)
            self.air.remove(flight)
            for task in flight.open:
                yield self._failed(
                    flight,
                    task,
                    f"hung beyond the time limit of {self.options.limit_s:g} s; its worker was ended",
                )
            self._relaunch(flight)

    def _hangs(self, flight: Flight) -> bool:
        if self.options.limit_s is None or flight.since is None or not flight.open:
            return False
        return time.monotonic() - flight.since > self.options.limit_s + 2 * GRACE_S

    def _failed(self, flight: Flight, task: Task, sentence: str) -> Report:
        flight.told.add(task.key)
        store = Store(self.options.results, self.options.lease_s)
        store.fail(task.key, f"{sentence}\n\n{cell_logs.tail(store, task.key)}")
        return Report(task.key, "failed", sentence)

    def _relaunch(self, flight: Flight) -> None:
        if rest := flight.job.rest(flight.told, flight.begun):
            self._launch(rest)


def _cause(error: Any) -> BaseException:
    """The exception as the worker raised it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error
