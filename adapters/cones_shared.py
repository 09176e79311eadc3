"""ConES, level C: one concept shared by all classes, "what this domain looks like", and a few
directions along which classes differ.

    e_k = t_k + u + U_k V        u: D, U: K x r, V: r x D, start: u = U = 0        logits = s f e_k
    / |e_k|

Everything else as in adapters/cones.py: anchor on the validation set, AdamW on the whole support
set, no encoder in the loop. With
`rank=0` only the shared concept is searched for: D parameters, and K D + ... are left alone; with
rank r it is D + r (K + D).

Deviations: as in adapters/cones.py; this level is our reading of what a concept could be for a
classifier. Expected: nothing published. Between zero-shot and level A where images are many, above
level A where they are few. Source: Yi et al., ConES: Concept Embedding Search for Parameter
Efficient Tuning Large Vision Language Models, 2023 (abstract).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from adapters import _checks, _concepts
from adapters._checks import part
from benchmark.api import Episode, Predictor
from benchmark.training.noise import normal


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "ConES shared"
    paper: ClassVar[str] = "arXiv:2305.18993"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0"}

    rank: int = 4  # 0: the shared concept alone
    anchors: str = "0,1,10,100"  # tried on the validation set
    anchor: float = 10.0  # without one
    epochs: str = "4:100,16:200"  # up to so many shots: epochs
    batch_size: int = 0  # 0: the whole support set at every step
    lr: float = 0.02  # as a share of a coordinate's own size
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    views: int = 16  # stored random crops per image, in turn epoch by epoch
    view_seed: int = 0
    min_scale: float = 0.5  # smallest share of the area a crop keeps

    def __post_init__(self) -> None:
        part(_concepts.Cones, self)
        _checks.at_least(0, rank=self.rank)

    def fit(self, episode: Episode) -> Predictor:
        return self.fit_batch([episode])[0]

    def fit_batch(self, episodes: Sequence[Episode]) -> list[Predictor]:
        form = shared(self.rank)
        found = part(_concepts.Cones, self).find(episodes, form)
        return [
            _concepts.predictor(form, weights_X, episode)
            for weights_X, episode in zip(found, episodes, strict=True)
        ]


def shared(rank: int) -> _concepts.Form:
    """Weights are u, V and U in a row; lengths as in level A."""

    def start(episode: Episode, rng: Generator) -> Tensor:
        text_KD = episode.text_features()
        classes, dim = text_KD.shape
        directions_X = normal([rank * dim], rng, episode.backbone)
        zero_D, zero_X = text_KD.new_zeros(dim), text_KD.new_zeros(classes * rank)
        return torch.cat([zero_D, directions_X, zero_X])

    def concepts(weights_AX: Tensor, text_KD: Tensor) -> Tensor:
        classes, dim = text_KD.shape
        shared_AD, rest = weights_AX[:, :dim], weights_AX[:, dim:]
        direction_ArD, share_AKr = (
            rest[:, : rank * dim].unflatten(1, (rank, dim)),
            rest[:, rank * dim :].unflatten(1, (classes, rank)),
        )
        return _concepts.lengthened(text_KD, 1.0) + shared_AD[:, None] + share_AKr @ direction_ArD

    def cosines(image_BD: Tensor, weights_AX: Tensor, text_KD: Tensor) -> Tensor:
        return _concepts.class_cosines(image_BD, concepts(weights_AX, text_KD))

    def pull(weights_AX: Tensor, text_KD: Tensor) -> Tensor:
        return _concepts.distance(concepts(weights_AX, text_KD), text_KD)

    def home(episode: Episode, image_MD: Tensor, labels_M: Tensor) -> Tensor:
        return episode.text_features()

    return _concepts.Form(start, cosines, pull, home)
