"""The texts of the classes on their way through a text tower whose blocks a method changes.

A class's feature is the mean of the unit features of its sentences, at unit length again, as in the
zero-shot classifier. The blocks below the first changed one run once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adapters import _blocks
from benchmark.api import Target, TextTower, unit

Block = Callable[[int, Tensor], Tensor]  # layer, x_NLE -> what the changed block gives


@dataclass(frozen=True, eq=False)
class ClassTexts:
    """All sentences N of K classes."""

    target: Target
    tower: TextTower
    ids_NL: Tensor
    first: int  # the first changed block
    x_NLE: Tensor  # what it reads

    @staticmethod
    @torch.no_grad()
    def of(target: Target, first: int = 0) -> ClassTexts:
        """The texts of the target's classes; UserError where the text tower cannot be opened."""
        tower = target.backbone.text
        ids_NL = _blocks.token_ids(tower, _blocks.texts_of(target))
        x_NLE = tower.start(ids_NL)
        for block in tower.blocks[:first]:
            x_NLE = block(x_NLE, attn_mask=mask_for(tower, x_NLE))
        return ClassTexts(target, tower, ids_NL, first, x_NLE.detach())

    def encode(self, block: Block) -> Tensor:
        """text_KD, unit length, differentiable in what `block` closes over."""
        x_NLE = self.x_NLE
        for layer in range(self.first, len(self.tower.blocks)):
            x_NLE = block(layer, x_NLE)
        text_ND = unit(self.tower.finish(x_NLE, self.ids_NL))
        return unit(_blocks.class_mean(self.target, text_ND))


def mask_for(tower: TextTower, x_NLE: Tensor) -> Tensor | None:
    """The tower's mask_LL, cut to the length of its input."""
    length = x_NLE.shape[1]
    return None if tower.mask is None else tower.mask[:length, :length]
