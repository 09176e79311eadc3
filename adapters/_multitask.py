"""Multitask pretraining of class prompts: one context for many problems, then used on another one.

    min over V  mean over tasks and their images of  CE(s f . t_c(V), y), c over the task's classes

V: context, f: image feature, t_c(V): text feature of class c, s: CLIP's scale, y: label.
Every task has a softmax of its own, because names shared by two datasets would contradict each
other. Masking the logits of all other tasks with -inf gives the same loss and gradient; a batch of
one task gets there by encoding only that task's classes. Letters: as in _prompts.py, with R = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adapters import _prompts
from adapters._settings import Context, Crops, Pretraining, Sgd
from benchmark.api import Backbone, Episode, State, Target, UserError
from benchmark.training import batches, loop, optimisers

# Raise it when priors may change: all methods that agree on a SourceRecipe share them.
VERSION = 2


@dataclass(frozen=True)
class SourceRecipe:
    """All settings of pretraining."""

    context: Context
    pretraining: Pretraining
    sgd: Sgd
    crops: Crops


def identity(recipe: SourceRecipe) -> Mapping[str, Any]:
    """All that a prior depends on besides its sources."""
    groups = asdict(recipe).values()
    values = {name: value for group in groups for name, value in group.items()}
    return {"stage": "multitask context", "version": VERSION, **values}


def pretrain(episodes: Sequence[Episode], recipe: SourceRecipe) -> State:
    """The shared context after the last step, and the name of its backbone."""
    backbone, rng = episodes[0].backbone, episodes[0].rng()
    ctx_RPE = _prompts.from_words(episodes[0], recipe.context, rng)[None].contiguous()
    update = optimisers.sgd(ctx_RPE, recipe.sgd.momentum, recipe.sgd.weight_decay)
    losses, task_T = _losses(episodes, recipe, rng)
    rate_T = _rates(recipe, sum(_batches_per_epoch(episodes, recipe)))
    loss_TR = loop.train(ctx_RPE, losses, rate_T[:, None], update, choice_T=task_T)
    last = loss_TR[-100:].mean() if len(loss_TR) else torch.zeros(())
    return {
        "ctx_PE": ctx_RPE[0],
        "backbone": _name_tensor(backbone),
        "final_loss": last.cpu(),
    }


def _rates(recipe: SourceRecipe, per_epoch: int) -> Tensor:
    """rate_T: a warm-up, then half a cosine, counted in steps; in epochs where these are given."""
    pretraining, slow = recipe.pretraining, recipe.sgd.warmup_lr
    lr, epochs = pretraining.pretrain_lr, pretraining.pretrain_epochs
    if epochs:
        epoch_T = torch.arange(epochs).repeat_interleave(per_epoch)
        return optimisers.warmup_cosine(lr, slow, 1, epoch_T, epochs)
    steps, warmup = pretraining.pretrain_steps, pretraining.pretrain_warmup_steps
    return optimisers.warmup_cosine(lr, slow, warmup, torch.arange(steps), max(steps - warmup, 1))


def _batches_per_epoch(episodes: Sequence[Episode], recipe: SourceRecipe) -> list[int]:
    size = recipe.pretraining.pretrain_batch_size
    return [max(1, len(episode.support) // size) for episode in episodes]


def _losses(
    episodes: Sequence[Episode], recipe: SourceRecipe, rng: Generator
) -> tuple[list[loop.Loss], list[int]]:
    """A loss for every task, and the task of every step.

    Steps go through the batches of all tasks in one random order.
    """
    pretraining, size = recipe.pretraining, recipe.pretraining.pretrain_batch_size
    per_epoch = _batches_per_epoch(episodes, recipe)
    epochs = pretraining.pretrain_epochs or -(-pretraining.pretrain_steps // sum(per_epoch))
    steps = epochs * sum(per_epoch) if pretraining.pretrain_epochs else pretraining.pretrain_steps
    banks = [_prompts.bank_of(episode, recipe.crops, epochs, rng) for episode in episodes]
    views = recipe.crops.views or max(epochs, 1)
    plans = [batches.draw(episode.support, epochs, size, views, rng)[0] for episode in episodes]
    order = pooled_order(per_epoch, epochs, rng)[:steps]
    batch_T = torch.tensor([batch for _, batch in order], device=episodes[0].backbone.device)
    losses = [
        _loss(episode, recipe.context, bank, rows_TB.to(batch_T.device), batch_T)
        for episode, bank, rows_TB in zip(episodes, banks, plans, strict=True)
    ]
    return losses, [task for task, _ in order]


def _loss(
    episode: Episode, context: Context, bank: batches.Bank, rows_TB: Tensor, batch_T: Tensor
) -> loop.Loss:
    """Cross-entropy over the classes of one task; `batch_T` says which batch a step takes."""
    prompts, scale = _prompts.prompts_for(episode.target, context), episode.backbone.logit_scale

    def loss_of(ctx_RPE: Tensor, step: Tensor) -> Tensor:
        rows_B = rows_TB.index_select(0, batch_T.index_select(0, step))[0]
        logits_BK = scale * bank.image_MD[rows_B] @ prompts.encode(ctx_RPE)[0].T
        return F.cross_entropy(logits_BK, bank.labels_M[rows_B]).view(1, 1)

    return loss_of


def pooled_order(per_epoch: Sequence[int], epochs: int, rng: Generator) -> list[tuple[int, int]]:
    """(task, index of its batch) for every step.

    An epoch shows every batch of every task once, in random order.
    """
    order = []
    for epoch in range(epochs):
        pool = [
            (task, epoch * steps + i) for task, steps in enumerate(per_epoch) for i in range(steps)
        ]
        order += [pool[i] for i in torch.randperm(len(pool), generator=rng).tolist()]
    return order


def from_prior(episode: Episode, context: Context, rng: Generator) -> Tensor:
    """The pretrained context, or what CoOp starts from where there is no prior."""
    if episode.prior is None:
        return _prompts.from_words(episode, context, rng)
    return prior_context(episode, context)


def prior_context(episode: Episode, context: Context) -> Tensor:
    """ctx_PE of the prior. Raises UserError for a prior of another backbone or length."""
    backbone, prior = episode.backbone, episode.prior or {}
    ctx_PE, expected = prior.get("ctx_PE"), (context.n_ctx, backbone.text.width)
    if ctx_PE is None:
        raise UserError(
            f"the prior holds no context, but {backbone.name} needs one of shape {expected};"
            " pretrain it with this method"
        )
    if tuple(ctx_PE.shape) != expected:
        raise UserError(
            f"the prior holds a context of shape {tuple(ctx_PE.shape)}, but {backbone.name} with"
            f" n_ctx={context.n_ctx} needs {expected}; pretrain it with these"
        )
    if not torch.equal(prior.get("backbone", torch.zeros(0)).cpu(), _name_tensor(backbone)):
        raise UserError(
            f"the prior was pretrained on another backbone than {backbone.name};"
            " pretrain it on this one"
        )
    return ctx_PE.to(backbone.device, backbone.dtype).clone()


def learn(
    episodes: Sequence[Episode], recipe: _prompts.PromptRecipe, *, transfer: bool
) -> list[State]:
    """The context of every episode, from its prior: trained on its support set, or as pretrained.

    A state without a context stands for the hand-written templates.
    """
    if transfer:
        return _prompts.learn(episodes, recipe, start=from_prior)
    return [
        {} if episode.prior is None else {"ctx_PE": prior_context(episode, recipe.context)}
        for episode in episodes
    ]


def texts(states: Sequence[State], episodes: Sequence[Episode], context: Context) -> list[Tensor]:
    """text_KD of the own classes of every episode."""
    pairs = zip(states, episodes, strict=True)
    return [text_features(state, episode.target, context) for state, episode in pairs]


def text_features(state: State, target: Target, context: Context) -> Tensor:
    """text_KD of the target's classes around a learned context."""
    if not state:
        return target.text_features()
    return _prompts.text_features(state["ctx_PE"], target, context)


def _name_tensor(backbone: Backbone) -> Tensor:
    """The backbone's name as a tensor, because a prior holds nothing else."""
    return torch.tensor(list(backbone.name.encode()), dtype=torch.uint8)
