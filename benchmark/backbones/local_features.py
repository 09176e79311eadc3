"""What an image tower says of each place of its grid, in the space of its features.

A ViT's patch tokens go through the norm and the projection of its pooled token. In CLIP's ResNet
every place asks the attention pool what the mean of all places asks in the model itself (PLOT,
CHENGY12/PLOT @ 728539f, plot-coop/clip/model.py).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.errors import UserError

VERSION = 1  # names what is stored of `local_features`: count on where its numbers change


def local_features(visual: Any, name: str, pixels_NCHW: Tensor) -> Tensor:
    """image_NPD of the P places of a grid, row by row, not normalised.

    Raises UserError for a tower, of the backbone `name`, whose places cannot be opened here.
    """
    if _is_vit(visual):
        token_NPE = visual.ln_post(visual.transformer(visual._embeds(pixels_NCHW))[:, 1:])
        return token_NPE if visual.proj is None else token_NPE @ visual.proj
    pool = getattr(visual, "attnpool", None)
    if pool is None:
        raise UserError(
            f"the image tower of {name} gives no features of single places that can be opened "
            "here; take a ViT or a ResNet of open_clip's own, or a method that reads whole images"
        )
    return attended(pool, _without_pool(visual)(pixels_NCHW))[:, 1:]


def _is_vit(visual: Any) -> bool:
    """Whether patch tokens are what it pools; an attentional pool reads out others."""
    return hasattr(visual, "_embeds") and getattr(visual, "attn_pool", None) is None


def _without_pool(visual: Any) -> Any:
    """The same ResNet, weights shared, that gives the map_NCHW its pool reads."""
    twin = copy.copy(visual)
    twin._modules = {**visual._modules, "attnpool": nn.Identity()}
    return twin


def attended(pool: Any, map_NCHW: Tensor) -> Tensor:
    """image_NPD of the attention pool asked by the mean of all places, which is the pooled feature,
    and then by every place.
    """
    place_PNC = map_NCHW.flatten(2).permute(2, 0, 1)
    x_PNC = torch.cat([place_PNC.mean(0, keepdim=True), place_PNC])
    x_PNC = x_PNC + pool.positional_embedding[:, None].to(x_PNC.dtype)
    out_PND, _ = F.multi_head_attention_forward(
        query=x_PNC,
        key=x_PNC,
        value=x_PNC,
        embed_dim_to_check=x_PNC.shape[2],
        num_heads=pool.num_heads,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        use_separate_proj_weight=True,
        training=False,
        need_weights=False,
    )
    return out_PND.transpose(0, 1)
