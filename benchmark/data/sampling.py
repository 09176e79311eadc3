"""Which images are the support set: pure functions of labels, shots and seed.

`coop` is the rule behind nearly every published table (KaiyangZhou/CoOp, Dassl's
`generate_fewshot_dataset`): Python's `random`, seeded once per run; classes in order of first
appearance; `sample` per class; then min(shots, 4) validation images per class from the same
generator. Its sets of different shots are not nested. `nested` draws one order per class and takes
the first k, so that more shots only ever add images.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Literal

from benchmark.errors import UserError, nearest

VAL_SHOTS = 4  # CoOp grants at most four validation images per class

Draw = Callable[[random.Random, list[int], int], list[int]]


def few_shot(
    train_labels: Sequence[int],
    val_labels: Sequence[int],
    shots: int,
    seed: int,
    policy: str = "coop",
    short: Literal["refuse", "all"] = "refuse",
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions of the support set and of the few-shot validation set, in drawing order.

    `short` says what to do where a class has fewer than `shots` training images: refuse, or take
    all there are as Dassl does. Validation always takes what there is. Raises UserError for shots
    below 1, a negative seed, an unknown policy.
    """
    if policy not in POLICIES:
        raise UserError(f"unknown sampling policy '{policy}'; {nearest(policy, tuple(POLICIES))}")
    if shots < 1:
        raise UserError(f"shots must be at least 1, not {shots}")
    if seed < 0:
        raise UserError(
            f"seed must not be negative, not {seed}: it would draw the same images as {-seed}"
        )
    if short == "refuse":
        _check_enough(train_labels, shots)
    rng = random.Random(seed)
    draw = POLICIES[policy]
    return _per_class(train_labels, shots, rng, draw), _per_class(
        val_labels, min(shots, VAL_SHOTS), rng, draw
    )


def positions_digest(positions: Sequence[int]) -> str:
    """sha256 of the positions joined by commas, in drawing order: names a support set in records
    and tests.
    """
    return hashlib.sha256(",".join(map(str, positions)).encode()).hexdigest()


def class_half(classes: int, which: str) -> tuple[int, ...]:
    """The labels of the "base" half (the first ceil(K/2)), of the "new" half (the rest), or of
    "all" (CoOp's rule).

    CoOp draws few-shot sets from all classes and halves them afterwards; drawing from a half gives
    other images.
    """
    middle = -(-classes // 2)
    halves = {"all": range(classes), "base": range(middle), "new": range(middle, classes)}
    if which not in halves:
        raise UserError(f"unknown classes '{which}'; {nearest(which, tuple(halves))}")
    return tuple(halves[which])


def _per_class(
    labels: Sequence[int], count: int, rng: random.Random, draw: Draw
) -> tuple[int, ...]:
    return tuple(i for members in _by_class(labels).values() for i in draw(rng, members, count))


def _coop(rng: random.Random, members: list[int], count: int) -> list[int]:
    # As in Dassl, a class with too few images leaves the generator untouched.
    return rng.sample(members, count) if len(members) >= count else members


def _nested(rng: random.Random, members: list[int], count: int) -> list[int]:
    return rng.sample(members, len(members))[:count]


POLICIES: dict[str, Draw] = {"coop": _coop, "nested": _nested}


def _by_class(labels: Sequence[int]) -> dict[int, list[int]]:
    members: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        members.setdefault(int(label), []).append(position)
    return members


def _check_enough(labels: Sequence[int], shots: int) -> None:
    members = _by_class(labels)
    label = min(members, key=lambda label: len(members[label]), default=None)
    if label is None:
        raise UserError(
            "there are no training images to draw shots from; use this dataset for testing only"
        )
    if len(members[label]) < shots:
        raise UserError(
            f"{shots} shots are more than class {label} has: {len(members[label])} training "
            f"images; ask for fewer"
        )
