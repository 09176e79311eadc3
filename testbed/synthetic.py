"""A store of made-up records with known accuracies: what reports are measured and tested on."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import data, methods
from benchmark.records.record import Costs, Counts, Identity, Record, Scalar, key
from benchmark.records.store import Store

CLASSIC = (
    *("imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"),
    *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
)
TINY = ("tiny_digits", "tiny_shapes", "tiny_textures")


def identity(
    method: str = "coop",
    dataset: str = "tiny_digits",
    shots: int = 4,
    seed: int = 1,
    **other: object,
) -> Identity:
    """An identity as the harness would write it, with any field replaced."""
    fields: dict[str, object] = {
        "method": method,
        "adapter_version": version(method),
        "params": {},
        "dataset": dataset,
        "dataset_digest": digest(dataset),
        "classes": "all",
        "shots": shots,
        "seed": seed,
        "sampler": "coop",
        "val": "up-to-4",
        "sources": {},
        "source_shots": 0,
        "backbone": "tiny",
        "weights_digest": digest("tiny"),
        "precision": "float64",
        "transform": "1-pillow12",
        "protocol": 1,
    }
    return Identity.model_validate(fields | other)


def record(
    named: Identity,
    correct: Sequence[int],
    total: Sequence[int],
    fit_s: float = 2.0,
    notes: dict[str, Scalar] | None = None,
) -> Record:
    """A whole record of given counts."""
    costs = Costs(
        encode_s=1.5,
        pretrain_s=0.0,
        fit_s=fit_s,
        predict_s=0.25,
        peak_mb=410.0,
        trainable_params=8192,
    )
    return Record(
        key=key(named),
        title=title(named.method),
        identity=named,
        counts=Counts(correct=list(correct), total=list(total)),
        costs=costs,
        notes=notes or {},
        provenance={"made_up": True},
    )


@cache
def version(method: str) -> int:
    """The version of one of our methods; 1 of any other."""
    return methods.card(method).version if method in methods.own() else 1


@cache
def title(method: str) -> str:
    """The title of one of our methods; the name of any other."""
    return methods.card(method).title if method in methods.own() else method


def scored(named: Identity, accuracy: float, classes: int = 10, per_class: int = 40) -> Record:
    """A record whose accuracy is as near to `accuracy` as whole images allow, spread over the
    classes.
    """
    right = round(accuracy * classes * per_class)
    correct = [right // classes + (index < right % classes) for index in range(classes)]
    return record(named, correct, [per_class] * classes)


def with_predictions(
    named: Identity,
    told_Q: np.ndarray[Any, Any],
    store: Store,
    notes: dict[str, Scalar] | None = None,
) -> Record:
    """A record on a generated dataset with the counts of these predictions, put beside it."""
    tested = data.load(named.dataset, classes=named.classes)
    labels_Q, classes = np.array(tested.test.labels), len(tested.class_names)
    right = np.bincount(labels_Q[told_Q == labels_Q], minlength=classes)
    total = np.bincount(labels_Q, minlength=classes)
    named = named.model_copy(update={"dataset_digest": tested.digest})
    stored = record(named, right.tolist(), total.tolist(), notes=notes)
    store.put(stored, told_Q)
    return stored


def guesses(dataset: str, hit: float, seed: int, classes: str = "all") -> np.ndarray[Any, Any]:
    """Predictions on a generated dataset, right at a rate of `hit`, else of the next class."""
    tested = data.load(dataset, classes=classes)
    labels_Q = np.array(tested.test.labels)
    right_Q = np.random.default_rng(seed).random(len(labels_Q)) < hit
    return np.where(right_Q, labels_Q, (labels_Q + 1) % len(tested.class_names))


def grid(
    methods: Sequence[str],
    datasets: Sequence[str] = TINY,
    shots: Sequence[int] = (1, 2, 4, 8, 16),
    seeds: Sequence[int] = (1, 2, 3),
    backbones: Sequence[str] = ("tiny",),
    classes: int = 10,
) -> Iterator[Record]:
    """A full grid with accuracies that grow with shots, differ by method and dataset, and vary a
    little by seed.
    """
    for backbone, method, dataset, shot, seed in product(
        backbones, methods, datasets, shots, seeds
    ):
        rng = random.Random(f"{backbone} {method} {dataset} {shot} {seed}")
        level = 0.35 + 0.2 * random.Random(dataset).random() + 0.1 * random.Random(method).random()
        named = identity(
            method, dataset, shot, seed, backbone=backbone, weights_digest=digest(backbone)
        )
        yield scored(named, min(0.99, level + 0.06 * shot**0.5 + rng.gauss(0, 0.01)), classes)


def write(folder: Path, records: Iterable[Record]) -> list[Record]:
    """Put records into a store without waiting for the disk at each of them."""
    (folder / "records").mkdir(parents=True, exist_ok=True)
    kept = list(records)
    for record in kept:
        (folder / "records" / f"{record.key}.json").write_text(
            record.model_dump_json(indent=1) + "\n"
        )
    return kept


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
