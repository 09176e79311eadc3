"""The plain path: whole prompts through a tower of any kind, its own blocks and read-out.

For towers whose tokens see what follows them, that are not read at EOT, or whose blocks are not
CLIP's. Slower by an order of magnitude than benchmark/backbones/prompting/shared_prefix.py where
that one applies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from benchmark.api import Later, SideTerm, UserError
from benchmark.backbones.towers import OpenClipTextTower

MIB = 2**20
SAVED = 20.0  # widths kept per token and layer, on the safe side for blocks unknown
WORKING = 24.0  # widths per token that live only while one layer is computed


@dataclass(frozen=True, eq=False)
class WholePrompts:
    """K prompts of full length; a chunk of them at a time where the budget wants it."""

    tower: OpenClipTextTower
    tokens_KLE: Tensor  # embedding + position; position alone where a learnable vector belongs
    slots_KP: Tensor  # places of learnable vectors
    sources_KP: Tensor  # which vector of the flattened context stands there
    ids_KL: Tensor
    chunk: int  # classes that the budget allows at once

    @staticmethod
    def build(
        tower: OpenClipTextTower, prompts: Sequence[Sequence[int]], ids_KL: Tensor, budget_mb: float
    ) -> WholePrompts:
        """Raises UserError where the tower cannot be run by its parts, or the budget is smaller
        than a single class needs.
        """
        if not tower.is_whole:
            raise UserError(
                "this text tower adds tokens or masks of its own, so prompts cannot be put into "
                "it; take a CLIP backbone"
            )
        symbols_KL = torch.tensor(prompts, device=ids_KL.device)
        learnable_KL = symbols_KL < 0
        slots_KP = learnable_KL.nonzero()[:, 1].view(len(prompts), -1)
        sources_KP = -1 - symbols_KL.gather(1, slots_KP)
        tokens_KLE = (
            tower.embed(symbols_KL.clamp_min(0)) * ~learnable_KL.unsqueeze(2)
            + tower.position_LE[: symbols_KL.shape[1]]
        )
        one_mb = (
            symbols_KL.shape[1]
            * (SAVED * len(tower.blocks) + WORKING)
            * tower.width
            * tokens_KLE.element_size()
            / MIB
        )
        if one_mb > budget_mb:
            raise UserError(
                f"a memory budget of {budget_mb:.4g} MiB is too small: a single class needs "
                f"{math.ceil(one_mb)} MiB; raise budget_mb"
            )
        return WholePrompts(
            tower, tokens_KLE.detach(), slots_KP, sources_KP, ids_KL, int(budget_mb / one_mb)
        )

    def __call__(self, ctx_RPE: Tensor, side: SideTerm | None, later: Later) -> Tensor:
        if side is not None:
            raise UserError(
                "this text tower's blocks cannot be opened for side terms; "
                "take a CLIP backbone with a causal text tower"
            )
        again = self.chunk < len(self.ids_KL) * len(ctx_RPE)
        return torch.stack(
            [
                self._one(ctx_PE, {layer: each[r] for layer, each in later.items()}, again)
                for r, ctx_PE in enumerate(ctx_RPE)
            ]
        )

    def _one(self, ctx_PE: Tensor, later: Later, again: bool) -> Tensor:
        chunks = torch.arange(len(self.ids_KL), device=ctx_PE.device).split(self.chunk)
        if not again:
            return self._encode(ctx_PE, later, chunks[0])
        parts = [
            checkpoint(
                self._encode, ctx_PE, later, chunk, use_reentrant=False, preserve_rng_state=False
            )
            for chunk in chunks
        ]
        return torch.cat(parts)

    def _encode(self, ctx_PE: Tensor, later: Later, classes: Tensor) -> Tensor:
        slots_KPE = self.slots_KP[classes].unsqueeze(2).expand(-1, -1, ctx_PE.shape[1])
        sources_KP = self.sources_KP[classes]
        x_KLE = self.tokens_KLE[classes].scatter_add(1, slots_KPE, ctx_PE[sources_KP])
        for layer, block in enumerate(self.tower.blocks):
            if layer in later:
                x_KLE = x_KLE.scatter(1, slots_KPE, later[layer][sources_KP])
            x_KLE = block(x_KLE, attn_mask=self.tower.mask)
        return self.tower.finish(x_KLE, self.ids_KL[classes])
