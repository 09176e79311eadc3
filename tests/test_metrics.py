"""Logits and labels become counts, predictions and confidences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.compute import metrics


def test_counts_predictions_and_confidences_by_hand() -> None:
    logits_QK = torch.tensor([[0.0, 0.0, 0.0], [0.0, np.log(2.0), 0.0], [9.0, 1.0, 2.0]])
    counts, predicted_Q, kept = metrics.score(logits_QK, [0, 2, 0])
    assert (counts.correct, counts.total) == ([2, 0, 0], [2, 0, 1])
    assert predicted_Q.tolist() == [0, 1, 0]  # the first of equals
    assert kept.right_Q.tolist() == [True, False, True]
    by_hand = [1 / 3, 1 / 2, 1 / (1 + np.exp(-8.0) + np.exp(-7.0))]
    np.testing.assert_allclose(kept.confidence_Q, by_hand, rtol=2**-11)


@pytest.mark.parametrize("shift", [0.0, 300.0, -1e6])
def test_confidence_is_the_same_whatever_is_added_to_all_logits(shift: float) -> None:
    logits_QK = shift + torch.tensor([[0.0, 3.0]], dtype=torch.float64)
    assert float(metrics.confidence(logits_QK)) == pytest.approx(1 / (1 + np.exp(-3.0)))


def test_a_class_that_is_never_predicted_takes_no_probability() -> None:
    """A linear probe gives a class without images the least number of float32."""
    logits_QK = torch.tensor([[2.0, 2.0, torch.finfo(torch.float32).min]])
    assert float(metrics.confidence(logits_QK)) == 0.5


def test_confidences_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    logits_QK = torch.randn(50, 7, generator=torch.Generator().manual_seed(1))
    whole = metrics.confidence(logits_QK)
    monkeypatch.setattr(metrics, "BLOCK", 8)
    assert torch.equal(metrics.confidence(logits_QK), whole)
    assert metrics.confidence(logits_QK[:0]).shape == (0,)
