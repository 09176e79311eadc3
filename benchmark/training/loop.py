"""The one training loop: a function that takes a loss.

Everything trained here is one tensor whose first dimension is R runs, sorted longest first, so that
the runs still moving are always a prefix. The loop asks the loss for one row per term and run, the
optimiser for one update in place, and the host for nothing: batches and learning rates lie on the
device before the first step, and the losses are looked at every CHECK_EVERY steps. Letters of this
file: R runs, A terms of a loss, B images of a batch, M rows of a bank (views x images).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from benchmark.api import Episode, Labelled, UserError
from benchmark.training.capture import Kind, Recorder, Steps, recorder_for, side_stream

Loss = Callable[[Tensor, Tensor], Tensor]  # weights of the live runs, step (one int64) -> terms_AR
# terms_AR, weights -> gradient shaped like the weights
Gradient = Callable[[Tensor, Tensor], Tensor]
# weights, gradient, rate_R: moves the weights in place
Update = Callable[[Tensor, Tensor, Tensor], None]

CHECK_EVERY = 100  # steps between two looks at the losses: a look stops a GPU, and moves no number


@dataclass(frozen=True, eq=False)
class Bank:
    """Every image a run may train on, as rows: view v of image n is row v * N + n."""

    image_MD: Tensor
    labels_M: Tensor

    @staticmethod
    def of(view_VND: Tensor, labels_N: Tensor, device: torch.device) -> Bank:
        return Bank(view_VND.flatten(0, 1).to(device), labels_N.repeat(len(view_VND)).to(device))


def plan(
    labelled: Labelled, epochs: int, batch_size: int, views: int, rng: Generator
) -> tuple[Tensor, Tensor]:
    """rows_TB into the bank, and each step's epoch_T; epoch e sees view e mod `views` of every
    image.

    All batches of a run have one size, because a short one is only ever the only one of its epoch.
    """
    batches = [
        (epoch % views * len(labelled) + index_B.cpu(), epoch)
        for epoch in range(epochs)
        for index_B, _ in labelled.batches(batch_size, rng)
    ]
    rows = [rows_B for rows_B, _ in batches]
    rows_TB = torch.stack(rows) if rows else torch.zeros(0, 1, dtype=torch.int64)
    return rows_TB, torch.tensor([epoch for _, epoch in batches], dtype=torch.int64)


def cosine(peak: float, step_T: Tensor, steps: int) -> Tensor:
    """Half a cosine from `peak` at step 0 towards 0 at step `steps`."""
    return peak * 0.5 * (1 + torch.cos(math.pi * step_T.double() / max(steps, 1)))


def warmed_cosine(peak: float, warm_rate: float, warm: int, step_T: Tensor, steps: int) -> Tensor:
    """CoOp's schedule: `warm` units at `warm_rate`, then the cosine over `steps` units counted from
    there, so it never reaches 0.
    """
    return torch.where(
        step_T < warm,
        torch.tensor(warm_rate, dtype=torch.float64),
        cosine(peak, step_T - warm, steps),
    )


def slope(terms_AR: Tensor, weights: Tensor) -> Tensor:
    """The gradient of the sum of all terms; runs do not touch each other, so it holds every run's
    own.
    """
    return torch.autograd.grad(terms_AR.sum(), weights)[0]


def sgd(weights: Tensor, momentum: float, weight_decay: float) -> Update:
    """torch's SGD with momentum, no dampening, and a rate of its own for every run."""
    speed = torch.zeros_like(weights)

    def update(weights: Tensor, gradient: Tensor, rate_R: Tensor) -> None:
        moving = speed[: len(weights)]
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
        spread = (square[:live] / (1 - beta2**count)).sqrt_().add_(epsilon)
        weights.sub_(rate * mean[:live] / (1 - beta1**count) / spread)

    return update


def _per_run(rate_R: Tensor, weights: Tensor) -> Tensor:
    return rate_R.to(weights.dtype).view(-1, *[1] * (weights.ndim - 1))


@torch.no_grad()
def descend(
    weights: Tensor,
    losses: Loss | Sequence[Loss],
    rate_TR: Tensor,
    update: Update,
    gradient: Gradient = slope,
    *,
    choice_T: Sequence[int] | None = None,
    recorder: Recorder | None = None,
) -> Tensor:
    """Trains `weights` (R first) in place and returns loss_TR. A rate of 0 says that a run has
    finished: it moves no more.

    A loss is a function of the live runs' weights and of the step number, a tensor on the device,
    so that on a GPU its steps can be recorded and replayed (benchmark/training/capture.py).
    Where steps differ in kind, `losses` holds a loss for each and `choice_T` says which one every
    step takes. `recorder` overrides the device's own. Raises UserError with step and learning rate
    where a loss is not a finite number.
    """
    losses = [losses] if callable(losses) else list(losses)
    live_T = (rate_TR > 0).sum(1).tolist()
    kinds = list(zip(live_T, choice_T or [0] * len(live_T), strict=True))
    rate_TR = rate_TR.to(weights.device)
    loss_TR = torch.zeros_like(rate_TR)
    step = torch.zeros(1, dtype=torch.int64, device=weights.device)

    def forward(kind: Kind) -> tuple[Tensor, Tensor]:
        live, choice = kind
        with torch.enable_grad():
            moving = weights[:live].detach().requires_grad_()
            terms_AR = losses[choice](moving, step)
            return terms_AR.detach().sum(0), gradient(terms_AR, moving)

    def move(kind: Kind, loss: tuple[Tensor, Tensor]) -> None:
        live, loss_R = kind[0], loss[0]
        update(weights[:live], loss[1], rate_TR.index_select(0, step)[0, :live])
        loss_TR[:, :live].index_copy_(0, step, loss_R[None].to(loss_TR.dtype))
        step.add_(1)

    steps = Steps(forward, move, Counter(kinds), recorder or recorder_for(weights.device))
    with side_stream(weights.device):
        for t, kind in enumerate(kinds):
            steps.run(kind)
            if t % CHECK_EVERY == CHECK_EVERY - 1 or t == len(kinds) - 1:
                require_finite(loss_TR[: t + 1], rate_TR)
    return loss_TR


def require_finite(loss_TR: Tensor, rate_TR: Tensor) -> None:
    """A number that is none must never become a result."""
    bad_TR = ~loss_TR.isfinite()
    if bad_TR.any():
        step, run = (int(i) for i in bad_TR.nonzero()[0])
        raise UserError(
            f"training diverged: the loss is {float(loss_TR[step, run])} at step {step} "
            f"with learning rate {float(rate_TR[step, run]):g}; try a smaller one",
            exit_code=1,
        )


def note(episode: Episode, trainable: int, loss_T: Tensor) -> None:
    """What a trained method puts on record; several stages add up."""
    for name, count in (("trainable_params", trainable), ("steps", len(loss_T))):
        episode.notes[name] = episode.notes.get(name, 0) + count
    if len(loss_T):
        episode.notes["final_loss"] = float(loss_T[-1])
