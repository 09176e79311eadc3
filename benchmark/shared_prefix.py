"""CLIP's text transformer over tiles of shared tokens (benchmark/prompt_tree.py), exact forward and backward.

All rows of all tiles are one matrix for norms and products; attention is one batched call per layer in which the keys of
the trunk and the kept keys are shown to every tile. In the last layer only the rows that are read out go past the keys.
Letters of this file: R runs, T rows, N tiles, B rows per tile, S key columns, A kept keys, H heads, F a head's width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.prompt_tree import Tiling

Side = Callable[[int, Tensor, Tensor], Tensor]  # layer, attention input rows, attention output rows -> attention output rows
Linear = tuple[Tensor, Tensor | None]


@dataclass(frozen=True, eq=False)
class Layer:
    """The parts of one residual attention block, matrices in the precision of the computation."""

    heads: int
    ln_1: nn.Module
    query: Linear
    key_value: Linear
    out: Linear
    ls_1: nn.Module
    ln_2: nn.Module
    expand: Linear
    activation: nn.Module
    contract: Linear
    ls_2: nn.Module

    @staticmethod
    def of(block: nn.Module, dtype: torch.dtype) -> Layer:
        """`block` must satisfy `fits`; matrices that have `dtype` already are shared with it, others are copied."""
        block_: Any = block
        width = block_.attn.embed_dim
        weight, bias = block_.attn.in_proj_weight.to(dtype), block_.attn.in_proj_bias.to(dtype)
        fc, proj, out = [(m.weight.to(dtype), m.bias.to(dtype)) for m in (block_.mlp.c_fc, block_.mlp.c_proj, block_.attn.out_proj)]
        query, key_value = (weight[:width], bias[:width]), (weight[width:], bias[width:])
        heads = block_.attn.num_heads
        return Layer(heads, block_.ln_1, query, key_value, out, block_.ls_1, block_.ln_2, fc, block_.mlp.gelu, proj, block_.ls_2)


def fits(block: nn.Module) -> bool:
    """True where `block` is open_clip's plain pre-norm block, whose parts `Layer` knows how to run row by row."""
    attn = getattr(block, "attn", None)
    if type(block).__name__ != "ResidualAttentionBlock" or type(attn) is not nn.MultiheadAttention:
        return False
    plain = attn.in_proj_weight is not None and attn.in_proj_bias is not None and attn.bias_k is None and not attn.add_zero_attn
    return plain and not attn.dropout and [name for name, _ in block.mlp.named_children()] == ["c_fc", "gelu", "c_proj"]


@dataclass(frozen=True, eq=False)
class Queries:
    """Who asks in a layer: `rows_Q` of the token matrix (None: all), what they may see, and which answers are kept."""

    rows_Q: Tensor | None
    mask_NQS: Tensor  # additive
    keep_K: Tensor | None
    read_K: Tensor | None


@dataclass(frozen=True, eq=False)
class SharedPrefix:
    """One tiling on one device, ready to run through the layers."""

    tile: int
    trunk: int
    tokens_TE: Tensor  # embedding + position of every row; position alone where a learnable vector will be added
    slots: Tensor  # the rows that hold learnable vectors
    sources: Tensor  # which vector of the flattened context each of them holds
    inner: Queries
    last: Queries
    kept: Sequence[Tensor]  # per layer kept keys and values, N 2 H A F; empty where nothing is kept


def last_queries(tiling: Tiling, mask_NBS: Tensor) -> Queries:
    """The rows read out, as many per tile as the fullest tile has (attention wants equal tiles); only the real ones are kept."""
    tiles = [[] for _ in range(tiling.rows // tiling.tile)]
    for k, row in enumerate(tiling.read_K.tolist()):
        tiles[row // tiling.tile].append((row, k))
    most = max(map(len, tiles))
    rows, keep = [], [0] * len(tiling.read_K)
    for t, reads in enumerate(tiles):
        for j, (_, k) in enumerate(reads):
            keep[k] = t * most + j
        rows += [row for row, _ in reads] + [t * tiling.tile] * (most - len(reads))
    rows_Q = torch.tensor(rows)
    mask_NQS = mask_NBS.flatten(0, 1)[rows_Q].unflatten(0, (-1, most))
    return Queries(rows_Q, mask_NQS, torch.tensor(keep), tiling.read_K)


def run(layers: Sequence[Layer], plan: SharedPrefix, ctx_RPE: Tensor, side: Side | None = None, keys: list[Tensor] | None = None) -> Tensor:
    """Rows read out, R K E, before the final norm; `ctx_RPE` holds all learnable vectors of R runs. `keys` collects keys and values."""
    runs = len(ctx_RPE)
    x_RTE = plan.tokens_TE.expand(runs, -1, -1)
    if len(plan.slots):
        x_RTE = x_RTE.index_add(1, plan.slots, ctx_RPE.index_select(1, plan.sources))
    for i, layer in enumerate(layers):
        asks = plan.last if i == len(layers) - 1 else plan.inner
        kept = plan.kept[i] if plan.kept else None
        x_RTE = _block(layer, plan, asks, kept, x_RTE, None if side is None else _at(side, i), keys)
    return x_RTE


def _at(side: Side, layer: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x_RTE, attn_RTE: side(layer, x_RTE, attn_RTE)


def _block(
    layer: Layer, plan: SharedPrefix, asks: Queries, kept: Tensor | None, x_RTE: Tensor, side: Any, keys: list[Tensor] | None
) -> Tensor:
    dtype = layer.query[0].dtype
    h_RTE = layer.ln_1(x_RTE).to(dtype)
    kv_RTE = F.linear(h_RTE, *layer.key_value)
    if keys is not None:
        keys.append(kv_RTE)
    q_RQE = F.linear(_select(h_RTE, asks.rows_Q), *layer.query)
    attn_RQE = _select(_attend(layer.heads, plan, asks.mask_NQS, kept, q_RQE, kv_RTE), asks.keep_K)
    attn_RQE = F.linear(attn_RQE, *layer.out)
    if side is not None:
        attn_RQE = side(_select(h_RTE, asks.read_K), attn_RQE)
    x_RQE = _select(x_RTE, asks.read_K) + layer.ls_1(attn_RQE)
    hidden = layer.activation(F.linear(layer.ln_2(x_RQE).to(dtype), *layer.expand))
    return x_RQE + layer.ls_2(F.linear(hidden, *layer.contract))


def _select(x_RTE: Tensor, rows: Tensor | None) -> Tensor:
    return x_RTE if rows is None else x_RTE.index_select(1, rows)


def _attend(heads: int, plan: SharedPrefix, mask_NQS: Tensor, kept: Tensor | None, q_RQE: Tensor, kv_RTE: Tensor) -> Tensor:
    runs, tiles = len(q_RQE), len(mask_NQS)
    own = kv_RTE.view(runs, tiles, plan.tile, 2, heads, -1).permute(0, 1, 3, 4, 2, 5)  # R N 2 H B F
    parts = [own[:, :1, :, :, : plan.trunk].expand(-1, tiles, -1, -1, -1, -1), own]
    if kept is not None:
        parts.insert(0, kept.expand(runs, -1, -1, -1, -1, -1))
    k, v = torch.cat(parts, dim=-2).flatten(0, 1).unbind(1)
    q = q_RQE.view(runs * tiles, -1, heads, k.shape[-1]).transpose(1, 2)
    mask = mask_NQS.to(q.dtype).unsqueeze(1).repeat(runs, 1, 1, 1)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).reshape(runs, -1, q_RQE.shape[-1])
