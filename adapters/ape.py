"""APE: Tip-Adapter's cache on the channels that tell classes apart, its keys weighed by CLIP.

    logits(f) = s f T' + alpha * sum over the keys k of a class of exp(beta (f~ k~ - 1) + gamma D_k)

f: image feature, s: CLIP's scale, T: text features, ~: the kept channels at unit length, k: a
support image. Kept are the `channels` of all channels q with the highest

    v var_k(t_kq) - u mean of x_q y_q over pairs of different classes      u + v = 1

x, y: keys and text features; u is `similarity_weight`. D_k: bits that zero-shot CLIP on the kept
channels needs for the label of k (softmax of cosines, without CLIP's scale). Nothing is trained;
alpha, beta and gamma are chosen on the few-shot validation set. With all channels and gamma 0 it is
Tip-Adapter.

Deviations from the released code:

| here | there |
|---|---|
| the cell's templates | the same and GPT-3's sentences on every class |
| one share of channels, one u and one coarse grid for all | per dataset, of unstated origin |
| the few-shot validation set | the full one, on ImageNet the test set; 80,000 points |
| keys by label, counts may differ | by first appearance: classes mix on Flowers and Cars |
| D without the floors of 1e-6 | with them |

Expected: RN50, mean of 11 datasets, 1/2/4/8/16 shots: 65.13 / 67.19 / 69.47 / 71.58 / 73.36 % as
published with GPT-3's sentences; between Tip-Adapter and that here.

Source: Zhu et al., Not All Features Matter: Enhancing Few-shot CLIP with Adaptive Prior Refinement,
ICCV 2023; yangyangyang127/APE @ 70460de.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adapters import _ape, _transfer
from adapters._settings import CacheModel, Refinement
from benchmark.api import Episode, Predictor, State, Target


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "APE"
    paper: ClassVar[str] = "arXiv:2304.01195"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)
    zero_shot_at: ClassVar[dict[str, Any]] = {"alpha": 0.0, "alpha_grid": "0"}

    cache: CacheModel = CacheModel()
    refinement: Refinement = Refinement()

    fit, learn = _transfer.fit, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        return _ape.predictor(state, target.backbone.logit_scale)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        return [self._refined(episode) for episode in episodes]

    def _refined(self, episode: Episode) -> State:
        refined = _ape.build(episode, self.cache, self.refinement)
        chosen = _ape.choose(refined, episode, self.cache, self.refinement)
        return _ape.scored(refined, *chosen)
