"""By Ray (the extra `ray`): every job in a process of its own, on this machine or on a cluster that
is already there.

Ray places jobs and guards processes, nothing more: what is done and what failed stands in the
results folder, so that losing a worker, a node or this driver costs the cells that were running.
Workers hand back reports one by one, never tensors.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from benchmark.backbones import weights
from benchmark.compute.devices import device_for
from benchmark.compute.executors.ray_jobs import RunningJobs
from benchmark.compute.executors.scheduling import Job, RunOptions, Task, TaskReport
from benchmark.compute.executors.worker import Worker, perform, start_worker
from benchmark.compute.stages import OnStage, ignore_stage
from benchmark.errors import UserError

HEADROOM = 1.25  # over the memory that earlier cells took
PORTIONS = 8  # of a GPU: shares are rounded up to eighths, so that cells fit side by side


@dataclass(frozen=True)
class JobNeeds:
    """What one job takes while it runs."""

    cpus: int
    gpus: float  # a share of one, or whole ones

    def __str__(self) -> str:
        return _amount(self.gpus, self.cpus)


def _amount(gpus: float, cpus: float) -> str:
    return f"{gpus:g} GPU{'s' * (gpus > 1)} and {cpus:g} CPU{'s' * (cpus > 1)}"


@dataclass(frozen=True)
class Ray:
    """`address` of a cluster ("auto": the one this node belongs to), or None for workers on this
    machine.

    `cpus` and `gpus` say how many this machine lends (more GPUs than there are make logical ones,
    for tests); `gpus_per_cell` overrides what earlier records tell.
    """

    address: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    gpus_per_cell: float | None = None
    on_stage: OnStage = ignore_stage

    @property
    def on_this_machine(self) -> bool:
        return self.address is None

    def slots(self, tasks: Sequence[Task], options: RunOptions) -> int:
        """As many as the GPUs there are can take side by side, or the processors where no GPU is
        wanted."""
        self._connect()
        need = self.need(Job(tuple((task,) for task in tasks)), options)
        kind, each = ("GPU", need.gpus) if need.gpus else ("CPU", need.cpus)
        return max(1, int(_ray().cluster_resources().get(kind, 1) / each))

    def run(self, jobs: Sequence[Job], options: RunOptions) -> Iterator[TaskReport]:
        """Reports as they come. Raises UserError at once where no node could ever run one of the
        jobs.
        """
        self._connect()
        for need in {self.need(job, options) for job in jobs}:
            require_room(need)
        yield from RunningJobs(_ray(), options, self.on_stage, partial(self._launch, options)).run(
            jobs
        )

    def _launch(self, options: RunOptions, job: Job) -> Any:
        """Ray's stream of reports. Asked for room again: the node that was large enough may be the
        one that is gone.
        """
        need = self.need(job, options)
        require_room(need)
        remote = _on_gpu() if need.gpus else _on_cpu()
        return remote.options(
            num_cpus=need.cpus, num_gpus=need.gpus, max_retries=0, num_returns="streaming"
        ).remote(job, options, need)

    def need(self, job: Job, options: RunOptions) -> JobNeeds:
        """A small model is best on one processor; others on a CPU take what serial runs take, so
        that their numbers agree.
        """
        backbone = next(job.tasks).cell.backbone
        on_gpu = device_for(backbone, options.device) != "cpu" or bool(self.gpus_per_cell)
        small = all(task.cell.backbone == weights.TINY for task in job.tasks)
        cpus = 1 if on_gpu or small else self.cpus or os.cpu_count() or 1
        return JobNeeds(
            cpus, (self.gpus_per_cell or max(map(_gpu_share, job.tasks))) if on_gpu else 0.0
        )

    def _connect(self) -> None:
        ray = _ray()
        if ray.is_initialized():
            return
        here = (
            {}
            if self.address
            else {"num_cpus": self.cpus, "num_gpus": self.gpus, "include_dashboard": False}
        )
        try:
            ray.init(
                address=self.address or "local", log_to_driver=False, logging_level="ERROR", **here
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            what = str(error).partition("\n")[0]
            raise UserError(
                f"no Ray cluster answers at {self.address} ({what}); start one with `ray "
                "start --head`"
            ) from error

    def close(self) -> None:
        _ray().shutdown()


@cache
def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    # say which of two behaviours we want, and silence a warning
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "the executor 'ray' needs an extra: pip install 'fsbench[ray]'; without it "
            "run serially or with --shard"
        ) from error
    return ray


def _gpu_share(task: Task) -> float:
    """A whole GPU until a record tells, then what it took and some headroom, in eighths."""
    share = 1.0 if task.gpu_share is None else task.gpu_share * HEADROOM
    return min(1.0, math.ceil(share * PORTIONS) / PORTIONS)


def require_room(need: JobNeeds) -> None:
    """Ray would wait for ever for a node that fits."""
    nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
    if not nodes:
        raise UserError(
            "the last node of the Ray cluster is gone: killed, out of memory, or its "
            "machine is down",
            stops=True,
        )
    if not any(
        node.get("CPU", 0) >= need.cpus and node.get("GPU", 0) >= need.gpus for node in nodes
    ):
        there = "; ".join(_amount(node.get("GPU", 0), node.get("CPU", 0)) for node in nodes)
        raise UserError(
            f"a cell asks for {need} on one node, but the cluster has: {there}; lower "
            "--gpus-per-cell, or join a larger cluster",
            stops=True,
        )


@cache
def _on_cpu() -> Any:
    return _ray().remote(_perform)


@cache
def _on_gpu() -> Any:
    """A process for one job only: Ray would otherwise use it again with all the GPU memory it still
    holds.
    """
    return _ray().remote(max_calls=1)(_perform)


def _perform(job: Job, options: RunOptions, need: JobNeeds) -> Iterator[TaskReport]:
    """In the worker's process."""
    _settle(need, options)
    yield from perform(job, _worker(options))


@cache
def _worker(options: RunOptions) -> Worker:
    return start_worker(options, ignore_stage, own_process=True)


def _settle(need: JobNeeds, options: RunOptions) -> None:
    """Before torch is imported: the driver's folder and settings, as many threads as a serial run
    would have (Ray sets the number of processors asked for), no GPU for what did not ask for one,
    and no more memory of it than was asked for.
    """
    os.chdir(options.folder)
    os.environ.pop("OMP_NUM_THREADS", None)
    os.environ.update(options.settings)
    if not need.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    import torch

    if torch.cuda.is_available() and need.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(need.gpus)
