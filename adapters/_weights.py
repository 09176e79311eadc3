"""Towers computed with other weights than their own: for one call, or for good in a copy.

Weights are named by tower, block and parameter, as "vision/3/ln_1.weight"; what follows the blocks
is the block "end", as in "vision/end/proj". A block keeps its own weights where none are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapters import _blocks, _class_texts
from adapters._class_texts import ClassTexts
from adapters._in_the_loop import below_name
from benchmark.api import Backbone, Predictor, Target, Tower, VisionTower, unit

Weights = Mapping[str, Tensor]


def own(
    side: str, blocks: Sequence[nn.Module], chosen: Callable[[str], bool], first: int = 0
) -> dict[str, Tensor]:
    """The parameters that `chosen` takes by name, of the blocks from `first` on."""
    return {
        f"{side}/{layer}/{name}": weight.detach()
        for layer in range(first, len(blocks))
        for name, weight in blocks[layer].named_parameters()
        if chosen(name)
    }


def own_end(side: str, tower: Tower) -> dict[str, Tensor]:
    """The parameters of what follows the blocks: the last norm and the projection."""
    return {f"{side}/end/{name}": each.detach() for name, each in tower.end.named_parameters()}


def image_features(tower: VisionTower, first: int, x_NLE: Tensor, weights: Weights) -> Tensor:
    """image_ND, unit length, of what block `first` reads."""
    blocks = [
        _changed(block, below_name(weights, f"vision/{layer}"))
        for layer, block in enumerate(tower.blocks)
    ]
    end = partial(functional_call, tower.end, below_name(weights, "vision/end"))
    changed: Any = SimpleNamespace(blocks=blocks, reads_first=tower.reads_first, finish=end)
    return _blocks.image_features(changed, first, x_NLE, _blocks.Changes())


def _changed(block: nn.Module, weights: Weights) -> Any:
    """The parts of a block, with what `weights` has of each in place of its own weights."""
    parts = {}
    for name in _blocks.PARTS:
        part, start = getattr(block, name), f"{name}."
        given = {key.removeprefix(start): w for key, w in weights.items() if key.startswith(start)}
        parts[name] = partial(_called, part, given) if given else part
    return SimpleNamespace(**parts)


def _called(part: nn.Module, weights: dict[str, Tensor], *given: Tensor, **options: Any) -> Any:
    return functional_call(part, weights, given, options)


def predictor_with(
    weights: Weights, vision: VisionTower, text_KD: Tensor, scale: float
) -> Predictor:
    """Cosine logits of images whose tower has these weights; nothing is copied."""

    def logits(pixels_NCHW: Tensor) -> Tensor:
        x_NLE = vision.start(pixels_NCHW)
        return scale * image_features(vision, 0, x_NLE, weights) @ text_KD.T

    return lambda images: _blocks.in_batches(images, text_KD.device, logits)


def text_features(texts: ClassTexts, weights: Weights) -> Tensor:
    """text_KD, unit length, of the classes."""
    return unit(_blocks.class_mean(texts.target, sentence_features(texts, weights)))


def sentence_features(texts: ClassTexts, weights: Weights) -> Tensor:
    """text_ND, unit length, of every sentence."""
    end, changed_end = texts.tower.end, below_name(weights, "text/end")

    def block(layer: int, x_NLE: Tensor) -> Tensor:
        changed = below_name(weights, f"text/{layer}")
        mask = {"attn_mask": _class_texts.mask_for(texts.tower, x_NLE)}
        return functional_call(texts.tower.blocks[layer], changed, (x_NLE,), mask)

    def finish(x_NLE: Tensor, ids_NL: Tensor) -> Tensor:
        return functional_call(end, changed_end, (x_NLE, ids_NL))

    return texts.sentences(block, finish)


@torch.no_grad()
def merged(backbone: Backbone, weights: Weights) -> Backbone:
    """A copy of the backbone that has these weights."""
    copy = backbone.copy()
    for name, weight in weights.items():
        side, layer, parameter = name.split("/")
        tower: Tower = getattr(copy, side)
        block = tower.end if layer == "end" else tower.blocks[int(layer)]
        block.get_parameter(parameter).copy_(weight)
    return copy


def classifier(backbone: Backbone, target: Target) -> Tensor:
    """text_KD of the target's classes by a changed copy of its backbone."""
    return replace(target, backbone=backbone, text_KD=None, text_KTD=None).text_features()


def predictor(backbone: Backbone, target: Target) -> Predictor:
    """Zero-shot logits of the target's classes by a changed copy of its backbone."""
    text_KD = classifier(backbone, target)
    return _blocks.predictor(backbone.vision, 0, _blocks.Changes(), text_KD, backbone.logit_scale)
