"""What a frozen backbone computes in. Imports no torch.

`auto` is float64 for the embedded CLIP, whose numbers are then the same on every processor as far
as training does not amplify the last digits, and float32 for all others.

In bfloat16 and float16 the towers' weights and activations are of that type, as in CLIP's released
code; what leaves a tower, and everything that is trained, is float32. In tf32 the towers are
float32 and a card's matrix products round their factors to 10 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmark.backbones.weights import TINY
from benchmark.errors import UserError

if TYPE_CHECKING:
    import torch

AUTO = "auto"
PRECISIONS = ("float64", "float32", "tf32", "bfloat16", "float16")


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
    return torch.float32 if precision == "tf32" else getattr(torch, precision)


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Matrix products and convolutions of float32 in TF32 where that is the precision, else not.

    torch's own default allows TF32 in convolutions; here nothing does that does not say so.
    """
    import torch

    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
