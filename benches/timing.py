"""How things are timed here: variants in alternation in one process, medians, processor seconds
beside seconds on the clock.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Medians over rounds. Processor seconds hold on a shared machine, where the clock measures the
    neighbours.
    """

    wall_s: float
    cpu_s: float


def alternate(
    variants: dict[str, Callable[[], object]], rounds: int, warm: int = 1
) -> dict[str, Timing]:
    """Run all variants in turn, `warm` rounds unmeasured and `rounds` measured."""
    seen: dict[str, list[Timing]] = {name: [] for name in variants}
    for turn in range(warm + rounds):
        for name, work in variants.items():
            timing = once(work)
            if turn >= warm:
                seen[name].append(timing)
    return {
        name: Timing(
            statistics.median(t.wall_s for t in all_), statistics.median(t.cpu_s for t in all_)
        )
        for name, all_ in seen.items()
    }


def once(work: Callable[[], object]) -> Timing:
    """One measured run."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def machine() -> str:
    """What the figures were measured on, and how busy it was."""
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    chip = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return f"{chip}, {threads} thread(s), torch {torch.__version__}, load {load:.1f}"
