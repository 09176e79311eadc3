"""The 165 CoOp cells of a ViT-B/16 grid (11 datasets, 5 shots, 3 seeds) by measured steps."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from itertools import pairwise

from benches.gpu.setting import SEEDS, SPECS, Row, Size
from benches.gpu.steps import BATCH, text_steps

CLASSIC = (
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101",
    "fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101",
)  # fmt: skip
SHOTS = (1, 2, 4, 8, 16)
EPOCHS = {1: 50, 2: 100, 4: 100, 8: 200, 16: 200}  # CoOp's; ImageNet takes 50 at any shots


def projected(size: Size) -> Iterator[Row]:
    """The 165 CoOp cells by the measured steps, between which time grows linearly.

    A batch of all shots and seeds begins with 15 runs and ends with the three of 16 shots.
    """
    table = size.figures.get("steps") or list(text_steps(size))
    rows = []
    for name in CLASSIC:
        spec = tomllib.loads((SPECS / f"{name}.toml").read_text())
        classes = len(spec["class_names"])
        lengths = [epochs(classes, k) * max(1, classes * k // BATCH) for k in SHOTS]
        minutes = sum(
            (length - before) * live * step_ms(table, live, classes) / 6e4
            for before, length, live in phases(lengths)
        )
        steps = SEEDS * sum(lengths)
        rows.append({"dataset": name, "classes": classes, "steps": steps, "minutes": minutes})
    yield from rows
    total = {key: sum(row[key] for row in rows) for key in ("classes", "steps", "minutes")}
    yield {"dataset": "all", **total}


def phases(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first step, last step, live runs) of a batch of SEEDS runs of each length."""
    ends = sorted(lengths)
    live = [SEEDS * (len(ends) - i) for i in range(len(ends))]
    return list(zip([0, *ends], ends, live, strict=False))


def step_ms(table: Sequence[Row], live: int, classes: int) -> float:
    """ms per run and step of the largest measured batch that is no larger than the live runs."""
    measured_ms = []
    for row in (row for row in table if "classes" in row):
        sizes = {
            int(name.split()[0]): value for name, value in row.items() if name.endswith("runs")
        }
        known = [runs for runs, value in sizes.items() if value != "" and runs <= live]
        measured_ms.append((row["classes"], sizes[max(known)]))
    if any(value <= 0 for _, value in measured_ms):
        raise ValueError("a step took no measurable time; measure again on an idle machine")
    return between(measured_ms, classes)


def epochs(classes: int, shots: int) -> int:
    return 50 if classes >= 1000 else EPOCHS[shots]


def between(measured: Sequence[tuple[int, float]], classes: int) -> float:
    """Linear interpolation; beyond the largest in proportion, below the smallest the smallest."""
    if classes >= measured[-1][0]:
        return measured[-1][1] * classes / measured[-1][0]
    if classes <= measured[0][0]:
        return measured[0][1]
    pairs = pairwise(measured)
    (low, low_ms), (high, high_ms) = next(p for p in pairs if p[0][0] <= classes < p[1][0])
    return low_ms + (high_ms - low_ms) * (classes - low) / (high - low)
