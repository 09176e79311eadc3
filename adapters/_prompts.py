"""Learning the context of class prompts: CoOp's loop, over several runs at once.

The methods of the family differ in the terms of their loss and in where the context starts; the
rest is settings. Runs of one dataset and backbone (shots, seeds) are trained as a batch: their
contexts are the leading dimension of one tensor, and the text tower runs once for all of them. A
smaller batch of images is padded with weight 0, and a finished run no longer moves.

Letters of this file: R runs, A terms of a loss, B images of a batch, M rows of a bank, W words, T
steps, all else as in benchmark.api.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adapters._settings import Context, Crops, PromptTraining, Sgd, StoredCrops
from benchmark.api import (
    Backbone,
    ClassPrompts,
    Crop,
    Episode,
    ImageSet,
    Predictor,
    State,
    Target,
    UserError,
)
from benchmark.training import batches, loop, optimisers
from benchmark.training.noise import normal

ENCODE_BATCH = 64  # fresh crops encoded at once; changes no number


@dataclass(frozen=True, eq=False)
class Batch:
    """What a loss sees: one step of the runs that still move. The weights of a run sum to 1."""

    image_RBD: Tensor  # image_RBPD of a bank of places
    labels_RB: Tensor
    weight_RB: Tensor
    text_RKD: Tensor  # text_RNKD where a run has N contexts
    scale: float
    whole_RBD: Tensor | None = None  # of a bank that has it

    def logits(self, text_RKD: Tensor) -> Tensor:
        """logits_RBK of a classifier text_RKD, or of one text_KD for all runs."""
        return self.scale * self.image_RBD @ text_RKD.mT

    def mean(self, loss_RB: Tensor) -> Tensor:
        """loss_R over each run's own images."""
        return (self.weight_RB * loss_RB).sum(1)


Objective = Callable[[Batch], Tensor]  # -> terms_AR
BankOf = Callable[[Episode, Crops | StoredCrops, int, Generator], batches.Bank]  # int: epochs
# -> ctx_PE shared by all classes, ctx_NPE of several such, or ctx_KPE with one for every class
Start = Callable[[Episode, Context, Generator], Tensor]


def cross_entropy(batch: Batch) -> Tensor:
    """loss_R of the prompts' own logits."""
    return cross_entropy_of(batch.logits(batch.text_RKD), batch)


def cross_entropy_of(logits_RBK: Tensor, batch: Batch) -> Tensor:
    """loss_R of any logits of a batch."""
    loss_BR = F.cross_entropy(logits_RBK.permute(1, 2, 0), batch.labels_RB.T, reduction="none")
    return batch.mean(loss_BR.T)


def plain(batch: Batch) -> Tensor:
    """CoOp's objective."""
    return cross_entropy(batch)[None]


def prompts_for(target: Target, context: Context, *, class_specific: bool = False) -> ClassPrompts:
    """The prompts of the target's classes around a context of this form."""
    return target.backbone.class_prompts(
        target.class_names,
        context.n_ctx,
        context.position,
        class_specific=class_specific,
        precision=context.precision,
    )


def from_words(episode: Episode, context: Context, rng: Generator) -> Tensor:
    """ctx_PE from the words of `ctx_init`, or normal noise where there are none."""
    backbone = episode.backbone
    if not context.ctx_init:
        return _noise(episode, context, (context.n_ctx, backbone.text.width), rng)
    ctx_WE = backbone.text.words(context.ctx_init)
    if len(ctx_WE) != context.n_ctx:
        raise UserError(
            f"ctx_init='{context.ctx_init}' is {len(ctx_WE)} tokens but n_ctx is {context.n_ctx};"
            f" set n_ctx={len(ctx_WE)}"
        )
    return ctx_WE


def noise_per_class(episode: Episode, context: Context, rng: Generator) -> Tensor:
    """ctx_KPE of normal noise: a context of its own for every class."""
    return several(len(episode.class_names), episode, context, rng)


def several(count: int, episode: Episode, context: Context, rng: Generator) -> Tensor:
    """So many contexts of normal noise."""
    return _noise(episode, context, (count, context.n_ctx, episode.backbone.text.width), rng)


def _noise(episode: Episode, context: Context, shape: tuple[int, ...], rng: Generator) -> Tensor:
    return context.init_std * normal(shape, rng, episode.backbone)


@dataclass(frozen=True, eq=False)
class Run:
    """One run as tables: which rows of its bank each step sees, and the learning rate."""

    epochs: int
    rows_TB: Tensor
    rate_T: Tensor


@dataclass(frozen=True)
class PromptRecipe:
    """All settings of a training run."""

    context: Context
    training: PromptTraining
    sgd: Sgd
    crops: Crops | StoredCrops


def learn(
    episodes: Sequence[Episode],
    recipe: PromptRecipe,
    objective: Objective = plain,
    *,
    start: Start = from_words,
    class_specific: bool = False,
    bank: BankOf | None = None,
    gradient: loop.Gradient = loop.gradient_of,
) -> list[State]:
    """A state per episode, which holds its context after the last step; trained as a batch.

    `start` gives what is learned: a context, several of them, or one per class where
    `class_specific` says so. `bank` makes the rows that images are drawn from [default: bank_of].

    The episodes share their dataset and backbone.
    """
    assert len({(e.dataset, e.class_names) for e in episodes}) == 1, (
        "batched runs share their dataset"
    )
    rngs = [episode.rng() for episode in episodes]
    starts = [
        start(episode, recipe.context, rng) for episode, rng in zip(episodes, rngs, strict=True)
    ]
    prompts = prompts_for(episodes[0].target, recipe.context, class_specific=class_specific)
    runs = [_run(episode, recipe, rng) for episode, rng in zip(episodes, rngs, strict=True)]
    encode = prompts.encode if class_specific else partial(encoded, prompts)
    order = loop.longest_first([run.rate_T for run in runs])
    ctx_RPE = torch.stack([starts[r] for r in order])
    made = bank or bank_of
    # no name here holds the banks, which may be large: they go once they are joined
    batch_at, rate_TR = _batched(
        [runs[r] for r in order],
        [made(episodes[r], recipe.crops, runs[r].epochs, rngs[r]) for r in order],
        encode,
        episodes[0].backbone,
    )
    update = optimisers.sgd(ctx_RPE, recipe.sgd.momentum, recipe.sgd.weight_decay)
    loss_TR = loop.train(
        ctx_RPE, lambda ctx, step: objective(batch_at(ctx, step)), rate_TR, update, gradient
    )
    for column, r in enumerate(order):
        loop.note_training(episodes[r], ctx_RPE[0].numel(), loss_TR[: len(runs[r].rate_T), column])
    return [{"ctx_PE": ctx_RPE[order.index(r)]} for r in range(len(runs))]


def encoded(prompts: ClassPrompts, ctx: Tensor) -> Tensor:
    """text_KD of contexts ctx_PE, before which both may have any further dimensions."""
    text_MKD = prompts.encode(ctx.reshape(-1, *ctx.shape[-2:]))
    return text_MKD.reshape(*ctx.shape[:-2], *text_MKD.shape[1:])


def _run(episode: Episode, recipe: PromptRecipe, rng: Generator) -> Run:
    support, training, crops = episode.support, recipe.training, recipe.crops
    epochs = training.epochs_for(episode.shots, len(episode.class_names))
    rows_TB, epoch_T = batches.draw(
        support, epochs, training.batch_size, crops.views or max(epochs, 1), rng
    )
    rate_T = optimisers.warmup_cosine(
        training.lr, recipe.sgd.warmup_lr, training.warmup_epochs, epoch_T, epochs
    )
    return Run(epochs, rows_TB, rate_T)


def bank_of(
    episode: Episode, crops: Crops | StoredCrops, epochs: int, rng: Generator
) -> batches.Bank:
    """The stored crops of every support image, or a fresh crop of each for every epoch."""
    images, crop = episode.support.images, Crop(crops.min_scale)
    if not epochs:
        view_VND = images.features()[None]
    elif crops.views:
        view_VND = images.views(crops.views, crops.view_seed, crop)
    else:
        view_VND = torch.stack([_fresh(episode.backbone, images, crop, rng) for _ in range(epochs)])
    return batches.Bank.of(view_VND, episode.support.labels_N, episode.backbone.device)


@torch.no_grad()
def _fresh(backbone: Backbone, images: ImageSet, crop: Crop, rng: Generator) -> Tensor:
    parts = [
        backbone.encode_pixels(images.augmented(part_N, rng, crop).to(backbone.device))
        for part_N in torch.arange(len(images)).split(ENCODE_BATCH)
    ]
    return torch.cat(parts)


def _batched(
    runs: Sequence[Run],
    banks: Sequence[batches.Bank],
    encode: Callable[[Tensor], Tensor],
    backbone: Backbone,
) -> tuple[Callable[[Tensor, Tensor], Batch], Tensor]:
    """(ctx_RPE of the moving runs, step) -> their batch, and rate_TR; `runs` come longest first."""
    bank, device = batches.Bank.joined(banks), banks[0].image_MD.device
    size = (len(runs[0].rate_T), len(runs))
    rows_TRB = torch.zeros(*size, max(run.rows_TB.shape[1] for run in runs), dtype=torch.int64)
    weight_RB = torch.zeros(rows_TRB.shape[1:], dtype=backbone.dtype, device=device)
    rate_TR = loop.together([run.rate_T for run in runs])
    first = 0
    for r, (run, own) in enumerate(zip(runs, banks, strict=True)):
        steps, batch = run.rows_TB.shape
        rows_TRB[:steps, r, :batch] = first + run.rows_TB
        weight_RB[r, :batch] = 1 / batch
        first += len(own.labels_M)
    rows_TRB = rows_TRB.to(device)

    def batch_at(ctx: Tensor, step: Tensor) -> Batch:
        rows_RB = rows_TRB.index_select(0, step)[0, : len(ctx)]
        return Batch(
            bank.image_MD[rows_RB],
            bank.labels_M[rows_RB],
            weight_RB[: len(ctx)],
            encode(ctx),
            backbone.logit_scale,
            None if bank.whole_MD is None else bank.whole_MD[rows_RB],
        )

    return batch_at, rate_TR


def predictor(
    state: State, target: Target, context: Context, *, class_specific: bool = False
) -> Predictor:
    """A predictor for the target's classes, whose prompts have the context of a state."""
    text_KD = text_features(state["ctx_PE"], target, context, class_specific=class_specific)
    return classifier(text_KD, target.backbone.logit_scale)


@torch.no_grad()
def text_features(
    ctx_PE: Tensor, target: Target, context: Context, *, class_specific: bool = False
) -> Tensor:
    """text_KD of the target's classes around a learned context."""
    return prompts_for(target, context, class_specific=class_specific).encode(ctx_PE)


def classifier(text_KD: Tensor, scale: float) -> Predictor:
    """Cosine logits of a fixed text classifier: once trained, the text side is a matrix."""

    def predict(images: ImageSet) -> Tensor:
        return scale * images.features().to(text_KD.device) @ text_KD.T

    return predict
