"""Weights averaged over the steps of a training."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.training.optimisers import Update


def averaged(update: Update, weights: Tensor, share_TR: Tensor) -> tuple[Update, Tensor]:
    """The update, and the mean of what it leaves, complete when the training is.

    `share_TR` says how much of the mean are the weights of run R after step T; what the shares of
    a run lack of 1 is left to the weights it starts from.
    """
    share_TR = share_TR.to(weights.device, weights.dtype)
    mean = (1 - share_TR.sum(0)).view(-1, *[1] * (weights.ndim - 1)) * weights
    step = torch.zeros(1, dtype=torch.int64, device=weights.device)

    def move(weights: Tensor, gradient: Tensor, rate_R: Tensor) -> None:
        update(weights, gradient, rate_R)
        live = len(weights)
        share_R = share_TR.index_select(0, step)[0, :live]
        mean[:live].add_(share_R.view(-1, *[1] * (weights.ndim - 1)) * weights)
        step.add_(1)

    return move, mean
