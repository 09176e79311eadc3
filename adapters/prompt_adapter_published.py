"""Prompt-Adapter as published: a diagnostic, never ranked, because its text classifier has seen the
target's full training set.

    logits(f) = s f t(V0)^T + alpha exp(-beta (1 - f K^T)) Y      V0: pretrained on the full
    training sets of all datasets

The command in the authors' fork of MVLPT trains one context (16 vectors, class name in the middle)
on all eleven datasets with all their training images; the text features that come out serve every
number of shots. Cells of this method differ from few-shot cells by orders of magnitude in the
labels they use, and their records say so. Without a prior it is Tip-Adapter.

Deviations: a softmax per task; `pretrain_steps` steps of batch 512 (there 200 epochs); text
features have unit length (there as saved, possibly unnormalised); alpha and beta on the few-shot
validation set and one grid, where the released code searches the full validation split, on ImageNet
the test set, with a grid of its own per dataset. Expected: ViT-B/16, mean of 11 datasets,
1/2/4/8/16 shots: 74.61 / 74.83 / 75.38 / 75.95 / 77.20 %. Source: Sun et al., Prompt Tuning based
Adapter for Vision-Language Model Adaption, 2023; Jingchensun/prompt_adapter @ f9cd186,
Jingchensun/mvlpt @ 66bee98, sIncerass/MVLPT @ 6fa518b.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adapters import _cache, _multitask, _prompts
from adapters._checks import part
from benchmark.api import Episode, Predictor, State


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Prompt-Adapter, as published"
    paper: ClassVar[str] = "arXiv:2303.15234"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    sources: ClassVar[str] = "all"
    source_shots: ClassVar[int] = -1
    zero_shot_at: ClassVar[dict[str, Any]] = {"alpha": 0.0, "alpha_grid": "0"}

    n_ctx: int = 16
    position: str = "middle"  # of the class name: end, middle or front
    ctx_init: str = ""  # words to start from; empty: random
    init_std: float = 0.02
    precision: str = "float32"  # of the text tower: float32 or bfloat16

    pretrain_steps: int = 1000
    pretrain_batch_size: int = 512
    pretrain_lr: float = 0.002
    pretrain_warmup_steps: int = 50
    warmup_lr: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    views: int = 16  # stored random crops; 0: fresh ones every epoch
    view_seed: int = 0
    min_scale: float = 0.08  # smallest share of the area a crop keeps

    key_views: int = 10  # random crops averaged into a key
    key_view_seed: int = 0
    key_min_scale: float = 0.5
    alpha_grid: str = "0,0.1,0.3,1,3,10"
    beta_grid: str = "0.5,1,2,4,8,16"
    alpha: float = 1.17  # without a validation set
    beta: float = 1.0

    def __post_init__(self) -> None:
        part(_prompts.Context, self)
        part(_multitask.Pretraining, self)
        part(_cache.Search, self)

    def pretraining(self) -> Mapping[str, Any]:
        return _multitask.identity(part(_prompts.Context, self), part(_multitask.Pretraining, self))

    def pretrain(self, episodes: Sequence[Episode]) -> State:
        return _multitask.pretrain(
            episodes, part(_prompts.Context, self), part(_multitask.Pretraining, self)
        )

    def fit(self, episode: Episode) -> Predictor:
        text_KD = _multitask.classifier(episode, part(_prompts.Context, self))
        return _cache.fit(episode, text_KD, part(_cache.Search, self))
