"""In this process, one cell after the other, in the order of the plan: the default, which needs
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmark.compute.executors.scheduling import Job, Report, Work
from benchmark.compute.executors.worker import Bench, Watch, bench, perform


@dataclass(frozen=True)
class Serial:
    watch: Watch = lambda cell, stage: None  # hears of each stage as it begins
    slots: int = 1
    kept: dict[Work, Bench] = field(
        default_factory=dict, repr=False
    )  # what cells of a run have in common is loaded once

    def run(self, jobs: Sequence[Job], work: Work) -> Iterator[Report]:
        if work not in self.kept:
            self.kept[work] = bench(work, self.watch, own_process=False)
        for job in jobs:
            yield from perform(job, self.kept[work])
