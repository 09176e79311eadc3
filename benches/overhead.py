"""What the harness adds to a cell, and how soon a long plan begins. `python -m benches.overhead
[--cells 200] [--plan 10000]`

Features are stored beforehand and the method multiplies two matrices, so that what is measured is
the harness: planning, claims, episodes, scoring, records flushed to the disk. Found cells are those
on record. The plan is one of which 99 % are on record under their true names: what counts is when
its first missing cell begins, from the start of the process, torch included.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from benches.timing import machine, once
from benchmark.commands.cell_selection import select
from benchmark.commands.option_fields import Flags
from benchmark.compute import runner
from benchmark.compute.executors.scheduling import Executor
from benchmark.compute.runner import Outcome, run
from benchmark.grid import Cell
from benchmark.records.store import Store
from testbed.campaign import MOODY, ROOT, command, until
from testbed.synthetic import record, write

MISSING = 0.01  # share of a plan that is not on record
PER_SEED = 3  # datasets


def cells(count: int) -> list[Cell]:
    """Distinct cells of one support set: a parameter that does nothing names them."""
    return [
        Cell(
            method=MOODY,
            dataset="tiny_digits",
            shots=1,
            seed=1,
            backbone="tiny",
            params=(("on_seed", 1 + number),),
        )
        for number in range(count)
    ]


@dataclass(frozen=True)
class Spent:
    """Milliseconds per cell, and before the first one."""

    first_ms: float
    median_ms: float  # between outcomes
    mean_ms: float  # all in all after the first outcome
    inside_ms: float  # of which fit and predict

    def __str__(self) -> str:
        return (
            f"median {self.median_ms:.1f}, mean {self.mean_ms:.1f}, "
            f"inside fit and predict {self.inside_ms:.1f}; first {self.first_ms:.0f}"
        )


def spent(todo: Sequence[Cell], store: Store, executor: Executor | None = None) -> Spent:
    """Run cells and time their outcomes."""
    times, outcomes = [time.perf_counter()], list[Outcome]()
    for outcome in run(todo, store, executor=executor):
        assert outcome.record, outcome.error
        times.append(time.perf_counter())
        outcomes.append(outcome)
    steps = [1000 * (after - before) for before, after in pairwise(times[1:])]
    inside = statistics.mean(
        1000 * (outcome.record.costs.fit_s + outcome.record.costs.predict_s)
        for outcome in outcomes
        if outcome.record
    )
    return Spent(
        1000 * (times[1] - times[0]), statistics.median(steps), statistics.mean(steps), inside
    )


def ray_lines(todo: Sequence[Cell], folder: Path) -> list[str]:
    """Starting the engine, then a grid in its workers, their starts and imports included."""
    from benchmark.compute.executors.ray_executor import Ray

    start = time.perf_counter()
    workers = Ray()
    workers._connect()
    engine_s = time.perf_counter() - start
    try:
        start = time.perf_counter()
        inside = spent(todo, Store(folder), workers)
        whole_s = time.perf_counter() - start
    finally:
        workers.close()
    amortised = 1000 * whole_s / len(todo)
    return [
        f"ray, {os.cpu_count()} workers: {amortised:.1f} ms per cell amortised, "
        "workers' start included (target 150)",
        f"ray, engine's own start: {engine_s:.1f} s; "
        f"first outcome {inside.first_ms / 1000:.1f} s after that; then ms per cell: {inside}",
    ]


# --- the start of a long plan


def plan_flags(count: int) -> Flags:
    seeds = [str(1 + number) for number in range(-(-count // PER_SEED))]
    return Flags(
        methods=("tip_adapter",), suites=("tiny",), shots=("1",), seeds=seeds, backbones=("tiny",)
    )


def fill(folder: Path, flags: Flags) -> int:
    """Put 99 % of a plan on record; how many cells are missing."""
    planned = runner.plan(select(flags).cells)
    kept = planned[: -max(1, round(len(planned) * MISSING))]
    write(folder, (record(identity, [30] * 10, [40] * 10) for _, identity in kept))
    return len(planned) - len(kept)


def first_cell(flags: Flags, folder: Path, cache: Path) -> tuple[float, float]:
    """Seconds from the start of a process until its first cell begins, and of its processors; then
    it is killed.
    """
    environ = os.environ | {"FSBENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command(flags, folder), cwd=ROOT, env=environ, **quiet)
    try:
        begun = until(
            lambda: process.poll() is not None or any((folder / "logs").glob("*.txt")), 120
        )
        wall_s = time.perf_counter() - start
        assert begun, "no cell began within two minutes"
        assert process.poll() is None, "the plan ended before a cell began"
        return wall_s, _processor_s(process.pid)
    finally:
        process.kill()
        process.wait()
        for log in (folder / "logs").glob("*.txt"):
            log.unlink()


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def profiled(work: Callable[[], object], rows: int = 25) -> None:
    """Where a call spends its time, by function, what it calls included."""
    profile = cProfile.Profile()
    profile.runcall(work)
    pstats.Stats(profile, stream=sys.stdout).strip_dirs().sort_stats("cumulative").print_stats(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--plan", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ray", action="store_true", help="also in Ray's workers")
    parser.add_argument(
        "--profile",
        action="store_true",
        help="say where a serial grid and a long plan spend their time",
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        folder = Path(name)
        os.environ["FSBENCH_CACHE"] = str(folder / "cache")
        list(run(cells(1), Store(folder / "warm")))
        print(machine())
        cell_lines(cells(given.cells), folder, given.ray)
        plan_lines(plan_flags(given.plan), folder, given.rounds)
        if given.profile:
            profiled(lambda: list(run(cells(given.cells), Store(folder / "profiled"))))
            profiled(
                lambda: next(run(select(plan_flags(given.plan)).cells, Store(folder / "plan")))
            )


def cell_lines(todo: Sequence[Cell], folder: Path, with_ray: bool) -> None:
    serial = Store(folder / "serial")
    print(f"serial, {len(todo)} cells, ms per cell (target 30): {spent(todo, serial)}")
    again = once(lambda: list(run(todo, serial)))
    print(f"already stored: {1000 * again.wall_s / len(todo):.2f} ms per cell")
    for line in ray_lines(todo, folder / "ray") if with_ray else ():
        print(line)


def plan_lines(flags: Flags, folder: Path, rounds: int) -> None:
    missing = fill(folder / "plan", flags)
    seen = [first_cell(flags, folder / "plan", folder / "cache") for _ in range(rounds)]
    wall_s, processor_s = (statistics.median(column) for column in zip(*seen, strict=True))
    best = min(wall for wall, _ in seen)
    print(
        f"plan of {len(flags.seeds) * PER_SEED} cells, {missing} of them missing: "
        f"the first begins after {wall_s:.2f} s "
        f"(median of {rounds}, best {best:.2f}, processor {processor_s:.2f}; target 3)"
    )


if __name__ == "__main__":
    main()
