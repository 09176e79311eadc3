"""By Ray (the extra `ray`): every job in a process of its own, on this machine or on a cluster that is already there.

Ray places jobs and guards processes, nothing more: what is done and what failed stands in the results folder, so that losing a
worker, a node or this driver costs the cells that were running. Workers hand back reports one by one, never tensors. Retries are
ours rather than Ray's, because a job whose worker died has finished cells that must not be asked for again.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from benchmark import backbones
from benchmark.errors import UserError
from benchmark.executors import logs
from benchmark.executors.jobs import Job, Report, Task, Work
from benchmark.executors.limits import GRACE_S
from benchmark.executors.worker import Bench, Watch, bench, perform
from benchmark.store import Store

LOST_AT_MOST = 3  # workers that may die over a cell before it counts as failed
FAREWELL_S = 2.0  # for workers to tidy up when a run is interrupted
LOOK_S = 0.5  # between looks at what hangs
HEADROOM = 1.25  # over the memory that earlier cells took
PORTIONS = 8  # of a GPU: shares are rounded up to eighths, so that cells fit side by side


@dataclass(frozen=True)
class Need:
    """What one job takes while it runs."""

    cpus: int
    gpus: float  # a share of one, or whole ones

    def __str__(self) -> str:
        return f"{self.gpus:g} GPUs and {self.cpus} CPUs" if self.gpus else f"{self.cpus} CPUs"


@dataclass(frozen=True)
class Ray:
    """`address` of a cluster ("auto": the one this node belongs to), or None for workers on this machine.

    `cpus` and `gpus` say how many this machine lends (more GPUs than there are make logical ones, for tests);
    `gpus_per_cell` overrides what earlier records tell.
    """

    address: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    gpus_per_cell: float | None = None
    watch: Watch = lambda cell, stage: None

    @cached_property
    def slots(self) -> int:
        """The processors there are: cells that need more leave some of them to the others."""
        self._connect()
        return max(1, int(_ray().cluster_resources().get("CPU", 1)))

    def run(self, jobs: Sequence[Job], work: Work) -> Iterator[Report]:
        """Reports as they come. Raises UserError at once where no node could ever run one of the jobs."""
        self._connect()
        needs = [self.need(job, work) for job in jobs]
        for need in set(needs):
            require_room(need)
        yield from _Flights(work, self.watch, self.need).conduct(jobs)

    def need(self, job: Job, work: Work) -> Need:
        """A small model is best on one processor; others on a CPU take what serial runs take, so that their numbers agree."""
        on_gpu = work.device.startswith("cuda") or bool(self.gpus_per_cell)
        small = all(task.cell.backbone == backbones.TINY for task in job.tasks)
        cpus = 1 if on_gpu or small else self.cpus or os.cpu_count() or 1
        return Need(cpus, (self.gpus_per_cell or max(map(_gpu_share, job.tasks))) if on_gpu else 0.0)

    def _connect(self) -> None:
        ray = _ray()
        if ray.is_initialized():
            return
        here = {} if self.address else {"num_cpus": self.cpus, "num_gpus": self.gpus, "include_dashboard": False}
        try:
            ray.init(address=self.address or "local", log_to_driver=False, logging_level="ERROR", **here)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"no Ray cluster answers at {self.address} ({str(error).splitlines()[0]}); start one with `ray start`"
            ) from error

    def close(self) -> None:
        _ray().shutdown()


@cache
def _ray() -> Any:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # say which of two behaviours we want, and silence a warning
    try:
        import ray
    except ImportError as error:
        raise UserError("the executor 'ray' needs an extra: pip install 'fsbench[ray]'; without it run serially or with --shard") from error
    return ray


def _gpu_share(task: Task) -> float:
    """A whole GPU until a record tells, then what it took and some headroom, in eighths."""
    share = 1.0 if task.gpu_share is None else task.gpu_share * HEADROOM
    return min(1.0, math.ceil(share * PORTIONS) / PORTIONS)


def require_room(need: Need) -> None:
    """Ray would wait for ever for a node that fits."""
    nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= need.cpus and node.get("GPU", 0) >= need.gpus for node in nodes):
        there = "; ".join(f"{node.get('GPU', 0):g} GPUs and {node.get('CPU', 0):g} CPUs" for node in nodes) or "no node at all"
        raise UserError(
            f"a cell asks for {need} on one node, but the cluster has: {there}; lower --gpus-per-cell, or join a larger cluster", stops=True
        )


@dataclass(eq=False)
class _Flight:
    """A job under way."""

    job: Job
    stream: Any  # Ray's generator of references to reports
    begun: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    since: float | None = None  # monotonic time of the last sign that a batch began

    @property
    def open(self) -> list[Task]:
        """Tasks that began and of which nothing was heard since: what the worker is, or was, busy with."""
        return [task for task in self.job.tasks if task.key in self.begun - self.told]


@dataclass(frozen=True, eq=False)
class _Flights:
    """All jobs of a run: those in the air, those that wait, and how often a worker died over a cell."""

    work: Work
    watch: Watch
    need: Any
    air: list[_Flight] = field(default_factory=list)
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
        """Interrupted: what still runs is of no use to anybody. Asked first, so that workers tidy up, then ended."""
        for force in (False, True):
            for flight in self.air:
                with suppress(Exception):  # a worker that is gone already
                    _ray().cancel(flight.stream, force=force)
            if self.air and not force:
                time.sleep(FAREWELL_S)

    def _launch(self, job: Job) -> None:
        need = self.need(job, self.work)
        options = {"num_cpus": need.cpus, "num_gpus": need.gpus, "max_retries": 0, "num_returns": "streaming"}
        remote = _on_gpu() if need.gpus else _on_cpu()
        self.air.append(_Flight(job, remote.options(**options).remote(job, self.work, need)))

    def _next(self) -> Iterator[Report]:
        """What one flight has to say, if any has."""
        ready, _ = _ray().wait([flight.stream for flight in self.air], num_returns=1, timeout=LOOK_S)
        for flight in [flight for flight in self.air if flight.stream in ready]:
            yield from self._heard(flight)

    def _heard(self, flight: _Flight) -> Iterator[Report]:
        ray = _ray()
        try:
            report: Report = ray.get(next(flight.stream))
        except StopIteration:
            self.air.remove(flight)
        except ray.exceptions.RayTaskError as error:  # what our own code raised: it ends the run here as it would in this process
            raise _cause(error) from None
        except ray.exceptions.RayError as error:
            yield from self._died(flight, type(error).__name__)
        else:
            yield from self._noted(flight, report)

    def _noted(self, flight: _Flight, report: Report) -> Iterator[Report]:
        if report.state == "started":
            flight.begun.add(report.key)
            flight.since = time.monotonic()
            self.watch(next(task.cell for task in flight.job.tasks if task.key == report.key), "running")
        else:
            flight.told.add(report.key)
        yield report

    def _died(self, flight: _Flight, how: str) -> Iterator[Report]:
        """The worker is gone: its open cells are tried again, up to a point, and what it had not begun goes to another one."""
        self.air.remove(flight)
        suspects = flight.open or list(flight.job.tasks)[:1]  # died before it began: something is wrong with loading
        self.lost.update(task.key for task in suspects)
        for task in suspects:
            if self.lost[task.key] >= LOST_AT_MOST:
                died = f"its worker died {LOST_AT_MOST} times ({how}): killed, out of memory, or a crash in native code"
                yield self._failed(flight, task, died)
        self._relaunch(flight)

    def _overdue(self) -> Iterator[Report]:
        """End workers that hang beyond the limit they were given; the cells they hang in have failed."""
        for flight in [flight for flight in self.air if self._hangs(flight)]:
            _ray().cancel(flight.stream, force=True)
            self.air.remove(flight)
            for task in flight.open:
                yield self._failed(flight, task, f"hung beyond the time limit of {self.work.limit_s:g} s; its worker was ended")
            self._relaunch(flight)

    def _hangs(self, flight: _Flight) -> bool:
        if self.work.limit_s is None or flight.since is None or not flight.open:
            return False
        return time.monotonic() - flight.since > self.work.limit_s + 2 * GRACE_S

    def _failed(self, flight: _Flight, task: Task, sentence: str) -> Report:
        flight.told.add(task.key)
        store = Store(self.work.results, self.work.lease_s)
        store.fail(task.key, f"{sentence}\n\n{logs.tail(store, task.key)}")
        return Report(task.key, "failed", sentence)

    def _relaunch(self, flight: _Flight) -> None:
        if rest := flight.job.rest(flight.told, flight.begun):
            require_room(self.need(rest, self.work))  # the node that was large enough may be the one that is gone
            self._launch(rest)


def _cause(error: Any) -> BaseException:
    """The exception as the worker raised it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


@cache
def _on_cpu() -> Any:
    return _ray().remote(_perform)


@cache
def _on_gpu() -> Any:
    """A process for one job only: Ray would otherwise use it again with all the GPU memory it still holds."""
    return _ray().remote(max_calls=1)(_perform)


def _perform(job: Job, work: Work, need: Need) -> Iterator[Report]:
    """In the worker's process."""
    _settle(need, work)
    yield from perform(job, _bench(work))


@cache
def _bench(work: Work) -> Bench:
    return bench(work, lambda cell, stage: None, own_process=True)


def _settle(need: Need, work: Work) -> None:
    """Before torch is imported: the driver's folder and settings, as many threads as a serial run would have (Ray sets the number
    of processors asked for), no GPU for what did not ask for one, and no more memory of it than was asked for."""
    os.chdir(work.folder)
    os.environ.pop("OMP_NUM_THREADS", None)
    os.environ.update(work.settings)
    if not need.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    import torch

    if torch.cuda.is_available() and need.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(need.gpus)
