"""A method with a row per class: bound to the classes it has learned."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from benchmark.api import Episode, Predictor


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Rows"
    paper: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True

    def fit(self, episode: Episode) -> Predictor:
        image_ND, labels_N = episode.support.images.features(), episode.support.labels_N
        mean_KD = torch.stack([image_ND[labels_N == k].mean(0) for k in labels_N.unique()])
        return lambda images: images.features() @ mean_KD.T
