"""Logits and labels -> counts: the one place that reads test labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.records.record import Counts


def score(logits_QK: Tensor, labels: Sequence[int]) -> tuple[Counts, Tensor]:
    """Correct and total per class, and predicted_Q; the first of equal logits wins, as argmax has
    it.
    """
    labels_Q = torch.as_tensor(labels, dtype=torch.int64)
    predicted_Q = logits_QK.cpu().argmax(1)
    classes = logits_QK.shape[1]
    correct_K = torch.bincount(labels_Q[predicted_Q == labels_Q], minlength=classes)
    return Counts(
        correct=correct_K.tolist(), total=torch.bincount(labels_Q, minlength=classes).tolist()
    ), predicted_Q
