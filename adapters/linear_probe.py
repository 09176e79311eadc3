"""Linear probe: logistic regression on CLIP's image features, blind to the class names.

    W, b = argmin of |W|^2 / 2 + C sum_i CE(W f_i + b, y_i)      logits = W f + b

f_i: feature of support image i, y_i: its label. C is chosen on the few-shot validation set by
CoOp's rule: the best of a coarse grid (on a tie the larger C), then `steps` halvings in log C of
the interval [peak / reach, peak * reach], each time keeping the half at the better end (on a tie
the smaller C). Without a validation set C is `c_without_val`.

Deviations from CoOp's lpclip, whose settings `--preset released` repeats; none of these follow it:
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from adapters import _checks, _samples, _transfer
from benchmark.api import Episode, Labelled, Predictor, State, Target, UserError

Head = tuple[Tensor, Tensor]  # weight_KD, bias_K


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Linear probe"
    paper: ClassVar[str] = "arXiv:2103.00020"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False

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

    fit, learn = _transfer.fit, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        return _samples.linear_predictor(state)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        return [self._fitted(episode) for episode in episodes]

    def _fitted(self, episode: Episode) -> State:
        classes, device = len(episode.class_names), episode.backbone.device
        support, heads = _Support.of(episode.support), dict[float, Future[Head]]()
        with _threads() as pool:

            def heads_at(cs: Sequence[float]) -> list[Head]:
                for c in cs:  # the next halving reads one end of the interval again
                    if c not in heads:
                        heads[c] = pool.submit(support.head, classes, c, self.max_iterations)
                return [heads[c].result() for c in cs]

            c = self.c_without_val
            if episode.val is not None:
                val = episode.val
                c = self._choose(lambda cs: [_correct(head, val) for head in heads_at(cs)])
            weight_KD, bias_K = (part.to(device) for part in heads_at([c])[0])
        episode.notes.update({"C": c, "trainable_params": weight_KD.numel() + bias_K.numel()})
        episode.notes["selection"] = "fixed" if episode.val is None else "val"
        return {"weight_KD": weight_KD, "bias_K": bias_K}

    def _choose(self, correct_at: Callable[[Sequence[float]], list[int]]) -> float:
        """C by CoOp's rule: the better end of the last interval, even after better ones."""
        grid = _checks.numbers("grid", self.grid, low=0)[::-1]
        peak = max(zip(grid, correct_at(grid), strict=True), key=lambda pair: pair[1])[0]
        low, high, best = peak / self.reach, peak * self.reach, peak
        for _ in range(self.steps):
            middle = (low * high) ** 0.5
            at_low, at_high = correct_at([low, high])
            if at_low < at_high:
                low, best = middle, high
            else:
                high, best = middle, low
        return best


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """As many fits at a time as torch has threads, each of them with one: more than one thread
    makes scikit-learn slower at every size tried."""
    from sklearn.exceptions import ConvergenceWarning

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # one image per class looks like a regression problem to scikit-learn
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        # OpenMP keeps a number of threads for every thread
        alone = partial(threadpool_limits, 1, "openmp")
        with ThreadPoolExecutor(torch.get_num_threads(), initializer=alone) as pool:
            yield pool


@dataclass(frozen=True, eq=False)
class _Support:
    """The support set as scikit-learn reads it."""

    image_ND: Tensor  # float64
    labels_N: Tensor
    dtype: torch.dtype  # of the features, and of what is learned

    @staticmethod
    def of(support: Labelled) -> _Support:
        image_ND, labels_N = support.images.features().cpu(), support.labels_N.cpu()
        if len(labels_N.unique()) < 2:
            raise UserError(
                "a linear probe needs support images of two classes or more;"
                " take a method that reads the class names"
            )
        return _Support(image_ND.double(), labels_N, image_ND.dtype)

    def head(self, classes: int, c: float, max_iterations: int) -> Head:
        """scikit-learn's multinomial L2 regression; a class without images is never predicted."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=c, max_iter=max_iterations)
        model.fit(self.image_ND.numpy(), self.labels_N.numpy())
        coefficients, intercepts = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
        present = self.labels_N.unique()
        if len(present) == 2:
            coefficients = torch.cat([-coefficients, coefficients]) / 2
            intercepts = torch.cat([-intercepts, intercepts]) / 2
        least = torch.finfo(torch.float32).min
        weight_KD = torch.zeros(classes, coefficients.shape[1], dtype=self.dtype)
        bias_K = torch.full((classes,), least, dtype=self.dtype)
        weight_KD[present], bias_K[present] = (
            coefficients.to(self.dtype),
            intercepts.to(self.dtype),
        )
        return weight_KD, bias_K


def _correct(head: Head, labelled: Labelled) -> int:
    weight_KD, bias_K = head
    logits_NK = labelled.images.features().cpu() @ weight_KD.T + bias_K
    return int((logits_NK.argmax(1) == labelled.labels_N.cpu()).sum())
