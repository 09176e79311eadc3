"""What a frozen backbone computes in. Imports no torch.

`auto` is float64 for the embedded CLIP, whose numbers are then the same on every processor as far
as training does not amplify the last digits, and float32 for all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.backbones.weights import TINY
from benchmark.errors import UserError

if TYPE_CHECKING:
    import torch

AUTO = "auto"
PRECISIONS = ("float64", "float32")


def resolved(precision: str, backbone: str) -> str:
    """The name of a precision; `auto` becomes that of the backbone."""
    if precision != AUTO:
        return precision
    return "float64" if backbone == TINY else "float32"


def tower_dtype(precision: str) -> torch.dtype:
    """The dtype of the towers' weights; UserError for a precision that is not known."""
    import torch

    if precision not in PRECISIONS:
        raise UserError(f"unknown precision '{precision}'; take one of {', '.join(PRECISIONS)}")
    return {"float64": torch.float64, "float32": torch.float32}[precision]
