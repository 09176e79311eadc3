"""Training with the image encoder in the loop, on inputs of the first changed block.

The views of its images come from adapters/_views.py. All that a run trains lies in one flat vector
of named parts.

Runs of one dataset and backbone may be trained as a batch: each passes through the tower by itself,
so that it is trained as if alone, but the steps of all are recorded and replayed as one.
Letters of this file: T steps, R runs, B views of a batch, X trained numbers, all else as in
benchmark.api.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters._optimisers import Optimiser
from adapters._settings import Crops, PromptTraining, StepTraining, TowerTraining
from adapters._views import Read, ReadOf
from benchmark.api import Episode, Tower, UserError
from benchmark.training import batches, loop, optimisers
from benchmark.training.averaging import averaged
from benchmark.training.loss_scale import LossScale
from benchmark.training.optimisers import Update

Parts = Mapping[str, Tensor]
# (parts, what was read, step) -> logits_BK; the step is an int64 tensor of one element
Logits = Callable[[Parts, Tensor, Tensor], Tensor]
# (parts, what was read, labels_B, step) -> the loss, one number; the label of an absent row is
# batches.ABSENT
Loss = Callable[[Parts, Any, Tensor, Tensor], Tensor]
RowsOf = Callable[[Episode, int, int, Crops], Tensor]  # with epochs and batch size -> rows_TB


@dataclass(frozen=True, eq=False)
class Schedule:
    """Which rows every step sees, the learning rate, and what is kept of its weights."""

    rows_TB: Tensor
    rate_T: Tensor
    share_T: Tensor | None = None  # of each step's weights in the mean learned; None: the last's


def schedule(episode: Episode, training: TowerTraining, crops: Crops) -> Schedule:
    """The schedule of TowerTraining."""
    rows_TB = rows(episode, training.epochs_for(episode.shots), training.batch_size, crops)
    return Schedule(rows_TB, rates(training.lr, training.warmup, len(rows_TB)))


def by_epochs(
    episode: Episode,
    training: PromptTraining,
    crops: Crops,
    warmup_lr: float,
    rows_of: RowsOf | None = None,
) -> Schedule:
    """CoOp's schedule: epochs at `warmup_lr`, then half a cosine per epoch."""
    epochs = training.epochs_for(episode.shots, len(episode.class_names))
    rows_TB = (rows_of or rows)(episode, epochs, training.batch_size, crops)
    epoch_T = torch.arange(epochs).repeat_interleave(len(rows_TB) // max(epochs, 1))
    warmup = training.warmup_epochs
    return Schedule(
        rows_TB, optimisers.warmup_cosine(training.lr, warmup_lr, warmup, epoch_T, epochs)
    )


def by_steps(
    episode: Episode, training: StepTraining, crops: Crops, *, most_epochs: int = 0
) -> Schedule:
    """The schedule of StepTraining, of at most so many epochs where they are given.

    Where they are the limit, the rate is as many times higher as the steps are fewer: a step of
    AdamW is about as long as the rate, so what is trained can still move as far.
    """
    batches = len(episode.support) / training.batch_size
    per_epoch = math.ceil(batches) if training.short_batch else max(1, math.floor(batches))
    wanted = training.steps_per_shot * episode.shots
    steps = min(wanted, most_epochs * per_epoch) if most_epochs else wanted
    rows_TB = rows(
        episode,
        math.ceil(steps / per_epoch),
        training.batch_size,
        crops,
        keep_short=training.short_batch,
    )[:steps]
    return Schedule(rows_TB, falling(training.lr * wanted / max(steps, 1), training, steps))


def falling(peak: float, training: StepTraining, steps: int) -> Tensor:
    """rate_T: half a cosine from `peak` to `final_lr`."""
    part_T = torch.arange(steps, dtype=torch.float64) / max(steps, 1)
    share_T = 0.5 * (1 + torch.cos(math.pi * part_T))
    return training.final_lr + (peak - training.final_lr) * share_T


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
    schedule_of: Callable[[Episode], Schedule],
    start_of: Callable[[Episode], Parts],
    read_of: ReadOf,
    loss_of: Callable[[Episode], Loss],
) -> list[Run]:
    """A run of each episode, from what a method says of it."""
    made = []
    for episode in episodes:
        plan = schedule_of(episode)
        read = read_of(episode, plan.rows_TB)
        made.append(Run(episode, plan, start_of(episode), read, loss_of(episode)))
    return made


def learn(runs: Sequence[Run], tower: Tower, optimiser: Optimiser) -> list[Parts]:
    """The named parts of every run after the last step of training, or their mean over steps.

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

    update, learned_RX = _update(optimiser, flat_RX, sorted_runs)
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
    return [named(learned_RX[order.index(r)].to(kind), run.start) for r, run in enumerate(runs)]


def _update(optimiser: Optimiser, flat_RX: Tensor, runs: Sequence[Run]) -> tuple[Update, Tensor]:
    """How a step moves the runs, and the tensor that holds what they have learned in the end."""
    update = optimiser(flat_RX, runs[0].start)
    shares = [run.schedule.share_T for run in runs]
    kept = [share_T for share_T in shares if share_T is not None]
    return averaged(update, flat_RX, loop.together(kept)) if kept else (update, flat_RX)


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
