"""Training with the image encoder in the loop, on inputs of the first changed block.

A view is fixed by the position of its image in the support set, its number and `view_seed`; epoch e
sees view e mod `views`. What the first changed block reads of all views of a schedule is computed
before training and kept where it fits, so that the blocks below do not run again and nothing is
decoded meanwhile. Else it is computed anew from the same crops, which changes time and, but for the
order of sums, no number. All that a run trains lies in one flat vector of named parts.

Runs of one dataset and backbone may be trained as a batch: each passes through the tower by itself,
so that it is trained as if alone, but the steps of all are recorded and replayed as one.
Letters of this file: T steps, R runs, B views of a batch, M all views, X trained numbers, all else
as in benchmark.api.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _blocks
from adapters._optimisers import Optimiser
from adapters._settings import Crops, TowerTraining
from benchmark.api import Crop, Episode, Tower, UserError, VisionTower
from benchmark.training import batches, loop
from benchmark.training.gpu_memory import left_bytes
from benchmark.training.loss_scale import LossScale

MIB = 2**20
CHUNK = 256  # views computed at once; changes no number
VIEW_SEEDS = 2**40  # distance between the random seeds of two view seeds

Parts = Mapping[str, Tensor]
# rows_B of views (view v of image n is row v * N + n) -> what the model reads of them
Read = Callable[[Tensor], Tensor]
# (parts, what was read, step) -> logits_BK; the step is an int64 tensor of one element
Logits = Callable[[Parts, Tensor, Tensor], Tensor]
# (parts, what was read, labels_B, step) -> the loss, one number; the label of an absent row is
# batches.ABSENT
Loss = Callable[[Parts, Tensor, Tensor, Tensor], Tensor]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Schedule:
    """Which rows every step sees, and the learning rate."""

    rows_TB: Tensor
    rate_T: Tensor


def schedule(episode: Episode, training: TowerTraining, crops: Crops) -> Schedule:
    """The schedule of TowerTraining."""
    rows_TB = rows(episode, training.epochs_for(episode.shots), training.batch_size, crops)
    return Schedule(rows_TB, rates(training.lr, training.warmup, len(rows_TB)))


def rows(
    episode: Episode, epochs: int, batch_size: int, crops: Crops, *, keep_short: bool = False
) -> Tensor:
    """rows_TB of so many epochs, whose short last batches are kept or left out."""
    views, rng = crops.views or max(epochs, 1), episode.rng()
    rows_TB, _ = batches.draw(
        episode.support, epochs, batch_size, views, rng, keep_short=keep_short
    )
    return rows_TB


def rates(peak: float, warmup: float, steps: int) -> Tensor:
    """rate_T: up to `peak` in the first `warmup` share of the steps, then down; never 0."""
    step_T, warm = torch.arange(steps, dtype=torch.float64), math.ceil(warmup * steps)
    rising_T = (step_T + 1) / max(warm, 1)
    falling_T = (steps - step_T) / max(steps - warm, 1)
    return peak * torch.minimum(rising_T, falling_T)


def inputs(
    episode: Episode,
    tower: VisionTower,
    first: int,
    crops: Crops,
    rows_TB: Tensor,
    keep_mb: int,
    *,
    must_fit: bool = False,
) -> Read:
    """What block `first` reads of the views that a schedule asks for.

    They are computed once and kept on the device where they fit `keep_mb` MiB, or half of what is
    left of a GPU's memory; else anew at every step, which no GPU can replay. With `must_fit` that
    is an OutOfMemoryError, by which a batch becomes smaller.
    """
    device = episode.backbone.device

    def compute(rows: list[int]) -> Tensor:
        seeds = [crops.view_seed * VIEW_SEEDS + row for row in rows]
        index_B = torch.tensor([row % len(episode.support) for row in rows])
        pixels = episode.support.images.crops(index_B, seeds, Crop(crops.min_scale))
        return _blocks.below(tower, first, pixels.to(device))

    used_M = rows_TB.clamp_min(0).unique()
    if not len(used_M):
        return lambda rows_B: compute(rows_B.tolist())
    size = compute(used_M[:1].tolist())[0]
    half_left = left_bytes(device) / 2 if device.type == "cuda" else 0.0
    room_mb = max(keep_mb, half_left // MIB)
    if len(used_M) * size.numel() * size.element_size() > room_mb * MIB:
        if must_fit:
            raise torch.OutOfMemoryError(f"{len(used_M)} views do not fit {room_mb:g} MiB")
        log.info(
            "%d views do not fit %d MiB; they are cut anew at every step", len(used_M), room_mb
        )
        return lambda rows_B: compute(rows_B.tolist())
    order_M = (used_M % len(episode.support)).argsort(stable=True)
    return _kept(used_M[order_M], size, compute)


def _kept(used_M: Tensor, size: Tensor, compute: Callable[[list[int]], Tensor]) -> Read:
    """The inputs of all rows in one tensor, in the order given: image by image, so that a picture
    is decoded once for its views."""
    kept_MLE = size.new_empty(len(used_M), *size.shape)
    for index_B in torch.arange(len(used_M)).split(CHUNK):
        kept_MLE[index_B] = compute(used_M[index_B].tolist())
    index_of_M = torch.zeros(int(used_M.max()) + 1, dtype=torch.int64)
    index_of_M[used_M] = torch.arange(len(used_M))
    index_of_M = index_of_M.to(size.device)
    return lambda rows_B: kept_MLE.index_select(0, index_of_M.index_select(0, rows_B))


def stored_features(episode: Episode, crops: Crops, rows_TB: Tensor) -> Read:
    """Features of stored views, for methods that leave the image tower as it is."""
    count = crops.views
    if not count:
        count = int(rows_TB.max()) // len(episode.support) + 1 if len(rows_TB) else 1
    view_VND = episode.support.images.views(count, crops.view_seed, Crop(crops.min_scale))
    image_MD = view_VND.flatten(0, 1).to(episode.backbone.device)
    return lambda rows_B: image_MD.index_select(0, rows_B)


@dataclass(frozen=True, eq=False)
class Run:
    """What a run trains, on what, and by which loss."""

    episode: Episode
    schedule: Schedule
    start: Parts
    read: Read
    loss_of: Loss

    def loss(self, flat_X: Tensor, step: Tensor, rows_TB: Tensor, labels_N: Tensor) -> Tensor:
        rows_B = rows_TB.index_select(0, step)[0]
        there_B = rows_B.clamp_min(0)
        labels_B = labels_N[there_B % len(labels_N)].where(rows_B >= 0, batches.ABSENT)
        return self.loss_of(named(flat_X, self.start), self.read(there_B), labels_B, step)


def cross_entropy(logits_of: Logits) -> Loss:
    """The mean over the rows of a batch that are there."""

    def loss_of(parts: Parts, x_BLE: Tensor, labels_B: Tensor, step: Tensor) -> Tensor:
        logits_BK = logits_of(parts, x_BLE, step)
        return F.cross_entropy(logits_BK, labels_B, ignore_index=batches.ABSENT)

    return loss_of


def runs(
    episodes: Sequence[Episode],
    training: TowerTraining,
    crops: Crops,
    start: Callable[[Episode], Parts],
    tower: VisionTower,
    first: int,
    keep_mb: int,
    logits_of: Logits,
) -> list[Run]:
    """The runs of methods that train as TowerTraining says, from what block `first` reads."""
    made = []
    for episode in episodes:
        plan = schedule(episode, training, crops)
        read = inputs(
            episode, tower, first, crops, plan.rows_TB, keep_mb, must_fit=len(episodes) > 1
        )
        made.append(Run(episode, plan, start(episode), read, cross_entropy(logits_of)))
    return made


def learn(runs: Sequence[Run], tower: Tower, optimiser: Optimiser) -> list[Parts]:
    """The named parts of every run after the last step of training.

    The runs train the same parts of one backbone. What is trained is float32 at least; the tower
    sees it in its own type.
    """
    order = loop.longest_first([run.schedule.rate_T for run in runs])
    sorted_runs, kind = [runs[r] for r in order], tower.dtype
    flat_RX = torch.stack([_flat(run.start) for run in sorted_runs])
    flat_RX = flat_RX.to(torch.promote_types(kind, torch.float32))
    tables = [
        (run.schedule.rows_TB.to(flat_RX.device), run.episode.support.labels_N.to(flat_RX.device))
        for run in sorted_runs
    ]

    def loss_of(moving_RX: Tensor, step: Tensor) -> Tensor:
        live = zip(moving_RX.to(kind), sorted_runs, tables, strict=False)
        return torch.stack([run.loss(flat_X, step, *table) for flat_X, run, table in live])[None]

    update = optimiser(flat_RX, runs[0].start)
    scale = LossScale(flat_RX.device, len(runs)) if kind == torch.float16 else None
    loss_TR = loop.train(
        flat_RX,
        loss_of,
        loop.together([run.schedule.rate_T for run in sorted_runs]),
        scale.guarded(update) if scale else update,
        scale.gradient_of if scale else loop.gradient_of,
    )
    for column, run in enumerate(sorted_runs):
        steps = len(run.schedule.rate_T)
        if scale:
            _note_left_out(run.episode, int(scale.left_out_R[column]), steps)
        loop.note_training(run.episode, flat_RX.shape[1], loss_TR[:steps, column])
    return [named(flat_RX[order.index(r)].to(kind), run.start) for r, run in enumerate(runs)]


def _flat(parts: Parts) -> Tensor:
    return torch.cat([part.flatten() for part in parts.values()])


def _note_left_out(episode: Episode, left_out: int, steps: int) -> None:
    """How many steps float16 had no room for; UserError where that is most of them."""
    episode.notes["steps_left_out"] = left_out
    if 2 * left_out > steps:
        raise UserError(
            f"{left_out} of {steps} training steps had gradients that float16 cannot hold; "
            "take --precision bfloat16 or float32",
            exit_code=1,
        )


def named(flat_X: Tensor, like: Parts) -> dict[str, Tensor]:
    """The flat vector as parts of the shapes of `like`."""
    pieces = flat_X.split([part.numel() for part in like.values()])
    pairs = zip(like.items(), pieces, strict=True)
    return {name: piece.view(part.shape) for (name, part), piece in pairs}


def below_name(parts: Parts, prefix: str) -> dict[str, Tensor]:
    """The parts named 'prefix/...', by the rest of their names."""
    start = f"{prefix}/"
    return {name[len(start) :]: part for name, part in parts.items() if name.startswith(start)}
