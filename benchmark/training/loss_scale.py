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
    """The scale of a training; state: the scale and the finite steps since it last changed."""

    def __init__(self, device: torch.device) -> None:
        self.value = torch.full((), FIRST, device=device)
        self.left_out = torch.zeros((), device=device)  # steps whose gradient was not finite
        self._steps = torch.zeros((), device=device)

    def gradient_of(self, terms_AR: Tensor, weights: Tensor) -> Tensor:
        """The gradient of the sum of all terms, times the scale."""
        return torch.autograd.grad(self.value * terms_AR.sum(), weights)[0]

    def guarded(self, update: Update) -> Update:
        """The update for scaled gradients; one that is not finite moves nothing.

        To the moments of an optimiser such a step is one without a gradient.
        """

        def move(weights: Tensor, gradient: Tensor, rate_R: Tensor) -> None:
            finite = gradient.isfinite().all()
            update(weights, torch.where(finite, gradient / self.value, 0.0), rate_R * finite)
            self._adapt(finite)

        return move

    def _adapt(self, finite: Tensor) -> None:
        self.left_out.add_(~finite)
        self._steps.add_(1).mul_(finite)
        grows = self._steps >= PATIENCE
        self.value.mul_(torch.where(finite, torch.where(grows, 2.0, 1.0), 0.5))
        self.value.clamp_(max=LARGEST)
        self._steps.mul_(~grows)
