"""In this process, one cell after the other, in the order of the plan: the default, which needs
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmark.compute.executors.scheduling import Job, RunOptions, Task, TaskReport
from benchmark.compute.executors.worker import Worker, perform, start_worker
from benchmark.compute.stages import OnStage, ignore_stage


class Serial:
    """Computes cells here, one after the other; what the cells of a run share is loaded once."""

    on_this_machine = True

    def __init__(self, on_stage: OnStage = ignore_stage) -> None:
        self.on_stage = on_stage
        self._workers: dict[RunOptions, Worker] = {}

    def slots(self, tasks: Sequence[Task], options: RunOptions) -> int:
        return 1

    def run(self, jobs: Sequence[Job], options: RunOptions) -> Iterator[TaskReport]:
        if options not in self._workers:
            self._workers[options] = start_worker(options, self.on_stage, own_process=False)
        for job in jobs:
            yield from perform(job, self._workers[options])
