"""Gradients in float16: a larger loss keeps small numbers from vanishing, a smaller one large
numbers from overflowing.

The scale is found while training (Micikevicius et al., Mixed Precision Training, ICLR 2018, section
3.2): it is halved where a gradient is not finite, and that step is left out; it is doubled after
PATIENCE steps without. All of it happens on the device, so that steps can be recorded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.training.optimisers import Update

FIRST, LARGEST = 1024.0, 65536.0
PATIENCE = 200  # finite steps before a larger scale is tried


class LossScale:
    """The scale of every run of a training; state: the scales, and the finite steps since each last
    changed."""

    def __init__(self, device: torch.device, runs: int = 1) -> None:
        self.value_R = torch.full((runs,), FIRST, device=device)
        self.left_out_R = torch.zeros(runs, device=device)  # steps whose gradient was not finite
        self._steps_R = torch.zeros(runs, device=device)

    def gradient_of(self, terms_AR: Tensor, weights: Tensor) -> Tensor:
        """The gradient of the sum of all terms, times the scale of each run."""
        scaled_R = self.value_R[: len(weights)] * terms_AR.sum(0)
        return torch.autograd.grad(scaled_R.sum(), weights)[0]

    def guarded(self, update: Update) -> Update:
        """The update for scaled gradients; a run's gradient that is not finite moves nothing of it.

        To the moments of an optimiser such a step is one without a gradient.
        """

        def move(weights: Tensor, gradient: Tensor, rate_R: Tensor) -> None:
            finite_R = gradient.flatten(1).isfinite().all(1)
            shape = (-1, *[1] * (weights.ndim - 1))
            value, finite = self.value_R[: len(weights)].view(shape), finite_R.view(shape)
            update(weights, torch.where(finite, gradient / value, 0.0), rate_R * finite_R)
            self._adapt(finite_R)

        return move

    def _adapt(self, finite_R: Tensor) -> None:
        live = len(finite_R)
        self.left_out_R[:live].add_(~finite_R)
        steps_R, value_R = self._steps_R[:live], self.value_R[:live]
        steps_R.add_(1).mul_(finite_R)
        grows_R = steps_R >= PATIENCE
        value_R.mul_(torch.where(finite_R, torch.where(grows_R, 2.0, 1.0), 0.5))
        value_R.clamp_(max=LARGEST)
        steps_R.mul_(~grows_R)
