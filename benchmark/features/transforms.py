"""From a decoded picture to the input of the image tower: cuts and resizing on uint8, then
normalisation in batches on the device.

Sources: CoOp's transforms (KaiyangZhou/CoOp, Dassl `build_transform`): resize the short side and
crop the centre for testing, random resized crop and mirror for training, bicubic, CLIP's channel
mean and std. `grid.transform_version` names the behaviour of this file and of resampling.py,
together with Pillow's; raise its number when a pixel changes.

On the host, the centre crop is resized by torch's antialiased bicubic on uint8, which works as
Pillow's does with coefficients of 16 bits instead of 22: of Caltech101's pixels 0.3 % differ, by 1,
rarely by 2 of 255, in less than half of the time (benches/pictures.py). Random views go through
Pillow itself. On a GPU, resampling.py gives Pillow's pixels for both. A model that is shown its
pictures in another way than CLIP (benchmark/backbones/preprocessing.py) has its own resizing.
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
from PIL import __version__ as PILLOW_VERSION
from torch import Tensor

from benchmark.api import Crop
from benchmark.backbones.preprocessing import Preprocessing

ASPECT = (3 / 4, 4 / 3)  # random resized crop: range of width / height
ATTEMPTS = 10  # then the whole picture, its aspect clipped to ASPECT
PILLOW = int(PILLOW_VERSION.split(".")[0])


@dataclass(frozen=True)
class Pipeline:
    """How a backbone's pictures are made, and where."""

    preprocessing: Preprocessing
    cuts_on_device: bool = False  # by resampling.py, instead of the host

    def normalise(
        self,
        pixels_NHWC: Tensor,
        out_NCHW: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """uint8 pixels_NHWC -> pixels_NCHW of `dtype` on the same device, in `out_NCHW` if given.

        Without it the memory is ordered as that of the pixels, channels last.
        """
        device, count = pixels_NHWC.device, len(pixels_NHWC)
        if out_NCHW is None:
            out_NCHW = torch.empty_like(pixels_NHWC, dtype=dtype).permute(0, 3, 1, 2)
        mean_C11, std_C11 = sent(self._statistics(), dtype, device)[..., None, None]
        # one picture stays in the processor's cache, a batch keeps a GPU busy
        at_once = 1 if device.type == "cpu" else max(count, 1)
        for out, pixels in zip(out_NCHW.split(at_once), pixels_NHWC.split(at_once), strict=True):
            out.copy_(pixels.permute(0, 3, 1, 2)).div_(255).sub_(mean_C11).div_(std_C11)
        return out_NCHW

    def _statistics(self) -> list[tuple[float, ...]]:
        return [self.preprocessing.mean, self.preprocessing.std]


def sent(values: object, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers on the device; the host does not wait until they are there."""
    numbers = torch.tensor(values, dtype=dtype)
    if device.type == "cuda":
        numbers = numbers.pin_memory()
    return numbers.to(device, non_blocking=True)


@dataclass(frozen=True)
class Cut:
    """A box of a picture, resized, of which a window is kept; it may reach beyond the box."""

    box: tuple[int, int, int, int]  # left, top, right, bottom in the picture
    size: tuple[int, int]  # width and height of the box after resizing
    corner: tuple[int, int]  # left and top of the window in the resized box
    mirrored: bool = False

    def columns_first(self) -> bool:
        """Whether Pillow resizes the columns before the rows; since version 13 it does so for boxes
        that shrink in height by more than twice as much as in width.
        """
        left, top, right, bottom = self.box
        less_wide, less_high = right - left - self.size[0], bottom - top - self.size[1]
        return PILLOW >= 13 and less_high > max(0, 2 * less_wide)


def centre_cut(size: tuple[int, int], wanted: Preprocessing) -> Cut:
    """The model's own cut of a picture of `size` (width, height)."""
    resized = _fitted(size, wanted)
    corner = _middle(resized[0], wanted.width), _middle(resized[1], wanted.height)
    return Cut((0, 0, *size), resized, corner)


def _fitted(size: tuple[int, int], wanted: Preprocessing) -> tuple[int, int]:
    """Width and height of the whole picture after resizing, rounded as torchvision and timm do."""
    (width, height), (box_height, box_width) = size, wanted.resized_box
    if wanted.fit == "squash":
        return box_width, box_height
    if wanted.fit == "shortest" and box_width == box_height:
        short = min(size)  # torchvision truncates the long side
        return int(box_width * width / short), int(box_height * height / short)
    choose = min if wanted.fit == "shortest" else max
    ratio = choose(height / box_height, width / box_width)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _middle(length: int, window: int) -> int:
    """Where a window begins in a side of `length`; before it where the side is shorter."""
    return round((length - window) / 2) if length >= window else -((window - length) // 2)


def random_cut(
    size: tuple[int, int], wanted: Preprocessing, crop: Crop, rng: np.random.Generator
) -> Cut:
    """A random resized crop, mirrored half of the time where `crop` allows that."""
    box = _box(size, crop.min_scale, rng)
    mirrored = crop.flip and bool(rng.random() < 0.5)
    return Cut(box, (wanted.width, wanted.height), (0, 0), mirrored)


def centre(picture: Image.Image, wanted: Preprocessing) -> Tensor:
    """uint8 pixels_HWC of the centre cut of an RGB picture."""
    cut = centre_cut(picture.size, wanted)
    resized_HWC = _padded(_resized(picture, cut, wanted.interpolation), cut, wanted)
    left, top = (max(each, 0) for each in cut.corner)
    return resized_HWC[top : top + wanted.height, left : left + wanted.width]


def _padded(pixels_HWC: Tensor, cut: Cut, wanted: Preprocessing) -> Tensor:
    """With pixels of the colour `fill` where the window reaches beyond the resized box."""
    left, top = (max(-each, 0) for each in cut.corner)
    width, height = max(cut.size[0], wanted.width), max(cut.size[1], wanted.height)
    if (width, height) == cut.size:
        return pixels_HWC
    out_HWC = torch.tensor(wanted.fill, dtype=torch.uint8).expand(height, width, 3).clone()
    out_HWC[top : top + cut.size[1], left : left + cut.size[0]] = pixels_HWC
    return out_HWC


def _resized(picture: Image.Image, cut: Cut, interpolation: str) -> Tensor:
    """pixels_HWC of the whole picture at another size."""
    width, height = picture.size
    if cut.size == picture.size:
        return _pixels(picture)
    # of tall ones Pillow 13 resizes the columns first, and torch always the rows
    if height > 2 * width or cut.columns_first():
        return _pixels(picture.resize(cut.size, Image.Resampling[interpolation.upper()]))
    pixels_1CHW = _pixels(picture).permute(2, 0, 1)[None]
    resized_1CHW = F.interpolate(pixels_1CHW, cut.size[::-1], mode=interpolation, antialias=True)
    return resized_1CHW[0].permute(1, 2, 0)


def random_view(
    picture: Image.Image, wanted: Preprocessing, crop: Crop, rng: np.random.Generator
) -> Tensor:
    """uint8 pixels_HWC of one random cut."""
    cut = random_cut(picture.size, wanted, crop, rng)
    kernel = Image.Resampling[wanted.interpolation.upper()]
    view = picture.crop(cut.box).resize(cut.size, kernel)
    return _pixels(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if cut.mirrored else view)


def view_rng(digest: str, seed: int, view: int) -> np.random.Generator:
    """The randomness of one view: a function of picture, view seed and the view's number alone."""
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
