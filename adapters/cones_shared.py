"""ConES, level C: one concept shared by all classes, and a few directions along which they differ.

    e_k = t_k + u + U_k V        logits = s f e_k / |e_k|

f: image feature, s: CLIP's scale, t_k: text feature of class k, u: the shared concept ("what this
domain looks like"), D numbers, V: r x D directions, U: K x r shares; u and U start as 0. Everything
else as in adapters/cones.py. With `rank=0` only the shared concept is searched for: D parameters;
with rank r it is D + r (K + D).

Deviations: as in adapters/cones.py; this level is our reading of what a concept could be for a
classifier.

Expected: nothing published. On the tiny suite below level A where images are few and level with it
where they are many: 46.6 / 54.6 / 59.5 % at 1 / 4 / 16 shots, level A 50.0 / 55.9 / 59.3 %.

Source: Yi et al., ConES: Concept Embedding Search for Parameter Efficient Tuning Large Vision
Language Models, 2023 (abstract).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from adapters import _checks, _concepts, _transfer
from adapters._settings import Adam, ConceptTraining, Regularisation, StoredCrops
from benchmark.api import Episode, Predictor, State, Target
from benchmark.training.noise import normal


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "ConES shared"
    paper: ClassVar[str] = "arXiv:2305.18993"
    version: ClassVar[int] = 2
    few_shot: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("text",)
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0"}
    transfers_at: ClassVar[dict[str, Any]] = {"rank": 0}

    rank: int = 4  # 0: the shared concept alone
    regularisation: Regularisation = Regularisation()
    training: ConceptTraining = ConceptTraining()  # lr: as a share of a coordinate's own size
    adam: Adam = Adam()
    crops: StoredCrops = StoredCrops(min_scale=0.5)

    def __post_init__(self) -> None:
        _checks.at_least(0, rank=self.rank)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        return _concepts.predictor(shared(self.rank), state["weights_X"], target)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        form, recipe = shared(self.rank), _concepts.ConceptRecipe(self.training, self.crops)
        weights = _concepts.search(episodes, form, recipe, self.adam, self.regularisation)
        return [{"weights_X": weights_X} for weights_X in weights]


def shared(rank: int) -> _concepts.Form:
    """The weights are u, V and U in a row (in suffixes r: rank); lengths as in level A."""

    def start(episode: Episode, rng: Generator) -> Tensor:
        text_KD = episode.text_features()
        classes, dim = text_KD.shape
        directions_X = normal([rank * dim], rng, episode.backbone)
        zero_D, zero_X = text_KD.new_zeros(dim), text_KD.new_zeros(classes * rank)
        return torch.cat([zero_D, directions_X, zero_X])

    def concepts(weights_AX: Tensor, text_KD: Tensor) -> Tensor:
        classes, dim = text_KD.shape
        shared_AD, V_AX, U_AX = weights_AX.split([dim, rank * dim, classes * rank], dim=1)
        V_ArD, U_AKr = V_AX.unflatten(1, (rank, dim)), U_AX.unflatten(1, (classes, rank))
        return _concepts.lengthened(text_KD, 1.0) + shared_AD[:, None] + U_AKr @ V_ArD

    def cosines(image_BD: Tensor, weights_AX: Tensor, text_KD: Tensor) -> Tensor:
        return _concepts.class_cosines(image_BD, concepts(weights_AX, text_KD))

    def penalty(weights_AX: Tensor, text_KD: Tensor) -> Tensor:
        return _concepts.distance(concepts(weights_AX, text_KD), text_KD)

    return _concepts.Form(start, cosines, penalty, _concepts.text_target)
