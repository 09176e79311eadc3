"""The one training loop: a function that takes a loss.

What is trained is one tensor whose first dimension is R runs, sorted longest first, so that the
runs still in training are always the first ones. A step reads nothing on the host: batches and
rates lie on the device beforehand, and the losses are checked every CHECK_EVERY steps.

Letters of this file: T steps, R runs, A terms of a loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmark.api import Episode, UserError
from benchmark.ticks import tell
from benchmark.training.capture import Kind, Recorder, Steps, recorder_for, side_stream
from benchmark.training.optimisers import Update

Loss = Callable[[Tensor, Tensor], Tensor]  # weights of the live runs, step (one int64) -> terms_AR
# terms_AR, weights -> gradient shaped like the weights
Gradient = Callable[[Tensor, Tensor], Tensor]

CHECK_EVERY = 100  # steps between two looks at the losses: a look stops a GPU, and moves no number


def gradient_of(terms_AR: Tensor, weights: Tensor) -> Tensor:
    """The gradient of the sum of all terms: every run's own, since runs share no weights."""
    return torch.autograd.grad(terms_AR.sum(), weights)[0]


@torch.no_grad()
def train(
    weights: Tensor,
    losses: Loss | Sequence[Loss],
    rate_TR: Tensor,
    update: Update,
    gradient: Gradient = gradient_of,
    *,
    choice_T: Sequence[int] | None = None,
    recorder: Recorder | None = None,
) -> Tensor:
    """Trains `weights` (R runs first) in place and returns loss_TR.

    `rate_TR` holds every run's learning rates, the longest run first; 0 says that a run is over.
    A loss is a function of the live runs' weights and of the step number, a tensor on the device,
    so that on a GPU its steps can be recorded and replayed (benchmark/training/capture.py). It
    gives terms_AR, of which `gradient` makes the gradient and `update` a step; both are functions
    of tensors too.

    Where steps differ in kind, `losses` holds a loss for each and `choice_T` says which one every
    step takes. `recorder` overrides the device's own. Raises UserError with step and learning rate
    where a loss is not a finite number, and where the runs are not sorted.
    """
    losses = [losses] if callable(losses) else list(losses)
    live_T = _live(rate_TR).tolist()
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
            tell("step", t + 1, len(kinds), partial(_mean_loss, loss_TR, t, kind[0]))
            if t % CHECK_EVERY == CHECK_EVERY - 1 or t == len(kinds) - 1:
                require_finite(loss_TR[: t + 1], rate_TR)
    return loss_TR


def _mean_loss(loss_TR: Tensor, t: int, live: int) -> float:
    """Of the runs still in training at step t. Reading it waits for the device."""
    return float(loss_TR[t, :live].mean())


def _live(rate_TR: Tensor) -> Tensor:
    """live_T: how many runs are still in training at every step."""
    live_TR = rate_TR > 0
    live_T = live_TR.sum(1)
    first_TR = torch.arange(live_TR.shape[1], device=live_T.device) < live_T[:, None]
    if not torch.equal(live_TR, first_TR):
        raise UserError(
            "the learning rates of runs that are over are 0 and come last; sort runs longest first"
        )
    return live_T


def longest_first(rates: Sequence[Tensor]) -> list[int]:
    """The order in which runs are trained as a batch: by their number of steps."""
    return sorted(range(len(rates)), key=lambda run: -len(rates[run]))


def together(rates: Sequence[Tensor]) -> Tensor:
    """rate_TR of runs that come longest first, by the rate_T of each; 0 once a run is over."""
    rate_TR = torch.zeros(len(rates[0]), len(rates), dtype=torch.float64)
    for run, rate_T in enumerate(rates):
        rate_TR[: len(rate_T), run] = rate_T
    return rate_TR


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


def note_training(episode: Episode, trainable: int, loss_T: Tensor) -> None:
    """What a trained method puts on record; several stages add up."""
    for name, count in (("trainable_params", trainable), ("steps", len(loss_T))):
        episode.notes[name] = episode.notes.get(name, 0) + count
    if len(loss_T):
        episode.notes["final_loss"] = float(loss_T[-1])
