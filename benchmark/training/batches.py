"""Which images every training step sees, as rows of one tensor on the device.

Letters of this file: T steps, B images of a batch, M rows of a bank (views x images), all else as
in benchmark.api.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from benchmark.api import Labelled


@dataclass(frozen=True, eq=False)
class Bank:
    """Every image a run may train on, as rows: view v of image n is row v * N + n."""

    image_MD: Tensor
    labels_M: Tensor

    @staticmethod
    def of(view_VND: Tensor, labels_N: Tensor, device: torch.device) -> Bank:
        return Bank(view_VND.flatten(0, 1).to(device), labels_N.repeat(len(view_VND)).to(device))


def draw(
    labelled: Labelled, epochs: int, batch_size: int, views: int, rng: Generator
) -> tuple[Tensor, Tensor]:
    """rows_TB into the bank, and each step's epoch_T; epoch e sees view e mod `views` of an image.

    All batches of a run have one size, because a short one is only ever the only one of its epoch.
    """
    rows = [
        epoch % views * len(labelled) + labelled.epoch(batch_size, rng) for epoch in range(epochs)
    ]
    rows_TB = torch.cat(rows) if rows else torch.zeros(0, 1, dtype=torch.int64)
    steps = len(rows[0]) if rows else 0
    return rows_TB, torch.arange(epochs).repeat_interleave(steps)
