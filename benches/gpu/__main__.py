"""What a GPU makes of the suite: `python -m benches.gpu [PART ...] [--quick] [--json FILE]`

Prints, for the machine it runs on, each part as soon as it is measured: the GPU's own rates; a
training step of CoOp, alone and in batches of runs, beside the released style (77 whole tokens,
half precision, one run, nothing recorded); the time that the 165 CoOp cells of a ViT-B/16 grid (11
datasets, 5 shots, 3 seeds) would take by these figures; whole cells; batches of runs and how busy
they keep the GPU; and pictures from disk to stored features. Weights are random, at true shapes.
About 4 minutes on one GPU, since a part ends when its time is up, unless it is named; `--quick`
runs every part small, on a CPU, in about a minute.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benches import pixels
from benches.gpu.cells import batches, whole_cells
from benches.gpu.grid import projected
from benches.gpu.setting import Row, Size, quick, settled_s, whole
from benches.gpu.steps import text_steps
from benches.timing import machine
from benchmark.backbones.precision import arithmetic


def rates(size: Size) -> Iterator[Row]:
    """What the matrix units do on large products."""
    edge = 8192 if size.device == "cuda" else 256
    for precision, dtype in (("float16", torch.float16), ("tf32", torch.float32)):
        a, b = (torch.randn(edge, edge, device=size.device).to(dtype) for _ in range(2))
        with arithmetic(precision):
            seconds = min(settled_s(partial(torch.mm, a, b), size.device) for _ in range(6))
        yield {"product": precision, "TFLOP/s": 2 * edge**3 / seconds / 1e12}


def pictures(size: Size) -> Iterator[Row]:
    """benches.pixels, whole on a GPU and in short on a CPU."""
    return (asdict(each) for each in pixels.figures(size.device, size.device == "cpu"))


# A part that has taken its seconds ends with the row it is at, so that all take 4 minutes.
PARTS: dict[str, tuple[str, Callable[[Size], Iterable[Row]], float]] = {
    "rates": ("Large products", rates, 10),
    "steps": ("CoOp, ms per run and step", text_steps, 75),
    "grid": ("165 CoOp cells, projected", projected, 10),
    "cells": ("Fits of one cell, pictures apart", whole_cells, 40),
    "batches": ("Batches of runs, pictures apart", batches, 45),
    "pictures": ("Pictures", pictures, 40),
}


def main() -> None:
    """Measure and print part by part; write the JSON after each where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benches.gpu")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="everything small, on a CPU")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"unknown part '{unknown[0]}'; take some of {', '.join(PARTS)}")
    if not options.quick and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here; --quick runs every part small on a CPU")
    size, start = quick() if options.quick else whole(), time.time()
    console = Console(width=120)
    console.print(described(size.device))
    with arithmetic(size.precision):
        for name in options.parts or PARTS:
            title, part, seconds = PARTS[name]
            limit_s = None if options.quick or options.parts else seconds
            size.figures[name] = measured(part, size, limit_s)
            show(title, size.figures[name], console)
            console.print(f"{time.time() - start:.0f} s so far")
            if options.json:
                figures = {"machine": described(size.device), **size.figures}
                options.json.write_text(json.dumps(figures, indent=1))
    if any("failed" in row for rows in size.figures.values() for row in rows):
        raise SystemExit("some parts failed; their tables say why")


def measured(
    part: Callable[[Size], Iterable[Row]], size: Size, limit_s: float | None = None
) -> list[Row]:
    """The rows of a part, each told as it comes; one that fails ends its part, and no other."""
    rows: list[Row] = []
    start = time.monotonic()
    try:
        for row in part(size):
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
            if limit_s is not None and time.monotonic() - start > limit_s:
                rows.append({"left out": f"the rest, after {limit_s:g} s; name the part for all"})
                break
    except Exception as error:
        rows.append({"failed": f"{type(error).__name__}: {error}"})
    return rows


def described(device: str) -> str:
    card = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    return f"{card}; {machine()}"


def show(title: str, rows: Sequence[Row], console: Console) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_shown(row.get(name, "")) for name in columns))
    console.print(table)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
