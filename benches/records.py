"""What a report of 99,000 records costs with the index beside them (benchmark/records/index.py):
`python -m benches.records`. Every report is a fresh process.

Processor seconds and the peak of memory are told beside wall seconds: on a machine that others use,
only they mean something.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benches.report import BACKBONES, CLASSES, METHODS
from benchmark.paths import SETTLED_S
from benchmark.records.index import FILE
from testbed.synthetic import CLASSIC, grid, write

SEEDS = range(1, 31)
CHANGED = 500  # records of which the file is written again
COMMANDS = {
    "report": ["report"],
    "report, method x shots": ["report", "--table", "method-shots"],
    "report --cost": ["report", "--cost"],
    "export --records": ["export", "--records"],
}


def measured(arguments: list[str], store: Path) -> str:
    """Wall and processor seconds and peak memory of one command."""
    start = time.perf_counter()
    words = [sys.executable, "-m", "benchmark", *arguments, "--results", str(store)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, words
    wall_s = time.perf_counter() - start
    return (
        f"{wall_s:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of it on a processor, "
        f"{used.ru_maxrss / 1024:.0f} MB"
    )


def make(store: Path) -> None:
    """In a process of its own: what that one held would count as the memory of the next."""
    cells = grid(METHODS, CLASSIC, seeds=SEEDS, backbones=BACKBONES, classes=CLASSES)
    print(f"{len(write(store, cells))} records of {CLASSES} classes", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        store = Path(name)
        maker = multiprocessing.get_context("spawn").Process(target=make, args=(store,))
        maker.start()
        maker.join()
        time.sleep(SETTLED_S + 1)
        print(f"report, the first, which makes the index: {measured(['report'], store)}")
        print(f"index: {(store / FILE).stat().st_size / 1e6:.0f} MB")
        for what, arguments in COMMANDS.items():
            print(f"{what}: {measured(arguments, store)}")
        for path in sorted((store / "records").iterdir())[:CHANGED]:
            path.write_bytes(path.read_bytes())
        print(f"report, {CHANGED} files written anew: {measured(['report'], store)}")


if __name__ == "__main__":
    main()
