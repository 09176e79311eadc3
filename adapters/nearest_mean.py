"""Nearest class mean: an image belongs to the class whose mean feature is nearest.

    logits(f) = s f M^T      M_k = unit(mean of the support features of class k)

f: image feature of unit length, s: CLIP's scale. The text side is not used and nothing is trained.
A class without support images is never predicted.

Deviations: features are frozen and the distance is the cosine, where prototypical networks train
the features and take Euclidean distances.

Expected: nothing published for CLIP's features. EfficientNet-Lite0 on Caltech101: see
results/real/README.md.

Source: Mensink et al., Distance-Based Image Classification, TPAMI 2013; Snell et al., Prototypical
Networks for Few-shot Learning, NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adapters import _transfer
from benchmark.api import Episode, ImageSet, Predictor, State, Target, unit


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Nearest class mean"
    paper: ClassVar[str] = "arXiv:1703.05175"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False

    fit, learn = _transfer.fit, _transfer.learn

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        return [{"mean_KD": _means(episode)} for episode in episodes]

    def predictor(self, state: State, target: Target) -> Predictor:
        mean_KD, scale = state["mean_KD"], target.backbone.logit_scale
        absent_K = ~mean_KD.any(1)

        def predict(images: ImageSet) -> Tensor:
            logits_QK = scale * images.features().to(mean_KD.device) @ mean_KD.T
            return logits_QK.masked_fill(absent_K, torch.finfo(logits_QK.dtype).min)

        return predict


def _means(episode: Episode) -> Tensor:
    """mean_KD at unit length; zeros for a class without images."""
    image_ND = episode.support.images.features()
    labels_N = episode.support.labels_N.to(image_ND.device)
    sum_KD = image_ND.new_zeros(len(episode.class_names), image_ND.shape[1])
    episode.notes["trainable_params"] = 0
    return unit(sum_KD.index_add(0, labels_N, image_ND))  # a sum has the mean's direction
