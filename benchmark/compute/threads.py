"""The surroundings a backbone computes in: device, arithmetic, and how many threads it is worth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from threadpoolctl import threadpool_limits

from benchmark.backbones.clip import Loaded
from benchmark.backbones.precision import arithmetic

LIBRARIES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)  # what they read when they are loaded
# parameters below which threads cost more in hand-overs than they bring (20x on a busy machine)
SMALL_BACKBONE = 10_000_000


@contextmanager
def as_computed(backbone: Loaded, precision: str) -> Iterator[None]:
    """What every cell of a backbone is computed in, and whatever shall give the same numbers.

    torch's calls without a device mean the backbone's GPU: the second of two is not the usual one.
    """
    device = backbone.device
    current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    with current, threads_for(backbone), arithmetic(precision):
        yield


@contextmanager
def threads_for(backbone: Loaded) -> Iterator[None]:
    """One thread for a small model, torch's usual number for others; the linear algebra libraries
    likewise, also those that are loaded only when a method imports them, so that no number depends
    on which cell came first.
    """
    usual = torch.get_num_threads()
    small = sum(weight.numel() for weight in backbone.model.visual.parameters()) < SMALL_BACKBONE
    threads = 1 if small else usual
    before = {name: os.environ.get(name) for name in LIBRARIES}
    torch.set_num_threads(threads)
    os.environ.update(dict.fromkeys(LIBRARIES, str(threads)))
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(usual)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
