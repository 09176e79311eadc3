"""Cross-modal linear probe: class names are training samples beside the images.

    loss = CE(s f W', y) + weight * CE(s T W', 1..K)      logits = s f W'

f: image feature, s: CLIP's scale, T: text features, one row per class, y: label, W: the weights,
one row per class, which start at T and are not brought back to unit length, so that the untrained
method is zero-shot CLIP. AdamW, a warm-up of one epoch, a cosine per epoch down to 0, the last step
counts. `kept` mixes the start into the weights after training (0.5 is WiSE-FT). Without the second
term it is a linear probe that starts at the text.

Deviations from the released code:

| here | there |
|---|---|
| one recipe for all cells, as below | the best of 12 per seed by few-shot validation |
| the last step | the best of at most 12,800 by few-shot validation |
| every step sees the texts of all classes | half of the batch is texts |
| a class has one text, the mean of the cell's templates | every template is a sample |
| stored random crops | the centre crop and its mirror image |

Expected: no table is released.

Source: Lin et al., Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal
Models, CVPR 2023; linzhiqiu/cross_modal_adaptation @ ac9077e.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adapters import _checks, _concepts, _transfer
from adapters._settings import Adam, ConceptTraining, StoredCrops, WarmUp
from benchmark.api import Episode, Predictor, State, Target


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Cross-modal probe"
    paper: ClassVar[str] = "arXiv:2301.06267"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0"}

    text_weight: float = 1.0  # of the texts' cross-entropy; 0: images alone
    kept: float = 0.0  # share of the start in the final weights
    training: ConceptTraining = ConceptTraining(epochs="100", batch_size=256, lr=0.001)
    warmup: WarmUp = WarmUp()
    adam: Adam = Adam()
    weight_decay: float = 0.01
    crops: StoredCrops = StoredCrops(min_scale=0.5)

    def __post_init__(self) -> None:
        _checks.at_least(0, text_weight=self.text_weight, kept=self.kept)
        _checks.at_least(0, weight_decay=self.weight_decay)
        _checks.at_most(1, kept=self.kept)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        return _concepts.predictor(probe(), state["w_KD"], target)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        recipe = _concepts.ConceptRecipe(self.training, self.crops, self.warmup)
        optimiser = _concepts.adamw(self.adam, self.weight_decay)
        learned = _concepts.learn(episodes, probe(), recipe, optimiser, (self.text_weight,))
        return [
            {"w_KD": torch.lerp(w_1KD[0], episode.text_features(), self.kept)}
            for w_1KD, episode in zip(learned, episodes, strict=True)
        ]


def probe() -> _concepts.Form:
    """The weights are w_KD; the penalty compares them with the scaled text of all classes."""

    def start(episode: Episode, rng: Generator) -> Tensor:
        return episode.text_features()

    def products(image_BD: Tensor, w_AKD: Tensor, text_KD: Tensor) -> Tensor:
        return (image_BD @ w_AKD.flatten(0, 1).T).unflatten(1, w_AKD.shape[:2])

    def target(episode: Episode, image_MD: Tensor, labels_M: Tensor) -> Tensor:
        return episode.backbone.logit_scale * episode.text_features()

    def penalty(w_AKD: Tensor, scaled_KD: Tensor) -> Tensor:
        """The texts' cross-entropy."""
        class_K = torch.arange(len(scaled_KD), device=scaled_KD.device)
        logits_AKK = scaled_KD @ w_AKD.mT
        return torch.stack([F.cross_entropy(logits_KK, class_K) for logits_KK in logits_AKK])

    return _concepts.Form(start, products, penalty, target)
