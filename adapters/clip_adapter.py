"""CLIP-Adapter: a small network behind the image encoder, mixed with CLIP's own feature.

    logits(f) = s g T' / |g|      g = r ReLU(ReLU(f U) V) + (1 - r) f

f: image feature, s: CLIP's scale, T: text features, U (d x d/4) and V (d/4 x d): the network, which
has no bias, r: `ratio`. d^2 / 2 parameters: 131,072 at d = 512, 524,288 at d = 1024. The network is
positively homogeneous and g is brought to unit length, so features of unit length give the logits
of features as they come. Adam, a cosine per epoch down to 0, cross-entropy, the last step counts.
It starts at noise, so only at ratio 0 is it zero-shot CLIP.

Deviations from the released code:

| here | there |
|---|---|
| Adam and the recipe below for all datasets | no configuration; advice to train as CoOp does |
| stored views shared with other methods | fresh crops |
| the network is d / 4 wide | 256 wide, for d = 1024 |

Expected: mean of 11 datasets, 1/2/4/8/16 shots: RN50 62.67 / 65.55 / 68.61 / 71.40 / 74.44 % (run
by Tip-Adapter's authors), ViT-B/16 67.87 / 70.20 / 72.65 / 76.92 / 79.86 % (CLIP-SVD's table).

Source: Gao et al., CLIP-Adapter: Better Vision-Language Models with Feature Adapters, IJCV 2023;
gaopengcuhk/CLIP-Adapter @ 08d07f8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from adapters import _checks, _concepts, _transfer
from adapters._settings import Adam, ConceptTraining, StoredCrops
from benchmark.api import Episode, Predictor, State, Target, unit

NARROWER = 4  # the network's inner width is the feature's divided by this


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "CLIP-Adapter"
    paper: ClassVar[str] = "arXiv:2110.04544"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("text",)
    zero_shot_at: ClassVar[dict[str, Any]] = {"ratio": 0.0}
    # the toy of the tests is 16 wide, which asks for larger steps
    tested_at: ClassVar[dict[str, Any]] = {"lr": 0.02, "ratio": 0.5}

    ratio: float = 0.2  # of the network's output; the rest is CLIP's feature
    training: ConceptTraining = ConceptTraining(epochs="100", batch_size=256, lr=0.003)
    adam: Adam = Adam()
    crops: StoredCrops = StoredCrops()

    def __post_init__(self) -> None:
        _checks.at_least(0, ratio=self.ratio)
        _checks.at_most(1, ratio=self.ratio)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        return _concepts.predictor(bottleneck(self.ratio), state["layers_2HD"], target)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        form, recipe = bottleneck(self.ratio), _concepts.ConceptRecipe(self.training, self.crops)
        learned = _concepts.learn(episodes, form, recipe, _concepts.adamw(self.adam), (0.0,))
        return [{"layers_2HD": layers_12HD[0]} for layers_12HD in learned]


def bottleneck(ratio: float) -> _concepts.Form:
    """The weights are U' and V as layers_2HD, H being the inner width."""

    def start(episode: Episode, rng: Generator) -> Tensor:
        """torch's initial values of linear layers, drawn in float64."""
        dim = episode.text_features().shape[1]
        inner = max(1, dim // NARROWER)
        noise_2HD = 2 * torch.rand(2, inner, dim, generator=rng, dtype=torch.float64) - 1
        bound_2 = torch.tensor([dim, inner], dtype=torch.float64).rsqrt()
        noise_2HD *= bound_2[:, None, None]
        return noise_2HD.to(episode.backbone.device, episode.backbone.dtype)

    def cosines(image_BD: Tensor, layers_A2HD: Tensor, text_KD: Tensor) -> Tensor:
        hidden_ABH = (image_BD @ layers_A2HD[:, 0].mT).relu()
        adapted_ABD = (hidden_ABH @ layers_A2HD[:, 1]).relu()
        mixed_ABD = ratio * adapted_ABD + (1 - ratio) * image_BD
        return (unit(mixed_ABD) @ text_KD.T).transpose(0, 1)

    return _concepts.unregularised(start, cosines)
