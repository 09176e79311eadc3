"""Linear maps as named parts: "NAME.weight" and "NAME.bias"."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmark.api import Backbone


def linear(
    name: str, inputs: int, outputs: int, rng: Generator, backbone: Backbone
) -> dict[str, Tensor]:
    """A map with torch's initial values: uniform within 1 / sqrt(inputs), drawn in float64."""

    def noise(*shape: int) -> Tensor:
        share = torch.rand(shape, generator=rng, dtype=torch.float64)
        return ((2 * share - 1) / inputs**0.5).to(backbone.device, backbone.dtype)

    return {f"{name}.weight": noise(outputs, inputs), f"{name}.bias": noise(outputs)}


def apply(name: str, parts: Mapping[str, Tensor], x_ND: Tensor) -> Tensor:
    """The map of some rows, in its own type."""
    weight = parts[f"{name}.weight"]
    return F.linear(x_ND.to(weight.dtype), weight, parts[f"{name}.bias"])
