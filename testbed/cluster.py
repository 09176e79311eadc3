"""A cluster of two nodes on this machine, one of them taken away in mid-run; and GPUs shared out.
`python -m testbed.cluster`

The GPUs are logical ones: Ray counts them, none is there. Cells nap on them and write down from
when to when, so that how many napped at the same time is known exactly. What no node can ever run
must be refused at once, in a sentence.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.commands.option_fields import Flags
from testbed.campaign import (
    MOODY,
    ROOT,
    differences,
    driver,
    grid,
    keys,
    under_way,
    undisturbed,
    until,
)
from testbed.processes import alive, computing, descendants

NAP_S = 3.0  # long enough for all workers of a round to have started


@contextmanager
def cluster(**head: Any) -> Iterator[Any]:
    """A cluster of one node; more can be added."""
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    os.environ["PYTHONPATH"] = str(ROOT)  # of the workers, for plug-ins
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **head})
    try:
        yield nodes
    finally:
        nodes.shutdown()


# --- a node goes


@dataclass(frozen=True)
class Loss:
    """What became of a grid one of whose two nodes was removed."""

    cells: int
    done_before: int
    under_way: int  # on the node that went
    computed: int
    chatter: int  # lines on the driver's stdout that are no outcomes
    seconds_after: float
    complaints: tuple[str, ...]


def removal(flags: Flags, reference: Path, folder: Path, cache: Path) -> Loss:
    """Take the second node away, processes and all, while it works on something and half of the
    grid is still to come.
    """
    expected, results = keys(flags), folder / "results"
    with cluster(num_cpus=1) as both:
        second = both.add_node(num_cpus=2)
        raylet = second.all_processes["raylet"][0].process.pid
        with driver(
            flags, results, cache, "--executor", "ray", "--address", both.address
        ) as started:
            until(
                lambda: (
                    started.process.poll() is not None
                    or (started.computed() >= len(expected) // 3 and _busy(raylet, results))
                )
            )
            before, doomed, start = started.computed(), _busy(raylet, results), time.monotonic()
            workers = computing(descendants(raylet))
            both.remove_node(second, allow_graceful=False)
            until(lambda: not any(map(alive, workers)), 30)
            failed = ["the driver had cells that failed"] if started.wait() else []
            complaints = (*failed, *differences(results, reference, expected))
            return Loss(
                len(expected),
                before,
                len(doomed),
                started.computed(),
                len(started.chatter()),
                time.monotonic() - start,
                complaints,
            )


def _busy(raylet: int, results: Path) -> list[str]:
    return under_way(results, {pid for pid, _ in descendants(raylet)})


# --- GPUs


def napping(cells: int, diary: Path, nap_s: float = NAP_S) -> Flags:
    settings = [f"nap_s={nap_s}", f"diary={diary}"]
    seeds = [str(1 + number) for number in range(cells)]
    return Flags(
        methods=(MOODY,),
        datasets=("tiny_digits",),
        shots=("1",),
        seeds=seeds,
        backbones=("tiny",),
        sources="none",
        settings=settings,
    )


def at_once(diary: Path) -> tuple[int, int]:
    """How many naps there were, and how many of them at the same time at most."""
    naps = [
        tuple(map(float, line.split()[1:]))
        for line in diary.read_text().splitlines()
        if line.startswith("napped")
    ]
    return len(naps), max(sum(start <= moment < end for start, end in naps) for moment, _ in naps)


def packed(folder: Path, gpus: int, share: float, cells: int) -> tuple[int, int]:
    """Naps and the most at once, of cells that ask for a share of a logical GPU each."""
    folder.mkdir(parents=True)
    flags = napping(cells, folder / "diary")
    with cluster(num_cpus=16, num_gpus=gpus) as nodes:
        undisturbed(
            flags,
            folder / "results",
            folder / "cache",
            "--executor",
            "ray",
            "--address",
            nodes.address,
            "--gpus-per-cell",
            str(share),
        )
    return at_once(folder / "diary")


def refusal(folder: Path) -> tuple[int, str, float]:
    """Exit code, words and seconds of a driver whose cells ask for more GPUs than any node has."""
    folder.mkdir(parents=True)
    flags = napping(2, folder / "diary")
    with cluster(num_cpus=2, num_gpus=2) as nodes:
        more = ("--executor", "ray", "--address", nodes.address, "--gpus-per-cell", "3")
        with driver(flags, folder / "results", folder / "cache", *more) as asking:
            start = time.monotonic()
            code = asking.process.wait(120)
            return code, asking.stderr.read_text().strip(), time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--only", choices=("removal", "gpus"), help="half of it")
    parser.add_argument(
        "--reference",
        type=Path,
        help="an undisturbed run of these cells or more, with its cache beside it",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cluster-") as name:
        good = given.only == "gpus" or show_removal(Path(name), given.cells, given.reference)
        good = (given.only == "removal" or show_gpus(Path(name))) and good
    raise SystemExit(0 if good else 1)


def show_removal(folder: Path, cells: int, reference: Path | None) -> bool:
    flags = grid(cells)
    reference = reference or undisturbed(flags, folder / "undisturbed", folder / "cache")
    loss = removal(flags, reference, folder / "removal", reference.parent / "cache")
    print(
        f"{loss.cells} cells on two nodes: at {loss.done_before} done one node was removed "
        f"with {loss.under_way} cells under way; "
        f"the driver went on for {loss.seconds_after:.0f} s and computed {loss.computed} in all; "
        f"{loss.chatter} lines on stdout that are no outcomes; "
        f"complaints: {list(loss.complaints) or 'none'}",
        flush=True,
    )
    return not loss.complaints


def show_gpus(folder: Path) -> bool:
    code, words, seconds = refusal(folder / "refusal")
    print(
        f"3 GPUs per cell where there are 2: exit code {code} after {seconds:.1f} s, "
        f"in {len(words.splitlines())} line(s): {words}"
    )
    good = code not in (0, 1) and len(words.splitlines()) == 1
    for gpus, share in ((2, 0.5), (1, 0.25)):
        naps, most = packed(folder / f"packed-{share}", gpus, share, 8)
        print(
            f"{naps} cells at {share} GPUs each on {gpus}: at most {most} at once, "
            f"room for {gpus / share:g}",
            flush=True,
        )
        good = good and most <= gpus / share and naps == 8
    return good


if __name__ == "__main__":
    main()
