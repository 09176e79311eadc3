"""One context for many problems: multitask pretraining of class prompts, and its way into another
problem.

    min over V  mean over tasks and their images  CE( s f . t_c(V) over the classes c of the image's
    own task )

Tasks are never pooled into one softmax: names shared by two datasets would contradict each other.
Masking all other tasks' logits with -inf gives the same loss and the same gradient; a batch of one
task gets there by encoding that task's classes alone. Letters of this file: as in
adapters/_prompts.py, R = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adapters import _checks, _prompts
from adapters._prompts import Context
from benchmark.api import Backbone, Crop, Episode, State, UserError
from benchmark.training import loop

VERSION = (
    1  # raise it when priors may change: they are shared by all methods that agree on Pretraining
)


@dataclass(frozen=True)
class Pretraining:
    """How the shared context is trained."""

    pretrain_steps: int
    pretrain_batch_size: int
    pretrain_lr: float
    pretrain_warmup_steps: int
    warmup_lr: float
    momentum: float
    weight_decay: float
    views: int
    view_seed: int
    min_scale: float

    def __post_init__(self) -> None:
        _checks.at_least(
            0, pretrain_steps=self.pretrain_steps, pretrain_warmup_steps=self.pretrain_warmup_steps
        )
        _checks.at_least(
            0, views=self.views, view_seed=self.view_seed, weight_decay=self.weight_decay
        )
        _checks.at_least(1, pretrain_batch_size=self.pretrain_batch_size)
        _checks.above_zero(pretrain_lr=self.pretrain_lr, warmup_lr=self.warmup_lr)
        _checks.decay(momentum=self.momentum)
        _checks.share(min_scale=self.min_scale)


def identity(context: Context, pretraining: Pretraining) -> Mapping[str, Any]:
    """All that a prior depends on besides what it is shown."""
    return {
        "stage": "multitask context",
        "version": VERSION,
        **asdict(context),
        **asdict(pretraining),
    }


def pretrain(episodes: Sequence[Episode], context: Context, pretraining: Pretraining) -> State:
    """The shared context after `pretrain_steps` steps, and the name of the backbone it belongs to."""
    backbone, rng = episodes[0].backbone, episodes[0].rng()
    ctx_RPE = _prompts.from_words(episodes[0], context, rng)[None].contiguous()
    steps = torch.arange(pretraining.pretrain_steps)
    cosine_steps = max(len(steps) - pretraining.pretrain_warmup_steps, 1)
    rate_T = loop.warmed_cosine(
        pretraining.pretrain_lr,
        pretraining.warmup_lr,
        pretraining.pretrain_warmup_steps,
        steps,
        cosine_steps,
    )
    update = loop.sgd(ctx_RPE, pretraining.momentum, pretraining.weight_decay)
    loss_TR = loop.descend(
        ctx_RPE, _loss(episodes, context, pretraining, rng), rate_T[:, None], update
    )
    last = loss_TR[-100:].mean() if len(loss_TR) else torch.zeros(())
    return {"ctx_PE": ctx_RPE[0], "backbone": _letters(backbone), "final_loss": last.cpu()}


def _loss(
    episodes: Sequence[Episode], context: Context, pretraining: Pretraining, rng: Generator
) -> loop.Loss:
    """The loss of the next step each time it is called; steps go through the tasks' batches in
    pooled random order.
    """
    prompts = [_prompts.prompts_for(episode, context) for episode in episodes]
    scale, size = episodes[0].backbone.logit_scale, pretraining.pretrain_batch_size
    per_epoch = [max(1, len(episode.support) // size) for episode in episodes]
    epochs = -(-pretraining.pretrain_steps // sum(per_epoch))
    crop = Crop(pretraining.min_scale)
    banks = [
        _prompts.bank_of(e, pretraining.views, pretraining.view_seed, crop, epochs, rng)
        for e in episodes
    ]
    plans = [
        loop.plan(e.support, epochs, size, pretraining.views or max(epochs, 1), rng)[0]
        for e in episodes
    ]
    plans = [rows_TB.to(bank.labels_M.device) for rows_TB, bank in zip(plans, banks, strict=True)]
    schedule = iter(pooled_order(per_epoch, epochs, rng))

    def loss_of(ctx_RPE: Tensor, step: Tensor) -> Tensor:
        task, t = next(schedule)
        rows_B = plans[task][t]
        logits_BK = scale * banks[task].image_MD[rows_B] @ prompts[task].encode(ctx_RPE)[0].T
        return F.cross_entropy(logits_BK, banks[task].labels_M[rows_B]).view(1, 1)

    return loss_of


def pooled_order(per_epoch: Sequence[int], epochs: int, rng: Generator) -> list[tuple[int, int]]:
    """(task, its batch) for every step: every epoch shows every task all its batches, in one random
    order.
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
    if ctx_PE is None or tuple(ctx_PE.shape) != expected:
        got = (
            "nothing that is a context"
            if ctx_PE is None
            else f"a context of shape {tuple(ctx_PE.shape)}"
        )
        raise UserError(
            f"the prior holds {got}, but {backbone.name} with n_ctx={context.n_ctx} needs {expected}; pretrain it with these"
        )
    if not torch.equal(prior.get("backbone", torch.zeros(0)).cpu(), _letters(backbone)):
        raise UserError(
            f"the prior was pretrained on another backbone than {backbone.name}; pretrain it on this one"
        )
    return ctx_PE.to(backbone.device, backbone.dtype).clone()


def classifier(episode: Episode, context: Context) -> Tensor:
    """text_KD of the pretrained context as it is, without a look at the target; without a prior the
    hand-written templates.
    """
    if episode.prior is None:
        return episode.text_features()
    with torch.no_grad():
        return _prompts.prompts_for(episode, context).encode(prior_context(episode, context))


def _letters(backbone: Backbone) -> Tensor:
    """A name as a tensor, because a prior holds nothing else."""
    return torch.tensor(list(backbone.name.encode()), dtype=torch.uint8)
