"""Hostile inputs for every parser of foreign files; exit code 1 on any crash.

    python -m testbed.fuzz --inputs 20000 --seed 0

Each parser runs in a process of its own with bounded memory, so that one which takes its process
down is named as well. The same seed gives the same inputs. testbed/mutation.py says what counts as
a crash, testbed/targets/ what is read.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

CONTEXT = multiprocessing.get_context("fork")
SHOWN = 10  # crashes of a parser that are printed, one of each kind


@dataclass
class Tally:
    """What became of the inputs of one parser. `kinds` has one example of every kind of crash."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    crashes: int = 0
    seconds: float = 0.0
    kinds: dict[str, str] = field(default_factory=dict)


def fuzz(name: str, inputs: int, seed: int) -> Tally:
    """One parser, in this process."""
    import torch

    from testbed.mutation import bounded_memory, judge, smaller
    from testbed.targets import TARGETS

    torch.set_num_threads(1)
    (target,) = (each for each in TARGETS if each.name == name)
    rng, tally, start = random.Random(f"{seed} {name}"), Tally(), time.perf_counter()
    crafted = list(target.crafted())
    target.make(random.Random(0))  # what is made once must not count as memory of an input
    with tempfile.TemporaryDirectory(prefix="fsbench-fuzz-") as folder, bounded_memory():
        os.environ["FSBENCH_CACHE"] = f"{folder}/cache"
        for content in chain(
            crafted, (target.make(rng) for _ in range(max(0, inputs - len(crafted))))
        ):
            verdict = judge(target, content, Path(folder) / "box")
            tally.inputs += 1
            tally.accepted += verdict.accepted and not verdict.crash
            tally.refused += not verdict.accepted and not verdict.crash
            tally.crashes += bool(verdict.crash)
            kind = verdict.crash.partition(": ")[0]
            if verdict.crash and kind not in tally.kinds:
                least = smaller(target, content, Path(folder) / "box", verdict.crash)
                tally.kinds[kind] = f"{verdict.crash}\n    of {shown(least)}"
    tally.seconds = time.perf_counter() - start
    return tally


def shown(content: object) -> str:
    """An input as it can be pasted into a test, cut where it is long."""
    text = repr(content)
    return text if len(text) < 600 else f"{text[:400]} ... {text[-150:]} ({len(text)} characters)"


def apart(name: str, inputs: int, seed: int) -> Tally:
    """One parser in a process of its own, forked from this one, which has imported everything; one
    that dies is a crash too.
    """
    ours, theirs = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=lambda: theirs.send(fuzz(name, inputs, seed)))
    child.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        child.join()
        return Tally(inputs, crashes=1, kinds={"died": f"the process ended with {child.exitcode}"})


def plan(inputs: int, only: Sequence[str]) -> dict[str, int]:
    """Inputs per parser, by its share, at least `inputs` in all."""
    from testbed.targets import TARGETS

    chosen = [each for each in TARGETS if not only or each.name in only]
    whole = sum(each.share for each in chosen)
    return {each.name: -int(-inputs * each.share // whole) for each in chosen}


def line(name: str, tally: Tally) -> str:
    counts = f"{tally.inputs:>8}{tally.accepted:>10}{tally.refused:>9}{tally.crashes:>9}"
    return f"{name:24}{counts}{tally.seconds:>9.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", default=[], metavar="PARSER")
    options = parser.parse_args()
    print(f"{'parser':24}{'inputs':>8}{'accepted':>10}{'refused':>9}{'crashes':>9}{'seconds':>9}")
    total = Tally()
    for name, inputs in plan(options.inputs, options.only).items():
        tally = apart(name, inputs, options.seed)
        print(line(name, tally), flush=True)
        for example in list(tally.kinds.values())[:SHOWN]:
            print(f"  {example}", flush=True)
        for what in ("inputs", "accepted", "refused", "crashes", "seconds"):
            setattr(total, what, getattr(total, what) + getattr(tally, what))
    print(line("in all", total))
    return 1 if total.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
