"""All of Caltech101 with the tiny CLIP: features of the whole set, and what cells cost.

`python -m benches.caltech --data-root DIR`. Everything is computed as by `run`, into a cache and a
results folder that are thrown away. The tiny CLIP never saw photographs: the accuracies show that
the path works, not what the methods are worth.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console
from rich.table import Table

from benches.timing import machine, once
from benchmark.compute.resources import Resources
from benchmark.compute.runner import run
from benchmark.features import decoding
from benchmark.features.feature_store import FeatureStore, Stopwatch
from benchmark.features.image_sets import image_set
from benchmark.grid import Cell
from benchmark.methods import card
from benchmark.records.record import Record
from benchmark.records.store import Store

METHODS = "zero_shot,linear_probe,tip_adapter,tip_adapter_f,taskres,clap,cones"


def extraction(root: Path | None) -> str:
    """Features of every image of the three splits, encoded once and read back."""
    resources = Resources(root)
    dataset, encoder = resources.dataset("caltech101"), resources.encoder("tiny")
    tables = (dataset.train, dataset.val, dataset.test)

    def features(store: FeatureStore) -> int:
        return sum(
            len(image_set(table, encoder, store, Stopwatch()).features()) for table in tables
        )

    encoding, reading = (
        once(partial(features, store)) for store in (resources.features, Resources(root).features)
    )
    count = sum(map(len, tables))
    return (
        f"{count} images: {encoding.wall_s:.1f} s, {count / encoding.wall_s:.0f} images/s on the "
        f"clock, {count / encoding.cpu_s:.0f} per processor second, {decoding.DECODERS} decoding "
        f"threads; read back in {reading.wall_s:.2f} s"
    )


def cells(methods: list[str], shots: int, seeds: list[int]) -> list[Cell]:
    """The cells of every method; one of 0 shots where a method learns nothing."""
    settings = [
        (name, shots if card(name).few_shot else 0, seed)
        for name in methods
        for seed in (seeds if card(name).few_shot else seeds[:1])
    ]
    return [
        Cell(method=name, dataset="caltech101", shots=given, seed=seed, backbone="tiny")
        for name, given, seed in settings
    ]


def records_by_method(
    cells: list[Cell], results: Path, root: Path | None, console: Console
) -> dict[str, list[Record]]:
    """The records of all cells; what failed is printed."""
    records: dict[str, list[Record]] = {}
    for outcome in run(cells, Store(results), root=root):
        if outcome.record is None:
            console.print(f"{outcome.cell}: {outcome.error}")
        else:
            records.setdefault(outcome.cell.method, []).append(outcome.record)
    return records


def costs_table(records: dict[str, list[Record]]) -> Table:
    """Means over the records of each method."""
    columns = ("method", "shots", "seeds", "accuracy", "fit s", "predict s", "peak MB")
    table = Table(*columns, title=f"Caltech101, tiny CLIP; {machine()}")
    for method, own in records.items():
        costs = [record.costs for record in own]
        table.add_row(
            method,
            str(own[0].identity.shots),
            str(len(own)),
            f"{100 * fmean(record.accuracy for record in own):.2f} %",
            f"{fmean(each.fit_s for each in costs):.2f}",
            f"{fmean(each.predict_s for each in costs):.3f}",
            f"{fmean(each.peak_mb for each in costs):.0f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, help="default: FSBENCH_DATA")
    parser.add_argument("--method", default=METHODS)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--seed", default="1,2,3")
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FSBENCH_CACHE"] = folder
        console.print(extraction(given.data_root))
        seeds = [int(seed) for seed in given.seed.split(",")]
        chosen = cells(given.method.split(","), given.shots, seeds)
        results = Path(folder) / "results"
        records = records_by_method(chosen, results, given.data_root, console)
        console.print(costs_table(records))


if __name__ == "__main__":
    main()
