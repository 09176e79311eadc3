"""In this process, one cell after the other, in the order of the plan: the default, which needs
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmark.compute.executors.scheduling import Job, Report, RunOptions
from benchmark.compute.executors.worker import Bench, bench, perform
from benchmark.compute.stages import OnStage, ignore_stage


@dataclass(frozen=True)
class Serial:
    on_stage: OnStage = ignore_stage
    slots: int = 1
    kept: dict[RunOptions, Bench] = field(
        default_factory=dict, repr=False
    )  # what cells of a run have in common is loaded once

    def run(self, jobs: Sequence[Job], options: RunOptions) -> Iterator[Report]:
        if options not in self.kept:
            self.kept[options] = bench(options, self.on_stage, own_process=False)
        for job in jobs:
            yield from perform(job, self.kept[options])
