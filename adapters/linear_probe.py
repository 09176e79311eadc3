"""Linear probe: logistic regression on CLIP's image features, blind to the class names.

    W, b = argmin of |W|^2 / 2 + C sum_i CE(W f_i + b, y_i)      logits = W f + b

f_i: feature of support image i, y_i: its label. C is chosen on the few-shot validation set by
CoOp's rule: the best of a coarse grid (on a tie the larger C), then `steps` halvings in log C of
the interval [peak / reach, peak * reach], each time keeping the half at the better end (on a tie
the smaller C). Without a validation set C is `c_without_val`.

Deviations from CoOp's lpclip:
- Features have unit length, as everywhere in this suite, where lpclip took them as they come. A
  feature of length n and C is a unit feature and n^2 C, so the grid (12 decades) covers the same
  models, shifted by two decades for features of length about 10. For the same reason
  `c_without_val` is 31.6: the 0.316 of CLIP's own probe example on features of about that length.
- The support set is CoOp's few-shot set, where lpclip drew its own from another random stream.
- A class without support images has the least logit of float32, so it is never predicted: where the
  bias has no penalty, that is the limit of the solution. Less than two classes are refused.
- Double precision; reaching `max_iterations`, which happens at large C, is part of the protocol and
  no warning.
- Two classes are one logistic regression (scikit-learn's form), its logits split evenly over both.

Expected: RN50, mean of 11 datasets, 1/2/4/8/16 shots: 36.67 / 47.61 / 57.19 / 64.98 / 71.10 % (on
lpclip's own few-shot sets).

Source: Radford et al. 2021, appendix A.3; KaiyangZhou/CoOp @ ff61507, lpclip/linear_probe.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from adapters import _checks
from benchmark.api import Episode, ImageSet, Labelled, Predictor, UserError

Head = tuple[Tensor, Tensor]  # weight_KD, bias_K


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Linear probe"
    paper: ClassVar[str] = "arXiv:2103.00020"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True

    grid: str = "1e6,1e4,1e2,1,1e-2,1e-4,1e-6"
    reach: float = 10.0  # factor around the peak of the grid at which the halvings begin
    steps: int = 8  # halvings
    c_without_val: float = 31.6
    max_iterations: int = 1000  # of L-BFGS

    def __post_init__(self) -> None:
        _checks.numbers("grid", self.grid, low=1e-12)
        _checks.at_least(1, reach=self.reach, max_iterations=self.max_iterations)
        _checks.at_least(0, steps=self.steps)
        _checks.above_zero(c_without_val=self.c_without_val)

    def fit(self, episode: Episode) -> Predictor:
        classes, device = len(episode.class_names), episode.backbone.device

        @cache  # the next halving reads one end of the interval again
        def head_at(c: float) -> Head:
            return _regress(episode.support, classes, c, self.max_iterations)

        c = self.c_without_val
        if episode.val is not None:
            val = episode.val
            c = self._choose(lambda c: _correct(head_at(c), val))
        weight_KD, bias_K = (part.to(device) for part in head_at(c))
        episode.notes.update({"C": c, "trainable_params": weight_KD.numel() + bias_K.numel()})
        episode.notes["selection"] = "fixed" if episode.val is None else "val"

        def predict(images: ImageSet) -> Tensor:
            return images.features().to(device) @ weight_KD.T + bias_K

        return predict

    def _choose(self, correct_at: Callable[[float], int]) -> float:
        """C by CoOp's rule: the better end of the last interval, even after better ones."""
        peak = max(reversed(_checks.numbers("grid", self.grid, low=0)), key=correct_at)
        low, high, best = peak / self.reach, peak * self.reach, peak
        for _ in range(self.steps):
            middle = (low * high) ** 0.5
            if correct_at(low) < correct_at(high):
                low, best = middle, high
            else:
                high, best = middle, low
        return best


def _regress(support: Labelled, classes: int, c: float, max_iterations: int) -> Head:
    """scikit-learn's multinomial L2 regression; a class without images is never predicted."""
    from sklearn.linear_model import LogisticRegression

    labels_N = support.labels_N.cpu()
    present = labels_N.unique()
    if len(present) < 2:
        raise UserError(
            "a linear probe needs support images of two classes or more;"
            " take a method that reads the class names"
        )
    model = _solved(
        LogisticRegression(C=c, max_iter=max_iterations), support.images.features(), labels_N
    )
    coefficients, intercepts = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if len(present) == 2:
        coefficients = torch.cat([-coefficients, coefficients]) / 2
        intercepts = torch.cat([-intercepts, intercepts]) / 2
    dtype = support.images.features().dtype
    weight_KD = torch.zeros(classes, coefficients.shape[1], dtype=dtype)
    bias_K = torch.full((classes,), torch.finfo(torch.float32).min, dtype=dtype)
    weight_KD[present], bias_K[present] = coefficients.to(dtype), intercepts.to(dtype)
    return weight_KD, bias_K


def _solved(model: Any, image_ND: Tensor, labels_N: Tensor) -> Any:
    """The fitted model. More than one thread makes scikit-learn slower at every size tried."""
    from sklearn.exceptions import ConvergenceWarning

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # one image per class looks like a regression problem to scikit-learn
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        return model.fit(image_ND.double().cpu().numpy(), labels_N.numpy())


def _correct(head: Head, labelled: Labelled) -> int:
    weight_KD, bias_K = head
    logits_NK = labelled.images.features().cpu() @ weight_KD.T + bias_K
    return int((logits_NK.argmax(1) == labelled.labels_N.cpu()).sum())
