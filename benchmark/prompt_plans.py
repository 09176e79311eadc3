"""From prompts to a plan of work that fits a memory budget: which tilings, in how many chunks of classes and runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from benchmark.api import TextTower, UserError
from benchmark.prompt_tree import Prompt, PromptTree, Tiling, tiling
from benchmark.shared_prefix import Layer, Queries, SharedPrefix, Side, fits, last_queries, run

CPU_BUDGET_MB = 4096.0
MIB = 2**20
SAVED = 13.0  # widths kept per row and layer for the backward pass
KEYS_SAVED = 2.0  # widths kept per key column and layer
TRANSIENT = 24.0  # widths per row that live only while one layer is computed


def shareable(tower: TextTower) -> bool:
    """True where a token's state depends on its predecessors alone, the text is read at EOT, and the blocks are CLIP's own."""
    if not tower.read_at_eot or not all(fits(block) for block in tower.blocks):
        return False
    mask = tower.mask
    return mask is not None and torch.equal(mask, torch.full_like(mask, float("-inf")).triu(1))


@dataclass(frozen=True, eq=False)
class SharedPrompts:
    """Prompts of a causal tower as a tree of shared tokens. Plans are made when first needed and kept."""

    tower: TextTower
    tree: PromptTree
    layers: Sequence[Layer]
    prompt_of_class_K: Tensor  # equal prompts are computed once
    budget_mb: float
    plans: dict[tuple[int, bool], list[SharedPrefix]] = field(default_factory=dict)

    @staticmethod
    def build(tower: TextTower, prompts: Sequence[Prompt], budget_mb: float | None, dtype: torch.dtype | None) -> SharedPrompts:
        """Raises UserError where the budget is smaller than a single class needs."""
        distinct = sorted(set(prompts))
        place = {prompt: i for i, prompt in enumerate(distinct)}
        device = tower.position_LE.device
        layers = [Layer.of(block, dtype or tower.position_LE.dtype) for block in tower.blocks]
        expand_K = torch.tensor([place[p] for p in prompts], device=device)
        made = SharedPrompts(tower, PromptTree.grow(distinct), layers, expand_K, _default(budget_mb, device))
        need = math.ceil(made._one_class_mb())
        if need > made.budget_mb:
            raise UserError(f"a memory budget of {made.budget_mb:.4g} MiB is too small: a single class needs {need} MiB; raise budget_mb")
        made._plan(1, _keeps(made.tree))
        return made

    def __call__(self, ctx_RPE: Tensor, side: Side | None = None) -> Tensor:
        at_once = max(1, min(len(ctx_RPE), int(self.budget_mb / self._one_class_mb())))
        plan = self._plan(at_once, side is None and _keeps(self.tree))
        single = len(plan) == 1 and at_once == len(ctx_RPE)
        texts = []
        for runs_RPE in ctx_RPE.split(at_once):
            parts = [_run(self.layers, chunk, runs_RPE, side, keep=single) for chunk in plan]
            texts.append(torch.cat(parts, 1).index_select(1, self.prompt_of_class_K))
        return self.tower.project(torch.cat(texts))

    def _plan(self, runs: int, keep_fixed: bool) -> list[SharedPrefix]:
        key = (runs, keep_fixed)
        if key not in self.plans:
            self.plans[key] = self._make(runs, keep_fixed)
        return self.plans[key]

    @torch.no_grad()
    def _make(self, runs: int, keep_fixed: bool) -> list[SharedPrefix]:
        classes = list(range(len(self.tree.paths)))
        count = 1
        while True:
            size = math.ceil(len(classes) / count)
            tilings = [tiling(self.tree, classes[i : i + size], keep_fixed) for i in range(0, len(classes), size)]
            if size == 1 or max(self._mb(t) for t in tilings) * runs <= self.budget_mb:
                return [self._ready(t, self._fixed_keys() if keep_fixed else {}) for t in tilings]
            count += max(1, count // 5)

    def _mb(self, tiles: Tiling) -> float:
        columns = tiles.mask_NBS.shape[2] * len(tiles.mask_NBS)
        return self._estimate(tiles.rows, columns)

    def _estimate(self, rows: int, columns: int) -> float:
        """MiB that one run needs; `columns` counts key columns over all tiles."""
        size = self.layers[0].query[0].element_size()
        per_layer = SAVED * rows + KEYS_SAVED * columns
        return (len(self.layers) * per_layer + TRANSIENT * rows) * self.tower.width * size / MIB

    def _one_class_mb(self) -> float:
        rows = max(sum(self.tree.learnable[n] for n in path) or len(path) for path in self.tree.paths)
        return self._estimate(rows, 2 * rows + 1)

    def _fixed_keys(self) -> dict[int, tuple[int, list[Tensor]]]:
        """Per fixed node, the row of it in the kept keys and values of every layer."""
        tree = self.tree.fixed()
        tiles = tiling(tree, range(len(tree.paths)), keep_fixed=False)
        keys: list[Tensor] = []
        plan = self._ready(tiles, {})
        run(self.layers, plan, plan.tokens_TE.new_zeros(1, 0, self.tower.width), keys=keys)
        return {node: (row, keys) for row, node in enumerate(tiles.node_T.tolist()) if node >= 0}

    def _ready(self, tiles: Tiling, fixed: dict[int, tuple[int, list[Tensor]]]) -> SharedPrefix:
        device = self.tower.position_LE.device
        symbols = torch.tensor([0 if n < 0 else self.tree.symbols[n] for n in tiles.node_T.tolist()], device=device)
        depths = torch.tensor([0 if n < 0 else self.tree.depths[n] for n in tiles.node_T.tolist()], device=device)
        slots = (symbols < 0).nonzero().flatten()
        tokens_TE = self.tower.embed(symbols.clamp_min(0)) * (symbols >= 0).unsqueeze(1) + self.tower.position_LE[depths]
        inner, last = _queries(tiles, self.layers[0].query[0])
        kept = _kept(tiles, fixed, self.layers[0].heads)
        return SharedPrefix(tiles.tile, tiles.trunk, tokens_TE.detach(), slots, -1 - symbols[slots], inner, last, kept)


def _run(layers: Sequence[Layer], chunk: SharedPrefix, ctx_RPE: Tensor, side: Side | None, keep: bool) -> Tensor:
    return run(layers, chunk, ctx_RPE, side) if keep else checkpoint(run, layers, chunk, ctx_RPE, side, use_reentrant=False)


def _default(budget_mb: float | None, device: torch.device) -> float:
    if budget_mb is not None:
        return budget_mb
    return torch.cuda.get_device_properties(device).total_memory / 2 / MIB if device.type == "cuda" else CPU_BUDGET_MB


def _keeps(tree: PromptTree) -> bool:
    """Whether states without a learnable vector on their path are to be kept; where all are such, nothing would be left to run."""
    return any(tree.learnable)


def _queries(tiles: Tiling, like: Tensor) -> tuple[Queries, Queries]:
    mask_NBS = torch.zeros(tiles.mask_NBS.shape).masked_fill(~tiles.mask_NBS, float("-inf"))
    last = last_queries(tiles, mask_NBS)
    moved = [None if t is None else t.to(like.device) for t in (last.rows_Q, last.keep_K, last.read_K)]
    inner_mask, last_mask = mask_NBS.to(like), last.mask_NQS.to(like)
    return Queries(None, inner_mask, None, None), Queries(moved[0], last_mask, moved[1], moved[2])


def _kept(tiles: Tiling, fixed: dict[int, tuple[int, list[Tensor]]], heads: int) -> list[Tensor]:
    if not fixed:
        return []
    layers = next(iter(fixed.values()))[1]
    rows_NA = torch.tensor([[fixed[n][0] if n >= 0 else 0 for n in row] for row in tiles.fixed_NA.tolist()], device=layers[0].device)
    return [kv_RTE[0][rows_NA].unflatten(-1, (2, heads, -1)).permute(0, 2, 3, 1, 4).contiguous() for kv_RTE in layers]
