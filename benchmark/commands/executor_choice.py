"""Where the cells of a grid are computed, as --executor, --address and --gpus-per-cell say it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

from benchmark.compute.executors.scheduling import Executor
from benchmark.compute.executors.serial import Serial
from benchmark.compute.stages import OnStage
from benchmark.errors import UserError

EXECUTORS = ("serial", "ray")


@dataclass(frozen=True)
class ExecutorChoice:
    """An executor and its options, checked; `open` starts it."""

    executor: str = "serial"
    address: str | None = None  # of a Ray cluster
    gpus_per_cell: float | None = None

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise UserError(f"unknown executor '{self.executor}'; take serial or ray")
        if self.executor == "serial" and (self.address or self.gpus_per_cell is not None):
            raise UserError(
                "--address and --gpus-per-cell say how Ray places cells; add --executor ray"
            )

    @contextmanager
    def open(self, on_stage: OnStage) -> Iterator[Executor]:
        """The executor, closed at the end; `on_stage` is called as a cell's stage begins."""
        if self.executor == "serial":
            yield Serial(on_stage)
            return
        from benchmark.compute.executors.ray_executor import Ray

        workers = Ray(self.address, gpus_per_cell=self.gpus_per_cell, on_stage=on_stage)
        # Ray reports dead nodes on stdout, which belongs to results; some of it when it closes.
        with redirect_stdout(sys.stderr):
            try:
                yield workers
            finally:
                workers.close()
