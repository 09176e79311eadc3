"""From prompts to work that fits a memory budget: which tilings, in how many chunks of classes and
of runs.

A chunk's activations are dropped after its forward pass and computed again for its backward pass
(one more forward in all), so at any time one chunk is in memory. A chunk has its own trunk; sums of
gradients over chunks are left to autograd.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from benchmark.api import Later, SideTerm, UserError
from benchmark.backbones.prompting.shared_prefix import (
    Kept,
    SharedPrefix,
    footprint_mb,
    keep,
    prepare,
    run,
)
from benchmark.backbones.prompting.text_layer import Layer, fits
from benchmark.backbones.prompting.tiles import Tiling, tiling
from benchmark.backbones.prompting.tree import Prompt, PromptTree
from benchmark.backbones.towers import OpenClipTextTower
from benchmark.training.gpu_memory import allowed_bytes

CPU_BUDGET_MB = 4096.0


def default_budget_mb(device: torch.device) -> float:
    """A fixed sum on a CPU, so that the same cell is computed in the same order on any; half of
    what this process may take of a GPU's memory.
    """
    return allowed_bytes(device) / 2**21 if device.type == "cuda" else CPU_BUDGET_MB


def shareable(tower: OpenClipTextTower) -> bool:
    """True where a token's state depends on its predecessors alone, the text is read at EOT, and
    the blocks are CLIP's own.
    """
    mask = tower.mask
    if mask is None or not tower.read_at_eot or not all(fits(block) for block in tower.blocks):
        return False
    return torch.equal(mask, torch.full_like(mask, float("-inf")).triu(1))


@dataclass(frozen=True, eq=False)
class ChunkPlan:
    """How many runs to compute at once, and the classes in chunks."""

    at_once: int
    chunks: list[SharedPrefix]


@dataclass(frozen=True, eq=False)
class SharedPrompts:
    """Prompts of a causal tower as a tree of shared tokens. Plans are made when first needed and
    kept.
    """

    tower: OpenClipTextTower
    tree: PromptTree  # of distinct prompts
    layers: Sequence[Layer]
    prompt_of_class_K: Tensor  # equal prompts are computed once
    budget_mb: float
    kept: Kept | None  # None where nothing precedes a learnable vector, or all prompts are without
    # by runs, and whether kept keys are used
    plans: dict[tuple[int, bool], ChunkPlan] = field(default_factory=dict)

    @staticmethod
    def build(
        tower: OpenClipTextTower,
        prompts: Sequence[Prompt],
        budget_mb: float,
        dtype: torch.dtype | None,
    ) -> SharedPrompts:
        """`dtype` None computes as the weights are. Raises UserError where a single class exceeds
        the budget.
        """
        distinct = sorted(set(prompts))
        position = {prompt: i for i, prompt in enumerate(distinct)}
        layers = [Layer.of(block, dtype or tower.position_LE.dtype) for block in tower.blocks]
        prompt_of_class_K = torch.tensor(
            [position[p] for p in prompts], device=tower.position_LE.device
        )
        tree = PromptTree.grow(distinct)
        shared = SharedPrompts(
            tower, tree, layers, prompt_of_class_K, budget_mb, _kept(layers, tower, tree)
        )
        shared.plan(1, keep_fixed=True)
        return shared

    def __call__(self, ctx_RPE: Tensor, side: SideTerm | None, later: Later) -> Tensor:
        # A side term changes the states of every token, so with one there are no fixed ones.
        plan = self.plan(len(ctx_RPE), keep_fixed=side is None)
        if side is not None and plan.at_once < len(ctx_RPE):
            raise UserError(
                f"{len(ctx_RPE)} runs with side terms do not fit {self.budget_mb:.4g} MiB and "
                "cannot be split; "
                "raise budget_mb or train fewer at once"
            )
        whole = len(plan.chunks) == 1 and plan.at_once >= len(ctx_RPE)
        texts = []
        for first in range(0, len(ctx_RPE), plan.at_once):
            runs = slice(first, first + plan.at_once)
            given = (ctx_RPE[runs], side, {layer: each[runs] for layer, each in later.items()})
            parts = [
                run(self.layers, c, *given) if whole else self._again(c, *given)
                for c in plan.chunks
            ]
            texts.append(torch.cat(parts, 1).index_select(1, self.prompt_of_class_K))
        return self.tower.project(torch.cat(texts))

    def _again(
        self, chunk: SharedPrefix, ctx_RPE: Tensor, side: SideTerm | None, later: Later
    ) -> Tensor:
        # only a side term may be random, and asking for random states would make a GPU wait
        draws = side is not None
        given = (self.layers, chunk, ctx_RPE, side, later)
        out: Tensor = checkpoint(run, *given, use_reentrant=False, preserve_rng_state=draws)
        return out

    def plan(self, runs: int, keep_fixed: bool) -> ChunkPlan:
        """As few chunks as the budget allows. UserError where a single class in a single run
        exceeds it.
        """
        key = (runs, keep_fixed and self.kept is not None and self.kept.mb < self.budget_mb / 2)
        if key not in self.plans:
            self.plans[key] = self._planned(*key)
        return self.plans[key]

    @torch.no_grad()
    def _planned(self, runs: int, keep_fixed: bool) -> ChunkPlan:
        kept = self.kept if keep_fixed else None
        room_mb = self.budget_mb - (kept.mb if kept else 0)
        least_mb = self._least_mb(keep_fixed)
        if least_mb > room_mb:
            need_mb = math.ceil(least_mb + self.budget_mb - room_mb)
            raise UserError(
                f"a memory budget of {self.budget_mb:.4g} MiB is too small: a single class needs "
                f"{need_mb} MiB; raise budget_mb"
            )
        at_once = max(1, min(runs, int(room_mb / least_mb)))
        for count in _counts(len(self.tree.paths)):
            tilings = self._tilings(count, keep_fixed)
            if (
                at_once
                * max(footprint_mb(self.layers, tiles, self.tower.width) for tiles in tilings)
                <= room_mb
            ):
                break
        return ChunkPlan(
            at_once, [prepare(self.layers, self.tower, self.tree, tiles, kept) for tiles in tilings]
        )

    def _least_mb(self, keep_fixed: bool) -> float:
        computed = [
            sum(self.tree.learnable[n] for n in path) if keep_fixed else len(path)
            for path in self.tree.paths
        ]
        largest = tiling(self.tree, [computed.index(max(computed))], keep_fixed)
        return footprint_mb(self.layers, largest, self.tower.width)

    def _tilings(self, count: int, keep_fixed: bool) -> list[Tiling]:
        prompts, size = range(len(self.tree.paths)), math.ceil(len(self.tree.paths) / count)
        return [tiling(self.tree, prompts[i : i + size], keep_fixed) for i in prompts[::size]]


@torch.no_grad()
def _kept(layers: Sequence[Layer], tower: OpenClipTextTower, tree: PromptTree) -> Kept | None:
    if not any(tree.learnable) or all(tree.learnable):
        return None
    fixed = tree.fixed()
    tiles = tiling(fixed, range(len(fixed.paths)), keep_fixed=False)
    return keep(layers, prepare(layers, tower, fixed, tiles, None), tiles)


def _counts(most: int) -> Iterator[int]:
    """1, 2, 3, ... in steps of a quarter, and `most` at last."""
    count = 1
    while count < most:
        yield count
        count += max(1, count // 4)
    yield most
