"""Zero-shot CLIP: an image belongs to the class whose name, put into words, lies nearest.

    logits = s f W^T

f: image feature of unit length, W: one unit text feature per class, s: CLIP's own scale. Several
templates are averaged at unit length and brought to unit length again (CLIP's ensembling rule).
Nothing is learned and the support set is ignored, so there is one number per dataset and backbone.

Deviations: none.

Expected: mean of CoOp's 11 datasets, one template each: RN50 58.77 %, ViT-B/16 65.52 % (that one
with 7 templates on ImageNet).

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from benchmark.api import Episode, ImageSet, Predictor, State, Target


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Zero-shot CLIP"
    paper: ClassVar[str] = "arXiv:2103.00020"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)
    zero_shot_at: ClassVar[dict[str, Any]] = {}

    def fit(self, episode: Episode) -> Predictor:
        return self.predictor(self.learn(episode), episode.target)

    def learn(self, episode: Episode) -> State:
        return {}

    def predictor(self, state: State, target: Target) -> Predictor:
        text_KD, scale = target.text_features(), target.backbone.logit_scale

        def predict(images: ImageSet) -> Tensor:
            return scale * images.features().to(text_KD.device) @ text_KD.T

        return predict
