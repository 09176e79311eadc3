"""Learned rows among the tokens of a tower: a set for every prompted block, put in anew before it.

    [t_0, P_j, t_1, ..., t_L] -> block `first` + j;   the outputs at P_j give way to P_{j+1}

t_0: the class token of an image or the start token of a text, P_j: T rows. The first set is
inserted; after the last set the outputs stay. In a text nothing but the start token precedes the
rows, and the causal mask is that of the longer text, so the start token never sees them. An image's
tokens have their positions already and see each other all, so it makes no difference where its rows
stand. Rows in place of words are contexts of `Backbone.whole_prompts`.
Letters of this file: J blocks with a set, T rows of a set, N texts or images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from adapters import _blocks, _class_texts
from benchmark.api import Backbone, TextTower, Tower, UserError, VisionTower, unit


@dataclass(frozen=True, eq=False)
class Rows:
    """The sets of a tower, behind its first token."""

    set_JTE: Tensor
    first: int = 0  # the block that reads set 0

    def enter(self, layer: int, x_NLE: Tensor) -> Tensor:
        """What a block reads: its set in place of the one before it."""
        j, (sets, count) = layer - self.first, self.set_JTE.shape[:2]
        if not 0 <= j < sets:
            return x_NLE
        there = count if j else 0
        row_NTE = self.set_JTE[j].expand(len(x_NLE), -1, -1)
        return torch.cat([x_NLE[:, :1], row_NTE, x_NLE[:, 1 + there :]], dim=1)

    @property
    def inserted(self) -> int:
        """By how many tokens a sequence grows."""
        return self.set_JTE.shape[1]

    def changes(self) -> _blocks.Changes:
        """The rows as a change of the blocks."""
        return _blocks.Changes(enter=self.enter)


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts as the first block of a tower reads them, embedded once."""

    tower: TextTower
    ids_NL: Tensor
    token_NLE: Tensor
    memory_share: float = 1.0  # below 1 they pass in chunks

    @staticmethod
    def of(backbone: Backbone, texts: Sequence[str]) -> Texts:
        tower, share = backbone.text, _class_texts.memory_share(backbone)
        ids_NL = _blocks.token_ids(tower, texts)
        return Texts(tower, ids_NL, tower.start(ids_NL).detach(), share)

    def features(self, rows: Rows) -> Tensor:
        """text_ND, unit length."""
        longer_NL, changes = self._longer_ids(rows), rows.changes()
        length = self.token_NLE.shape[1]
        longer_LL = self._mask(length + rows.inserted)
        mask_LL = None if longer_LL is None else longer_LL[:length, :length]

        def encoded(texts: slice) -> Tensor:
            x_NLE = self.token_NLE[texts]
            for layer, block in enumerate(self.tower.blocks):
                sees_LL = mask_LL if layer < rows.first else longer_LL
                x_NLE = _blocks.run_block(block, layer, x_NLE, changes, mask_LL=sees_LL)
            return unit(self.tower.finish(x_NLE, longer_NL[texts]))

        return _class_texts.in_chunks(encoded, len(longer_NL), self.memory_share)

    def _mask(self, length: int) -> Tensor | None:
        """The tower's mask for texts of another length."""
        if self.tower.mask is None:
            return None
        return self.token_NLE.new_full((length, length), float("-inf")).triu(1)

    def _longer_ids(self, rows: Rows) -> Tensor:
        """The ids with as many more start tokens as there are rows: the text is read further on."""
        start_N1, rest_NL = self.ids_NL[:, :1], self.ids_NL[:, 1:]
        return torch.cat([start_N1.expand(-1, 1 + rows.inserted), rest_NL], dim=1)


def vision(backbone: Backbone, method: str) -> VisionTower:
    """An image tower that leaves rows aside when it is read out; else a UserError."""
    tower = _blocks.vision(backbone, method)
    if not tower.reads_first:
        raise UserError(
            f"{method} adds tokens that the image tower of {backbone.name} would read out"
            f" as patches; {_blocks.ADVICE}"
        )
    return tower


def width(tower: Tower) -> int:
    """Of the tokens of a tower."""
    block: Any = tower.blocks[0]
    return int(block.ln_1.weight.shape[0])


def linear_maps(
    backbone: Backbone, count: int, inner: int, outer: int, rng: Generator
) -> tuple[Tensor, Tensor]:
    """weight_JUE and bias_JU of so many maps from width E = `inner` to U = `outer`.

    They start as torch's Linear does, uniform up to 1 / sqrt(E).
    """
    noise = torch.rand(count, outer, inner + 1, generator=rng, dtype=torch.float64)
    map_JUE = ((2 * noise - 1) / inner**0.5).to(backbone.device, backbone.dtype)
    return map_JUE[..., :-1].contiguous(), map_JUE[..., -1].contiguous()


def mapped(x_JTE: Tensor, weight_JUE: Tensor, bias_JU: Tensor) -> Tensor:
    """x_JTU: every set through its own map."""
    return torch.baddbmm(bias_JU[:, None], x_JTE, weight_JUE.mT)
