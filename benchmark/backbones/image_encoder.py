"""A frozen image encoder in a given precision.

"float64" and "float32" are those of the backbone itself (precision.py). "tf32" is float32 whose
products are rounded to TF32 on a GPU; "bfloat16" and "float16" hold weights and activations.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmark.api import unit

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """Products and convolutions of float32 tensors on a GPU: rounded to TF32 where `precision` says
    "tf32", in full float32 otherwise. torch's own default rounds those of convolutions.
    """
    matmul, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolutions.allow_tf32
    matmul.allow_tf32 = convolutions.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, convolutions.allow_tf32 = before


def image_encoder(backbone: Any, precision: str) -> Callable[[Tensor], Tensor]:
    """pixels_NCHW -> image_ND of unit length, without gradient.

    `backbone` is one of ours. In half precision a private copy of its image tower computes, and the
    output is float32 before it is brought to unit length; otherwise the backbone itself computes.
    """
    encode: Callable[[Tensor], Tensor] = backbone.encode_pixels
    if precision in HALVES:
        dtype = HALVES[precision]
        tower = copy.deepcopy(backbone.model.visual).to(dtype)

        def encode(pixels_NCHW: Tensor) -> Tensor:
            return unit(tower(pixels_NCHW.to(dtype)).float())

    def encoder(pixels_NCHW: Tensor) -> Tensor:
        with torch.no_grad(), matrix_products(precision):
            return encode(pixels_NCHW)

    return encoder
