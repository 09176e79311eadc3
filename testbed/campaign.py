"""What the campaigns share: a grid of quick cells, drivers as processes of their own, and what a
folder must hold in the end.

The grid is that of a user's command line. Its methods stand for all there are: one that trains
nothing, two that train several seeds together, and one that pretrains on other datasets and then
takes a little time, so that there is something to interrupt.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.commands.cell_selection import select
from benchmark.commands.option_fields import Flags
from benchmark.compute import runner
from benchmark.errors import UserError
from benchmark.paths import PART
from benchmark.records.record import Record, key
from benchmark.records.store import Store

ROOT = Path(__file__).resolve().parent.parent
MOODY = "tests.plugins.moody"
METHODS = ("tip_adapter", "cones", "taskres", MOODY)
PER_SEED = 3 * len(METHODS)  # cells, on three datasets
PATIENCE_S = 900.0  # after which a driver that does not end counts as hanging
LOOK_S = 0.02
TWO_HOURS = 7200
SOURCE_STATE = ("commit", "dirty")  # of the checkout: somebody may commit while a campaign runs


def grid(cells: int, nap_s: float = 0.3) -> Flags:
    """About so many cells of the tiny suite, a whole number of seeds on three datasets."""
    seeds = [str(1 + number) for number in range(max(1, round(cells / PER_SEED)))]
    settings = ["cones.epochs=5", f"{MOODY}.nap_s={nap_s}"]
    return Flags(
        methods=METHODS,
        suites=("tiny",),
        shots=("1",),
        seeds=seeds,
        backbones=("tiny",),
        settings=settings,
    )


def keys(flags: Flags) -> set[str]:
    return {key(identity) for _, identity in runner.plan(select(flags).cells)}


def command(flags: Flags, folder: Path) -> list[str]:
    """The command line of a driver, as a user would type it."""
    lists = {
        "method": flags.methods,
        "dataset": flags.datasets,
        "suite": flags.suites,
        "shots": flags.shots,
        "seed": flags.seeds,
    }
    lists |= {"backbone": flags.backbones, "sources": [flags.sources]}
    words = [
        word for name, values in lists.items() if values for word in (f"--{name}", ",".join(values))
    ]
    words += [word for setting in flags.settings for word in ("--set", setting)]
    return [sys.executable, "-m", "benchmark", "run", *words, "--results", str(folder), "--json"]


# --- drivers


@dataclass(frozen=True)
class Driver:
    """`python -m benchmark run` under way."""

    process: subprocess.Popen[bytes]
    stdout: Path  # its stdout: a line of JSON per outcome
    stderr: Path  # its stderr

    def outcomes(self) -> list[dict[str, Any]]:
        whole = self.stdout.read_text().rpartition("\n")[0]  # the last line may be torn by a kill
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def chatter(self) -> list[str]:
        """Lines on stdout that are no outcomes: none are meant to be there."""
        return [line for line in self.stdout.read_text().splitlines() if not line.startswith("{")]

    def computed(self) -> int:
        return sum(outcome["status"] == "computed" for outcome in self.outcomes())

    def wait(self) -> int:
        """Its exit code. Nothing but 0 and 1 (cells have failed, each in a sentence) is expected of
        a driver that nobody killed.
        """
        code, error = self.process.wait(PATIENCE_S), self.stderr.read_text()
        if code not in (0, 1) or "\nTraceback" in error:
            raise AssertionError(f"a driver ended with code {code}:\n{error[-3000:]}")
        return code


@contextmanager
def driver(flags: Flags, folder: Path, cache: Path, *more: str) -> Iterator[Driver]:
    """A driver in a process of its own, which does not outlive the block."""
    logs = folder.parent / f"{folder.name}-drivers"
    logs.mkdir(parents=True, exist_ok=True)
    name = f"{len(list(logs.iterdir())):04d}-{time.monotonic_ns()}"
    environ = os.environ | {"FSBENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    with (
        (logs / f"{name}.jsonl").open("wb") as stdout,
        (logs / f"{name}.err").open("wb") as stderr,
    ):
        process = subprocess.Popen(
            [*command(flags, folder), *more], cwd=ROOT, env=environ, stdout=stdout, stderr=stderr
        )
    try:
        yield Driver(process, logs / f"{name}.jsonl", logs / f"{name}.err")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def undisturbed(flags: Flags, folder: Path, cache: Path, *more: str) -> Path:
    """What the others are compared with: one driver, nobody in its way."""
    with driver(flags, folder, cache, *more) as only:
        if only.wait():
            raise AssertionError(
                f"cells failed without anybody's doing:\n{only.stderr.read_text()[-3000:]}"
            )
    return folder


def until(happened: Callable[[], object], seconds: float = PATIENCE_S) -> bool:
    """Wait for something; whether it happened in time."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(LOOK_S)
    return True


# --- folders


@dataclass
class RecordReader:
    """What somebody saw who read a results folder all the time."""

    problems: list[str] = field(default_factory=list)
    # key -> the times its record was written
    written: dict[str, set[int]] = field(default_factory=dict)
    readings: int = 0

    def read(self, store: Store) -> None:
        keys = {record.key for record in store.records(self.problems)}
        self.problems += [f"the record {gone} vanished" for gone in self.written.keys() - keys]
        for name in keys:
            self._note(store, name)
        self.readings += 1

    def _note(self, store: Store, name: str) -> None:
        times = self.written.setdefault(name, set())
        written = store.path(name).stat().st_mtime_ns
        if written not in times:
            times.add(written)
            try:
                store.predictions(name)
            except UserError as error:
                self.problems.append(str(error))


@contextmanager
def watched(folder: Path, pause_s: float = 0.05) -> Iterator[RecordReader]:
    """Read the folder from a thread as long as the block lasts, and once more at its end."""
    reader, store, over = RecordReader(), Store(folder), threading.Event()

    def read_on() -> None:
        while not over.wait(pause_s):
            reader.read(store)

    thread = threading.Thread(target=read_on)
    thread.start()
    try:
        yield reader
    finally:
        over.set()
        thread.join()
        reader.read(store)


def differences(folder: Path, reference: Path, expected: set[str]) -> list[str]:
    """In sentences: where a folder does not hold just the records it should, or other ones than the
    reference.
    """
    store, other, problems = Store(folder), Store(reference), list[str]()
    records = {record.key: record for record in store.records(problems)}
    problems += [f"no record {missing}" for missing in sorted(expected - records.keys())]
    problems += [
        f"a record that nobody asked for: {more}" for more in sorted(records.keys() - expected)
    ]
    problems += [
        f"{path.name} says that a cell failed" for path in (folder / "failures").glob("*.txt")
    ]
    problems += [
        f"{name} is another record than the undisturbed one"
        for name in sorted(records)
        if not _same(name, store, other)
    ]
    return problems


def _same(name: str, store: Store, other: Store) -> bool:
    """Whether two records say the same, costs apart, down to the prediction for every image."""
    ours, theirs = store.get(name), other.get(name)
    if ours is None or theirs is None or content(ours) != content(theirs):
        return False
    return bool((store.predictions(name) == other.predictions(name)).all())


def content(record: Record) -> dict[str, Any]:
    """A record without what differs from run to run."""
    facts = record.model_dump(exclude={"costs"})
    return facts | {
        "provenance": {
            name: fact for name, fact in facts["provenance"].items() if name not in SOURCE_STATE
        }
    }


def under_way(results: Path, pids: set[int]) -> list[str]:
    """Cells that these processes had begun and not finished."""
    store, leftovers = Store(results), []
    for path in (results / "running").glob("*.json"):
        try:
            facts = json.loads(path.read_text())
        except OSError:  # finished just now, by somebody who lives
            continue
        if facts["pid"] in pids and not store.has(path.stem):
            leftovers.append(path.stem)
    return leftovers


def leftovers(folder: Path, cache: Path) -> Counter[str]:
    """Files that a finished grid needs no more, by kind, once those who sweep after an hour have
    been here two hours later.
    """
    parts = [path for root in (folder, cache) for path in root.rglob(f".*{PART}")]
    for part in parts:
        os.utime(part, (part.stat().st_atime - TWO_HOURS, part.stat().st_mtime - TWO_HOURS))
    Store(folder).make_ready()
    left = Counter(
        {
            "parts in results": len(list(folder.rglob(f".*{PART}"))),
            "parts in cache": len(list(cache.rglob(f".*{PART}"))),
        }
    )
    left.update(
        path.parent.name
        for name in ("running", "plans", "locks")
        for path in (folder / name).glob("*")
    )
    left.update("locks in cache" for _ in cache.rglob("*.lock*"))
    return +left
