"""Which images every training step sees, as rows of one tensor on the device.

Letters of this file: T steps, B images of a batch, M rows of a bank (views x images), all else as
in benchmark.api.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmark.api import Labelled

ABSENT = -100  # a row that a short batch lacks; as a label, what cross_entropy leaves out


@dataclass(frozen=True, eq=False)
class Bank:
    """Every image a run may train on, as rows: view v of image n is row v * N + n."""

    image_MD: Tensor  # image_MPD of the image's places
    labels_M: Tensor
    whole_MD: Tensor | None = None  # of the whole image, for methods that read it beside the places

    @staticmethod
    def of(
        view_VND: Tensor,
        labels_N: Tensor,
        device: torch.device,
        whole_VND: Tensor | None = None,
    ) -> Bank:
        return Bank(
            view_VND.flatten(0, 1).to(device),
            labels_N.repeat(len(view_VND)).to(device),
            None if whole_VND is None else whole_VND.flatten(0, 1).to(device),
        )

    @staticmethod
    def joined(banks: Sequence[Bank]) -> Bank:
        """The rows of all, one bank after the other; a single one is not copied."""
        if len(banks) == 1:
            return banks[0]
        whole = [bank.whole_MD for bank in banks if bank.whole_MD is not None]
        assert len(whole) in {0, len(banks)}, "all banks hold whole images, or none"
        return Bank(
            torch.cat([bank.image_MD for bank in banks]),
            torch.cat([bank.labels_M for bank in banks]),
            torch.cat(whole) if whole else None,
        )

    def batch(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """(image_BD, labels_B) of some rows; the label of an absent row is ABSENT."""
        there_B = rows_B.clamp_min(0)
        return self.image_MD[there_B], self.labels_M[there_B].where(rows_B >= 0, ABSENT)


def draw(
    labelled: Labelled,
    epochs: int,
    batch_size: int,
    views: int,
    rng: Generator,
    *,
    keep_short: bool = False,
) -> tuple[Tensor, Tensor]:
    """rows_TB into the bank, and each step's epoch_T; epoch e sees view e mod `views` of an image.

    All batches of a run have one size: a short last one is left out where it is not the only one
    of its epoch, or kept and filled up with ABSENT rows.
    """
    rows = []
    for epoch in range(epochs):
        index_TB = (
            _whole_epoch(labelled, batch_size, rng)
            if keep_short
            else labelled.epoch(batch_size, rng)
        )
        rows.append((index_TB + epoch % views * len(labelled)).where(index_TB >= 0, ABSENT))
    rows_TB = torch.cat(rows) if rows else torch.zeros(0, 1, dtype=torch.int64)
    steps = len(rows[0]) if rows else 0
    return rows_TB, torch.arange(epochs).repeat_interleave(steps)


def _whole_epoch(labelled: Labelled, batch_size: int, rng: Generator) -> Tensor:
    """index_TB of every image in random order, the last batch filled up with ABSENT."""
    order_N = torch.randperm(len(labelled), generator=rng)
    size = min(batch_size, len(labelled))
    return F.pad(order_N, (0, -len(labelled) % size), value=ABSENT).view(-1, size)
