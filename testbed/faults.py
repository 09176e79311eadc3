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

from benchmark.commands.cell_selection import Flags
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
class Malice:
    """How killing is done."""

    executor: str = "serial"
    kills: int = 200
    # the driver's first record, or the last kill of one of its workers
    after_s: tuple[float, float] = (0.2, 2.0)
    seed: int = 0
    flags: Sequence[str] = ()  # more of the driver's


@dataclass
class Toll:
    """What it came to."""

    counts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    slowest_farewell_s: float = 0.0

    @property
    def kills(self) -> int:
        return self.counts["drivers killed"] + self.counts["workers killed"]


def campaign(flags: Flags, reference: Path, folder: Path, malice: Malice) -> Toll:
    """Grids under fire until all kills are done; each is then left to finish, and compared."""
    toll, rng, expected = Toll(), random.Random(f"{malice.executor} {malice.seed}"), keys(flags)
    while toll.kills < malice.kills:
        toll.counts["grids"] += 1
        place = folder / f"{malice.executor}-{toll.counts['grids']}"
        results, cache = place / "results", place / "cache"
        with watched(results) as sight:
            while not _live(flags, results, cache, malice, rng, toll):
                pass
        toll.complaints += sight.problems + differences(results, reference, expected)
        toll.left.update(leftovers(results, cache))
        toll.counts["cells on record"] += len(expected)
        toll.counts["cells written twice"] += sum(
            len(times) - 1 for times in sight.written.values()
        )
        toll.counts["looks of the reader"] += sight.looks
    return toll


def _live(
    flags: Flags, results: Path, cache: Path, malice: Malice, rng: random.Random, toll: Toll
) -> bool:
    """One life of a driver. Whether it ended by itself with every cell on record."""
    more = ("--executor", malice.executor, *malice.flags)
    with driver(flags, results, cache, *more) as one:
        toll.counts["drivers started"] += 1
        if rng.random() < EARLY:
            moment_s = rng.uniform(*EARLY_S[malice.executor])
        else:
            until(lambda: one.computed() or one.process.poll() is not None)
            moment_s = rng.uniform(*malice.after_s)
        while toll.kills < malice.kills and not until(
            lambda: one.process.poll() is not None, moment_s
        ):
            if _strike(one, results, malice, rng, toll):
                return False
            moment_s = rng.uniform(*malice.after_s)
        if one.wait() == 0:
            return True
        toll.counts["drivers that ended with failed cells"] += 1
        if toll.kills >= malice.kills:
            raise AssertionError(
                f"cells fail though nobody kills any more:\n{one.complained.read_text()[-3000:]}"
            )
        return False


def _strike(one: Driver, results: Path, malice: Malice, rng: random.Random, toll: Toll) -> bool:
    """Kill the driver or one of its workers. Whether it was the driver."""
    family = descendants(one.process.pid)
    workers = [
        process for process, words in sorted(family.items()) if words.startswith("ray::_perform")
    ]
    if malice.executor == "ray" and workers and rng.random() < 0.5:
        _kill_worker(rng.choice(workers), results, toll)
        return False
    toll.counts["drivers killed"] += 1
    toll.counts["of these before their first record"] += not one.computed()
    one.process.kill()
    one.process.wait()
    _wait_for_the_end(family, toll)
    toll.counts["cells lost under way"] += len(
        under_way(results, {one.process.pid} | {pid for pid, _ in family})
    )
    return True


def _kill_worker(victim: Process, results: Path, toll: Toll) -> None:
    """A Ray worker that works on a job of ours; it is a descendant of our own driver."""
    try:
        os.kill(victim[0], signal.SIGKILL)
    except ProcessLookupError:  # it ended just now by itself
        return
    toll.counts["workers killed"] += 1
    toll.counts["cells lost under way"] += len(under_way(results, {victim[0]}))


def _wait_for_the_end(family: dict[Process, str], toll: Toll) -> None:
    """Raylet and workers are meant to notice that their driver is gone. Ray's agents are ended
    here, or they would fill the memory.
    """
    start, workers = time.monotonic(), computing(family)
    until(lambda: not any(map(alive, workers)), FAREWELL_S)
    toll.slowest_farewell_s = max(toll.slowest_farewell_s, time.monotonic() - start)
    for one in filter(alive, family):
        toll.counts["workers that outlived their driver" if one in workers else "agents ended"] += 1
        with suppress(ProcessLookupError):
            os.kill(one[0], signal.SIGKILL)


def show(malice: Malice, toll: Toll, seconds: float) -> None:
    print(f"\n{malice.executor}: {toll.kills} kills with seed {malice.seed} in {seconds:.0f} s")
    for what, count in toll.counts.items():
        print(f"  {what:40s} {count}")
    records, lost = toll.counts["cells on record"], toll.counts["cells lost under way"]
    print(f"  {'cells begun / cells on record':40s} {(records + lost) / max(1, records):.3f}")
    print(f"  {'slowest end of what a driver left (s)':40s} {toll.slowest_farewell_s:.1f}")
    print(
        "  left behind: "
        + (", ".join(f"{count} {what}" for what, count in toll.left.items()) or "nothing")
    )
    print(f"  complaints: {len(toll.complaints)}")
    for complaint in toll.complaints[:20]:
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
            malice, start = Malice(executor, given.kills, seed=given.seed), time.monotonic()
            toll = campaign(flags, reference, Path(name), malice)
            show(malice, toll, time.monotonic() - start)
            complaints += len(toll.complaints)
    raise SystemExit(1 if complaints else 0)


if __name__ == "__main__":
    main()
