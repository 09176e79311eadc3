"""Crops and resizes of many pictures at once on any device, equal to Pillow's bit by bit.

Resizing is separable: out = columns @ picture @ rows, one matrix per axis and cut. Pillow
(src/libImaging/Resample.c) computes it in integers: weights of 22 fractional bits, each pass
rounded to 8 bits. Here the weights are split into two parts of 12 bits and the passes are matrix
products in float32 or TF32. All numbers are integers that these formats hold exactly, and so are
their sums, in whatever order they are added. The products are therefore exact on every device, for
boxes that shrink by up to 16 times; beyond that a sum may exceed 24 bits and a pixel differ by 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.backbones.precision import arithmetic
from benchmark.backbones.preprocessing import Preprocessing
from benchmark.features.transforms import Cut, sent

WEIGHT_BITS = 22  # of Pillow's fixed-point weights
LOW_BITS = 12  # of them in the lower part
SUPPORT = {"bicubic": 2.0, "bilinear": 1.0}  # of the filters, in pixels
A = -0.5  # the free parameter of the bicubic one, as Pillow sets it
# Bytes of float32 that one group of cuts may take: the padded pictures and the half-resized ones.
GROUP_BYTES = {"cuda": 1 << 30, "cpu": 64 << 20}


@dataclass(frozen=True)
class Axis:
    """One axis of N cuts: the length of the window, where each box starts, its length, its length
    after resizing, the first position of the window, and whether the window is mirrored.
    """

    window: int
    start: list[int]
    length: list[int]
    resized: list[int]
    first: list[int]
    mirrored: list[bool]


def cut_pictures(
    pictures: Sequence[Tensor], cuts: Sequence[Sequence[Cut]], wanted: Preprocessing
) -> Tensor:
    """The cuts of every picture, one picture after the other.

    Args:
        pictures: uint8 pixels_HWC each, of any size, all on one device.
        cuts: for each picture, the cuts to make.
        wanted: size of every window, the filter, and the colour outside of a picture.

    Returns:
        uint8 pixels_NHWC on the same device.
    """
    flat = [(owner, cut) for owner, own in enumerate(cuts) for cut in own]
    device = pictures[0].device
    out_NHWC = torch.empty(
        (len(flat), wanted.height, wanted.width, 3), dtype=torch.uint8, device=device
    )
    for columns_first in (False, True):
        rows = [i for i, (_, cut) in enumerate(flat) if cut.columns_first() == columns_first]
        for group in _groups(pictures, flat, rows, wanted, columns_first):
            chosen = [flat[row] for row in group]
            pixels_NHWC = _cut_group(pictures, chosen, wanted, columns_first)
            out_NHWC[sent(group, torch.int64, device)] = pixels_NHWC
    return out_NHWC


def _groups(
    pictures: Sequence[Tensor],
    flat: Sequence[tuple[int, Cut]],
    rows: Sequence[int],
    wanted: Preprocessing,
    columns_first: bool,
) -> Iterator[list[int]]:
    """Rows of `flat` whose pictures, padded to one size, fit in the memory of a group."""
    limit = GROUP_BYTES[pictures[0].device.type]
    group: list[int] = []
    owners: set[int] = set()
    height = width = 0
    for row in rows:
        owner, _ = flat[row]
        sides = pictures[owner].shape[:2]
        new_height, new_width = max(height, sides[0]), max(width, sides[1])
        new_owners = owners | {owner}
        longest = max(wanted.height, wanted.width)
        second = new_width if columns_first else new_height
        size = 12 * new_height * new_width * (len(new_owners) + len(group) + 1)
        size += 3 * 12 * (len(group) + 1) * longest * second
        if group and size > limit:
            yield group
            group, new_owners, (new_height, new_width) = [], {owner}, sides
        group.append(row)
        owners, height, width = new_owners, new_height, new_width
    if group:
        yield group


def _cut_group(
    pictures: Sequence[Tensor],
    chosen: Sequence[tuple[int, Cut]],
    wanted: Preprocessing,
    columns_first: bool,
) -> Tensor:
    """uint8 pixels_NHWC of cuts that are resized in the same order of axes."""
    device = pictures[0].device
    owners = sorted({owner for owner, _ in chosen})
    padded_PUCV = _padded([pictures[owner] for owner in owners], columns_first)
    owner_N = sent([owners.index(owner) for owner, _ in chosen], torch.int64, device)
    first, second = _axes([cut for _, cut in chosen], wanted, columns_first)
    with arithmetic("tf32"):
        half_NUCV = _resize(padded_PUCV[owner_N], first, wanted.interpolation)
        half_NVCU = half_NUCV.permute(0, 3, 2, 1)
        out_NVCU = _resize(half_NVCU, second, wanted.interpolation)
    # U was resized first: it is x, or y where columns come first
    out = out_NVCU.permute(0, 3, 1, 2) if columns_first else out_NVCU.permute(0, 1, 3, 2)
    pixels_NHWC = out.to(torch.uint8)
    _fill_outside(pixels_NHWC, [cut for _, cut in chosen], wanted.fill)
    return pixels_NHWC


def _fill_outside(pixels_NHWC: Tensor, cuts: Sequence[Cut], fill: tuple[int, ...]) -> None:
    """Where a window reaches beyond its resized box, the colour `fill`; black stands there."""
    if not any(fill):
        return
    colour_3 = sent(fill, torch.uint8, pixels_NHWC.device)
    for pixels_HWC, cut in zip(pixels_NHWC, cuts, strict=True):
        for lines, start, length in (
            (pixels_HWC.transpose(0, 1), cut.corner[0], cut.size[0]),
            (pixels_HWC, cut.corner[1], cut.size[1]),
        ):
            lines[: max(-start, 0)] = colour_3
            lines[length - start :] = colour_3


def _padded(pictures: Sequence[Tensor], columns_first: bool) -> Tensor:
    """float32 pixels_PUCV with zeros beyond each picture; U is the axis that is resized first."""
    turned = [p.permute(0, 2, 1) if columns_first else p.permute(1, 2, 0) for p in pictures]
    u, v = (max(each.shape[axis] for each in turned) for axis in (0, 2))
    out_PUCV = torch.zeros((len(turned), u, 3, v), device=turned[0].device)
    for out_UCV, each_UCV in zip(out_PUCV, turned, strict=True):
        out_UCV[: each_UCV.shape[0], :, : each_UCV.shape[2]].copy_(each_UCV)
    return out_PUCV


def _axes(cuts: Sequence[Cut], wanted: Preprocessing, columns_first: bool) -> tuple[Axis, Axis]:
    """The axis that is resized first, and the other."""
    x, y = (
        Axis(
            (wanted.width, wanted.height)[axis],
            [cut.box[axis] for cut in cuts],
            [cut.box[axis + 2] - cut.box[axis] for cut in cuts],
            [cut.size[axis] for cut in cuts],
            [cut.corner[axis] for cut in cuts],
            [cut.mirrored and axis == 0 for cut in cuts],
        )
        for axis in (0, 1)
    )
    return (y, x) if columns_first else (x, y)


def _resize(pixels_NUCV: Tensor, axis: Axis, interpolation: str) -> Tensor:
    """Axis U resized and rounded to whole numbers in [0, 255], still in float32."""
    count, length = pixels_NUCV.shape[:2]
    weights_NOU = _weights(axis, interpolation, length, pixels_NUCV.device)
    summed = torch.bmm(weights_NOU, pixels_NUCV.reshape(count, length, -1))
    high, low = summed.unflatten(1, (2, axis.window)).to(torch.int32).unbind(1)
    rounded = high.mul_(1 << LOW_BITS).add_(low).add_(1 << (WEIGHT_BITS - 1))
    rounded = rounded.bitwise_right_shift_(WEIGHT_BITS).clamp_(0, 255)
    return rounded.unflatten(2, pixels_NUCV.shape[2:]).to(torch.float32)


def _weights(axis: Axis, interpolation: str, length: int, device: torch.device) -> Tensor:
    """Pillow's weights of the window's outputs over `length` inputs: the upper parts of all
    outputs, then the lower parts; whole numbers in float32. Outputs beyond the box have none.
    """
    support, kernel = SUPPORT[interpolation], KERNELS[interpolation]
    columns = [axis.start, axis.length, axis.resized, axis.first, axis.mirrored]
    facts = sent(columns, torch.float64, device)
    start_N1, length_N1, resized_N1, first_N1, mirrored_N1 = facts[:, :, None]
    step_O = torch.arange(axis.window, dtype=torch.float64, device=device)
    position_NO = first_N1 + torch.where(mirrored_N1 > 0, axis.window - 1 - step_O, step_O)
    scale_N1 = length_N1 / resized_N1
    stretch_N1 = scale_N1.clamp_min(1.0)
    middle_NO = (position_NO + 0.5) * scale_N1
    low_NO = (middle_NO - support * stretch_N1 + 0.5).floor().clamp_min(0.0)
    high_NO = torch.minimum((middle_NO + support * stretch_N1 + 0.5).floor(), length_N1)
    largest = max(a / b for a, b in zip(axis.length, axis.resized, strict=True))
    taps = 2 * math.ceil(support * max(largest, 1.0)) + 1
    input_NOT = low_NO[..., None] + torch.arange(taps, dtype=torch.float64, device=device)
    weight_NOT = kernel((input_NOT - middle_NO[..., None] + 0.5) / stretch_N1[..., None])
    inside_NO = (position_NO >= 0) & (position_NO < resized_N1)
    used_NOT = (input_NOT < high_NO[..., None]) & inside_NO[..., None]
    weight_NOT = torch.where(used_NOT, weight_NOT, 0.0)
    total_NO1 = weight_NOT.sum(-1, keepdim=True)
    weight_NOT = weight_NOT / torch.where(inside_NO[..., None], total_NO1, 1.0)
    whole_NOT = _rounded(weight_NOT * (1 << WEIGHT_BITS))
    upper_NOT = torch.floor(whole_NOT / (1 << LOW_BITS) + 0.5)
    lower_NOT = whole_NOT - upper_NOT * (1 << LOW_BITS)
    index_NOT = (start_N1[..., None] + input_NOT).to(torch.int64).clamp_max(length - 1)
    parts_NOT = torch.cat([upper_NOT, lower_NOT], dim=1).to(torch.float32)
    out_NOU = torch.zeros((len(parts_NOT), 2 * axis.window, length), device=device)
    return out_NOU.scatter_add_(2, torch.cat([index_NOT, index_NOT], dim=1), parts_NOT)


def _bicubic(x: Tensor) -> Tensor:
    """The cubic convolution kernel (R. Keys, 1981)."""
    x = x.abs()
    near = ((A + 2.0) * x - (A + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * A
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, 0.0))


def _bilinear(x: Tensor) -> Tensor:
    """A triangle."""
    return (1.0 - x.abs()).clamp_min(0.0)


KERNELS = {"bicubic": _bicubic, "bilinear": _bilinear}


def _rounded(x: Tensor) -> Tensor:
    """To the nearest whole number, halves away from zero."""
    return torch.copysign((x.abs() + 0.5).floor(), x)
