"""Searching for vectors of the joint space by gradient descent on stored features.

    loss of a run at weight mu = mean CE(logits of its images, y) + mu * penalty(weights)

ConES and its closest relatives share this file. A method says what its weights are, how they give
cosines, and what the regularisation penalises. No encoder runs: an epoch is a few matrix products,
so the runs of a dataset (shots and seeds) and the values of mu are trained as a batch, and the mu
that does best on the validation set is kept.

Letters of this file: R runs, A values of mu, M concepts of a class (in image_MD: rows of all
views), B images of a batch, X weights of a run, T steps, all else as in benchmark.api.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adapters._settings import Adam, ConceptTraining, Regularisation, StoredCrops, WarmUp
from benchmark.api import Crop, Episode, ImageSet, Labelled, Predictor, Target, unit
from benchmark.training import batches, loop, optimisers
from benchmark.training.choose import choose_by_counts
from benchmark.training.noise import normal

Optimiser = Callable[[Tensor], optimisers.Update]  # weights_RAX -> their update rule


@dataclass(frozen=True, eq=False)
class Form:
    """What a method's weights mean."""

    # (episode, rng) -> weights_X at the start
    start: Callable[[Episode, Generator], Tensor]
    # (image_BD, weights_AX, text_KD) -> cosine_BAK, which the scale multiplies
    cosines: Callable[[Tensor, Tensor, Tensor], Tensor]
    # (weights_AX, what `target` gave) -> penalty_A, which mu multiplies
    penalty: Callable[[Tensor, Tensor], Tensor]
    # (episode, image_MD, labels_M) -> what `penalty` compares the weights with
    target: Callable[[Episode, Tensor, Tensor], Tensor]
    unprojected: bool = False  # images are what the tower's projection reads, image_NW for image_ND

    def views(self, images: ImageSet, crops: StoredCrops) -> Tensor:
        """image_VND of the stored views that are trained on."""
        stored = images.unprojected_views if self.unprojected else images.views
        return stored(crops.views, crops.view_seed, Crop(crops.min_scale))

    def centres(self, images: ImageSet) -> Tensor:
        """image_ND of the centre crops."""
        return images.unprojected() if self.unprojected else images.features()


@dataclass(frozen=True)
class ConceptRecipe:
    """All settings of a search but the values of mu."""

    training: ConceptTraining
    crops: StoredCrops
    warmup: WarmUp = WarmUp(warmup_epochs=0)
    of_all_views: bool = False  # batches are drawn out of all views of all images


@dataclass(frozen=True, eq=False)
class _Run:
    """One run as tables; `image_MD` holds view after view of the support images."""

    episode: Episode
    form: Form
    text_KD: Tensor
    image_MD: Tensor
    labels_N: Tensor
    rows_TB: Tensor  # B = 0 where every step sees the whole support set
    rate_T: Tensor
    target: Tensor
    whole: bool  # every step sees the whole support set

    def batch(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """(image_BD, labels_B) of a step."""
        count = len(self.labels_N)
        if self.whole:
            views = len(self.image_MD) // count
            return self.image_MD.unflatten(0, (views, count))[step % views][0], self.labels_N
        rows_B = self.rows_TB.index_select(0, step)[0]
        return self.image_MD[rows_B], self.labels_N[rows_B % count]


def _run(episode: Episode, form: Form, recipe: ConceptRecipe, rng: Generator) -> _Run:
    training, crops, warmup = recipe.training, recipe.crops, recipe.warmup
    support, text_KD = episode.support, episode.text_features()
    epochs = training.epochs_for(episode.shots)
    view_VND = form.views(support.images, crops)
    image_MD, labels_N = view_VND.flatten(0, 1).to(text_KD.device), support.labels_N
    whole = training.batch_size == 0
    if whole:
        rows_TB, epoch_T = torch.zeros(epochs, 0, dtype=torch.int64), torch.arange(epochs)
    elif recipe.of_all_views:
        rows_TB, epoch_T = _of_all_views(len(support), crops.views, epochs, training, rng)
    else:
        rows_TB, epoch_T = batches.draw(support, epochs, training.batch_size, crops.views, rng)
    labels_N = labels_N.to(text_KD.device)
    return _Run(
        episode=episode,
        form=form,
        text_KD=text_KD,
        image_MD=image_MD,
        labels_N=labels_N,
        rows_TB=rows_TB.to(text_KD.device),
        rate_T=optimisers.warmup_cosine(
            training.lr, warmup.warmup_lr, warmup.warmup_epochs, epoch_T, epochs
        ),
        target=form.target(episode, image_MD, labels_N.repeat(crops.views)),
        whole=whole,
    )


def _of_all_views(
    images: int, views: int, epochs: int, training: ConceptTraining, rng: Generator
) -> tuple[Tensor, Tensor]:
    """rows_TB and epoch_T: as many whole batches an epoch as the images fill, at least one, each
    drawn out of all views of all images, none twice in an epoch.
    """
    size, steps = min(training.batch_size, views * images), max(1, images // training.batch_size)
    rows = [
        torch.randperm(views * images, generator=rng)[: steps * size].view(steps, size)
        for _ in range(epochs)
    ]
    rows_TB = torch.cat(rows) if rows else torch.zeros(0, 1, dtype=torch.int64)
    return rows_TB, torch.arange(epochs).repeat_interleave(steps)


def learn(
    episodes: Sequence[Episode],
    form: Form | Sequence[Form],
    recipe: ConceptRecipe,
    optimiser: Optimiser,
    mus: Sequence[float],
) -> list[Tensor]:
    """weights_AX of every episode after the last step, for each weight `mus` of the penalty.

    `form` is one for all episodes, or one for each, with weights of one shape.
    """
    forms = [form] * len(episodes) if isinstance(form, Form) else form
    rngs = [episode.rng() for episode in episodes]
    triples = list(zip(episodes, forms, rngs, strict=True))
    starts = [each.start(episode, rng) for episode, each, rng in triples]
    runs = [_run(episode, each, recipe, rng) for episode, each, rng in triples]
    order = loop.longest_first([run.rate_T for run in runs])
    weights_RAX = torch.stack([starts[r].expand(len(mus), *starts[r].shape) for r in order]).clone()
    mu_A = weights_RAX.new_tensor(mus) if any(mus) else None
    rate_TR = loop.together([runs[r].rate_T for r in order])

    def loss_of(moving_RAX: Tensor, step: Tensor) -> Tensor:
        losses = [
            _loss(runs[r], weights_AX, mu_A, step)
            for weights_AX, r in zip(moving_RAX, order, strict=False)
        ]
        return torch.stack(losses)[None]

    loss_TR = loop.train(weights_RAX, loss_of, rate_TR, optimiser(weights_RAX))
    for column, r in enumerate(order):
        loss_T = loss_TR[: len(runs[r].rate_T), column] / len(mus)
        loop.note_training(episodes[r], starts[r].numel(), loss_T)
    return [weights_RAX[order.index(r)] for r in range(len(runs))]


def _loss(run: _Run, weights_AX: Tensor, mu_A: Tensor | None, step: Tensor) -> Tensor:
    """The losses of all mu, added up: they share no weights. None: no mu is above 0."""
    image_BD, labels_B = run.batch(step)
    cosine_BAK = run.form.cosines(image_BD, weights_AX, run.text_KD)
    logits_BAK = run.episode.backbone.logit_scale * cosine_BAK
    count, classes = logits_BAK.shape[1:]
    logits_NK = logits_BAK.reshape(-1, classes)
    loss = F.cross_entropy(logits_NK, labels_B.repeat_interleave(count)) * count
    if mu_A is None:
        return loss
    return loss + (mu_A * run.form.penalty(weights_AX, run.target)).sum()


def search(
    episodes: Sequence[Episode],
    form: Form,
    recipe: ConceptRecipe,
    adam: Adam,
    regularisation: Regularisation,
) -> list[Tensor]:
    """weights_X of every episode by ConES' recipe: AdamW, and mu chosen on the validation set.

    Where an episode has no validation set, mu is the fixed one. The episodes share their dataset.
    """
    assert len({(e.dataset, e.class_names) for e in episodes}) == 1, (
        "batched runs share their dataset"
    )
    weights: dict[int, Tensor] = {}
    for with_val in (True, False):
        members = [i for i, e in enumerate(episodes) if (e.val is not None) == with_val]
        if members:
            mus = regularisation.weights if with_val else (regularisation.regularisation,)
            group = [episodes[i] for i in members]
            learned = learn(group, form, recipe, adamw(adam), mus)
            for i, weights_AX in zip(members, learned, strict=True):
                weights[i] = weights_AX[choose(episodes[i], weights_AX, form, mus)]
    return [weights[i] for i in range(len(episodes))]


@torch.no_grad()
def choose(episode: Episode, weights_AX: Tensor, form: Form, mus: Sequence[float]) -> int:
    """The index of the mu with most validation images right; on a tie the largest one.

    `mus` ascend; without a validation set there is one, the fixed mu.
    """

    def count(val: Labelled) -> Tensor:
        """From the largest mu down."""
        text_KD = episode.text_features()
        image_ND = form.centres(val.images).to(text_KD.device)
        predicted_NA = form.cosines(image_ND, weights_AX, text_KD).argmax(2)
        right_NA = predicted_NA == val.labels_N.to(text_KD.device)[:, None]
        return right_NA.sum(0).flip(0)

    settings = [{"regularisation": float(mu)} for mu in reversed(mus)]
    chosen = choose_by_counts(episode, settings, settings[0], count)
    return mus.index(chosen["regularisation"])


def per_class(init: str) -> Form:
    """Level A: one concept per class.

    It has length sqrt(D) at the start, so that a rate is a share of a coordinate's own size.
    """

    def start(episode: Episode, rng: Generator) -> Tensor:
        text_KD = episode.text_features()
        noise_KD = normal(text_KD.shape, rng, episode.backbone)
        return lengthened(unit(noise_KD) if init == "random" else text_KD, 1.0)

    def cosines(image_BD: Tensor, concept_AKD: Tensor, text_KD: Tensor) -> Tensor:
        return class_cosines(image_BD, concept_AKD)

    return Form(start, cosines, distance, text_target)


def unregularised(
    start: Callable[[Episode, Generator], Tensor],
    cosines: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Form:
    """A form whose penalty is always 0."""
    return Form(start, cosines, lambda weights_AX, _: weights_AX.new_zeros(()), text_target)


def text_target(episode: Episode, image_MD: Tensor, labels_M: Tensor) -> Tensor:
    """The target of a penalty: text_KD."""
    return episode.text_features()


def class_cosines(image_BD: Tensor, concept_AKD: Tensor) -> Tensor:
    """cosine_BAK."""
    return (image_BD @ unit(concept_AKD).flatten(0, 1).T).unflatten(1, concept_AKD.shape[:2])


def distance(concept_AKD: Tensor, text_KD: Tensor) -> Tensor:
    """distance_A: the mean over classes of the squared distance between unit vectors."""
    return (unit(concept_AKD) - text_KD).square().sum(-1).mean(-1)


def adamw(adam: Adam, weight_decay: float = 0.0) -> Optimiser:
    """torch's AdamW."""
    return lambda weights: optimisers.adamw(
        weights, weight_decay, adam.epsilon, adam.beta1, adam.beta2
    )


def lengthened(text_KD: Tensor, text_rms: float) -> Tensor:
    """Unit text features scaled so that the root mean square of their coordinates is `text_rms`."""
    return text_KD * (text_rms * text_KD.shape[1] ** 0.5)


def text_lengths(episode: Episode, text_rms: float) -> Tensor:
    """length_K: every class's own, scaled so that the root mean square of all coordinates is
    `text_rms`; as the encoder leaves them where it is 0.
    """
    length_K = episode.text_lengths()
    if not text_rms:
        return length_K
    wanted = text_rms * episode.backbone.dim**0.5
    return wanted * length_K / length_K.square().mean().sqrt()


def predictor(form: Form, weights_X: Tensor, target: Target) -> Predictor:
    """Logits of the learned weights on stored features."""
    text_KD, scale = target.text_features(), target.backbone.logit_scale

    @torch.no_grad()
    def predict(images: ImageSet) -> Tensor:
        image_ND = form.centres(images).to(text_KD.device)
        return scale * form.cosines(image_ND, weights_X[None], text_KD)[:, 0]

    return predict
