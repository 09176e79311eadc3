"""What a prediction costs per image over the frozen backbone, counted by torch's own flop counter.

A method that reads features adds what it does with them. One that reads pixels runs an image
encoder of its own: what the frozen encoder needs is taken off, its last block computing only the
row that is read out, so that nobody is praised for leaving out rows that anybody could leave out.
The cost of one image is the difference between two images and one: what a predictor does once per
batch does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmark.api import Backbone, Crop, ImageSet, Predictor, UserError, VisionTower


def macs(work: Callable[[], object]) -> int:
    """Multiply-accumulates of `work`: matrix products, convolutions and attentions."""
    with FlopCounterMode(display=False) as counter, _plain_attention(), torch.no_grad():
        work()
    return int(counter.get_total_flops()) // 2


@contextmanager
def _plain_attention() -> Iterator[None]:
    """torch's fused attention kernels are ones the counter does not see into: that for inference,
    and, as of torch 2.6, that for CPUs.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def added_macs(predict: Predictor, images: ImageSet, backbone: Backbone) -> int | None:
    """Multiply-accumulates per image beyond the frozen image encoder; None where there are not two
    images to tell by.
    """
    if len(images) < 2:
        return None
    opened: list[Tensor] = []
    added = macs(lambda: predict(_head(images, 2, opened))) - macs(
        lambda: predict(_head(images, 1, []))
    )
    return added - frozen_macs(backbone, opened[0][:1]) if opened else added


def _head(images: ImageSet, count: int, opened: list[Tensor]) -> ImageSet:
    """The first images; pixels that are asked for are put into `opened`."""

    def encode(
        stored: Callable[[tuple[int, int, Crop] | None], Tensor],
        views: tuple[int, int, Crop] | None,
    ) -> Tensor:
        rows = stored(views)
        return rows[:count] if views is None else rows[:, :count]

    def decode(index_N: Tensor, crop: Crop | None, seeds: Sequence[int] | None) -> Tensor:
        opened.append(images.decode(index_N, crop, seeds))
        return opened[-1]

    return ImageSet(
        count,
        partial(encode, images.encode),
        decode,
        partial(encode, images.encode_unprojected),
        partial(encode, images.encode_local),
    )


def frozen_macs(backbone: Backbone, pixels_NCHW: Tensor) -> int:
    """What encoding these images costs without any method."""
    pixels_NCHW = pixels_NCHW.to(backbone.device)
    try:
        tower = backbone.vision
    except UserError:
        return macs(lambda: backbone.encode_pixels(pixels_NCHW))
    return macs(lambda: _encode(tower, pixels_NCHW))


def _encode(tower: VisionTower, pixels_NCHW: Tensor) -> Tensor:
    x_NLE = tower.start(pixels_NCHW)
    for block in tower.blocks[:-1]:
        x_NLE = block(x_NLE)
    last = tower.blocks[-1]
    alone = (
        tower.reads_first
        and all(hasattr(last, part) for part in ("ln_1", "attn", "ln_2", "mlp"))
        and isinstance(last.attn, nn.MultiheadAttention)  # open_clip's custom blocks have another
    )
    return tower.finish(_first_row(last, x_NLE) if alone else last(x_NLE))


def _first_row(block: nn.Module, x_NLE: Tensor) -> Tensor:
    """What a residual attention block gives at its first token."""
    parts: Any = block
    h_NLE = parts.ln_1(x_NLE)
    x_NLE = x_NLE[:, :1] + parts.ls_1(parts.attn(h_NLE[:, :1], h_NLE, h_NLE, need_weights=False)[0])
    return x_NLE + parts.ls_2(parts.mlp(parts.ln_2(x_NLE)))
