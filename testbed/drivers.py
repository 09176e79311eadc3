"""Several drivers on one folder, none of whom knows of the others. `python -m testbed.drivers
[--drivers 4] [--cells 120]`

Once with the same grid for all of them, once with a shard each. What matters: every record there
and equal to that of a single driver, and hardly a cell or a picture's feature computed twice. A
cell counts as computed when a driver says so, and a feature as often as it was written down.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmark.commands.option_fields import Flags
from testbed.campaign import differences, driver, grid, keys, undisturbed, watched


@dataclass(frozen=True)
class Share:
    """What the drivers of one folder did."""

    computed: tuple[int, ...]  # cells, by driver
    cells: int
    rows: int  # features written
    pictures: int  # features there are
    seconds: float
    complaints: tuple[str, ...]

    def __str__(self) -> str:
        computed = sum(self.computed)
        cells = (
            f"{computed} computed of {self.cells} ({computed / self.cells:.3f}), "
            f"by driver {list(self.computed)}"
        )
        features = (
            f"{self.rows} features written of {self.pictures} ({self.rows / self.pictures:.3f})"
        )
        complaints = list(self.complaints) or "none"
        return f"{cells}; {features}; {self.seconds:.0f} s; complaints: {complaints}"


def run_drivers(
    flags: Flags, reference: Path, folder: Path, extra: Sequence[Sequence[str]]
) -> Share:
    """One driver per entry of `extra`, with these words added to its command line, all started at
    once.
    """
    results, cache, start = folder / "results", folder / "cache", time.monotonic()
    with ExitStack() as stack:
        reader = stack.enter_context(watched(results))
        drivers = [stack.enter_context(driver(flags, results, cache, *words)) for words in extra]
        failed = [
            f"driver {number} had cells that failed"
            for number, each in enumerate(drivers)
            if each.wait()
        ]
        seconds = time.monotonic() - start
    expected = keys(flags)
    rows = features(cache)
    complaints = (*failed, *reader.problems, *differences(results, reference, expected))
    computed = tuple(each.computed() for each in drivers)
    return Share(computed, len(expected), rows.total(), len(rows), seconds, complaints)


def features(cache: Path) -> Counter[tuple[str, str]]:
    """How often each picture's row stands in the shards of each space."""
    from safetensors import safe_open

    rows: Counter[tuple[str, str]] = Counter()
    for path in cache.glob("features/**/*.safetensors"):
        with safe_open(path, "pt") as file:
            rows.update(
                (str(path.parent), digest) for digest in json.loads(file.metadata()["digests"])
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drivers", type=int, default=4)
    parser.add_argument("--cells", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    flags, count = grid(given.cells), given.drivers
    with tempfile.TemporaryDirectory(prefix="drivers-") as name:
        reference = undisturbed(flags, Path(name) / "undisturbed", Path(name) / "cache")
        settings = {
            "same grid": [()] * count,
            "shards": [("--shard", f"{part + 1}/{count}") for part in range(count)],
        }
        shares = [
            (
                setting,
                run_drivers(flags, reference, Path(name) / f"{setting}-{turn}", settings[setting]),
            )
            for turn in range(given.rounds)
            for setting in settings
        ]
    for setting, share in shares:
        print(f"{count} drivers, {setting}: {share}")
    raise SystemExit(1 if any(share.complaints for _, share in shares) else 0)


if __name__ == "__main__":
    main()
