"""SS-Text: text prototypes moved towards the images of their class by a closed form, no search.

    w_k = t_k + s / (N lambda_k) sum of the features of class k      logits = s f w_k / |w_k|
    lambda_k = max(1 / N, 0.001)

f: image feature, s: CLIP's scale, t_k: text feature of class k, N: support images. With up to 1000
images this is t_k + s * sum: nearly the mean of the class's images, and the text feature itself for
a class without any. Nothing is trained or chosen, and no validation set is read.

`repel` is SS-Text+: lambda_k = max(1 / n_k, 0.001), n_k the class's own images, and from every w_k
the unit vector of 2 w_k - (mean of all w) is taken away. That vector has weight 1 against a w_k
that is little longer with many classes and one image: there it turns the ranking upside down. It
is meant for several images per class, and not the default.

Deviations from the released code:

| here | there |
|---|---|
| centre crops | the features of its own medical models, augmented as its settings say |
| text features of unit length, the cell's templates | likewise, its own templates |

Expected: published on medical images only. On natural images near the nearest class mean: below
zero-shot CLIP at one shot, well above it at sixteen.

Source: Silva-Rodriguez et al., SS-Text and SS-Text+, few-shot adaptation without validation;
jusiro/SS-Text @ 4ff4897.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adapters import _checks, _samples, _transfer
from benchmark.api import Episode, ImageSet, Predictor, State, Target, unit
from benchmark.training.batches import Bank


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "SS-Text"
    paper: ClassVar[str] = "github.com/jusiro/SS-Text"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)

    repel: bool = False  # SS-Text+
    least_lambda: float = 1e-3

    def __post_init__(self) -> None:
        _checks.above_zero(least_lambda=self.least_lambda)

    fit, learn = _transfer.fit, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        weight_KD = state["weight_KD"]

        def predict(images: ImageSet) -> Tensor:
            return images.features().to(weight_KD.device) @ weight_KD.T

        return predict

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        return [{"weight_KD": self._weights(episode)} for episode in episodes]

    def _weights(self, episode: Episode) -> Tensor:
        text_KD, scale = episode.text_features(), episode.backbone.logit_scale
        moved_KD = prototypes(
            _samples.centres(episode), text_KD, scale, self.least_lambda, self.repel
        )
        return scale * unit(moved_KD)


def prototypes(
    bank: Bank, text_KD: Tensor, scale: float, least_lambda: float, repel: bool
) -> Tensor:
    """w_KD, not of unit length."""
    sum_KD, count_K = _samples.class_sums(bank, len(text_KD))
    samples = len(bank.labels_M)
    inverse_K = count_K if repel else torch.full_like(count_K, samples)
    lambda_K = (1 / inverse_K.to(text_KD.dtype)).clamp_min(least_lambda)
    moved_KD = text_KD + scale / samples * sum_KD / lambda_K[:, None]
    return moved_KD - unit(2 * moved_KD - moved_KD.mean(0)) if repel else moved_KD
