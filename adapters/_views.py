"""What a model reads of the views that a schedule asks for.

A view is fixed by the position of its image in the support set, its number and `view_seed`; epoch e
sees view e mod `views`. What the first changed block reads of all views of a schedule is computed
before training and kept where it fits, so that the blocks below do not run again and nothing is
decoded meanwhile. Else it is computed anew from the same crops, which changes time and, but for the
order of sums, no number.

Letters of this file: T steps, B views of a batch, M all views, all else as in benchmark.api.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from adapters import _blocks
from adapters._settings import Crops
from benchmark.api import Crop, Episode, VisionTower
from benchmark.training.gpu_memory import left_bytes

MIB = 2**20
CHUNK = 256  # views computed at once; changes no number
VIEW_SEEDS = 2**40  # distance between the random seeds of two view seeds

# rows_B of views (view v of image n is row v * N + n) -> what a loss reads of them, as a rule one
# tensor
Read = Callable[[Tensor], Any]
ReadOf = Callable[[Episode, Tensor], Read]  # episode, rows_TB of its schedule -> what is read
Encode = Callable[[Tensor], Tensor]  # x_BLE -> image_BD

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Kept:
    """What is read of all views of a schedule, computed once."""

    kept_MX: Tensor
    place_M: Tensor  # of every row among the kept ones

    def __call__(self, rows_B: Tensor) -> Tensor:
        return self.kept_MX.index_select(0, self.place_M.index_select(0, rows_B))

    def beside(self, encode: Encode) -> Read:
        """What is read, and what `encode` makes of it, once for all steps."""
        parts = self.kept_MX.split(_blocks.batch_size(self.kept_MX.device))
        image_MD = torch.cat([encode(part_BX) for part_BX in parts])
        encoded = Kept(image_MD, self.place_M)
        return lambda rows_B: (self(rows_B), encoded(rows_B))


@dataclass(frozen=True, eq=False)
class Anew:
    """What is read of the views of a step, computed at every step."""

    compute: Callable[[list[int]], Tensor]

    def __call__(self, rows_B: Tensor) -> Tensor:
        return self.compute(rows_B.tolist())

    def beside(self, encode: Encode) -> Read:
        """What is read, and what `encode` makes of it."""

        def both(rows_B: Tensor) -> tuple[Tensor, Tensor]:
            x_BLE = self(rows_B)
            return x_BLE, encode(x_BLE)

        return both


def inputs(
    episode: Episode,
    tower: VisionTower,
    first: int,
    crops: Crops,
    rows_TB: Tensor,
    keep_mb: int,
    *,
    must_fit: bool = False,
) -> Kept | Anew:
    """What block `first` reads of the views that a schedule asks for.

    They are computed once and kept on the device where they fit `keep_mb` MiB, or half of what is
    left of a GPU's memory; else anew at every step, which no GPU can replay. With `must_fit` that
    is an OutOfMemoryError, by which a batch becomes smaller.
    """
    device = episode.backbone.device
    compute = _computer(episode, tower, first, crops)
    used_M = rows_TB.clamp_min(0).unique()
    if not len(used_M):
        return Anew(compute)
    size = compute(used_M[:1].tolist())[0]
    half_left = left_bytes(device) / 2 if device.type == "cuda" else 0.0
    room_mb = max(keep_mb, half_left // MIB)
    if len(used_M) * size.numel() * size.element_size() > room_mb * MIB:
        if must_fit:
            raise torch.OutOfMemoryError(f"{len(used_M)} views do not fit {room_mb:g} MiB")
        log.info(
            "%d views do not fit %d MiB; they are cut anew at every step", len(used_M), room_mb
        )
        return Anew(compute)
    return _kept(_image_by_image(used_M, episode), size, compute)


def inputs_for(
    tower: VisionTower,
    first: int,
    crops: Crops,
    keep_mb: int,
    *,
    must_fit: bool,
    frozen: bool = False,
) -> ReadOf:
    """`inputs` of each run; with `frozen` a pair, they and CLIP's own features of the views."""

    def read_of(episode: Episode, rows_TB: Tensor) -> Read:
        read = inputs(episode, tower, first, crops, rows_TB, keep_mb, must_fit=must_fit)
        return read.beside(partial(_blocks.frozen_features, tower, first)) if frozen else read

    return read_of


def features(
    episode: Episode,
    tower: VisionTower,
    crops: Crops,
    rows_TB: Tensor,
    encode: Encode,
) -> Read:
    """Features of the views that a schedule asks for, from what the first block reads of them."""
    compute = _computer(episode, tower, 0, crops)
    used_M = _image_by_image(rows_TB.clamp_min(0).unique(), episode)

    @torch.no_grad()
    def encoded(rows: list[int]) -> Tensor:
        return encode(compute(rows))

    if not len(used_M):
        return Anew(encoded)
    return _kept(used_M, encoded(used_M[:1].tolist())[0], encoded)


def _computer(
    episode: Episode, tower: VisionTower, first: int, crops: Crops
) -> Callable[[list[int]], Tensor]:
    """Rows of views -> what block `first` reads of them."""

    def compute(rows: list[int]) -> Tensor:
        seeds = [crops.view_seed * VIEW_SEEDS + row for row in rows]
        index_B = torch.tensor([row % len(episode.support) for row in rows])
        pixels = episode.support.images.crops(index_B, seeds, Crop(crops.min_scale))
        return _blocks.below(tower, first, pixels.to(episode.backbone.device))

    return compute


def _image_by_image(used_M: Tensor, episode: Episode) -> Tensor:
    """The same views in an order in which a picture is decoded once for all of its own."""
    return used_M[(used_M % len(episode.support)).argsort(stable=True)]


def _kept(used_M: Tensor, size: Tensor, compute: Callable[[list[int]], Tensor]) -> Kept:
    """What is computed of all rows in one tensor, in the order given."""
    kept_MLE = size.new_empty(len(used_M), *size.shape)
    for index_B in torch.arange(len(used_M)).split(CHUNK):
        kept_MLE[index_B] = compute(used_M[index_B].tolist())
    place_M = torch.zeros(int(used_M.max()) + 1, dtype=torch.int64)
    place_M[used_M] = torch.arange(len(used_M))
    return Kept(kept_MLE, place_M.to(size.device))


def stored_for(crops: Crops) -> ReadOf:
    """`stored_features` of each run."""
    return lambda episode, rows_TB: stored_features(episode, crops, rows_TB)


def stored_features(episode: Episode, crops: Crops, rows_TB: Tensor) -> Read:
    """Features of stored views, for methods that leave the image tower as it is."""
    count = crops.views
    if not count:
        count = int(rows_TB.max()) // len(episode.support) + 1 if len(rows_TB) else 1
    view_VND = episode.support.images.views(count, crops.view_seed, Crop(crops.min_scale))
    image_MD = view_VND.flatten(0, 1).to(episode.backbone.device)
    return lambda rows_B: image_MD.index_select(0, rows_B)
