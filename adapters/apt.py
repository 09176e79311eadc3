"""APT, approximated prompt tuning: the effect of deep prompts for a fraction of their computation.

Deep prompt tuning shows T learned tokens to every attention and discards their outputs. All they do
to an image token is to shrink its attention output by a factor and to add a mean of the prompts'
values. APT keeps that sum, without projections, heads and softmax:

    Key = P + P A^T B^T
    w   = max over T of relu(X Key^T), without gradient
    out = (attn + g w relu(X Key^T) P) exp(s)

X: attention input, attn: its projected output, P: T prompts, A and B: rank r, s: scale, g: gate,
one module per block. P starts as N(0, 0.02^2), A as N(0, 1), B and s as 0. `init="paper"` has an
untrained g = 1; `init="zero"` (the default here) trains one g per block from 0, so that the first
step starts from zero-shot CLIP: with 1-2 images per class that start is most of what there is. The
module works token by token, so the text tower stays causal and its prompts keep their shared
computation. Per block T E + 2 r E + 1 parameters (+ 1 for g) and 2 T E multiply-accumulates per
token; deep prompts cost about 12 T E^2.

Deviations from the released code, which holds ViLT and METER only:
- Everything about CLIP: which towers (`side`), T = 16, the zero gate, AdamW at `lr` for all parts,
  epochs, the class prompts (the dataset's own templates, encoded anew at every step when the text
  tower is prompted). One setting for all datasets, chosen on the validation split of the tiny
  suite; few images get few epochs, since nothing else keeps both towers from overfitting.
- No dropout on the weights; s is trained, as in ViLT's code (in METER's it stays 0 by an
  oversight).
- Images are `views` stored random crops per image, in turn epoch by epoch; `views=0` draws fresh
  ones.

Expected: no published figure on CLIP. On the tiny suite more than 8 points above zero-shot at 16
shots, no worse than it at 1.

Source: Wu et al., Approximated Prompt Tuning for Vision-Language Pre-trained Models, 2023;
DoubtedSteam/APT @ d66bbc4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor

from adapters import _blocks, _checks, _in_the_loop, _optimisers, _prompts, _rows, _transfer, _views
from adapters._settings import Adam, Crops, TowerTraining
from benchmark.api import (
    Backbone,
    Episode,
    Predictor,
    SideTerm,
    State,
    Target,
    Tower,
    VisionTower,
    unit,
)
from benchmark.training.noise import normal

# Stacked over the J changed blocks: prompt_JTE, down_JRE, up_JER, scale_J, and gate_J if trained.
TowerParts = Mapping[str, Tensor]
# The text classifier of the parts: parts -> text_KD.
Classifier = Callable[[_in_the_loop.Parts], Tensor]
# What is read of images, with the parts -> image_BD.
ImagesOf = Callable[[_in_the_loop.Parts, Tensor], Tensor]
UNDECAYED = ("scale_J", "gate_J")  # scalars have no weight decay
ADVICE = "set side=text to leave the images to the frozen tower, or take a ViT backbone"

Towers = Literal["vision", "text", "both"]
Init = Literal["zero", "paper"]


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "APT"
    paper: ClassVar[str] = "arXiv:2306.15706"
    version: ClassVar[int] = 2
    few_shot: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("prompts", "image blocks")
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0"}

    side: Towers = "both"  # the towers that are prompted
    n_prompts: int = 16  # T; 200 in the paper
    rank: int = 4
    init: Init = "zero"  # zero: gated, starts as zero-shot; paper: without a gate
    init_std: float = 0.02
    layers: int = 0  # only the last so many blocks of a tower; 0: all
    training: TowerTraining = TowerTraining()
    adam: Adam = Adam(beta2=0.98)
    crops: Crops = Crops(min_scale=0.5)
    keep_mb: int = 4096  # MiB for what the first changed block reads; changes no number

    def __post_init__(self) -> None:
        _checks.one_of(get_args(Towers), side=self.side)
        _checks.one_of(get_args(Init), init=self.init)
        _checks.at_least(1, n_prompts=self.n_prompts, rank=self.rank)
        _checks.at_least(0, layers=self.layers, init_std=self.init_std, keep_mb=self.keep_mb)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        scale = target.backbone.logit_scale
        with torch.no_grad():
            text_KD = self._classifier(target)(state)
        if self.side == "text":
            return _prompts.classifier(text_KD, scale)
        tower, first = self._tower(target.backbone)
        return _blocks.predictor(tower, first, vision_changes(state, first), text_KD, scale)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        backbone, text_of = episodes[0].backbone, self._classifier(episodes[0].target)
        read_of, image_of = self._images(backbone, must_fit=len(episodes) > 1)

        def logits_of(parts: _in_the_loop.Parts, x: Tensor, step: Tensor) -> Tensor:
            return backbone.logit_scale * image_of(parts, x) @ text_of(parts).T

        runs = _in_the_loop.runs(
            episodes,
            lambda episode: _in_the_loop.schedule(episode, self.training, self.crops),
            self._start,
            read_of,
            lambda _: _in_the_loop.cross_entropy(logits_of),
        )
        undecayed = frozenset(name for name in runs[0].start if name.endswith(UNDECAYED))
        optimiser = _optimisers.adamw(self.adam, self.training.weight_decay, undecayed)
        tower = backbone.text if self.side == "text" else backbone.vision
        return _in_the_loop.learn(runs, tower, optimiser)

    def _images(self, backbone: Backbone, *, must_fit: bool) -> tuple[_views.ReadOf, ImagesOf]:
        """What is read of images, and their features from it."""
        if self.side == "text":  # the image tower does not change: stored features are read
            return _views.stored_for(self.crops), lambda parts, image_BD: image_BD
        tower, first = self._tower(backbone)

        def image_of(parts: _in_the_loop.Parts, x_BLE: Tensor) -> Tensor:
            return _blocks.image_features(tower, first, x_BLE, vision_changes(parts, first))

        read_of = _views.inputs_for(tower, first, self.crops, self.keep_mb, must_fit=must_fit)
        return read_of, image_of

    def _tower(self, backbone: Backbone) -> tuple[VisionTower, int]:
        """The image tower and its first changed block."""
        tower = _blocks.vision(backbone, "apt", ADVICE)
        return tower, _blocks.first_of(self.layers, len(tower.blocks))

    def _start(self, episode: Episode) -> dict[str, Tensor]:
        """Fresh modules for every changed block, named 'vision/...' and 'text/...'."""
        backbone, rng, parts = episode.backbone, episode.rng(), dict[str, Tensor]()
        for side in ("vision", "text") if self.side == "both" else (self.side,):
            tower: Tower = backbone.vision if side == "vision" else backbone.text
            depth, width = len(tower.blocks), _rows.width(tower)
            fresh = modules(
                backbone,
                depth - _blocks.first_of(self.layers, depth),
                self.n_prompts,
                width,
                self.rank,
                self.init_std,
                gated=self.init == "zero",
                rng=rng,
            )
            parts |= {f"{side}/{name}": part for name, part in fresh.items()}
        return parts

    def _classifier(self, target: Target) -> Classifier:
        """Constant unless the text tower is prompted."""
        if self.side == "vision":
            text_KD = target.text_features()
            return lambda parts: text_KD
        prompts = target.backbone.whole_prompts(_blocks.texts_of(target))
        first = _blocks.first_of(self.layers, len(target.backbone.text.blocks))

        def text_of(parts: _in_the_loop.Parts) -> Tensor:
            side = side_term(_in_the_loop.below_name(parts, "text"), first)
            return unit(_blocks.class_mean(target, prompts.encode(side=side)))

        return text_of


def modules(
    backbone: Backbone,
    blocks: int,
    n_prompts: int,
    width: int,
    rank: int,
    std: float,
    *,
    gated: bool,
    rng: Generator,
) -> dict[str, Tensor]:
    """Fresh parameters of so many blocks."""
    prompt_JTE = std * normal([blocks, n_prompts, width], rng, backbone)
    parts = {
        "prompt_JTE": prompt_JTE,
        "down_JRE": normal([blocks, rank, width], rng, backbone),
        "up_JER": prompt_JTE.new_zeros(blocks, width, rank),
        "scale_J": prompt_JTE.new_zeros(blocks),
    }
    return parts | ({"gate_J": prompt_JTE.new_zeros(blocks)} if gated else {})


def vision_changes(parts: _in_the_loop.Parts, first: int) -> _blocks.Changes:
    """What the modules named 'vision/...' do inside the image tower."""
    return _blocks.Changes(side=side_term(_in_the_loop.below_name(parts, "vision"), first))


def side_term(parts: TowerParts, first: int) -> SideTerm:
    """What the modules of a tower do to the attention of block `first` and those after it."""
    prompt_JTE = parts["prompt_JTE"]
    key_JTE = prompt_JTE + (prompt_JTE @ parts["down_JRE"].mT) @ parts["up_JER"].mT
    value_JTE = prompt_JTE if "gate_J" not in parts else prompt_JTE * parts["gate_J"][:, None, None]
    factor_J = parts["scale_J"].exp()

    def side(layer: int, x_NLE: Tensor, attn_NLE: Tensor) -> Tensor:
        j = layer - first
        if j < 0:
            return attn_NLE
        # Weights grow with the square of x . key, which float16 has no room for.
        wide = torch.promote_types(x_NLE.dtype, torch.float32)
        weight_NLT = (x_NLE.to(wide) @ key_JTE[j].to(wide).mT).relu()
        weight_NLT = weight_NLT * weight_NLT.detach().amax(-1, keepdim=True)
        return (attn_NLE.to(wide) + weight_NLT @ value_JTE[j].to(wide)) * factor_J[j]

    return side
