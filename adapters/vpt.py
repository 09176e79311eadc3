"""VPT, visual prompt tuning: learned tokens beside the image's own, before each block or the first.

    deep:     [CLS, P_l, patches] -> block l; the outputs at P_l are replaced by P_{l+1}
    shallow:  [CLS, P, patches] -> all blocks
    logits = s f(x; P) t_k

x: image, f(x; P): its feature with prompts P, s: CLIP's scale, t_k: text feature of class k. The
text side is the zero-shot classifier. Deep VPT is the exact prompt tuning that APT
(adapters/apt.py) approximates, so both share their training recipe here, and comparing the two
compares the modules alone. T E parameters per prompted block; every prompt is a token that goes
through the block, about 12 T E^2 multiply-accumulates each.

Deviations from MVLPT's CLIP form (16 deep tokens, SGD 0.002, CoOp's epochs):
- The recipe is that of APT: AdamW with linear warm-up and decay, the same steps and views; prompts
  have no weight decay.
- Prompts start as uniform noise of VPT's size, sqrt(6 / (3 p^2 + E)) for patches of p pixels.
- Images are `views` stored random crops per image, in turn epoch by epoch; `views=0` draws fresh
  ones.

Expected: few-shot means over the eleven datasets were not published for this form. Tiny suite,
seeds 1-3: 40.1 ± 1.9 / 42.4 ± 0.8 / 49.8 ± 0.5 % at 1 / 4 / 16 shots (zero-shot 46.0); see also
benches/claims.py.

Source: Jia et al., Visual Prompt Tuning, ECCV 2022; KMnP/vpt, and sIncerass/MVLPT @ 6fa518b for
CLIP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adapters import _blocks, _checks, _in_the_loop, _optimisers, _rows, _transfer, _views
from adapters._settings import Adam, Crops, TowerTraining
from benchmark.api import Backbone, Episode, Predictor, State, Target, VisionTower


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "VPT"
    paper: ClassVar[str] = "arXiv:2203.12119"
    version: ClassVar[int] = 2
    few_shot: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("text", "image blocks")

    n_prompts: int = 16
    deep: bool = True
    layers: int = 0  # only the last so many blocks; 0: all
    training: TowerTraining = TowerTraining(weight_decay=0.0)
    adam: Adam = Adam(beta2=0.98)
    crops: Crops = Crops(min_scale=0.5)
    keep_mb: int = 4096  # MiB for what the first prompted block reads; changes no number

    def __post_init__(self) -> None:
        _checks.at_least(1, n_prompts=self.n_prompts)
        _checks.at_least(0, layers=self.layers, keep_mb=self.keep_mb)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        tower, first = self._tower(target.backbone)
        changes = _rows.Rows(state["prompt_JTE"], first).changes()
        scale = target.backbone.logit_scale
        return _blocks.predictor(tower, first, changes, target.text_features(), scale)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        tower, first = self._tower(episodes[0].backbone)
        scale, text_KD = episodes[0].backbone.logit_scale, episodes[0].text_features()

        def start_of(episode: Episode) -> _in_the_loop.Parts:
            return {"prompt_JTE": self._start(episode, tower, len(tower.blocks) - first)}

        def logits_of(parts: Mapping[str, Tensor], x_BLE: Tensor, step: Tensor) -> Tensor:
            changes = _rows.Rows(parts["prompt_JTE"], first).changes()
            return scale * _blocks.image_features(tower, first, x_BLE, changes) @ text_KD.T

        runs = _in_the_loop.runs(
            episodes,
            lambda episode: _in_the_loop.schedule(episode, self.training, self.crops),
            start_of,
            _views.inputs_for(tower, first, self.crops, self.keep_mb, must_fit=len(episodes) > 1),
            lambda _: _in_the_loop.cross_entropy(logits_of),
        )
        optimiser = _optimisers.adamw(self.adam, self.training.weight_decay)
        return _in_the_loop.learn(runs, tower, optimiser)

    def _tower(self, backbone: Backbone) -> tuple[VisionTower, int]:
        """The image tower and its first prompted block."""
        tower = _rows.vision(backbone, "vpt")
        return tower, _blocks.first_of(self.layers, len(tower.blocks))

    def _start(self, episode: Episode, tower: VisionTower, blocks: int) -> Tensor:
        sets = blocks if self.deep else 1
        return uniform_prompts(episode, sets, self.n_prompts, _rows.width(tower))


def uniform_prompts(episode: Episode, count: int, n_prompts: int, width: int) -> Tensor:
    """prompt_JTE of VPT's size: that of a fresh linear map from a patch's pixels to a token."""
    device, dtype = episode.backbone.device, episode.backbone.dtype
    pixels = next(episode.support.images.pixels(1)).shape
    blank_1CHW = torch.zeros(1, *pixels[1:], dtype=dtype, device=device)
    tokens = episode.backbone.vision.start(blank_1CHW).shape[1]
    patch_area = pixels[-1] * pixels[-2] / (tokens - 1)
    bound = (6 / (3 * patch_area + width)) ** 0.5
    noise_JTE = torch.rand(count, n_prompts, width, generator=episode.rng())
    return (2 * noise_JTE.to(device, dtype) - 1) * bound
