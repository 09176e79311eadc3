"""CLIP's text transformer over tiles of shared tokens (benchmark/backbones/prompting/tiles.py),
exact forward and backward.

All rows of all tiles are one matrix for norms and products; attention is one batched call per layer
in which the keys of the trunk and the kept keys are shown to every tile. In the last layer only the
rows that are read out go past the keys. Letters of this file: R runs, T rows, N tiles, B rows per
tile, S key columns, A kept keys, H heads, F a head's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.api import Later, SideTerm
from benchmark.backbones.prompting.text_layer import Layer
from benchmark.backbones.prompting.tiles import Tiling
from benchmark.backbones.prompting.tree import PromptTree
from benchmark.backbones.towers import OpenClipTextTower
from benchmark.training.narrow import narrowed

MIB = 2**20
WORKING = 20  # widths per row that live only while one layer is computed, forward or backward


@dataclass(frozen=True, eq=False)
class Queries:
    """Who asks in a layer, what they may see, and which of them are real."""

    mask_N1QS: Tensor  # added to attention scores: 0 or -inf
    rows_Q: Tensor | None = None  # rows of the token matrix; None: all
    real_K: Tensor | None = None  # which queries are real, the others filling up their tiles
    read_K: Tensor | None = None  # the rows of the token matrix these are

    def repeated(self, runs: int) -> Queries:
        return self if runs == 1 else replace(self, mask_N1QS=self.mask_N1QS.repeat(runs, 1, 1, 1))


@dataclass(frozen=True, eq=False)
class SharedPrefix:
    """One tiling on one device, ready to run through the layers. No index or shape is computed per
    step.
    """

    tile: int
    trunk: int
    # embedding + position of every row; position alone where a learnable vector will be added
    tokens_TE: Tensor
    slots: Tensor  # the rows that hold learnable vectors
    # what they hold: these vectors of the flattened context, each so many times
    copies: Sequence[tuple[Tensor, int]]
    inner: Queries
    last: Queries  # the last layer's: the rows that are read out
    kept: Kept | None
    fixed_NA: Tensor  # which kept keys each tile sees (N = 1 where all see the same)


@dataclass(frozen=True, eq=False)
class Kept:
    """Keys and values of nodes without a learnable vector before them: computed once."""

    row_of: dict[int, int]  # node -> its row
    layers: Sequence[Tensor]  # per layer, row x 2E

    @property
    def mb(self) -> float:
        return sum(kv.numel() * kv.element_size() for kv in self.layers) / MIB


def prepare(
    layers: Sequence[Layer],
    tower: OpenClipTextTower,
    tree: PromptTree,
    tiles: Tiling,
    kept: Kept | None,
) -> SharedPrefix:
    """The tiling as tensors on the tower's device."""
    device, dtype = tower.position_LE.device, layers[0].query[0].dtype
    symbols_T = torch.tensor(
        [tree.symbols[n] if n >= 0 else 0 for n in tiles.node_T.tolist()], device=device
    )
    depths_T = torch.tensor(
        [tree.depths[n] if n >= 0 else 0 for n in tiles.node_T.tolist()], device=device
    )
    slots, copies = _slots(symbols_T)
    tokens_TE = (
        tower.embed(symbols_T.clamp_min(0)) * (symbols_T >= 0).unsqueeze(1)
        + tower.position_LE[depths_T]
    )
    mask_NBS = (
        torch.zeros(tiles.mask_NBS.shape, dtype=dtype)
        .masked_fill(~tiles.mask_NBS, float("-inf"))
        .to(device)
    )
    return SharedPrefix(
        tile=tiles.tile,
        trunk=tiles.trunk,
        tokens_TE=tokens_TE.detach(),
        slots=slots,
        copies=copies,
        inner=Queries(mask_NBS.unsqueeze(1)),
        last=_last_queries(tiles, mask_NBS),
        kept=kept,
        fixed_NA=torch.tensor(_fixed_rows(tiles, kept), dtype=torch.int64, device=device),
    )


def _slots(symbols_T: Tensor) -> tuple[Tensor, list[tuple[Tensor, int]]]:
    """Rows of learnable vectors, in the order that lets vectors used equally often be repeated in
    one piece.

    The gradient of such a repetition is a plain sum; of an index with duplicates a GPU would add it
    up in any order.
    """
    slots = (symbols_T < 0).nonzero().flatten()
    sources, places, uses = (-1 - symbols_T[slots]).unique(return_inverse=True, return_counts=True)
    order = (uses[places] * len(sources) + places).argsort(stable=True)
    return slots[order], [(sources[uses == count], count) for count in uses.unique().tolist()]


def _fixed_rows(tiles: Tiling, kept: Kept | None) -> list[list[int]]:
    """Padding points at row 0: what it says is masked."""
    rows = [
        [kept.row_of[n] if kept and n >= 0 else 0 for n in nodes]
        for nodes in tiles.fixed_NA.tolist()
    ]
    return rows[:1] if all(row == rows[0] for row in rows) else rows


def _last_queries(tiles: Tiling, mask_NBS: Tensor) -> Queries:
    """The rows read out, as many per tile as the fullest tile has: attention wants equal tiles."""
    reads: list[list[tuple[int, int]]] = [[] for _ in range(len(mask_NBS))]
    for k, row in enumerate(tiles.read_K.tolist()):
        reads[row // tiles.tile].append((row, k))
    most = max(map(len, reads))
    rows = [
        [row for row, _ in reads_t] + [t * tiles.tile] * (most - len(reads_t))
        for t, reads_t in enumerate(reads)
    ]
    real = {
        k: t * most + position
        for t, reads_t in enumerate(reads)
        for position, (_, k) in enumerate(reads_t)
    }
    rows_Q = torch.tensor(rows, device=mask_NBS.device).flatten()
    mask_NQS = mask_NBS.flatten(0, 1)[rows_Q].unflatten(0, (-1, most))
    real_K = torch.tensor([real[k] for k in range(len(real))], device=mask_NBS.device)
    return Queries(mask_NQS.unsqueeze(1), rows_Q, real_K, tiles.read_K.to(mask_NBS.device))


def keep(layers: Sequence[Layer], plan: SharedPrefix, tiles: Tiling) -> Kept:
    """The keys and values of every row of a tiling without learnable vectors."""
    taken: list[Tensor] = []
    run(layers, plan, plan.tokens_TE.new_zeros(1, 0, plan.tokens_TE.shape[1]), taken=taken)
    return Kept(
        {node: row for row, node in enumerate(tiles.node_T.tolist())},
        [kv_RTE[0] for kv_RTE in taken],
    )


def footprint_mb(layers: Sequence[Layer], tiles: Tiling, width: int) -> float:
    """MiB one run needs for a training step, estimated: what autograd keeps in all layers, and one
    layer's work on top.

    Kept per row and layer: both norms' inputs, query, attention output, and the feed-forward's
    inner activation (4 widths); per key column key and value; in bfloat16 on a CPU also the
    attention weights.
    """
    outer = layers[0].residual_bytes
    inner = layers[0].query[0].element_size()
    weights = tiles.rows * tiles.mask_NBS.shape[2] * layers[0].heads * inner if inner == 2 else 0
    kept = (
        tiles.rows * width * (2 * outer + 6 * inner) + tiles.columns * 2 * width * inner + weights
    )
    return (len(layers) * kept + tiles.rows * width * WORKING * outer) / MIB


def run(
    layers: Sequence[Layer],
    plan: SharedPrefix,
    ctx_RPE: Tensor,
    side: SideTerm | None = None,
    later: Later | None = None,
    taken: list[Tensor] | None = None,
) -> Tensor:
    """x_RKE read out, before the final norm; `ctx_RPE` holds all learnable vectors, `later` those
    that take their places before a layer. `taken` collects every layer's keys and values.
    """
    runs = len(ctx_RPE)
    x_RTE = plan.tokens_TE.expand(runs, -1, -1)
    if len(plan.slots):
        x_RTE = x_RTE.index_add(1, plan.slots, _in_slots(plan, ctx_RPE))
    inner, last = plan.inner.repeated(runs), plan.last.repeated(runs)
    for i, layer in enumerate(layers):
        if later and i in later and len(plan.slots):
            x_RTE = x_RTE.index_copy(1, plan.slots, _in_slots(plan, later[i]))
        asks = last if i == len(layers) - 1 else inner
        read_RTE = layer.norm_1(x_RTE).to(layer.query[0].dtype)
        kv_RTE = F.linear(read_RTE, *layer.key_value)
        if taken is not None:
            taken.append(kv_RTE)
        attn_RTE = _attend(
            layer, plan, asks, plan.kept.layers[i] if plan.kept else None, read_RTE, kv_RTE
        )
        if side is not None:
            attn_RTE = side(i, _rows(read_RTE, asks.read_K), attn_RTE)
        x_RTE = _rows(x_RTE, asks.read_K)
        x_RTE = narrowed(x_RTE + layer.scale_1(attn_RTE), x_RTE.dtype)
        hidden = layer.activation(
            F.linear(layer.norm_2(x_RTE).to(layer.query[0].dtype), *layer.expand)
        )
        x_RTE = torch.add(x_RTE, layer.scale_2(F.linear(hidden, *layer.contract)), alpha=layer.gain)
    return x_RTE


def _in_slots(plan: SharedPrefix, ctx_RPE: Tensor) -> Tensor:
    """The vectors of all slots, in their order."""
    return torch.cat([_repeated(ctx_RPE, *piece) for piece in plan.copies], 1)


def _repeated(ctx_RPE: Tensor, sources: Tensor, times: int) -> Tensor:
    return ctx_RPE.index_select(1, sources).unsqueeze(2).expand(-1, -1, times, -1).flatten(1, 2)


def _rows(x_RTE: Tensor, rows: Tensor | None) -> Tensor:
    return x_RTE if rows is None else x_RTE.index_select(1, rows)


def _attend(
    layer: Layer,
    plan: SharedPrefix,
    asks: Queries,
    kept: Tensor | None,
    read_RTE: Tensor,
    kv_RTE: Tensor,
) -> Tensor:
    runs = len(read_RTE)
    tiles = len(asks.mask_N1QS) // runs
    q_RQE = F.linear(_rows(read_RTE, asks.rows_Q), *layer.query)
    q = q_RQE.view(runs * tiles, -1, layer.heads, q_RQE.shape[2] // layer.heads).transpose(1, 2)
    own = kv_RTE.view(runs, tiles, plan.tile, 2, layer.heads, -1)  # R N B 2 H F
    parts = [own[:, :1, : plan.trunk].expand(-1, tiles, -1, -1, -1, -1), own]
    if kept is not None:
        fixed = kept.index_select(0, plan.fixed_NA.flatten()).view(
            1, *plan.fixed_NA.shape, *own.shape[3:]
        )
        parts.insert(0, fixed.expand(runs, tiles, -1, -1, -1, -1))
    k, v = (
        torch.cat([part.permute(0, 1, 3, 4, 2, 5) for part in parts], dim=-2)
        .flatten(0, 1)
        .unbind(1)
    )
    out_RQE = _softmax_attention(q, k, v, asks.mask_N1QS).transpose(1, 2).reshape(q_RQE.shape)
    return F.linear(_rows(out_RQE, asks.real_K), *layer.out)


def _softmax_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    if q.is_cuda or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # torch's fused kernel is 3.5 times slower than its parts for masked bfloat16 on a CPU (forward
    # + backward, torch 2.15)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask
    return torch.softmax(scores, -1) @ v
