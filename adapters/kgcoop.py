"""KgCoOp: CoOp whose prompts are kept near the hand-written ones, to serve classes not yet seen.

    min over V of CE(s f . t_c(V), y) + regularisation * (1 - mean over classes of t_c(V) . w_c)

V, f, t_c, s, y: as in CoOp (adapters/coop.py); w: the zero-shot classifier. Four vectors, starting
from "a photo of a". With 0 epochs it is zero-shot CLIP with that template.

Deviations from the released code, and whether `--preset released` follows it instead:

| here | released | preset |
|---|---|---|
| w is the cell's own classifier | its templates differ from CoOp's on DTD | yes |
| stored views | fresh crops in every epoch | yes |
| CoOp's 50 epochs from 500 classes on | 100 on ImageNet too | yes |
| the backbone's precision | half | no |

Expected: ViT-B/16, mean of 11 datasets, base-to-new at 16 shots: base 80.73, new 73.6, harmonic
mean 77.0 %; 1/2/4/8/16 shots: 69.51 / 71.57 / 74.48 / 75.82 / 77.26 % (CLIP-SVD's table).

Source: Yao et al., Visual-Language Prompt Tuning with Knowledge-guided Context Optimization,
CVPR 2023; htyao89/KgCoOp @ c43ccc3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from adapters import _checks, _prompts, _transfer
from adapters._settings import Context, Crops, PromptTraining, Sgd
from benchmark.api import Episode, Predictor, State, Target


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "KgCoOp"
    paper: ClassVar[str] = "arXiv:2303.13283"
    version: ClassVar[int] = 2
    few_shot: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("prompts",)
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0"}

    regularisation: float = 8.0  # weight of the distance to the hand-written prompts
    context: Context = Context(n_ctx=4, ctx_init="a photo of a")
    training: PromptTraining = PromptTraining(epochs="100", batch_size=128)
    sgd: Sgd = Sgd()
    crops: Crops = Crops()

    def __post_init__(self) -> None:
        _checks.at_least(0, regularisation=self.regularisation)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        return _prompts.predictor(state, target, self.context)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        hand_KD = episodes[0].text_features()

        def objective(batch: _prompts.Batch) -> Tensor:
            loss_R = _prompts.cross_entropy(batch)
            return torch.stack([loss_R, self.regularisation * distance(batch.text_RKD, hand_KD)])

        recipe = _prompts.PromptRecipe(self.context, self.training, self.sgd, self.crops)
        return _prompts.learn(episodes, recipe, objective)


def distance(text_RKD: Tensor, hand_KD: Tensor) -> Tensor:
    """1 - mean cosine, per run."""
    return 1 - (text_RKD * hand_KD).sum(-1).mean(-1)
