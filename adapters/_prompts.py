"""Learning the context of class prompts: CoOp's loop, over several runs at once.

Context and Training say everything but the loss; the methods of the family differ in the terms they
add up and where they start. Runs of one dataset and backbone (shots, seeds) are trained in
lockstep: their contexts are the leading dimension of one tensor, the text tower is run once for all
of them, a smaller batch is padded with weight 0 and a finished run moves no more. Letters of this
file: R runs, A terms, B images of a batch, M rows of a bank, W words, all else as in benchmark.api.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adapters import _checks
from benchmark.api import (
    Backbone,
    ClassPrompts,
    Crop,
    Episode,
    ImageSet,
    Labelled,
    Predictor,
    UserError,
)
from benchmark.training import loop
from benchmark.training.noise import normal

ENCODE_BATCH = 64  # fresh crops encoded at once; moves no number


@dataclass(frozen=True)
class Context:
    """What is learned, and where it starts."""

    n_ctx: int
    position: str  # of the class name: end, middle or front of the context
    ctx_init: str  # words to start from; empty: random
    init_std: float
    precision: str  # of the text tower
    class_specific: bool = False

    def __post_init__(self) -> None:
        _checks.at_least(1, n_ctx=self.n_ctx)
        _checks.at_least(0, init_std=self.init_std)
        _checks.one_of(("end", "middle", "front"), position=self.position)
        _checks.one_of(("float32", "bfloat16"), precision=self.precision)
        if self.ctx_init and self.class_specific:
            raise UserError(
                "ctx_init starts all classes from the same words, which class_specific is meant to avoid; leave one of them out"
            )


@dataclass(frozen=True)
class Training:
    """How it is trained on one problem: CoOp's protocol."""

    epochs: str  # one number, or "shots:epochs,..." where a support set takes the first entry it does not exceed
    many_classes: int  # from so many classes on, `many_classes_epochs` at any shots
    many_classes_epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    warmup_epochs: int
    warmup_lr: float
    views: int  # stored random crops, in turn epoch by epoch; 0: fresh crops every epoch
    view_seed: int
    min_scale: float

    def __post_init__(self) -> None:
        _checks.at_least(1, batch_size=self.batch_size, many_classes=self.many_classes)
        _checks.at_least(
            0, many_classes_epochs=self.many_classes_epochs, weight_decay=self.weight_decay
        )
        _checks.at_least(
            0, warmup_epochs=self.warmup_epochs, views=self.views, view_seed=self.view_seed
        )
        _checks.above_zero(lr=self.lr, warmup_lr=self.warmup_lr)
        _checks.decay(momentum=self.momentum)
        _checks.share(min_scale=self.min_scale)
        _checks.by_shots("epochs", self.epochs)

    def epochs_for(self, labelled: Labelled, classes: int) -> int:
        """CoOp's table by shots, which are the images of the largest class."""
        shots = int(labelled.labels_N.bincount().max())
        table = _checks.by_shots("epochs", self.epochs)
        epochs = next((epochs for most, epochs in table if shots <= most), table[-1][1])
        return min(epochs, self.many_classes_epochs) if classes >= self.many_classes else epochs


@dataclass(frozen=True, eq=False)
class Batch:
    """What a loss may look at: one step of the live runs. The weights of a run sum to 1."""

    image_RBD: Tensor
    labels_RB: Tensor
    weight_RB: Tensor
    text_RKD: Tensor
    scale: float

    def logits(self, text_RKD: Tensor) -> Tensor:
        """logits_RBK of a classifier; one without runs serves them all."""
        return self.scale * self.image_RBD @ text_RKD.mT

    def mean(self, loss_RB: Tensor) -> Tensor:
        """loss_R over each run's own images."""
        return (self.weight_RB * loss_RB).sum(1)


Objective = Callable[[Batch], Tensor]  # -> terms_AR
Start = Callable[
    [Episode, Context, Generator], Tensor
]  # -> ctx_PE, or ctx_KPE where class-specific


def cross_entropy(batch: Batch) -> Tensor:
    """loss_R of the prompts' own logits."""
    loss_BR = F.cross_entropy(
        batch.logits(batch.text_RKD).permute(1, 2, 0), batch.labels_RB.T, reduction="none"
    )
    return batch.mean(loss_BR.T)


def plain(batch: Batch) -> Tensor:
    """CoOp's objective."""
    return cross_entropy(batch)[None]


def prompts_for(episode: Episode, context: Context) -> ClassPrompts:
    return episode.backbone.class_prompts(
        episode.class_names,
        context.n_ctx,
        context.position,
        class_specific=context.class_specific,
        precision=context.precision,
    )


def word_vectors(backbone: Backbone, text: str) -> Tensor:
    """ctx_WE: the token embeddings of `text`."""
    ids_L, empty_L = backbone.text.tokenize([text, ""])
    end = int(
        (ids_L == empty_L[1]).int().argmax()
    )  # an empty text is start and end, so its second token is the end
    return backbone.text.embed(ids_L[1:end]).detach().to(backbone.dtype)


def from_words(episode: Episode, context: Context, rng: Generator) -> Tensor:
    """The words of `ctx_init`, or normal noise where there are none."""
    backbone = episode.backbone
    if not context.ctx_init:
        shared = (context.n_ctx, backbone.text.width)
        shape = (len(episode.class_names), *shared) if context.class_specific else shared
        return context.init_std * normal(shape, rng, backbone)
    ctx_WE = word_vectors(backbone, context.ctx_init)
    if len(ctx_WE) != context.n_ctx:
        raise UserError(
            f"ctx_init='{context.ctx_init}' is {len(ctx_WE)} tokens but n_ctx is {context.n_ctx}; set n_ctx={len(ctx_WE)}"
        )
    return ctx_WE


@dataclass(frozen=True, eq=False)
class Run:
    """One run as tables: which rows of its bank each step sees, and at what rate."""

    bank: loop.Bank
    rows_TB: Tensor
    rate_T: Tensor


def learn(
    episodes: Sequence[Episode],
    context: Context,
    training: Training,
    objective: Objective = plain,
    *,
    start: Start = from_words,
    gradient: loop.Gradient = loop.slope,
) -> Tensor:
    """text_RKD after training one context per episode in lockstep: the last step's, as CoOp reports
    it.
    """
    assert len({(e.dataset, e.class_names) for e in episodes}) == 1, (
        "runs in lockstep share their dataset"
    )
    prompts = prompts_for(episodes[0], context)
    rngs = [episode.rng() for episode in episodes]
    ctxs = [start(episode, context, rng) for episode, rng in zip(episodes, rngs, strict=True)]
    runs = [_run(episode, training, rng) for episode, rng in zip(episodes, rngs, strict=True)]
    order = sorted(range(len(runs)), key=lambda r: -len(runs[r].rate_T))
    ctx_RPE = torch.stack([ctxs[r] for r in order])
    batch_at, rate_TR = _lockstep(
        [runs[r] for r in order], prompts, episodes[0].backbone.logit_scale
    )
    update = loop.sgd(ctx_RPE, training.momentum, training.weight_decay)
    loss_TR = loop.descend(
        ctx_RPE, lambda ctx, step: objective(batch_at(ctx, step)), rate_TR, update, gradient
    )
    for place, r in enumerate(order):
        loop.note(episodes[r], ctx_RPE[0].numel(), loss_TR[: len(runs[r].rate_T), place])
    with torch.no_grad():
        return prompts.encode(ctx_RPE[torch.tensor(order).argsort().to(ctx_RPE.device)])


def _run(episode: Episode, training: Training, rng: Generator) -> Run:
    support = episode.support
    epochs = training.epochs_for(support, len(episode.class_names))
    rows_TB, epoch_T = loop.plan(
        support, epochs, training.batch_size, training.views or max(epochs, 1), rng
    )
    bank = bank_of(
        episode, training.views, training.view_seed, Crop(training.min_scale), epochs, rng
    )
    return Run(
        bank,
        rows_TB,
        loop.warmed_cosine(
            training.lr, training.warmup_lr, training.warmup_epochs, epoch_T, epochs
        ),
    )


def bank_of(
    episode: Episode, views: int, view_seed: int, crop: Crop, epochs: int, rng: Generator
) -> loop.Bank:
    """`views` stored crops of every support image or, for 0, one fresh crop of each for every
    epoch.
    """
    images = episode.support.images
    if not epochs:
        view_VND = images.features()[None]
    elif views:
        view_VND = images.views(views, view_seed, crop)
    else:
        view_VND = torch.stack([_fresh(episode.backbone, images, crop, rng) for _ in range(epochs)])
    return loop.Bank.of(view_VND, episode.support.labels_N, episode.backbone.device)


@torch.no_grad()
def _fresh(backbone: Backbone, images: ImageSet, crop: Crop, rng: Generator) -> Tensor:
    parts = torch.arange(len(images)).split(ENCODE_BATCH)
    return torch.cat(
        [
            backbone.encode_pixels(images.augmented(part_N, rng, crop).to(backbone.device))
            for part_N in parts
        ]
    )


def _lockstep(
    runs: Sequence[Run], prompts: ClassPrompts, scale: float
) -> tuple[Callable[[Tensor, Tensor], Batch], Tensor]:
    """The batch of a step for the runs that `ctx` holds, and rate_TR; `runs` come longest first."""
    device = runs[0].bank.image_MD.device
    image_MD = torch.cat([run.bank.image_MD for run in runs])
    labels_M = torch.cat([run.bank.labels_M for run in runs])
    size = (len(runs[0].rate_T), len(runs))
    rows_TRB = torch.zeros(*size, max(run.rows_TB.shape[1] for run in runs), dtype=torch.int64)
    weight_RB = image_MD.new_zeros(rows_TRB.shape[1:])
    rate_TR = torch.zeros(size, dtype=torch.float64)
    first = 0
    for r, run in enumerate(runs):
        steps, batch = run.rows_TB.shape
        rows_TRB[:steps, r, :batch] = first + run.rows_TB
        weight_RB[r, :batch] = 1 / batch
        rate_TR[:steps, r] = run.rate_T
        first += len(run.bank.labels_M)
    rows_TRB = rows_TRB.to(device)

    def batch_at(ctx: Tensor, step: Tensor) -> Batch:
        rows_RB = rows_TRB.index_select(0, step)[0, : len(ctx)]
        return Batch(
            image_MD[rows_RB], labels_M[rows_RB], weight_RB[: len(ctx)], prompts.encode(ctx), scale
        )

    return batch_at, rate_TR


def classifier(text_KD: Tensor, scale: float) -> Predictor:
    """Cosine logits of a fixed text classifier: once trained, the text side is a matrix."""

    def predict(images: ImageSet) -> Tensor:
        return scale * images.features().to(text_KD.device) @ text_KD.T

    return predict
