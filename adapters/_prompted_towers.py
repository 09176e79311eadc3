"""Learning rows in both towers: "[P_j] class name" on the text side, rows beside the patches.

The methods of the family differ in what they train, from which they make the rows of both towers,
and in their loss; the rest is here. Rows are put into images as adapters/_rows.py says; those of
texts are contexts that change from block to block. They are trained by SGD on CoOp's schedule, with
both towers in the loop.
Letters of this file: J blocks with rows, T rows of a block, B images of a batch, U and E the widths
of the image and the text tower, all else as in benchmark.api.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adapters import _blocks, _in_the_loop, _optimisers, _rows, _views
from adapters._settings import Crops, PromptedBlocks, PromptTraining, Sgd
from benchmark.api import (
    Backbone,
    ClassPrompts,
    Episode,
    Predictor,
    Target,
    UserError,
    VisionTower,
    class_texts,
)
from benchmark.training.noise import normal

Parts = _in_the_loop.Parts
Rows = tuple[Tensor, Tensor]  # text_JTE, image_JTU


@dataclass(frozen=True)
class Recipe:
    """The settings of a method that trains rows in both towers."""

    method: str
    n_text: int  # rows of a block of the text tower
    blocks: PromptedBlocks
    training: PromptTraining
    sgd: Sgd
    crops: Crops
    keep_mb: int


@dataclass(frozen=True, eq=False)
class Seen:
    """What a loss sees of a step."""

    image_BD: Tensor
    text_KD: Tensor
    labels_B: Tensor
    scale: float

    def logits(self) -> Tensor:
        """logits_BK."""
        return self.scale * self.image_BD @ self.text_KD.T

    def cross_entropy(self) -> Tensor:
        """CoOp's objective."""
        return F.cross_entropy(self.logits(), self.labels_B)


Beside = Callable[[Seen, Tensor], Tensor]  # a step, CLIP's own image_BD -> what joins the loss
ShareOf = Callable[[int], Tensor]  # epochs -> share_E of the weights after each epoch


@dataclass(frozen=True, eq=False)
class Towers:
    """Both towers, and the texts of some classes."""

    vision: VisionTower
    prompts: ClassPrompts

    @staticmethod
    def of(target: Target, recipe: Recipe) -> Towers:
        _words(target.backbone, recipe.blocks, recipe.n_text)
        template = f"{recipe.blocks.ctx_init} {{}}."
        texts = class_texts(target.class_names, template, target.underscores)
        vision = _rows.vision(target.backbone, recipe.method)
        return Towers(vision, target.backbone.whole_prompts(texts, recipe.n_text))

    def text_features(self, text_JTE: Tensor) -> Tensor:
        """text_KD, unit length."""
        first_TE, *later = text_JTE
        return self.prompts.encode(first_TE, later=dict(enumerate(later, 1)))

    def image_features(self, x_BLU: Tensor, image_JTU: Tensor) -> Tensor:
        """image_BD, unit length, of what the first block reads."""
        return _blocks.image_features(self.vision, 0, x_BLU, _rows.Rows(image_JTU).changes())


def learn(
    episodes: Sequence[Episode],
    recipe: Recipe,
    start_of: Callable[[Episode], Parts],
    rows_of: Callable[[Parts], Rows],
    beside: Beside | None = None,
    share_of: ShareOf | None = None,
) -> list[Parts]:
    """What every run has learned: the parts of its last step, or their mean over the epochs.

    The loss is the cross-entropy, and what `beside` makes of a step.
    """
    towers, many = Towers.of(episodes[0].target, recipe), len(episodes) > 1
    loss_of = _loss_of(towers, episodes[0].backbone.logit_scale, rows_of, beside)
    read_of = _views.inputs_for(
        towers.vision, 0, recipe.crops, recipe.keep_mb, must_fit=many, frozen=beside is not None
    )
    runs = _in_the_loop.runs(
        episodes,
        lambda episode: _schedule(episode, recipe, share_of),
        start_of,
        read_of,
        lambda _: loss_of,
    )
    return _in_the_loop.learn(runs, towers.vision, _optimisers.sgd(recipe.sgd))


def _loss_of(
    towers: Towers, scale: float, rows_of: Callable[[Parts], Rows], beside: Beside | None
) -> _in_the_loop.Loss:
    def seen(parts: Parts, x_BLU: Tensor, labels_B: Tensor) -> Seen:
        text_JTE, image_JTU = rows_of(parts)
        text_KD = towers.text_features(text_JTE)
        return Seen(towers.image_features(x_BLU, image_JTU), text_KD, labels_B, scale)

    def alone(parts: Parts, x_BLU: Tensor, labels_B: Tensor, step: Tensor) -> Tensor:
        return seen(parts, x_BLU, labels_B).cross_entropy()

    if beside is None:
        return alone

    def joined(parts: Parts, read: tuple[Tensor, Tensor], labels_B: Tensor, step: Tensor) -> Tensor:
        x_BLU, frozen_BD = read
        own = seen(parts, x_BLU, labels_B)
        return own.cross_entropy() + beside(own, frozen_BD)

    return joined


def _schedule(episode: Episode, recipe: Recipe, share_of: ShareOf | None) -> _in_the_loop.Schedule:
    training = recipe.training
    schedule = _in_the_loop.by_epochs(episode, training, recipe.crops, recipe.sgd.warmup_lr)
    if share_of is None:
        return schedule
    share_E = share_of(training.epochs_for(episode.shots, len(episode.class_names)))
    share_T = torch.zeros(len(schedule.rate_T), dtype=torch.float64)
    if len(share_E):
        per_epoch = len(share_T) // len(share_E)
        share_T[per_epoch - 1 :: per_epoch] = share_E
    return replace(schedule, share_T=share_T)


def predictor(rows: Rows, target: Target, recipe: Recipe) -> Predictor:
    """A predictor for the target's classes."""
    towers, (text_JTE, image_JTU) = Towers.of(target, recipe), rows
    with torch.no_grad():
        text_KD = towers.text_features(text_JTE)
    changes = _rows.Rows(image_JTU).changes()
    return _blocks.predictor(towers.vision, 0, changes, text_KD, target.backbone.logit_scale)


def text_rows(
    backbone: Backbone, blocks: PromptedBlocks, count: int, depth: int, rng: Generator
) -> Tensor:
    """text_JTE of `depth` blocks: first the first `count` words of `ctx_init`, then noise."""
    first_TE = _words(backbone, blocks, count)
    noise_JTE = normal([depth - 1, count, backbone.text.width], rng, backbone)
    return torch.cat([first_TE[None].to(noise_JTE.dtype), blocks.init_std * noise_JTE])


def _words(backbone: Backbone, blocks: PromptedBlocks, count: int) -> Tensor:
    """word_TE: the first `count` words of `ctx_init`; UserError where it has fewer."""
    word_WE = backbone.text.words(blocks.ctx_init)
    if len(word_WE) < count:
        raise UserError(
            f"ctx_init='{blocks.ctx_init}' is {len(word_WE)} tokens, but {count} are to be learned;"
            " take fewer text rows or more words"
        )
    return word_WE[:count]


def fresh(episode: Episode, blocks: PromptedBlocks, n_text: int, n_image: int) -> Parts:
    """Rows of their own for both towers."""
    backbone, rng = episode.backbone, episode.rng()
    text, vision = (min(blocks.depth, len(t.blocks)) for t in (backbone.text, backbone.vision))
    text_JTE = text_rows(backbone, blocks, n_text, text, rng)
    image_JTU = normal([vision, n_image, _rows.width(backbone.vision)], rng, backbone)
    return {"text_JTE": text_JTE, "image_JTU": blocks.init_std * image_JTU}


def independent(parts: Parts) -> Rows:
    """The rows of both towers where they are what is trained."""
    return parts["text_JTE"], parts["image_JTU"]
