"""Methods that read features only: how long a fit takes. `python -m benches.peers [--quick]`

100 classes x 16 shots x 512 dimensions, features given, a validation set of 4 per class. ProKeR
with ten views per image solves for 16,000 samples; its memory is the process's at its largest, less
what was there before. The features of all views are equal here, which changes no time.
"""

from __future__ import annotations

import argparse
import resource

import torch
from rich.console import Console
from rich.table import Table

from benches.cones import problem
from benches.timing import machine, once
from benchmark import methods

SHOTS, MOST_S = 16, 2.0
QUICK = ("gda", "ss_text", "ape", "tip_adapter_vote")
# method -> seconds it may take where that is not MOST_S; the largest in memory comes last
METHODS = {
    **dict.fromkeys((*QUICK, "lp_plus_plus", "clip_adapter"), MOST_S),
    **dict.fromkeys(("linear_adapter", "cross_modal_probe", "ape_t"), MOST_S),
    "proker": 10.0,
}


def peak_mb() -> float:
    """The largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the fastest methods only")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    table = Table("method", "clock s", "processor s", "wanted s", "further MB", title=machine())
    methods.load("gda").fit(problem(1, 1))  # libraries load
    for name, wanted_s in METHODS.items():
        if given.quick and name not in QUICK:
            continue
        adapter, episode, before = methods.load(name), problem(SHOTS, 1), peak_mb()
        timing = once(lambda adapter=adapter, episode=episode: adapter.fit(episode))
        seconds = f"{timing.wall_s:.2f}", f"{timing.cpu_s:.2f}", f"{wanted_s:.0f}"
        table.add_row(name, *seconds, f"{peak_mb() - before:,.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
