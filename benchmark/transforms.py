"""From a decoded picture to what the image tower reads: crops and resizing on uint8, normalisation in batches on the device.

Sources: CoOp's transforms (KaiyangZhou/CoOp, Dassl `build_transform`): resize the short side and crop the centre for testing,
random resized crop and mirror for training, bicubic, CLIP's channel mean and std. `grid.transform_version` names this file's
behaviour together with Pillow's; raise its number when a pixel changes.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
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

    def normalise(self, pixels_NHWC: Tensor) -> Tensor:
        """uint8 pixels_NHWC -> float32 pixels_NCHW."""
        mean = torch.tensor(self.mean, device=pixels_NHWC.device)
        std = torch.tensor(self.std, device=pixels_NHWC.device)
        return ((pixels_NHWC.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def centre(picture: Image.Image, image_px: int) -> Tensor:
    """uint8 pixels_HWC: short side to `image_px`, bicubic, then the middle square."""
    width, height = picture.size
    short = min(width, height)
    size = (int(image_px * width / short), int(image_px * height / short))  # torchvision truncates the long side too
    resized = picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - image_px) / 2), round((size[1] - image_px) / 2)
    return _pixels(resized.crop((left, top, left + image_px, top + image_px)))


def random_view(picture: Image.Image, image_px: int, crop: Crop, rng: np.random.Generator) -> Tensor:
    """uint8 pixels_HWC of one random resized crop, mirrored half of the time."""
    box = _box(picture.size, crop.min_scale, rng)
    view = picture.crop(box).resize((image_px, image_px), Image.Resampling.BICUBIC)
    mirrored = crop.flip and rng.random() < 0.5
    return _pixels(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else view)


def view_rng(digest: str, seed: int, view: int) -> np.random.Generator:
    """The randomness of one view: a function of the picture, the view seed and the view's number, of nothing else."""
    name = hashlib.sha256(f"{digest}/{seed}/{view}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(name[:16], "little")))


def _box(size: tuple[int, int], min_scale: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
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
    array: np.ndarray[Any, Any] = np.asarray(picture, dtype=np.uint8)
    return torch.from_numpy(array.copy())
