"""Training with the image encoder in the loop, on inputs of the first changed block.

A view is fixed by the position of its image in the support set, its number and `view_seed`; epoch e
sees view e mod `views`. What the first changed block reads of a view is computed when first needed
and kept while `keep_mb` lasts, so that the blocks below do not run again. Beyond that it is
computed anew from the same crop, which changes time and, but for the order of float32 sums, no
number. All that is trained lies in one flat vector (R = 1 run), whose parts have names.

Letters of this file: T steps, B views of a batch, M all views, X trained numbers, all else as in
benchmark.api.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _blocks
from adapters._settings import Adam, Crops, TowerTraining
from benchmark.api import Crop, Episode, ImageSet, VisionTower
from benchmark.training import loop

MIB = 2**20
VIEW_SEEDS = 2**40  # distance between the random seeds of two view seeds

Parts = Mapping[str, Tensor]
# rows_B of views (view v of image n is row v * N + n) -> what the model reads of them
Read = Callable[[Tensor], Tensor]
# (parts, what was read) -> logits_BK
Logits = Callable[[Parts, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Which rows every step sees, and the learning rate."""

    rows_TB: Tensor
    rate_T: Tensor


def schedule(episode: Episode, training: TowerTraining, crops: Crops) -> Schedule:
    """The schedule of TowerTraining."""
    rows_TB = rows(episode, training.epochs_for(shots(episode)), training.batch_size, crops)
    return Schedule(rows_TB, rates(training.lr, training.warmup, len(rows_TB)))


def rows(episode: Episode, epochs: int, batch_size: int, crops: Crops) -> Tensor:
    """rows_TB of so many epochs."""
    views = crops.views or max(epochs, 1)
    return loop.plan(episode.support, epochs, batch_size, views, episode.rng())[0]


def rates(peak: float, warmup: float, steps: int) -> Tensor:
    """rate_T: up to `peak` in the first `warmup` share of the steps, then down; never 0."""
    step_T, warm = torch.arange(steps, dtype=torch.float64), math.ceil(warmup * steps)
    rising_T = (step_T + 1) / max(warm, 1)
    falling_T = (steps - step_T) / max(steps - warm, 1)
    return peak * torch.minimum(rising_T, falling_T)


def shots(episode: Episode) -> int:
    """The images of the largest class."""
    return int(episode.support.labels_N.bincount().max())


@dataclass(frozen=True, eq=False)
class Inputs:
    """What block `first` reads of the views asked for; `kept` grows up to `keep_mb` MiB."""

    images: ImageSet
    tower: VisionTower
    first: int
    crops: Crops
    keep_mb: int
    device: torch.device
    kept: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, rows_B: Tensor) -> Tensor:
        rows = rows_B.tolist()
        missing = [row for row in rows if row not in self.kept]
        fresh = dict(zip(missing, self._compute(missing), strict=True)) if missing else {}
        x_BLE = torch.stack([fresh[row] if row in fresh else self.kept[row] for row in rows])
        if self.crops.views:
            room = self.keep_mb * MIB // (x_BLE[0].numel() * x_BLE.element_size())
            self.kept.update(list(fresh.items())[: max(0, room - len(self.kept))])
        return x_BLE

    def _compute(self, rows: list[int]) -> Tensor:
        crops = [self._crop(row) for row in rows]
        return _blocks.below(self.tower, self.first, torch.cat(crops).to(self.device))

    def _crop(self, row: int) -> Tensor:
        rng = torch.Generator().manual_seed(self.crops.view_seed * VIEW_SEEDS + row)
        index_1 = torch.tensor([row % len(self.images)])
        return self.images.augmented(index_1, rng, Crop(self.crops.min_scale))


def inputs(episode: Episode, tower: VisionTower, first: int, crops: Crops, keep_mb: int) -> Inputs:
    """The inputs of block `first` for the episode's support set."""
    images, device = episode.support.images, episode.backbone.device
    return Inputs(images, tower, first, crops, keep_mb, device)


def stored_features(episode: Episode, crops: Crops, rows_TB: Tensor) -> Read:
    """Features of stored views, for methods that leave the image tower as it is."""
    count = crops.views
    if not count:
        count = int(rows_TB.max()) // len(episode.support) + 1 if len(rows_TB) else 1
    view_VND = episode.support.images.views(count, crops.view_seed, Crop(crops.min_scale))
    image_MD = view_VND.flatten(0, 1).to(episode.backbone.device)
    return lambda rows_B: image_MD[rows_B.to(image_MD.device)]


def learn(
    episode: Episode,
    schedule: Schedule,
    start: Parts,
    read: Read,
    logits_of: Logits,
    *,
    adam: Adam,
    weight_decay: float,
    undecayed: frozenset[str] = frozenset(),
) -> Parts:
    """The named parts after the last step of training by cross-entropy with AdamW.

    The parts named in `undecayed` have no weight decay.
    """
    flat_1X = torch.cat([part.flatten() for part in start.values()])[None].clone()
    decay_X = _decay(start, weight_decay, undecayed, flat_1X)
    labels_N, rows_TB = episode.support.labels_N, schedule.rows_TB

    def loss_of(moving_1X: Tensor, step: Tensor) -> Tensor:
        rows_B = rows_TB[int(step)]
        logits_BK = logits_of(named(moving_1X[0], start), read(rows_B))
        label_B = labels_N[rows_B.to(labels_N.device) % len(labels_N)]
        return F.cross_entropy(logits_BK, label_B.to(logits_BK.device)).view(1, 1)

    move = loop.adamw(flat_1X, 0.0, adam.epsilon, adam.beta1, adam.beta2)

    def update(weights: Tensor, gradient: Tensor, rate_R: Tensor) -> None:
        weights.mul_(1 - float(rate_R[0]) * decay_X)
        move(weights, gradient, rate_R)

    loss_TR = loop.descend(flat_1X, loss_of, schedule.rate_T[:, None], update)
    loop.note(episode, trainable=flat_1X.numel(), loss_T=loss_TR[:, 0])
    return named(flat_1X[0], start)


def _decay(parts: Parts, weight_decay: float, undecayed: frozenset[str], like: Tensor) -> Tensor:
    """decay_X: the weight decay of every trained number, in the type and device of `like`."""
    rates = [0.0 if name in undecayed else weight_decay for name in parts]
    counts = torch.tensor([part.numel() for part in parts.values()])
    return torch.tensor(rates, dtype=like.dtype).repeat_interleave(counts).to(like.device)


def named(flat_X: Tensor, like: Parts) -> dict[str, Tensor]:
    """The flat vector as parts of the shapes of `like`."""
    pieces = flat_X.split([part.numel() for part in like.values()])
    pairs = zip(like.items(), pieces, strict=True)
    return {name: piece.view(part.shape) for (name, part), piece in pairs}


def below_name(parts: Parts, prefix: str) -> dict[str, Tensor]:
    """The parts named 'prefix/...', by the rest of their names."""
    start = f"{prefix}/"
    return {name[len(start) :]: part for name, part in parts.items() if name.startswith(start)}
