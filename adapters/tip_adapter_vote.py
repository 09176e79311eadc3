"""Tip-Adapter, vote: all pairs of a fixed grid give their probabilities, and no pair is chosen.

    p(f) = mean over alpha, beta of softmax(s f W' + alpha exp(-beta (1 - f K')) Y)
    logits = log p

f, s, W, K, Y: as in Tip-Adapter (adapters/tip_adapter.py). Choosing a setting needs labels beyond
the support set, and a fixed one suits some datasets only; a vote of the grid needs neither. No
validation set is read. It costs a softmax per pair, the affinities once per beta.

Deviations from FewTrans, whose idea it is:

| here | there |
|---|---|
| probabilities averaged | a majority of 9 runs |
| the grid of Tip-Adapter, which is trained nowhere | rates around values found on held-out data |

Expected: nothing published. On the tiny suite 48.5 / 52.0 / 55.0 % at 1 / 4 / 16 shots, where
Tip-Adapter with the fixed pair has 47.0 / 49.0 / 52.9 % and with one chosen on the validation set
47.3 / 53.0 / 56.6 %.

Source: Luo et al., FewTrans: hyper-parameter ensemble; Frankluox/FewTrans @ d7b90f4. Zhang et al.,
Tip-Adapter, ECCV 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adapters import _cache, _transfer
from adapters._settings import CacheModel
from benchmark.api import Episode, ImageSet, Predictor, State, Target


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Tip-Adapter, vote"
    paper: ClassVar[str] = "arXiv:2207.09519"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)

    cache: CacheModel = CacheModel()

    fit, learn = _transfer.fit, _transfer.learn

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        for episode in episodes:
            episode.notes["voters"] = len(self.cache.alphas) * len(self.cache.betas)
        built = [_cache.build(each, each.text_features(), self.cache) for each in episodes]
        return [_cache.to_state(cache) for cache in built]

    def predictor(self, state: State, target: Target) -> Predictor:
        cache = _cache.from_state(state, target.backbone.logit_scale)

        def predict(images: ImageSet) -> Tensor:
            image_QD = images.features().to(cache.text_KD.device)
            parts = image_QD.split(_cache.block(image_QD.device))
            return torch.cat([vote(cache, part_ND, self.cache) for part_ND in parts])

        return predict


def vote(cache: _cache.Cache, image_ND: Tensor, model: CacheModel) -> Tensor:
    """The logarithm of the mean probability, as logits_NK."""
    text_NK, close_NKJ = cache.scale * image_ND @ cache.text_KD.T, _cache.closeness(cache, image_ND)
    alpha_A11 = text_NK.new_tensor(model.alphas)[:, None, None]
    cache_BNK = torch.stack([(beta * close_NKJ).exp().sum(2) for beta in model.betas])
    logits_BANK = text_NK + alpha_A11 * cache_BNK[:, None]
    voters = len(model.alphas) * len(model.betas)
    return logits_BANK.log_softmax(-1).flatten(0, 1).logsumexp(0) - math.log(voters)
