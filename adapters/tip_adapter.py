"""Tip-Adapter: the few labelled images become a cache that is read beside the zero-shot classifier.

    logits(f) = s f W^T + alpha exp(-beta (1 - f K^T)) Y

f: image feature, W: zero-shot classifier, s: CLIP's scale, K: one key per support image, Y: its
label, one-hot. Nothing is trained. alpha and beta are chosen by accuracy on the few-shot validation
set (on a tie the smaller alpha, then the smaller beta); without one they stay at `alpha` and
`beta`.

Deviations from the released code are about this choice; its published numbers were chosen on the
full validation split, on ImageNet on the test set, from a grid of its own per dataset:
- The validation set is the few-shot one, and one coarse logarithmic grid serves all datasets.
- `alpha` and `beta` are the values from which the released code starts on 4 of the 11 datasets.
- A key is the mean of `key_views` features of unit length, not of features as they come.
- W is made from the cell's own templates, the same for every method it is compared with.

Expected: RN50, mean of 11 datasets, 1/2/4/8/16 shots: 62.33 / 64.62 / 66.54 / 68.50 / 70.32 % as
published, a little less here.

Source: Zhang et al., Tip-Adapter, ECCV 2022; gaopengcuhk/Tip-Adapter @ d0e2d6f.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from adapters import _cache
from adapters._settings import CacheModel
from benchmark.api import Episode, Predictor


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Tip-Adapter"
    paper: ClassVar[str] = "arXiv:2207.09519"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    zero_shot_at: ClassVar[dict[str, Any]] = {"alpha": 0.0, "alpha_grid": "0"}

    cache: CacheModel = CacheModel()

    def fit(self, episode: Episode) -> Predictor:
        return _cache.fit(episode, episode.text_features(), self.cache)
