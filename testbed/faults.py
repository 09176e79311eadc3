"""Kill -9 at random moments, and what is left of it in the records: nothing. `python -m
testbed.faults --kills 200 --cells 300`

A grid is run over and over. Its driver, and by turns a worker where Ray runs the cells, is killed
at a moment drawn at random: mostly soon after the driver's first record of that life, sometimes
before it, in the midst of imports and encoding. A driver that died is started again. Who reads the
folder all the while must never see half a record; each finished grid is held against an undisturbed
one. The cache of features starts empty and dies with the drivers.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.commands.option_fields import Flags
from testbed.campaign import (
    Driver,
    differences,
    driver,
    grid,
    keys,
    leftovers,
    under_way,
    undisturbed,
    until,
    watched,
)
from testbed.processes import Process, alive, computing, descendants

EARLY = 0.2  # share of the lives that end before or about their first record
EARLY_S = {"serial": (0.5, 5.0), "ray": (1.0, 12.0)}
FAREWELL_S = 30.0  # for what a killed driver leaves running; then it is ended


@dataclass(frozen=True)
class FaultPlan:
    """How killing is done."""

    executor: str = "serial"
    kills: int = 200
    # the driver's first record, or the last kill of one of its workers
    after_s: tuple[float, float] = (0.2, 2.0)
    seed: int = 0
    flags: Sequence[str] = ()  # more of the driver's


@dataclass
class FaultTally:
    """What it came to."""

    counts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    slowest_farewell_s: float = 0.0

    @property
    def kills(self) -> int:
        return self.counts["drivers killed"] + self.counts["workers killed"]


def campaign(flags: Flags, reference: Path, folder: Path, plan: FaultPlan) -> FaultTally:
    """Grids under fire until all kills are done; each is then left to finish, and compared."""
    tally, rng, expected = FaultTally(), random.Random(f"{plan.executor} {plan.seed}"), keys(flags)
    while tally.kills < plan.kills:
        tally.counts["grids"] += 1
        attempt = folder / f"{plan.executor}-{tally.counts['grids']}"
        results, cache = attempt / "results", attempt / "cache"
        with watched(results) as reader:
            while not _live(flags, results, cache, plan, rng, tally):
                pass
        tally.complaints += reader.problems + differences(results, reference, expected)
        tally.left.update(leftovers(results, cache))
        tally.counts["cells on record"] += len(expected)
        tally.counts["cells written twice"] += sum(
            len(times) - 1 for times in reader.written.values()
        )
        tally.counts["readings of the reader"] += reader.readings
    return tally


def _live(
    flags: Flags, results: Path, cache: Path, plan: FaultPlan, rng: random.Random, tally: FaultTally
) -> bool:
    """One life of a driver. Whether it ended by itself with every cell on record."""
    more = ("--executor", plan.executor, *plan.flags)
    with driver(flags, results, cache, *more) as started:
        tally.counts["drivers started"] += 1
        if rng.random() < EARLY:
            moment_s = rng.uniform(*EARLY_S[plan.executor])
        else:
            until(lambda: started.computed() or started.process.poll() is not None)
            moment_s = rng.uniform(*plan.after_s)
        while tally.kills < plan.kills and not until(
            lambda: started.process.poll() is not None, moment_s
        ):
            if _strike(started, results, plan, rng, tally):
                return False
            moment_s = rng.uniform(*plan.after_s)
        if started.wait() == 0:
            return True
        tally.counts["drivers that ended with failed cells"] += 1
        if tally.kills >= plan.kills:
            raise AssertionError(
                f"cells fail though nobody kills any more:\n{started.stderr.read_text()[-3000:]}"
            )
        return False


def _strike(
    started: Driver, results: Path, plan: FaultPlan, rng: random.Random, tally: FaultTally
) -> bool:
    """Kill the driver or one of its workers. Whether it was the driver."""
    family = descendants(started.process.pid)
    workers = [
        process for process, words in sorted(family.items()) if words.startswith("ray::_perform")
    ]
    if plan.executor == "ray" and workers and rng.random() < 0.5:
        _kill_worker(rng.choice(workers), results, tally)
        return False
    tally.counts["drivers killed"] += 1
    tally.counts["of these before their first record"] += not started.computed()
    started.process.kill()
    started.process.wait()
    _wait_for_the_end(family, tally)
    tally.counts["cells lost under way"] += len(
        under_way(results, {started.process.pid} | {pid for pid, _ in family})
    )
    return True


def _kill_worker(victim: Process, results: Path, tally: FaultTally) -> None:
    """A Ray worker that works on a job of ours; it is a descendant of our own driver."""
    try:
        os.kill(victim[0], signal.SIGKILL)
    except ProcessLookupError:  # it ended just now by itself
        return
    tally.counts["workers killed"] += 1
    tally.counts["cells lost under way"] += len(under_way(results, {victim[0]}))


def _wait_for_the_end(family: dict[Process, str], tally: FaultTally) -> None:
    """Raylet and workers are meant to notice that their driver is gone. Ray's agents are ended
    here, or they would fill the memory.
    """
    start, workers = time.monotonic(), computing(family)
    until(lambda: not any(map(alive, workers)), FAREWELL_S)
    tally.slowest_farewell_s = max(tally.slowest_farewell_s, time.monotonic() - start)
    for process in filter(alive, family):
        tally.counts[
            "workers that outlived their driver" if process in workers else "agents ended"
        ] += 1
        with suppress(ProcessLookupError):
            os.kill(process[0], signal.SIGKILL)


def show(plan: FaultPlan, tally: FaultTally, seconds: float) -> None:
    print(f"\n{plan.executor}: {tally.kills} kills with seed {plan.seed} in {seconds:.0f} s")
    for what, count in tally.counts.items():
        print(f"  {what:40s} {count}")
    records, lost = tally.counts["cells on record"], tally.counts["cells lost under way"]
    print(f"  {'cells begun / cells on record':40s} {(records + lost) / max(1, records):.3f}")
    print(f"  {'slowest end of what a driver left (s)':40s} {tally.slowest_farewell_s:.1f}")
    print(
        "  left behind: "
        + (", ".join(f"{count} {what}" for what, count in tally.left.items()) or "nothing")
    )
    print(f"  complaints: {len(tally.complaints)}")
    for complaint in tally.complaints[:20]:
        print(f"    {complaint}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--executor", choices=("serial", "ray", "both"), default="serial")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    flags, complaints = grid(given.cells), 0
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        start = time.monotonic()
        reference = undisturbed(flags, Path(name) / "undisturbed", Path(name) / "cache")
        print(
            f"{len(keys(flags))} cells, undisturbed: {time.monotonic() - start:.0f} s", flush=True
        )
        for executor in ("serial", "ray") if given.executor == "both" else (given.executor,):
            plan, start = FaultPlan(executor, given.kills, seed=given.seed), time.monotonic()
            tally = campaign(flags, reference, Path(name), plan)
            show(plan, tally, time.monotonic() - start)
            complaints += len(tally.complaints)
    raise SystemExit(1 if complaints else 0)


if __name__ == "__main__":
    main()
