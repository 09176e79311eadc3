"""VPT, visual prompt tuning: learned tokens beside the image's own, in front of every block (deep)
or of the first one (shallow).

    deep:     [CLS, P_l, patches] -> block l, the outputs at P_l thrown away and P_{l+1} put in
    their place shallow:  [CLS, P, patches] -> all blocks
    logits = s f(x; P) t_k

The text side is the zero-shot classifier. Deep VPT is the exact prompt tuning that APT
(adapters/apt.py) approximates, so both share their training recipe here, and a comparison of the
two compares the modules alone. T E parameters per prompted block; every prompt is a token that goes
through the block, about 12 T E^2 multiply-accumulates each.

Deviations from MVLPT's CLIP form (16 deep tokens, SGD 0.002, CoOp's epochs):
- the recipe is that of APT: AdamW with linear warm-up and decay, the same steps and views; prompts
feel no weight decay.
- prompts start as uniform noise of VPT's size, sqrt(6 / (3 p^2 + E)) for patches of p pixels.
- images are `views` stored random crops per image, in turn epoch by epoch; `views=0` draws fresh
ones. Expected: few-shot means over the eleven datasets were not published for this form; on the
tiny suite see benches/claims.py. Source: Jia et al., Visual Prompt Tuning, ECCV 2022; KMnP/vpt, and
sIncerass/MVLPT @ 6fa518b for CLIP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from adapters import _blocks, _checks, _in_the_loop
from adapters._checks import part
from benchmark.api import Episode, Predictor, UserError, VisionTower

WAY_OUT = "take a ViT backbone or a text-side method such as coop"


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "VPT"
    paper: ClassVar[str] = "arXiv:2203.12119"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True

    n_prompts: int = 16
    deep: bool = True
    layers: int = 0  # only the last so many blocks; 0: all
    epochs: str = "1:5,2:10,4:20,8:30,16:50"  # up to so many shots: epochs
    batch_size: int = 16
    lr: float = 0.01
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-8
    views: int = 16
    view_seed: int = 0
    min_scale: float = 0.5  # smallest share of the area a crop keeps
    keep_mb: int = 4096  # for what the first touched block reads; moves no number

    def __post_init__(self) -> None:
        part(_in_the_loop.Views, self), part(_in_the_loop.Optimiser, self)
        _checks.at_least(1, n_prompts=self.n_prompts)
        _checks.at_least(0, layers=self.layers)

    def fit(self, episode: Episode) -> Predictor:
        tower, scale, text_KD = (
            _blocks.vision(episode, "vpt", WAY_OUT),
            episode.backbone.logit_scale,
            episode.text_features(),
        )
        if not tower.reads_first:
            raise UserError(
                f"vpt adds tokens that the image tower of {episode.backbone.name} would read out as patches; {WAY_OUT}"
            )
        first = _blocks.first_of(self.layers, len(tower.blocks))

        def logits_of(parts: Mapping[str, Tensor], x_BLE: Tensor) -> Tensor:
            return (
                scale
                * _blocks.image_features(tower, first, x_BLE, prompted(parts["prompt_JTE"], first))
                @ text_KD.T
            )

        optimiser, views = part(_in_the_loop.Optimiser, self), part(_in_the_loop.Views, self)
        read = _in_the_loop.Inputs(
            episode.support.images, tower, first, views, episode.backbone.device
        )
        schedule = _in_the_loop.Schedule.of(episode, optimiser, views)
        start = {"prompt_JTE": self._start(episode, tower, len(tower.blocks) - first)}
        prompt_JTE = _in_the_loop.learn(episode, schedule, optimiser, start, read, logits_of)[
            "prompt_JTE"
        ]
        return _blocks.predictor(tower, first, prompted(prompt_JTE, first), text_KD, scale)

    def _start(self, episode: Episode, tower: VisionTower, touched: int) -> Tensor:
        block: Any = tower.blocks[0]
        width = int(block.ln_1.weight.shape[0])
        return uniform_prompts(episode, touched if self.deep else 1, self.n_prompts, width)


def uniform_prompts(episode: Episode, count: int, n_prompts: int, width: int) -> Tensor:
    """prompt_JTE of VPT's size: that of a fresh linear map from a patch's pixels to a token."""
    pixels = next(episode.support.images.pixels(1)).shape
    tokens = episode.backbone.vision.start(
        torch.zeros(1, *pixels[1:], dtype=episode.backbone.dtype, device=episode.backbone.device)
    ).shape[1]
    patch_area = pixels[-1] * pixels[-2] / (tokens - 1)
    bound = (6 / (3 * patch_area + width)) ** 0.5
    noise_JTE = torch.rand(count, n_prompts, width, generator=episode.rng())
    noise_JTE = noise_JTE.to(episode.backbone.device, episode.backbone.dtype)
    return (2 * noise_JTE - 1) * bound


def prompted(prompt_JTE: Tensor, first: int) -> _blocks.Reach:
    """Tokens behind the class token: put in at block `first`, put in anew at every later block that
    has prompts of its own.
    """
    touched, n_prompts = prompt_JTE.shape[:2]

    def enter(layer: int, x_NLE: Tensor) -> Tensor:
        j = layer - first
        if j >= touched:
            return x_NLE
        patch_NLE = x_NLE[:, 1 + (n_prompts if j else 0) :]
        return torch.cat([x_NLE[:, :1], prompt_JTE[j].expand(len(x_NLE), -1, -1), patch_NLE], dim=1)

    return _blocks.Reach(enter=enter)
