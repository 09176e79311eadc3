"""Dropout masks that are a function of seed, step and place: the same on a CPU and on a GPU, in a
recorded step as in a computed one, and without a generator whose state somebody must keep.

Every element's number is hashed with the step's (the finaliser of MurmurHash3, 32 bits; Austin
Appleby, public domain), and kept where the hash is large enough.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# MurmurHash3's two factors, and 2^32 / golden ratio, which spreads neighbouring numbers.
FACTORS, SPREAD = (0x85EBCA6B, 0xC2B2AE35), 0x9E3779B1


def keep_mask(
    shape: tuple[int, ...], drop: float, *, seed: int, stream: int, step: Tensor
) -> Tensor:
    """True for the elements to keep: each with probability 1 - `drop`, independently.

    `step` is an int64 tensor of one element, on the device the mask is wanted on; `stream` tells
    the masks of one step apart. The same arguments give the same mask on every device.
    """
    count = math.prod(shape)
    key = step.to(torch.int32) * _signed(SPREAD) + _hashed(seed)
    key = _mix_(_mix_(key) + _hashed(stream))
    hash_M = (
        torch.arange(count, dtype=torch.int32, device=step.device).mul_(_signed(SPREAD)).add_(key)
    )
    uniform_M = _mix_(hash_M).bitwise_and_(0xFFFFFF)  # 24 bits, evenly spread
    return (uniform_M >= round(drop * (1 << 24))).view(shape)


def _mix_(number: Tensor) -> Tensor:
    """MurmurHash3's finaliser in place on int32. A logical shift is an arithmetic one whose copies
    of the sign are masked."""
    number ^= number >> 16 & 0xFFFF
    number *= _signed(FACTORS[0])
    number ^= number >> 13 & 0x7FFFF
    number *= _signed(FACTORS[1])
    number ^= number >> 16 & 0xFFFF
    return number


def _hashed(number: int) -> int:
    """The finaliser of a whole number as 32 signed bits, so that neighbours lie far apart."""
    number &= 0xFFFFFFFF
    number = (number ^ number >> 16) * FACTORS[0] & 0xFFFFFFFF
    number = (number ^ number >> 13) * FACTORS[1] & 0xFFFFFFFF
    return _signed(number ^ number >> 16)


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number
