"""One block of CLIP's text transformer, taken apart into functions and matrices that work row by
row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Linear = tuple[Tensor, Tensor]  # weight, bias
Map = Callable[[Tensor], Tensor]
QUICK_GELU = 1.702


@dataclass(frozen=True, eq=False)
class Layer:
    """One residual attention block as plain functions and matrices, the latter in the precision of
    the computation.
    """

    heads: int
    norm_1: Map
    query: Linear
    key_value: Linear
    out: Linear
    scale_1: Map
    norm_2: Map
    expand: Linear
    activation: Map
    contract: Linear
    scale_2: Map
    gain: float  # what the feed-forward output is multiplied with
    residual_bytes: (
        int  # per number of the stream between the blocks, which keeps the tower's own precision
    )

    @staticmethod
    def of(block: Any, dtype: torch.dtype) -> Layer:
        """`block` must satisfy `fits`; matrices that have `dtype` already are shared with it,
        others are copied.

        QuickGELU(h) = h sigmoid(1.702 h) is silu(1.702 h) / 1.702, one fused pass that keeps only
        its input. Both factors move to where they cost nothing: into the norm before the product
        and into the sum after it.
        """
        attn, mlp, quick = block.attn, block.mlp, type(block.mlp.gelu).__name__ == "QuickGELU"
        sharp = QUICK_GELU if quick else 1.0
        weight, bias = _linear(attn.in_proj_weight, attn.in_proj_bias, dtype)
        return Layer(
            heads=attn.num_heads,
            norm_1=_norm(block.ln_1, 1.0),
            query=(weight[: attn.embed_dim], bias[: attn.embed_dim]),
            key_value=(weight[attn.embed_dim :], bias[attn.embed_dim :]),
            out=_linear(attn.out_proj.weight, attn.out_proj.bias, dtype),
            scale_1=block.ls_1,
            norm_2=_norm(block.ln_2, sharp),
            expand=_linear(mlp.c_fc.weight, mlp.c_fc.bias * sharp, dtype),
            activation=F.silu if quick else mlp.gelu,
            contract=_linear(mlp.c_proj.weight, mlp.c_proj.bias * sharp, dtype),
            scale_2=block.ls_2,
            gain=1 / sharp,
            residual_bytes=attn.in_proj_weight.element_size(),
        )


def _linear(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Linear:
    return weight.detach().to(dtype), bias.detach().to(dtype)


def _norm(norm: nn.LayerNorm, factor: float) -> Map:
    weight, bias = norm.weight.detach() * factor, norm.bias.detach() * factor
    return lambda x: F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


def fits(block: Any) -> bool:
    """True where `block` is open_clip's plain pre-norm block and frozen, so that `Layer` may take
    it apart.
    """
    attn, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    if (
        type(block).__name__ != "ResidualAttentionBlock"
        or type(attn) is not nn.MultiheadAttention
        or mlp is None
    ):
        return False
    joint = (
        attn.in_proj_weight is not None
        and attn.in_proj_bias is not None
        and attn.bias_k is None
        and not attn.add_zero_attn
    )
    parts = [name for name, _ in mlp.named_children()] == ["c_fc", "gelu", "c_proj"]
    linear = parts and type(mlp.c_fc) is type(mlp.c_proj) is nn.Linear
    return (
        joint
        and linear
        and not attn.dropout
        and not any(weight.requires_grad for weight in block.parameters())
    )
