"""Which images are the support set: pure functions of labels, shots and seed.

`coop` is the rule behind nearly every published table (KaiyangZhou/CoOp, Dassl's
`generate_fewshot_dataset`): Python's `random`, seeded once per run; classes in order of first
appearance; `sample` per class; then min(shots, 4) validation images per class from the same
generator. Its sets of different shots are not nested. `nested` draws one order per class and takes
the first k, so that more shots only ever add images.

`coop-short` is `coop` as its code has it: a class with fewer training images than shots gives all
that it has. Elsewhere such a class is refused, since "16 shots" would not be true of it.

`relaxed` and `realistic` are the imbalanced draws of SS-Text (jusiro/SS-Text @ 845ba01,
data/utils.py): as many images in all, shots x classes, shared out in proportion to the pool they
are drawn from. A share is rounded, a half to the even number. `relaxed` gives every class one image
at least; in `realistic` a class may get none. A surplus is taken one by one from the class with
most, the first of equals by label; a deficit stays. The images are then drawn as in `coop`, where
SS-Text shuffles with numpy; validation images follow the same rule, shares of their own pool. On a
pool with as many images of every class all three draw the same: DTD, Food101, SUN397 and the
embedded suite have such training pools.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Literal

from benchmark.errors import UserError, counted, nearest

VAL_SHOTS = 4  # CoOp grants at most four validation images per class

# (images of every class by ascending label, shots) -> how many of each are drawn
Share = Callable[[Sequence[int], int], list[int]]
Short = Literal["refuse", "all"]
Draw = Callable[[random.Random, list[int], int], list[int]]


@dataclass(frozen=True)
class Policy:
    """How many images of each class, and which; what to do where a class has fewer."""

    share: Share
    draw: Draw
    short: Short = "refuse"


def few_shot(
    train_labels: Sequence[int],
    val_labels: Sequence[int],
    shots: int,
    seed: int,
    policy: str = "coop",
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions of the support set and of the few-shot validation set, in drawing order.

    Validation takes what there is. Raises UserError for shots below 1, a negative seed, an unknown
    policy, no training image, a class that has fewer than the policy allows.
    """
    rule = _policy(policy)
    if shots < 1:
        raise UserError(f"shots must be at least 1, not {shots}")
    if seed < 0:
        raise UserError(
            f"seed must not be negative, not {seed}: it would draw the same images as {-seed}"
        )
    rng = random.Random(seed)
    _check_enough(train_labels, shots, policy)
    return _per_class(train_labels, shots, rng, rule), _per_class(
        val_labels, min(shots, VAL_SHOTS), rng, rule
    )


def short_classes(labels: Sequence[int], shots: int, policy: str) -> dict[int, tuple[int, int]]:
    """Label -> images there are, images to be drawn, of every class that has too few; none where
    the policy takes all there are.
    """
    rule, members = _policy(policy), _by_class(labels)
    share_of = _shares(members, shots, rule.share) if rule.short == "refuse" else {}
    return {
        label: (len(members[label]), share)
        for label, share in share_of.items()
        if len(members[label]) < share
    }


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
    labels: Sequence[int], shots: int, rng: random.Random, rule: Policy
) -> tuple[int, ...]:
    members = _by_class(labels)
    share_of = _shares(members, shots, rule.share)
    return tuple(i for label, own in members.items() for i in rule.draw(rng, own, share_of[label]))


def _shares(members: dict[int, list[int]], shots: int, share: Share) -> dict[int, int]:
    labels = sorted(members)
    return dict(zip(labels, share([len(members[label]) for label in labels], shots), strict=True))


def _coop(rng: random.Random, members: list[int], count: int) -> list[int]:
    # As in Dassl, a class with too few images leaves the generator untouched.
    return rng.sample(members, count) if len(members) >= count else members


def _nested(rng: random.Random, members: list[int], count: int) -> list[int]:
    return rng.sample(members, len(members))[:count]


def _even(sizes: Sequence[int], shots: int) -> list[int]:
    return [shots] * len(sizes)


def _proportional(sizes: Sequence[int], shots: int, *, least: int) -> list[int]:
    budget, pool = shots * len(sizes), sum(sizes)
    shares = [max(least, round(Fraction(budget * size, pool))) for size in sizes]
    for _ in range(sum(shares) - budget):
        shares[shares.index(max(shares))] -= 1
    return shares


POLICIES: dict[str, Policy] = {
    "coop": Policy(_even, _coop),
    "coop-short": Policy(_even, _coop, short="all"),
    "nested": Policy(_even, _nested),
    "relaxed": Policy(partial(_proportional, least=1), _coop),
    "realistic": Policy(partial(_proportional, least=0), _coop),
}


def _policy(name: str) -> Policy:
    if name not in POLICIES:
        raise UserError(f"unknown sampling policy '{name}'; {nearest(name, tuple(POLICIES))}")
    return POLICIES[name]


def _by_class(labels: Sequence[int]) -> dict[int, list[int]]:
    members: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        members.setdefault(int(label), []).append(position)
    return members


def _check_enough(labels: Sequence[int], shots: int, policy: str) -> None:
    if not len(labels):
        raise UserError(
            "there are no training images to draw shots from; use this dataset for testing only"
        )
    short = short_classes(labels, shots, policy)
    if short:
        counts = ", ".join(f"{label} has {own} of {share}" for label, (own, share) in short.items())
        raise UserError(
            f"{len(short)} classes have too few training images for {counted(shots, 'shot')}: "
            f"label {counts}; ask for fewer, or draw by the rule coop-short"
        )
