"""All of Caltech101 with the tiny CLIP: features of the whole set, methods that read them, what
cells cost.

`python -m benches.caltech --data-root DIR`. Everything goes the way of `run`, into a cache and a
results folder of its own that are thrown away. The tiny CLIP never saw photographs: the accuracies
show that the path works, not what the methods are worth.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benches.timing import machine
from benchmark.compute.resources import Resources
from benchmark.compute.runner import run
from benchmark.features import decoding
from benchmark.features.feature_store import Stopwatch
from benchmark.features.image_sets import image_set
from benchmark.grid import Cell
from benchmark.methods import card
from benchmark.records.store import Store

METHODS = "zero_shot,linear_probe,tip_adapter,tip_adapter_f,taskres,clap,cones"


def extraction(root: Path | None) -> str:
    """Features of every image of the three splits, encoded once and read back."""
    resources = Resources(root)
    dataset, encoder, timer = (
        resources.dataset("caltech101"),
        resources.encoder("tiny"),
        Stopwatch(),
    )
    tables = (dataset.train, dataset.val, dataset.test)
    start, cpu = time.perf_counter(), time.process_time()
    count = sum(
        len(image_set(table, encoder, resources.features, timer).features()) for table in tables
    )
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    for table in tables:
        image_set(table, encoder, Resources(root).features, Stopwatch()).features()
    return (
        f"{count} images: {wall_s:.1f} s, {count / wall_s:.0f} images/s on the clock, {count / cpu_s:.0f} per processor second, "
        f"{decoding.DECODERS} decoding threads; read back in {time.perf_counter() - start:.2f} s"
    )


def cells(methods: list[str], shots: int, seeds: list[int]) -> list[Cell]:
    made = []
    for name in methods:
        few_shot = card(name).few_shot
        made += [
            Cell(
                method=name,
                dataset="caltech101",
                shots=shots if few_shot else 0,
                seed=seed,
                backbone="tiny",
            )
            for seed in (seeds if few_shot else seeds[:1])
        ]
    return made


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
        table = Table(
            "method",
            "shots",
            "seeds",
            "accuracy",
            "fit s",
            "predict s",
            "peak MB",
            title=f"Caltech101, tiny CLIP; {machine()}",
        )
        found: dict[str, list[tuple[float, float, float, float]]] = {}
        for outcome in run(
            cells(given.method.split(","), given.shots, seeds),
            Store(Path(folder) / "results"),
            root=given.data_root,
        ):
            if outcome.record is None:
                console.print(f"{outcome.cell}: {outcome.error}")
                continue
            costs = outcome.record.costs
            found.setdefault(outcome.cell.method, []).append(
                (outcome.record.accuracy, costs.fit_s, costs.predict_s, costs.peak_mb)
            )
        for name, rows in found.items():
            accuracy, fit_s, predict_s, peak_mb = (
                sum(column) / len(rows) for column in zip(*rows, strict=True)
            )
            shots = str(given.shots if card(name).few_shot else 0)
            table.add_row(
                name,
                shots,
                str(len(rows)),
                f"{100 * accuracy:.2f} %",
                f"{fit_s:.2f}",
                f"{predict_s:.3f}",
                f"{peak_mb:.0f}",
            )
        console.print(table)


if __name__ == "__main__":
    main()
