"""ConES as a prior for Tip-Adapter: the cache stands beside concepts instead of class names.

    logits(f) = s f E^T + alpha exp(-beta (1 - f K^T)) Y

f: image feature, s: CLIP's scale, E: the unit concepts of ConES level A (adapters/cones.py), K: one
key per support image, Y: its label, one-hot. First the concepts are searched for on the support
set; then the cache is built, and alpha and beta are chosen on the few-shot validation set, as in
adapters/tip_adapter.py. The regularisation weight of the search is chosen on the same images
before. Beside Tip-Adapter it shows what the paper's second claim is worth here: that concepts are
a better start for a later stage.

Deviations: the paper combines concepts with fine-tuning of detectors and generators; a cache model
as the later stage is ours.

Expected: nothing published. Between ConES and Prompt-Adapter, which starts the same cache from
prompts learned on other datasets.

Source: Yi et al., ConES, 2023 (abstract); Zhang et al., Tip-Adapter, ECCV 2022;
gaopengcuhk/Tip-Adapter @ d0e2d6f.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adapters import _cache, _concepts, _transfer
from adapters._settings import Adam, CacheModel, ConceptTraining, Regularisation, StoredCrops
from benchmark.api import Episode, Predictor, State, Target, unit


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "ConES + Tip-Adapter"
    paper: ClassVar[str] = "arXiv:2305.18993"
    version: ClassVar[int] = 2
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0", "alpha": 0.0, "alpha_grid": "0"}

    regularisation: Regularisation = Regularisation()
    training: ConceptTraining = ConceptTraining()  # lr: as a share of a coordinate's own size
    adam: Adam = Adam()
    crops: StoredCrops = StoredCrops(min_scale=0.5)
    cache: CacheModel = CacheModel()

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        return _cache.predictor(state, target.backbone.logit_scale)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        form = _concepts.per_class("text")
        recipe = _concepts.ConceptRecipe(self.training, self.crops)
        concepts = _concepts.search(episodes, form, recipe, self.adam, self.regularisation)
        return _cache.learn(episodes, [unit(each_KD) for each_KD in concepts], self.cache)
