"""Training with the image encoder in the loop: views of the support set as the first touched block
reads them, and one loop.

A view is fixed by its image's place in the support set, its number and `view_seed`; epoch e sees
view e mod `views`. What the first touched block reads of it is computed when first asked for and
kept while `keep_mb` lasts, so that what lies below is not run again; beyond that it is computed
anew from the same crop, which changes time and, but for the order of float32 sums, no number. All
that is trained lies in one flat vector (R = 1 run), whose parts have names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _blocks, _checks
from benchmark.api import Crop, Episode, ImageSet, VisionTower
from benchmark.training import loop

MIB = 2**20
VIEW_SEEDS = 2**40  # so far apart lie the crops of two view seeds

Parts = Mapping[str, Tensor]
Read = Callable[
    [Tensor], Tensor
]  # rows_B of views (view v of image n is row v * N + n) -> what the model reads of them


@dataclass(frozen=True)
class Views:
    """Which crops are trained on."""

    views: int  # stored random crops per image, in turn epoch by epoch; 0: fresh ones every epoch
    view_seed: int
    min_scale: float
    keep_mb: int  # MiB for what the first touched block reads

    def __post_init__(self) -> None:
        _checks.at_least(0, views=self.views, view_seed=self.view_seed, keep_mb=self.keep_mb)
        _checks.share(min_scale=self.min_scale)


@dataclass(frozen=True)
class Optimiser:
    """AdamW, its rate rising over the first `warmup` share of the steps and falling linearly from
    there.
    """

    epochs: str  # one number, or "shots:epochs,..." where a support set takes the first entry it does not exceed
    batch_size: int
    lr: float
    warmup: float
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float

    def __post_init__(self) -> None:
        _checks.at_least(1, batch_size=self.batch_size)
        _checks.at_least(0, weight_decay=self.weight_decay)
        _checks.above_zero(lr=self.lr, epsilon=self.epsilon)
        _checks.decay(warmup=self.warmup, beta1=self.beta1, beta2=self.beta2)
        _checks.by_shots("epochs", self.epochs)

    def epochs_for(self, shots: int) -> int:
        table = _checks.by_shots("epochs", self.epochs)
        return next((epochs for most, epochs in table if shots <= most), table[-1][1])

    def rates(self, steps: int) -> Tensor:
        """rate_T, above 0 at every step."""
        step_T, warm = torch.arange(steps, dtype=torch.float64), math.ceil(self.warmup * steps)
        return self.lr * torch.minimum(
            (step_T + 1) / max(warm, 1), (steps - step_T) / max(steps - warm, 1)
        )


@dataclass(frozen=True, eq=False)
class Schedule:
    """Which rows every step sees, at what rate."""

    rows_TB: Tensor
    rate_T: Tensor

    @staticmethod
    def of(
        episode: Episode, optimiser: Optimiser, views: Views, epochs: int | None = None
    ) -> Schedule:
        epochs = optimiser.epochs_for(shots(episode)) if epochs is None else epochs
        rows_TB, _ = loop.plan(
            episode.support,
            epochs,
            optimiser.batch_size,
            views.views or max(epochs, 1),
            episode.rng(),
        )
        return Schedule(rows_TB, optimiser.rates(len(rows_TB)))


def shots(episode: Episode) -> int:
    """The images of the largest class."""
    return int(episode.support.labels_N.bincount().max())


@dataclass(frozen=True, eq=False)
class Inputs:
    """What block `first` reads of the rows asked for."""

    images: ImageSet
    tower: VisionTower
    first: int
    views: Views
    device: torch.device
    kept: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, rows_B: Tensor) -> Tensor:
        rows = rows_B.tolist()
        missing = [row for row in rows if row not in self.kept]
        fresh = dict(zip(missing, self._compute(missing), strict=True)) if missing else {}
        x_BLE = torch.stack([fresh[row] if row in fresh else self.kept[row] for row in rows])
        if self.views.views:
            room = self.views.keep_mb * MIB // (x_BLE[0].numel() * x_BLE.element_size())
            self.kept.update(list(fresh.items())[: max(0, room - len(self.kept))])
        return x_BLE

    def _compute(self, rows: list[int]) -> Tensor:
        crops = [self._crop(row) for row in rows]
        return _blocks.below(self.tower, self.first, torch.cat(crops).to(self.device))

    def _crop(self, row: int) -> Tensor:
        rng = torch.Generator().manual_seed(self.views.view_seed * VIEW_SEEDS + row)
        return self.images.augmented(
            torch.tensor([row % len(self.images)]), rng, Crop(self.views.min_scale)
        )


def stored_features(episode: Episode, views: Views, schedule: Schedule) -> Read:
    """Features of stored views, for methods that leave the image tower as it is."""
    count = (
        views.views or int(schedule.rows_TB.max()) // len(episode.support) + 1
        if len(schedule.rows_TB)
        else 1
    )
    view_VND = episode.support.images.views(count, views.view_seed, Crop(views.min_scale))
    image_MD = view_VND.flatten(0, 1).to(episode.backbone.device)
    return lambda rows_B: image_MD[rows_B.to(image_MD.device)]


def learn(
    episode: Episode,
    schedule: Schedule,
    optimiser: Optimiser,
    start: Parts,
    read: Read,
    logits_of: Callable[[Parts, Tensor], Tensor],
    spared: frozenset[str] = frozenset(),
) -> Parts:
    """The named parts after training by cross-entropy; the last step's. `spared` parts feel no
    weight decay.
    """
    flat_1X = torch.cat([part.flatten() for part in start.values()])[None].clone()
    spared_X = torch.cat(
        [
            torch.full((part.numel(),), name in spared, device=part.device)
            for name, part in start.items()
        ]
    )
    decay_X = (~spared_X).to(flat_1X.dtype) * optimiser.weight_decay
    labels_N, rows_TB = episode.support.labels_N, schedule.rows_TB

    def loss_of(moving_1X: Tensor, step: Tensor) -> Tensor:
        rows_B = rows_TB[int(step)]
        logits_BK = logits_of(named(moving_1X[0], start), read(rows_B))
        return F.cross_entropy(
            logits_BK, labels_N[rows_B.to(labels_N.device) % len(labels_N)].to(logits_BK.device)
        ).view(1, 1)

    adam = loop.adamw(flat_1X, 0.0, optimiser.epsilon, optimiser.beta1, optimiser.beta2)

    def update(weights: Tensor, gradient: Tensor, rate_R: Tensor) -> None:
        weights.mul_(1 - float(rate_R[0]) * decay_X)
        adam(weights, gradient, rate_R)

    loss_TR = loop.descend(flat_1X, loss_of, schedule.rate_T[:, None], update)
    loop.note(episode, trainable=flat_1X.numel(), loss_T=loss_TR[:, 0])
    return named(flat_1X[0], start)


def named(flat_X: Tensor, like: Parts) -> dict[str, Tensor]:
    """The flat vector as parts of the shapes of `like`."""
    pieces = flat_X.split([part.numel() for part in like.values()])
    return {
        name: piece.view(part.shape)
        for (name, part), piece in zip(like.items(), pieces, strict=True)
    }
