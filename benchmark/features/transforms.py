"""From a decoded picture to what the image tower reads: crops and resizing on uint8, normalisation
in batches on the device.

Sources: CoOp's transforms (KaiyangZhou/CoOp, Dassl `build_transform`): resize the short side and
crop the centre for testing, random resized crop and mirror for training, bicubic, CLIP's channel
mean and std. `grid.transform_version` names this file's behaviour together with Pillow's; raise its
number when a pixel changes.

The centre crop is resized by torch's antialiased bicubic on uint8, which works as Pillow's does
with coefficients of 16 bits instead of 22: of Caltech101's pixels 0.3 % differ, by 1, rarely by 2
of 255, in less than half of the time (benches/pictures.py). Random views go through Pillow itself.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmark.api import Crop

ASPECT = (3 / 4, 4 / 3)  # random resized crop: range of width / height
ATTEMPTS = 10  # then the whole picture, its aspect clipped to ASPECT


@dataclass(frozen=True)
class Pipeline:
    """What of a backbone decides how pixels look: size and channel statistics."""

    image_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(
        self,
        pixels_NHWC: Tensor,
        out_NCHW: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """uint8 pixels_NHWC -> pixels_NCHW of `dtype` on the same device; `out_NCHW` is written to
        where it is given.
        """
        device, (count, height, width, channels) = pixels_NHWC.device, pixels_NHWC.shape
        if out_NCHW is None:
            out_NCHW = torch.empty((count, channels, height, width), dtype=dtype, device=device)
        mean_C11, std_C11 = (
            torch.tensor(values, dtype=dtype, device=device)[:, None, None]
            for values in (self.mean, self.std)
        )
        at_once = (
            1 if device.type == "cpu" else max(count, 1)
        )  # one picture stays in the processor's cache, a batch keeps a GPU busy
        for out, pixels in zip(out_NCHW.split(at_once), pixels_NHWC.split(at_once), strict=True):
            out.copy_(pixels.permute(0, 3, 1, 2)).div_(255).sub_(mean_C11).div_(std_C11)
        return out_NCHW


def centre(picture: Image.Image, image_px: int) -> Tensor:
    """uint8 pixels_HWC of an RGB picture: short side to `image_px`, bicubic, then the middle
    square.
    """
    width, height = picture.size
    short = min(width, height)
    size = (
        int(image_px * width / short),
        int(image_px * height / short),
    )  # torchvision truncates the long side too
    left, top = round((size[0] - image_px) / 2), round((size[1] - image_px) / 2)
    return _resized(picture, size)[top : top + image_px, left : left + image_px]


def _resized(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """pixels_HWC of the whole picture at another size."""
    width, height = picture.size
    if (
        size == picture.size or height > 2 * width
    ):  # of tall pictures Pillow 13 resizes columns first, where torch starts with rows
        return _pixels(
            picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)
        )
    pixels_1CHW = _pixels(picture).permute(2, 0, 1)[None]
    return F.interpolate(pixels_1CHW, (size[1], size[0]), mode="bicubic", antialias=True)[
        0
    ].permute(1, 2, 0)


def random_view(
    picture: Image.Image, image_px: int, crop: Crop, rng: np.random.Generator
) -> Tensor:
    """uint8 pixels_HWC of one random resized crop, mirrored half of the time."""
    box = _box(picture.size, crop.min_scale, rng)
    view = picture.crop(box).resize((image_px, image_px), Image.Resampling.BICUBIC)
    mirrored = crop.flip and rng.random() < 0.5
    return _pixels(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else view)


def view_rng(digest: str, seed: int, view: int) -> np.random.Generator:
    """The randomness of one view: a function of the picture, the view seed and the view's number,
    of nothing else.
    """
    name = hashlib.sha256(f"{digest}/{seed}/{view}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(name[:16], "little")))


def _box(
    size: tuple[int, int], min_scale: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Area uniform in [min_scale, 1], aspect log-uniform in ASPECT; the position uniform."""
    width, height = size
    for _ in range(ATTEMPTS):
        area = width * height * rng.uniform(min_scale, 1.0)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            return left, top, left + w, top + h
    return _largest_central(width, height)


def _largest_central(width: int, height: int) -> tuple[int, int, int, int]:
    w = min(width, round(height * ASPECT[1]))
    h = min(height, round(width / ASPECT[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _pixels(picture: Image.Image) -> Tensor:
    array: np.ndarray[Any, Any] = np.array(picture, dtype=np.uint8)
    return torch.from_numpy(array)
