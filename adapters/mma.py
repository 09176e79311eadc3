"""MMA, multi-modal adapter: a small branch beside the upper blocks of both towers, partly shared.

    y = x + block(x) + scale * up(relu(shared(relu(down(ln_1(x))))))

x: what a block reads, ln_1: its own first norm, down: E -> `width`, shared: `width` -> `width`, one
for both towers at the same distance from the output, up: `width` -> E, all with biases. The branch
is small in its values, not in its gradients: what comes back into it is divided by `scale`, and
what leaves it towards x is multiplied by it. So it learns as fast as at scale 1, while the blocks
below see what the small branch really does. Cross-entropy at the backbone's own scale, SGD with
momentum, half a cosine per epoch without a warm-up; the last step counts. At scale 0, or with
up = 0, it is zero-shot CLIP.

Deviations from the released code, and whether `--preset released` follows it instead:

| here | released | preset |
|---|---|---|
| 20 epochs at a rate of 0.01 | 5 at 0.0015, in base-to-new, its one protocol | yes |
| `views` stored crops in turn, of at least half the area | fresh ones, 8 % at least | yes |
| the dataset's own templates | "a photo of a {}." everywhere | yes |
| batches of 16 | of 128 on ImageNet | yes |
| the backbone's precision, with gradient scaling in float16 | half, with gradient scaling | no |

Expected: ViT-B/16, base-to-new at 16 shots, mean of 11 datasets: 83.20 / 76.80, H 79.87 %; few-shot
over all classes was not released. 674,560 trained numbers there. Of the defaults, epochs, rate and
crops were set with the validation split of the tiny suite, the rest is the released setting.
Tiny suite, seeds 1-3: 46.3 ± 0.2 / 44.6 ± 0.9 / 53.8 ± 0.3 % at 1 / 4 / 16 shots (zero-shot 46.0).

Source: Yang et al., MMA: Multi-Modal Adapter for Vision-Language Models, CVPR 2024;
ZjjConan/VLM-MultiModalAdapter @ c3d0bc2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _blocks, _checks, _in_the_loop, _optimisers, _rows, _transfer, _views
from adapters._class_texts import ClassTexts, mask_for
from adapters._settings import Crops, PromptTraining, Sgd
from benchmark.api import Episode, Predictor, State, Target, Tower
from benchmark.training.noise import normal


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "MMA"
    paper: ClassVar[str] = "CVPR 2024"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("text blocks", "image blocks")
    zero_shot_at: ClassVar[dict[str, Any]] = {"scale": 0.0}
    tested_at: ClassVar[dict[str, Any]] = {"epochs": "12", "lr": 0.15}

    width: int = 32
    scale: float = 0.001  # of what the branch adds
    layers: int = 0  # the last so many blocks of each tower; 0: the upper two thirds
    training: PromptTraining = PromptTraining(epochs="20", batch_size=16, lr=0.01, warmup_epochs=0)
    sgd: Sgd = Sgd()
    crops: Crops = Crops(min_scale=0.5)
    keep_mb: int = 4096  # MiB for what the first changed block reads; changes no number

    def __post_init__(self) -> None:
        _checks.at_least(1, width=self.width)
        _checks.at_least(0, scale=self.scale, layers=self.layers, keep_mb=self.keep_mb)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        vision = _blocks.vision(target.backbone, "mma")
        texts = ClassTexts.of(target, self._first(target.backbone.text))
        with torch.no_grad():
            text_KD = text_features(texts, Branches(texts.tower, "text", state, self.scale))
        changes = Branches(vision, "vision", state, self.scale).changes()
        scale = target.backbone.logit_scale
        return _blocks.predictor(vision, self._first(vision), changes, text_KD, scale)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        vision = _blocks.vision(episodes[0].backbone, "mma")
        texts = ClassTexts.of(episodes[0].target, self._first(episodes[0].backbone.text))
        first, scale = self._first(vision), episodes[0].backbone.logit_scale

        def logits_of(parts: Mapping[str, Tensor], x_BLE: Tensor, step: Tensor) -> Tensor:
            changes = Branches(vision, "vision", parts, self.scale).changes()
            image_BD = _blocks.image_features(vision, first, x_BLE, changes)
            text_KD = text_features(texts, Branches(texts.tower, "text", parts, self.scale))
            return scale * image_BD @ text_KD.T

        runs = _in_the_loop.runs(
            episodes,
            self._schedule,
            self._start,
            _views.inputs_for(vision, first, self.crops, self.keep_mb, must_fit=len(episodes) > 1),
            lambda _: _in_the_loop.cross_entropy(logits_of),
        )
        return _in_the_loop.learn(runs, vision, _optimisers.sgd(self.sgd))

    def _first(self, tower: Tower) -> int:
        """The first block with a branch."""
        depth = len(tower.blocks)
        return _blocks.first_of(self.layers, depth) if self.layers else depth // 3

    def _schedule(self, episode: Episode) -> _in_the_loop.Schedule:
        return _in_the_loop.by_epochs(episode, self.training, self.crops, self.sgd.warmup_lr)

    def _start(self, episode: Episode) -> dict[str, Tensor]:
        """Kaiming's normal noise for a ReLU, by the width that a matrix gives; biases of 0."""
        backbone, rng = episode.backbone, episode.rng()
        towers = {"vision": backbone.vision, "text": backbone.text}
        counts = {side: len(tower.blocks) - self._first(tower) for side, tower in towers.items()}
        shapes = {"shared": (max(counts.values()), self.width, self.width)}
        for side, tower in towers.items():
            width = _rows.width(tower)
            shapes[f"{side}/down"] = (counts[side], self.width, width)
            shapes[f"{side}/up"] = (counts[side], width, self.width)
        start = {}
        for name, shape in shapes.items():
            start[f"{name}.weight"] = (2 / shape[1]) ** 0.5 * normal(shape, rng, backbone)
            start[f"{name}.bias"] = start[f"{name}.weight"].new_zeros(shape[:2])
        return start


@dataclass(frozen=True, eq=False)
class Branches:
    """The branches of a tower, the last of a part belonging to its last block."""

    tower: Tower
    side: str
    parts: Mapping[str, Tensor]
    scale: float

    def changes(self) -> _blocks.Changes:
        return _blocks.Changes(beside=self.beside)

    def beside(self, layer: int, h_NLE: Tensor) -> Tensor:
        from_end = layer - len(self.tower.blocks)
        x_NLE = scaled_gradient(h_NLE, self.scale)
        for name in (f"{self.side}/down", "shared"):
            x_NLE = F.relu(self._linear(name, from_end, x_NLE))
        y_NLE = self._linear(f"{self.side}/up", from_end, x_NLE)
        return self.scale * scaled_gradient(y_NLE, 1 / self.scale if self.scale else 0.0)

    def _linear(self, name: str, i: int, x_NLE: Tensor) -> Tensor:
        return F.linear(x_NLE, self.parts[f"{name}.weight"][i], self.parts[f"{name}.bias"][i])


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.factor * gradient, None


def scaled_gradient(x: Tensor, factor: float) -> Tensor:
    """x, whose gradient is multiplied by `factor` on its way back."""
    scaled: Tensor = _ScaledGradient.apply(x, factor)
    return scaled


def text_features(texts: ClassTexts, branches: Branches) -> Tensor:
    """text_KD, unit length."""
    changes = branches.changes()

    def block(layer: int, x_NLE: Tensor) -> Tensor:
        mask_LL = mask_for(texts.tower, x_NLE)
        return _blocks.run_block(texts.tower.blocks[layer], layer, x_NLE, changes, mask_LL=mask_LL)

    return texts.encode(block)
