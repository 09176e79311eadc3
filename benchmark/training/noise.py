"""Random initial values that are the same on every processor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from benchmark.api import Backbone


def normal(shape: Sequence[int], rng: Generator, backbone: Backbone) -> Tensor:
    """Standard normal noise of the backbone's device and dtype.

    Drawn in float64: torch draws float32 noise with vector instructions where there are any, and
    its last digits then depend on the processor.
    """
    noise = torch.randn(tuple(shape), generator=rng, dtype=torch.float64)
    return noise.to(backbone.device, backbone.dtype)
