"""ConES as a prior for Tip-Adapter: the cache of labelled images is read beside concepts found by
search instead of class names.

    logits(f) = s f E^T + alpha exp(-beta (1 - f K^T)) Y      E: the unit concepts of ConES level A
    (adapters/cones.py)

First the concepts are searched for on the support set, then the cache is built and alpha and beta
are chosen on the few-shot validation set as in adapters/tip_adapter.py; the anchor of the search is
chosen on the same images before. Beside Tip-Adapter it shows what the second of the ConES paper's
claims is worth here: that found concepts are a better place to start a later stage from.

Deviations: the paper combines concepts with fine-tuning of detectors and generators; a cache model
as the later stage is ours. Expected: nothing published. Between ConES and Prompt-Adapter, which
starts the same cache from prompts learned on other datasets. Source: Yi et al., ConES, 2023
(abstract); Zhang et al., Tip-Adapter, ECCV 2022; gaopengcuhk/Tip-Adapter @ d0e2d6f.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from adapters import _cache, _concepts
from adapters._checks import part
from benchmark.api import Episode, Predictor, unit


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "ConES + Tip-Adapter"
    paper: ClassVar[str] = "arXiv:2305.18993"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0", "alpha": 0.0, "alpha_grid": "0"}

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

    key_views: int = 10  # random crops averaged into a key
    key_view_seed: int = 0
    key_min_scale: float = 0.5  # smallest share of the area a crop keeps
    alpha_grid: str = "0,0.1,0.3,1,3,10"
    beta_grid: str = "0.5,1,2,4,8,16"
    alpha: float = 1.17  # without a validation set
    beta: float = 1.0

    def __post_init__(self) -> None:
        part(_concepts.Cones, self), part(_cache.Search, self)

    def fit(self, episode: Episode) -> Predictor:
        (concept_KD,) = part(_concepts.Cones, self).find([episode], _concepts.per_class("text"))
        return _cache.fit(episode, unit(concept_KD), part(_cache.Search, self))
