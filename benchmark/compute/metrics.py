"""Logits and labels -> counts: the one place that reads test labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.records.predictions import Confidences
from benchmark.records.record import Counts

BLOCK = 4096  # images whose probabilities are in memory at once


def score(logits_QK: Tensor, labels: Sequence[int]) -> tuple[Counts, Tensor, Confidences]:
    """Correct and total per class, predicted_Q, and how sure the predictions are; the first of
    equal logits wins, as argmax has it.
    """
    labels_Q = torch.as_tensor(labels, dtype=torch.int64)
    predicted_Q = logits_QK.cpu().argmax(1)
    right_Q, classes = predicted_Q == labels_Q, logits_QK.shape[1]
    counts = Counts(
        correct=torch.bincount(labels_Q[right_Q], minlength=classes).tolist(),
        total=torch.bincount(labels_Q, minlength=classes).tolist(),
    )
    confidences = Confidences(confidence(logits_QK).half().numpy(), right_Q.numpy())
    return counts, predicted_Q, confidences


def confidence(logits_QK: Tensor) -> Tensor:
    """confidence_Q: the probability of the predicted class, float64."""
    parts = logits_QK.cpu().split(BLOCK)
    return torch.cat([part_NK.double().softmax(1).amax(1) for part_NK in parts])
