"""Optimisers of named parts that lie in one flat vector per run (adapters/_in_the_loop.py).

Letters of this file: R runs, X trained numbers of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from adapters._settings import Adam, Sgd
from benchmark.training import optimisers
from benchmark.training.optimisers import Update

Parts = Mapping[str, Tensor]
# (flat_RX, the named parts that one row holds) -> what moves flat_RX
Optimiser = Callable[[Tensor, Parts], Update]


def adamw(
    adam: Adam,
    weight_decay: float,
    undecayed: frozenset[str] = frozenset(),
    pulled_to: Parts | None = None,
) -> Optimiser:
    """torch's AdamW; the parts named in `undecayed` have no weight decay.

    Weight decay pulls the others towards 0, or towards the parts of the same names in `pulled_to`.
    """

    def optimiser(flat_RX: Tensor, parts: Parts) -> Update:
        decay_X = _decay(parts, weight_decay, undecayed, flat_RX)
        goal_X = torch.cat([pulled_to[name].flatten() for name in parts]) if pulled_to else None
        move = optimisers.adamw(flat_RX, 0.0, adam.epsilon, adam.beta1, adam.beta2)

        def update(weights: Tensor, gradient: Tensor, rate_R: Tensor) -> None:
            share_RX = rate_R.to(weights.dtype)[:, None] * decay_X
            weights.mul_(1 - share_RX)
            if goal_X is not None:
                weights.addcmul_(share_RX, goal_X.to(weights.dtype))
            move(weights, gradient, rate_R)

        return update

    return optimiser


def adam_l2(adam: Adam, weight_decay: float) -> Optimiser:
    """torch's Adam, where weight decay is part of the gradient."""

    def optimiser(flat_RX: Tensor, _: Parts) -> Update:
        move = optimisers.adamw(flat_RX, 0.0, adam.epsilon, adam.beta1, adam.beta2)
        return lambda weights, gradient, rate_R: move(
            weights, gradient + weight_decay * weights, rate_R
        )

    return optimiser


def sgd(settings: Sgd) -> Optimiser:
    """torch's SGD with momentum; weight decay is part of the gradient."""
    return lambda flat_RX, _: optimisers.sgd(flat_RX, settings.momentum, settings.weight_decay)


def _decay(parts: Parts, weight_decay: float, undecayed: frozenset[str], like: Tensor) -> Tensor:
    """decay_X: the weight decay of every trained number, in the type and device of `like`."""
    rates = [0.0 if name in undecayed else weight_decay for name in parts]
    counts = torch.tensor([part.numel() for part in parts.values()])
    return torch.tensor(rates, dtype=like.dtype).repeat_interleave(counts).to(like.device)
