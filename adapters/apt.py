"""APT, approximated prompt tuning: what deep prompts would add to every attention, for a fraction
of their computation.

Deep prompt tuning shows T learned tokens to every attention and throws their outputs away. All they
do to an image token is to shrink its attention output by a factor and to add a mean of the prompts'
values. APT keeps that sum, without projections, heads and softmax (X: what the attention reads,
attn: its projected output; T prompts P, rank r, one module per block):

    Key = P + P A^T B^T      w = max over T of relu(X Key^T), no gradient      out = (attn + g w
    relu(X Key^T) P) exp(s)

P starts as N(0, 0.02^2), A as N(0, 1), B and s as 0. `init="paper"` has g = 1, untrained;
`init="zero"` (the default here) trains one g per block from 0, so that the first step starts from
zero-shot CLIP: with 1-2 images per class that start is most of what there is. The module works
token by token, so the text tower stays causal and its prompts keep their shared computation. Per
block T E + 2 r E + 1 parameters (+ 1 for g) and 2 T E multiply-accumulates per token; deep prompts
cost about 12 T E^2.

Deviations from the released code, which holds ViLT and METER only:
- everything about CLIP: which towers (`side`), T = 16, the zero gate, AdamW at `lr` for all parts,
epochs, the class prompts (the
  dataset's own templates, encoded anew at every step when the text tower is prompted). One setting
  for all datasets, chosen on the validation split of the tiny suite; few images get few epochs,
  since nothing else keeps both towers from fitting them by heart.
- no dropout on the weights; s is trained, as in ViLT's code (in METER's it stays 0 by an
oversight).
- images are `views` stored random crops per image, in turn epoch by epoch; `views=0` draws fresh
ones. Expected: no published figure on CLIP. On the tiny suite more than 8 points above zero-shot at
16 shots, no worse than it at 1. Source: Wu et al., Approximated Prompt Tuning for Vision-Language
Pre-trained Models, 2023; DoubtedSteam/APT @ d66bbc4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from adapters import _blocks, _checks, _in_the_loop
from adapters._checks import part
from benchmark.api import Backbone, Episode, ImageSet, Predictor, SideTerm, unit
from benchmark.training.noise import normal

TowerParts = Mapping[
    str, Tensor
]  # stacked over the J touched blocks: prompt_JTE, down_JRE, up_JER, scale_J, and gate_J where trained
SPARED = ("scale_J", "gate_J")  # scalars feel no weight decay
WAY_OUT = "set side=text to leave the images to the frozen tower, or take a ViT backbone"


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "APT"
    paper: ClassVar[str] = "arXiv:2306.15706"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0"}

    side: str = "both"  # of the backbone: vision, text or both
    n_prompts: int = 16  # T; 200 in the paper
    rank: int = 4
    init: str = "zero"  # zero: gated, starts as zero-shot; paper: ungated
    init_std: float = 0.02
    layers: int = 0  # only the last so many blocks of a tower; 0: all
    epochs: str = "1:5,2:10,4:20,8:30,16:50"  # up to so many shots: epochs
    batch_size: int = 16
    lr: float = 0.01
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-8
    views: int = 16
    view_seed: int = 0
    min_scale: float = 0.5  # smallest share of the area a crop keeps
    keep_mb: int = 4096  # for what the first touched block reads; moves no number

    def __post_init__(self) -> None:
        part(_in_the_loop.Views, self), part(_in_the_loop.Optimiser, self)
        _checks.one_of(("vision", "text", "both"), side=self.side)
        _checks.one_of(("zero", "paper"), init=self.init)
        _checks.at_least(1, n_prompts=self.n_prompts, rank=self.rank)
        _checks.at_least(0, layers=self.layers, init_std=self.init_std)

    def fit(self, episode: Episode) -> Predictor:
        if self.side == "text":
            return self._fit_text(episode)
        backbone = episode.backbone
        tower = _blocks.vision(episode, "apt", WAY_OUT)
        first = _blocks.first_of(self.layers, len(tower.blocks))
        start = self._start(episode)
        text_of = self._classifier(episode)

        def logits_of(parts: Mapping[str, Tensor], x_BLE: Tensor) -> Tensor:
            reach = _blocks.Reach(side=side_term(under(parts, "vision"), first))
            return (
                backbone.logit_scale
                * _blocks.image_features(tower, first, x_BLE, reach)
                @ text_of(parts).T
            )

        views = part(_in_the_loop.Views, self)
        read = _in_the_loop.Inputs(episode.support.images, tower, first, views, backbone.device)
        parts = self._learn(episode, start, read, logits_of)
        reach = _blocks.Reach(side=side_term(under(parts, "vision"), first))
        return _blocks.predictor(
            tower, first, reach, _constant(text_of, parts), backbone.logit_scale
        )

    def _fit_text(self, episode: Episode) -> Predictor:
        """The image tower stays as it is, so stored features take its place."""
        scale, text_of = episode.backbone.logit_scale, self._classifier(episode)
        optimiser, views = part(_in_the_loop.Optimiser, self), part(_in_the_loop.Views, self)
        read = _in_the_loop.stored_features(
            episode, views, _in_the_loop.Schedule.of(episode, optimiser, views)
        )
        parts = self._learn(
            episode,
            self._start(episode),
            read,
            lambda parts, image_BD: scale * image_BD @ text_of(parts).T,
        )
        text_KD = _constant(text_of, parts)

        def predict(images: ImageSet) -> Tensor:
            return scale * images.features().to(text_KD.device) @ text_KD.T

        return predict

    def _learn(
        self,
        episode: Episode,
        start: Mapping[str, Tensor],
        read: _in_the_loop.Read,
        logits_of: Callable[[_in_the_loop.Parts, Tensor], Tensor],
    ) -> Mapping[str, Tensor]:
        optimiser, views = part(_in_the_loop.Optimiser, self), part(_in_the_loop.Views, self)
        schedule = _in_the_loop.Schedule.of(episode, optimiser, views)
        spared = frozenset(name for name in start if name.endswith(SPARED))
        return _in_the_loop.learn(episode, schedule, optimiser, start, read, logits_of, spared)

    def _start(self, episode: Episode) -> dict[str, Tensor]:
        """Fresh modules for every touched block, named 'vision/...' and 'text/...'."""
        rng, parts = episode.rng(), dict[str, Tensor]()
        for name in ("vision", "text") if self.side == "both" else (self.side,):
            depth, width = _shape(episode.backbone, name)
            touched = depth - _blocks.first_of(self.layers, depth)
            fresh = modules(
                episode.backbone,
                touched,
                self.n_prompts,
                width,
                self.rank,
                self.init_std,
                gated=self.init == "zero",
                rng=rng,
            )
            parts |= {f"{name}/{key}": tensor for key, tensor in fresh.items()}
        return parts

    def _classifier(self, episode: Episode) -> Callable[[Mapping[str, Tensor]], Tensor]:
        """parts -> text_KD: fixed unless the text tower is prompted."""
        if self.side == "vision":
            text_KD = episode.text_features()
            return lambda parts: text_KD
        names = [name.replace("_", " ") for name in episode.class_names]
        tower = episode.backbone.text
        prompts = episode.backbone.whole_prompts(
            [template.format(name) for template in episode.templates for name in names]
        )
        first, shape = (
            _blocks.first_of(self.layers, len(tower.blocks)),
            (len(episode.templates), len(names), -1),
        )

        def text_of(parts: Mapping[str, Tensor]) -> Tensor:
            return unit(
                prompts.encode(side=side_term(under(parts, "text"), first)).view(shape).mean(0)
            )

        return text_of


def modules(
    backbone: Backbone,
    touched: int,
    n_prompts: int,
    width: int,
    rank: int,
    std: float,
    *,
    gated: bool,
    rng: Generator,
) -> dict[str, Tensor]:
    """Fresh parameters of `touched` blocks."""
    prompt_JTE = std * normal([touched, n_prompts, width], rng, backbone)
    parts = {
        "prompt_JTE": prompt_JTE,
        "down_JRE": normal([touched, rank, width], rng, backbone),
        "up_JER": prompt_JTE.new_zeros(touched, width, rank),
        "scale_J": prompt_JTE.new_zeros(touched),
    }
    return parts | ({"gate_J": prompt_JTE.new_zeros(touched)} if gated else {})


def side_term(parts: TowerParts, first: int) -> SideTerm:
    """The modules of a tower as the change they make to the attention of block `first` and of those
    above it.
    """
    prompt_JTE = parts["prompt_JTE"]
    key_JTE = prompt_JTE + (prompt_JTE @ parts["down_JRE"].mT) @ parts["up_JER"].mT
    value_JTE = prompt_JTE if "gate_J" not in parts else prompt_JTE * parts["gate_J"][:, None, None]
    grown_J = parts["scale_J"].exp()

    def side(layer: int, x_NLE: Tensor, attn_NLE: Tensor) -> Tensor:
        j = layer - first
        if j < 0:
            return attn_NLE
        weight_NLT = (x_NLE @ key_JTE[j].mT).relu()
        weight_NLT = weight_NLT * weight_NLT.detach().amax(-1, keepdim=True)
        return (attn_NLE + weight_NLT @ value_JTE[j]) * grown_J[j]

    return side


def under(parts: Mapping[str, Tensor], tower: str) -> dict[str, Tensor]:
    """The parts of one tower, by their own names."""
    return {
        name.split("/")[1]: tensor for name, tensor in parts.items() if name.startswith(f"{tower}/")
    }


@torch.no_grad()
def _constant(
    text_of: Callable[[Mapping[str, Tensor]], Tensor], parts: Mapping[str, Tensor]
) -> Tensor:
    return text_of(parts)


def _shape(backbone: Backbone, tower: str) -> tuple[int, int]:
    """Blocks and width of a tower."""
    blocks: Any = backbone.vision.blocks if tower == "vision" else backbone.text.blocks
    return len(blocks), int(blocks[0].ln_1.weight.shape[0])
