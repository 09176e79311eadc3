"""States of a tower that leave float16's range.

A residual block's state is read by norms alone, which are indifferent to its length. A state that
is too long for float16 is therefore shortened: every norm reads the same, and what later layers add
to it weighs too much by less than float16 resolves of such a state.
"""

from __future__ import annotations

import torch
from torch import Tensor

LONGEST = (
    2.0**14
)  # of a coordinate; a quarter of float16's range, the rest is for what is added later


def narrowed(x_NE: Tensor, dtype: torch.dtype) -> Tensor:
    """`x_NE` in `dtype`; in float16, rows with a coordinate above LONGEST are scaled down to it."""
    if x_NE.dtype == dtype or dtype != torch.float16:
        return x_NE.to(dtype)
    largest_N1 = x_NE.detach().abs().amax(-1, keepdim=True)
    return (x_NE * (LONGEST / largest_N1).clamp_max(1.0)).to(dtype)
