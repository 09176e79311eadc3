"""From prompts to work that fits a memory budget: which tilings, in how many chunks of classes and of runs.

A chunk's activations are dropped after its forward pass and computed again for its backward pass (one more forward in all),
so at any time one chunk is in memory. A chunk has its own trunk; sums of gradients over chunks are left to autograd.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from benchmark.api import Side, UserError
from benchmark.prompt_tiles import Tiling, tiling
from benchmark.prompt_tree import Prompt, PromptTree
from benchmark.shared_prefix import SharedPrefix, footprint_mb, kept_keys, kept_mb, prepare, run
from benchmark.text_layer import Layer, fits

if TYPE_CHECKING:
    from benchmark.clip import TextTower  # which itself needs this module

CPU_BUDGET_MB = 4096.0


def default_budget_mb(device: torch.device) -> float:
    """A fixed sum on a CPU, so that the same cell is computed in the same order on any; half the memory of a GPU."""
    return torch.cuda.get_device_properties(device).total_memory / 2**21 if device.type == "cuda" else CPU_BUDGET_MB


def shareable(tower: TextTower) -> bool:
    """True where a token's state depends on its predecessors alone, the text is read at EOT, and the blocks are CLIP's own."""
    mask = tower.mask
    if mask is None or not tower.read_at_eot or not all(fits(block) for block in tower.blocks):
        return False
    return torch.equal(mask, torch.full_like(mask, float("-inf")).triu(1))


@dataclass(frozen=True, eq=False)
class Plan:
    """How many runs to compute at once, and the classes in chunks."""

    at_once: int
    chunks: list[SharedPrefix]


@dataclass(frozen=True, eq=False)
class SharedPrompts:
    """Prompts of a causal tower as a tree of shared tokens. Plans are made when first needed and kept."""

    tower: TextTower
    tree: PromptTree  # of distinct prompts
    layers: Sequence[Layer]
    prompt_of_class_K: Tensor  # equal prompts are computed once
    budget_mb: float
    plans: dict[tuple[int, bool], Plan] = field(default_factory=dict)  # by runs, and whether keys are kept
    chunks: dict[tuple[int, bool], list[SharedPrefix]] = field(default_factory=dict)  # by their number, and the same

    @staticmethod
    def build(tower: TextTower, prompts: Sequence[Prompt], budget_mb: float, dtype: torch.dtype | None) -> SharedPrompts:
        """`dtype` None computes as the weights are. Raises UserError where a single class exceeds the budget."""
        distinct = sorted(set(prompts))
        place = {prompt: i for i, prompt in enumerate(distinct)}
        layers = [Layer.of(block, dtype or tower.position_LE.dtype) for block in tower.blocks]
        prompt_of_class_K = torch.tensor([place[p] for p in prompts], device=tower.position_LE.device)
        made = SharedPrompts(tower, PromptTree.grow(distinct), layers, prompt_of_class_K, budget_mb)
        made.plan(1, keep_fixed=True)
        return made

    def __call__(self, ctx_RPE: Tensor, side: Side | None = None) -> Tensor:
        # A side term changes the states of every token, so with one there are no fixed ones.
        plan = self.plan(len(ctx_RPE), keep_fixed=side is None)
        whole = len(plan.chunks) == 1 and plan.at_once >= len(ctx_RPE)
        texts = []
        for runs_RPE in ctx_RPE.split(plan.at_once):
            parts = [run(self.layers, c, runs_RPE, side) if whole else self._again(c, runs_RPE, side) for c in plan.chunks]
            texts.append(torch.cat(parts, 1).index_select(1, self.prompt_of_class_K))
        return self.tower.project(torch.cat(texts))

    def _again(self, chunk: SharedPrefix, ctx_RPE: Tensor, side: Side | None) -> Tensor:
        draws = side is not None  # only a side term may be random, and asking for random states would make a GPU wait
        out: Tensor = checkpoint(run, self.layers, chunk, ctx_RPE, side, use_reentrant=False, preserve_rng_state=draws)
        return out

    def plan(self, runs: int, keep_fixed: bool) -> Plan:
        """As few chunks as the budget allows. UserError where a single class in a single run exceeds it."""
        key = (runs, keep_fixed and any(self.tree.learnable))
        if key not in self.plans:
            self.plans[key] = self._planned(*key)
        return self.plans[key]

    def _planned(self, runs: int, keep_fixed: bool) -> Plan:
        least_mb = self._least_mb(keep_fixed)
        if least_mb > self.budget_mb:
            raise UserError(
                f"a memory budget of {self.budget_mb:.4g} MiB is too small: a single class needs {math.ceil(least_mb)} MiB; raise budget_mb"
            )
        at_once = max(1, min(runs, int(self.budget_mb / least_mb)))
        for count in _counts(len(self.tree.paths)):
            tilings = self._tilings(count, keep_fixed)
            kept = sum(kept_mb(self.layers, tiles, self.tower.width) for tiles in tilings)
            if kept + at_once * max(footprint_mb(self.layers, tiles, self.tower.width) for tiles in tilings) <= self.budget_mb:
                return Plan(at_once, self._chunks(count, keep_fixed))
        # Where single classes fit, only kept keys can be too much.
        return self._planned(runs, keep_fixed=False) if keep_fixed else Plan(at_once, self._chunks(len(self.tree.paths), keep_fixed))

    def _least_mb(self, keep_fixed: bool) -> float:
        computed = [sum(self.tree.learnable[n] for n in path) if keep_fixed else len(path) for path in self.tree.paths]
        largest = tiling(self.tree, [computed.index(max(computed))], keep_fixed)
        return footprint_mb(self.layers, largest, self.tower.width)

    def _tilings(self, count: int, keep_fixed: bool) -> list[Tiling]:
        prompts, size = range(len(self.tree.paths)), math.ceil(len(self.tree.paths) / count)
        return [tiling(self.tree, prompts[i : i + size], keep_fixed) for i in prompts[::size]]

    @torch.no_grad()
    def _chunks(self, count: int, keep_fixed: bool) -> list[SharedPrefix]:
        key = (count, keep_fixed)
        if key not in self.chunks:
            keys = self._fixed_keys() if keep_fixed else {}
            tilings = self._tilings(count, keep_fixed)
            self.chunks[key] = [prepare(self.layers, self.tower, self.tree, tiles, keys) for tiles in tilings]
        return self.chunks[key]

    def _fixed_keys(self) -> dict[int, Tensor]:
        """Per node that no learnable vector precedes, its keys and values in every layer: I 2E, I layers."""
        tree = self.tree.fixed()
        tiles = tiling(tree, range(len(tree.paths)), keep_fixed=False)
        return kept_keys(self.layers, prepare(self.layers, self.tower, tree, tiles, {}), tiles)


def _counts(most: int) -> Iterator[int]:
    """1, 2, 3, ... in steps of a quarter, and `most` at last."""
    count = 1
    while count < most:
        yield count
        count += max(1, count // 4)
    yield most
