"""The table of published numbers: rows as read from benchmark/reference/published.csv, and cells on
which two sources disagree.
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from benchmark.errors import UserError
from benchmark.protocols import ALL, BASE_TO_NEW, FEW_SHOT
from benchmark.records.record import Scalar
from benchmark.reference import PUBLISHED

COLUMNS = (
    *(
        "method",
        "params",
        "preset",
        "variant",
        "dataset",
        "classes",
        "shots",
        "backbone",
        "seeds",
        "accuracy",
        "std",
    ),
    *("kind", "selection", "obstacle", "preset_obstacle", "caveat", "source"),
)
ALLOWANCE = 0.005  # other libraries, precisions and image decoders move a mean by half a point
DIGITISED = 0.002  # a value read off a figure
# of one run, where our own spread is not known
ONE_SEED_STD = {1: 0.03, 2: 0.02, 4: 0.015, 8: 0.01, 16: 0.0075}


@dataclass(frozen=True)
class PublishedResult:
    """One published number."""

    method: str
    params: Mapping[str, Scalar]  # what differs from our defaults, or from the preset
    preset: str  # which preset has its settings; empty where none has
    variant: str
    dataset: str  # or a suite, for a mean over it
    classes: str
    shots: int
    backbone: str
    seeds: int  # 0 where there are none or nobody says
    accuracy: float
    std: float | None
    kind: str
    obstacle: str  # why a run with our settings cannot be compared with it
    preset_obstacle: str  # why even a run under the preset cannot
    source: str

    @property
    def evaluation(self) -> str:
        """The protocol: halves of the classes are published of base-to-new alone."""
        return FEW_SHOT if self.classes == ALL else BASE_TO_NEW


def read_published(path: Path = PUBLISHED) -> list[PublishedResult]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_published(row) for row in csv.DictReader(file)]
    except OSError:
        raise UserError(
            f"the published numbers are not at {path}, where this package keeps them; "
            "install it anew"
        ) from None
    except (KeyError, ValueError, TypeError, RecursionError, csv.Error) as error:
        raise UserError(
            f"{path} is no table of published numbers ({error}); "
            f"its columns are {', '.join(COLUMNS)}"
        ) from None


def _published(row: Mapping[str, str]) -> PublishedResult:
    if None in row.values() or None in row:
        raise ValueError("a row is longer or shorter than the first")
    return PublishedResult(
        method=row["method"],
        params=_params(row["params"] or "{}"),
        preset=row["preset"],
        variant=row["variant"],
        dataset=row["dataset"],
        classes=row["classes"],
        shots=_count(row["shots"]),
        backbone=row["backbone"],
        seeds=_count(row["seeds"] or "0"),
        accuracy=_fraction(row["accuracy"]),
        std=_fraction(row["std"]) if row["std"] else None,
        kind=row["kind"],
        obstacle=row["obstacle"],
        preset_obstacle=row["preset_obstacle"],
        source=row["source"],
    )


def _params(text: str) -> dict[str, Scalar]:
    params = json.loads(text)
    if not isinstance(params, dict) or any(
        isinstance(value, (dict, list)) for value in params.values()
    ):
        raise ValueError(f"{text[:60]!r} is no object of hyper-parameters")
    return params


def _count(text: str) -> int:
    number = int(text) if len(text) < 20 else -1
    if not 0 <= number <= 10**9:
        raise ValueError(f"{text[:60]!r} is no number of shots or seeds")
    return number


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError(f"{text[:60]!r} is not between 0 and 1")
    return number


def allowance(*kinds: str) -> float:
    """How far other software, and reading off a figure, may move an accuracy."""
    return ALLOWANCE + (DIGITISED if "digitised" in kinds else 0)


def disputed(table: Sequence[PublishedResult]) -> list[list[PublishedResult]]:
    """The cells on which sources disagree: their values in ascending order.

    A cell is disputed where two values for it are further apart than two means of so many runs
    would be by chance, at the typical deviation of one run.
    """
    cells: dict[tuple[object, ...], list[PublishedResult]] = defaultdict(list)
    for row in table:
        if row.shots and row.backbone:
            params = json.dumps(dict(row.params), sort_keys=True)
            cells[row.method, params, row.dataset, row.classes, row.shots, row.backbone].append(row)
    return [
        sorted(rows, key=lambda row: row.accuracy)
        for rows in cells.values()
        if any(_disagree(*pair) for pair in combinations(rows, 2))
    ]


def _disagree(one: PublishedResult, other: PublishedResult) -> bool:
    spread = ONE_SEED_STD.get(one.shots, ONE_SEED_STD[16])
    chance = 1.96 * spread * math.sqrt(1 / max(1, one.seeds) + 1 / max(1, other.seeds))
    return abs(one.accuracy - other.accuracy) > chance + allowance(one.kind, other.kind)
