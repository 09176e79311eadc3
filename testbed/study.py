"""Made-up records in the number and with the names of a real study: what the page is tried on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from benchmark import data
from benchmark.records.record import Record, Scalar
from testbed.synthetic import CLASSIC, digest, identity, scored

SHOTS, SEEDS = (1, 2, 4, 8, 16), (1, 2, 3)
BACKBONES = ("RN50/openai", "ViT-B-16/openai", "RN101/openai", "ViT-B-32/openai")
METHODS = (
    *("ape", "clap", "clip_adapter", "clip_lora", "coop", "cross_modal_probe", "gda", "kgcoop"),
    *("linear_probe", "lp_plus_plus", "prograd", "taskres", "tip_adapter"),
)
LONG: dict[str, Scalar] = {
    "n_ctx": 16,
    "transfer": False,
    "bottleneck": 64,
    "residual_ratio": 0.2,
    "tune_min_steps": 100,
}
MISSING = 0.03
RIGHT_IN_PICTURES = 10  # test images of a class


@dataclass(frozen=True)
class Row:
    """What one row of a table is made of."""

    method: str
    params: dict[str, Scalar] = field(default_factory=dict)
    prior: bool = False  # from full training sets, the target's among them: it is not ranked

    @property
    def strength(self) -> float:
        return 0.12 * random.Random(f"{self.method} {self.params}").random()


def rows(count: int) -> list[Row]:
    """`count` rows: one of each of our methods, and as many more with long names as are asked."""
    usual = [Row(name) for name in METHODS]
    unranked = Row("prompt_adapter_f", {"n_ctx": 16, "transfer": False}, prior=True)
    long = [Row("prompt_adapter_f", {**LONG, "lr": 0.001 * n}) for n in range(1, count)]
    return [*usual, unranked, *long][:count]


def study(
    count: int = 16,
    backbones: int = 2,
    missing: float = MISSING,
    shots: Sequence[int] = SHOTS,
    seeds: Sequence[int] = SEEDS,
) -> Iterator[Record]:
    """Records of `count` rows and of zero-shot CLIP on the eleven datasets; a share is missing."""
    chance = random.Random(count)
    chosen = BACKBONES[:backbones]
    for backbone, dataset in product(chosen, CLASSIC):
        yield _record(Row("zero_shot"), backbone, dataset, 0, 1)
    for cell in product(rows(count), chosen, CLASSIC, shots, seeds):
        if chance.random() >= missing:
            yield _record(*cell)


def _record(row: Row, backbone: str, dataset: str, shots: int, seed: int) -> Record:
    spec = data.read_spec(dataset)
    noise = random.Random(f"{row} {backbone} {dataset} {shots} {seed}").gauss(0, 0.03)
    level = 0.3 + 0.35 * random.Random(dataset).random() + row.strength
    named = identity(
        row.method,
        dataset,
        shots,
        seed,
        params=row.params,
        dataset_digest=spec.digest,
        backbone=backbone,
        weights_digest=digest(backbone),
        precision="float32",
        sources={name: digest(name) for name in CLASSIC} if row.prior else {},
        source_shots=-1 if row.prior else 0,
    )
    accuracy = min(0.99, level + 0.06 * shots**0.5 + noise / (1 + shots) ** 0.5)
    return scored(named, accuracy, len(spec.class_names), RIGHT_IN_PICTURES)
