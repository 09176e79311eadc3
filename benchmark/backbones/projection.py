"""The last linear map of an image tower, opened: what it reads, and the map itself.

CLIP's ViT multiplies its pooled token by a matrix, CLIP's ResNet ends in the output layer of its
attention pool. A tower that has the identity in this place gives what the map reads.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.errors import UserError


def projection(visual: Any, name: str) -> tuple[Tensor, Tensor | None]:
    """weight_WD and bias_D (None without one) of the image tower of the backbone `name`.

    Raises UserError for a tower that does not end in such a map.
    """
    if getattr(visual, "proj", None) is not None:
        return visual.proj, None
    pool = getattr(visual, "attnpool", None)
    if pool is None:
        raise UserError(
            f"the image tower of {name} does not end in a projection that can be opened here; take "
            "a ViT or a ResNet of open_clip's own, or a method that leaves the projection alone"
        )
    return pool.c_proj.weight.T, pool.c_proj.bias


def without_projection(visual: Any, name: str) -> Any:
    """The same tower, weights shared, with the identity in place of its projection."""
    weight_WD, _ = projection(visual, name)
    identity_WW = torch.eye(len(weight_WD), dtype=weight_WD.dtype, device=weight_WD.device)
    twin = copy.copy(visual)
    if getattr(visual, "proj", None) is not None:
        twin._parameters = {**visual._parameters, "proj": frozen(identity_WW)}
        return twin
    linear = nn.Linear(len(weight_WD), len(weight_WD), device="meta")
    linear.weight = frozen(identity_WW)
    linear.bias = frozen(identity_WW.new_zeros(len(identity_WW)))
    pool = copy.copy(visual.attnpool)
    pool._modules = {**pool._modules, "c_proj": linear}
    twin._modules = {**visual._modules, "attnpool": pool}
    return twin


def frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
