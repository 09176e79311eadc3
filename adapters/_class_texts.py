"""The texts of the classes on their way through a text tower whose blocks a method changes.

A class's feature is the mean of the unit features of its sentences, at unit length again, as in the
zero-shot classifier. The blocks below the first changed one run once. All texts pass at once; a
cell that is tried again because memory ran out takes fewer at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from adapters import _blocks
from benchmark.api import Backbone, Target, TextTower, unit

Block = Callable[[int, Tensor], Tensor]  # layer, x_NLE -> what the changed block gives
Finish = Callable[[Tensor, Tensor], Tensor]  # x_NLE, ids_NL -> text_ND, in place of the tower's


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

    def encode(self, block: Block, *, whole: bool = False) -> Tensor:
        """text_KD, unit length, differentiable in what `block` closes over.

        With `whole` all texts pass at once in any case, for a block to which their places matter.
        """
        return unit(_blocks.class_mean(self.target, self.sentences(block, whole=whole)))

    def some(self, rows_M: Tensor) -> ClassTexts:
        """Some of the texts, whose classes are the caller's affair."""
        ids_ML, x_MLE = (each.index_select(0, rows_M) for each in (self.ids_NL, self.x_NLE))
        return replace(self, ids_NL=ids_ML, x_NLE=x_MLE)

    def sentences(
        self, block: Block, finish: Finish | None = None, *, whole: bool = False
    ) -> Tensor:
        """text_ND of every sentence, unit length, likewise."""
        finished = finish or self.tower.finish

        def encoded(texts: slice) -> Tensor:
            x_NLE = self.x_NLE[texts]
            for layer in range(self.first, len(self.tower.blocks)):
                x_NLE = block(layer, x_NLE)
            return unit(finished(x_NLE, self.ids_NL[texts]))

        share = 1.0 if whole else memory_share(self.target.backbone)
        return in_chunks(encoded, len(self.ids_NL), share)


def memory_share(backbone: Backbone) -> float:
    """Of the usual memory; below 1 where it has run out before."""
    return float(getattr(backbone, "memory_share", 1.0))


def in_chunks(encoded: Callable[[slice], Tensor], count: int, share: float) -> Tensor:
    """text_ND of all texts, or of a share of them at a time, whose states are not kept but computed
    again for the gradient.
    """
    if share >= 1:
        return encoded(slice(count))
    size = max(1, int(share * count))
    parts = [
        checkpoint(encoded, slice(at, at + size), use_reentrant=False, preserve_rng_state=False)
        for at in range(0, count, size)
    ]
    return torch.cat(parts)


def mask_for(tower: TextTower, x_NLE: Tensor) -> Tensor | None:
    """The tower's mask_LL, cut to the length of its input."""
    length = x_NLE.shape[1]
    return None if tower.mask is None else tower.mask[:length, :length]
