"""Optimisers that move many runs at once, each at a rate of its own, and learning rate schedules.

Letters of this file: T steps, R runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# (weights, gradient, rate_R): moves the weights in place
Update = Callable[[Tensor, Tensor, Tensor], None]


def cosine(peak: float, step_T: Tensor, steps: int) -> Tensor:
    """Half a cosine from `peak` at step 0 towards 0 at step `steps`."""
    return peak * 0.5 * (1 + torch.cos(math.pi * step_T.double() / max(steps, 1)))


def warmup_cosine(
    peak: float, warmup_rate: float, warmup: int, step_T: Tensor, steps: int
) -> Tensor:
    """CoOp's schedule, in steps or epochs: `warmup` of them at `warmup_rate`, then the cosine.

    The cosine spans `steps` counted from there, so it never reaches 0.
    """
    return torch.where(
        step_T < warmup,
        torch.tensor(warmup_rate, dtype=torch.float64),
        cosine(peak, step_T - warmup, steps),
    )


def sgd(weights: Tensor, momentum: float, weight_decay: float) -> Update:
    """torch's SGD with momentum, no dampening, and a rate of its own for every run."""
    velocity = torch.zeros_like(weights)

    def update(weights: Tensor, gradient: Tensor, rate_R: Tensor) -> None:
        moving = velocity[: len(weights)]
        moving.mul_(momentum).add_(gradient).add_(weights, alpha=weight_decay)
        weights.sub_(_per_run(rate_R, weights) * moving)

    return update


def adamw(
    weights: Tensor, weight_decay: float, epsilon: float, beta1: float, beta2: float
) -> Update:
    """torch's AdamW, likewise."""
    mean, square = torch.zeros_like(weights), torch.zeros_like(weights)
    # 1 - beta2 has no digits to spare
    count = torch.zeros((), dtype=torch.float64, device=weights.device)

    def update(weights: Tensor, gradient: Tensor, rate_R: Tensor) -> None:
        rate, live = _per_run(rate_R, weights), len(weights)
        count.add_(1)
        mean[:live].lerp_(gradient, 1 - beta1)
        square[:live].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        weights.mul_(1 - rate * weight_decay)
        root = (square[:live] / (1 - beta2**count)).sqrt_().add_(epsilon)
        weights.sub_(rate * mean[:live] / (1 - beta1**count) / root)

    return update


def adamw_half(
    weights: Tensor, weight_decay: float, epsilon: float, beta1: float, beta2: float
) -> Update:
    """torch's AdamW on half-precision weights, as releases run it that train CLIP's own type.

    Weights, gradient and both moments are numbers of float16: every operation is computed in
    float32 and rounded, as torch's kernels do, on any device. A squared gradient below about
    (5.5e-3)^2 is lost times 1 - beta2 = 0.001, so the second moment stays 0 and the step is
    rate / epsilon times the mean: descent with momentum at the rate 10 where rate = 0.001 and
    epsilon = 1e-4. A decay below 2^-12 per step is lost as well. `weights` are rounded at once.
    """
    weights.copy_(_half(weights))
    mean = torch.zeros_like(weights, dtype=torch.float32)
    square = torch.zeros_like(mean)
    count = torch.zeros((), dtype=torch.float64, device=weights.device)
    rest = torch.tensor(1 - beta1, dtype=torch.float32, device=weights.device)

    def update(weights: Tensor, gradient: Tensor, rate_R: Tensor) -> None:
        rate, live = rate_R.view(-1, *[1] * (weights.ndim - 1)), len(weights)
        gradient = _half(gradient)
        count.add_(1)
        half = _half(weights.float() * (1 - rate * weight_decay).float())
        mean[:live] = _half(_fused(mean[:live], rest, gradient - mean[:live]))
        kept = _half(square[:live] * beta2)
        square[:live] = _half(_fused(kept, (1 - beta2) * gradient, gradient))
        root = _half(square[:live].sqrt())
        root = _half(root / (1 - beta2**count).sqrt().float())
        root = _half(root + epsilon)
        step = (rate / (1 - beta1**count)).float()
        weights.copy_(_half(half - step * mean[:live] / root))

    return update


def _half(x: Tensor) -> Tensor:
    """Rounded to the nearest number of float16, in float32."""
    return x.half().float()


def _fused(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """x + y z of float32 numbers, rounded once, as processors multiply and add."""
    return (x.double() + y.double() * z.double()).float()


def _per_run(rate_R: Tensor, weights: Tensor) -> Tensor:
    return rate_R.to(weights.dtype).view(-1, *[1] * (weights.ndim - 1))
