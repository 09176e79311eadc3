"""Searching for vectors in the joint space by gradient descent on stored features: ConES and its
closest relatives.

    loss of a run and anchor mu = mean CE(logits of its images) + mu * pull towards where it came
    from

A method says what its weights are, how they become concepts, and what pulls them. No encoder is
run: an epoch is a few matrix products, so runs (shots and seeds of one dataset) and anchors are
trained in lockstep as the leading dimensions of one tensor, and the anchor that does best on the
few-shot validation set is kept. Letters of this file: R runs, A anchors, M concepts of a class, B
images of a batch, X weights of a run, all else as in benchmark.api.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adapters import _checks
from benchmark.api import Crop, Episode, ImageSet, Labelled, Predictor, unit
from benchmark.training import loop
from benchmark.training.noise import normal

Update = Callable[[Tensor], loop.Update]  # weights_RAX -> the optimiser


@dataclass(frozen=True)
class Search:
    """How long, on what, at which rate, and which anchors are tried."""

    epochs: str  # one number, or "shots:epochs,..." where a support set takes the first entry it does not exceed
    batch_size: int  # 0: the whole support set at every step
    lr: float
    warmup_epochs: int
    warmup_lr: float
    views: int  # stored random crops per image, in turn epoch by epoch
    view_seed: int
    min_scale: float

    def __post_init__(self) -> None:
        _checks.at_least(
            0,
            batch_size=self.batch_size,
            warmup_epochs=self.warmup_epochs,
            view_seed=self.view_seed,
        )
        _checks.at_least(1, views=self.views)
        _checks.above_zero(lr=self.lr, warmup_lr=self.warmup_lr)
        _checks.share(min_scale=self.min_scale)
        _checks.by_shots("epochs", self.epochs)

    def epochs_for(self, labelled: Labelled) -> int:
        shots = int(labelled.labels_N.bincount().max())
        table = _checks.by_shots("epochs", self.epochs)
        return next((epochs for most, epochs in table if shots <= most), table[-1][1])


@dataclass(frozen=True, eq=False)
class Form:
    """What a method's weights mean."""

    start: Callable[[Episode, Generator], Tensor]  # weights_X of a run
    cosines: Callable[
        [Tensor, Tensor, Tensor], Tensor
    ]  # image_BD, weights_AX, text_KD -> what the scale is multiplied with, _BAK
    pull: Callable[
        [Tensor, Tensor], Tensor
    ]  # weights_AX, what `home` gave -> pull_A, multiplied by the anchors
    home: Callable[
        [Episode, Tensor, Tensor], Tensor
    ]  # episode, image_MD, labels_M -> what `pull` pulls towards, or how hard


@dataclass(frozen=True, eq=False)
class _Run:
    """One run as tables; `image_MD` holds view after view of the support images."""

    episode: Episode
    text_KD: Tensor
    image_MD: Tensor
    labels_N: Tensor
    rows_TB: Tensor  # one row for every view where a step sees the whole support set
    rate_T: Tensor
    home: Tensor
    whole: bool

    def batch(self, t: int) -> tuple[Tensor, Tensor]:
        count = len(self.labels_N)
        if self.whole:
            first = t * count % len(self.image_MD)
            return self.image_MD[first : first + count], self.labels_N
        rows_B = self.rows_TB[t]
        return self.image_MD[rows_B], self.labels_N[rows_B % count]


def _run(episode: Episode, form: Form, search: Search, rng: Generator) -> _Run:
    text_KD, support, epochs = (
        episode.text_features(),
        episode.support,
        search.epochs_for(episode.support),
    )
    device = text_KD.device
    image_MD = (
        support.images.views(search.views, search.view_seed, Crop(search.min_scale))
        .flatten(0, 1)
        .to(device)
    )
    whole = search.batch_size == 0
    if whole:
        rows_TB, epoch_T = torch.zeros(epochs, 0, dtype=torch.int64), torch.arange(epochs)
    else:
        rows_TB, epoch_T = loop.plan(support, epochs, search.batch_size, search.views, rng)
    rate_T = loop.warmed_cosine(search.lr, search.warmup_lr, search.warmup_epochs, epoch_T, epochs)
    labels_N = support.labels_N.to(device)
    home = form.home(episode, image_MD, labels_N.repeat(search.views))
    return _Run(episode, text_KD, image_MD, labels_N, rows_TB.to(device), rate_T, home, whole)


def learn(
    episodes: Sequence[Episode],
    form: Form,
    search: Search,
    anchors: Sequence[float],
    optimiser: Update,
) -> list[Tensor]:
    """weights_AX of every episode after the last step, trained in lockstep."""
    rngs = [episode.rng() for episode in episodes]
    starts = [form.start(episode, rng) for episode, rng in zip(episodes, rngs, strict=True)]
    runs = [_run(episode, form, search, rng) for episode, rng in zip(episodes, rngs, strict=True)]
    order = sorted(range(len(runs)), key=lambda r: -len(runs[r].rate_T))
    weights_RAX = torch.stack(
        [starts[r].expand(len(anchors), *starts[r].shape) for r in order]
    ).clone()
    anchor_A = torch.tensor(anchors, dtype=weights_RAX.dtype, device=weights_RAX.device)
    rate_TR = torch.zeros(len(runs[order[0]].rate_T), len(runs), dtype=torch.float64)
    for place, r in enumerate(order):
        rate_TR[: len(runs[r].rate_T), place] = runs[r].rate_T

    def loss_of(moving_RAX: Tensor, step: Tensor) -> Tensor:
        t = int(step)
        losses = [
            _loss(runs[r], weights_AX, form, anchor_A, t)
            for weights_AX, r in zip(moving_RAX, order, strict=False)
        ]
        return torch.stack(losses)[None]

    loss_TR = loop.descend(weights_RAX, loss_of, rate_TR, optimiser(weights_RAX))
    for place, r in enumerate(order):
        loop.note(
            episodes[r], starts[r].numel(), loss_TR[: len(runs[r].rate_T), place] / len(anchors)
        )
    return [weights_RAX[order.index(r)] for r in range(len(runs))]


def _loss(run: _Run, weights_AX: Tensor, form: Form, anchor_A: Tensor, t: int) -> Tensor:
    """The losses of all anchors, added up: they do not touch each other."""
    image_BD, labels_B = run.batch(t)
    logits_BAK = run.episode.backbone.logit_scale * form.cosines(image_BD, weights_AX, run.text_KD)
    anchors, classes = logits_BAK.shape[1:]
    cross = (
        F.cross_entropy(logits_BAK.reshape(-1, classes), labels_B.repeat_interleave(anchors))
        * anchors
    )
    if not bool(anchor_A.any()):
        return cross
    return cross + (anchor_A * form.pull(weights_AX, run.home)).sum()


@dataclass(frozen=True)
class Cones:
    """The recipe all levels of ConES share."""

    anchors: str
    anchor: float
    epochs: str
    batch_size: int
    lr: float
    beta1: float
    beta2: float
    epsilon: float
    views: int
    view_seed: int
    min_scale: float

    def __post_init__(self) -> None:
        _checks.at_least(0, anchor=self.anchor)
        _checks.above_zero(epsilon=self.epsilon)
        _checks.decay(beta1=self.beta1, beta2=self.beta2)
        _checks.numbers("anchors", self.anchors, low=0), self.search()

    def search(self) -> Search:
        """A cosine from `lr` towards 0, without warm-up."""
        return Search(
            self.epochs,
            self.batch_size,
            self.lr,
            0,
            self.lr,
            self.views,
            self.view_seed,
            self.min_scale,
        )

    def find(self, episodes: Sequence[Episode], form: Form) -> list[Tensor]:
        """weights_X of every episode, at the anchor its validation set chose, or at `anchor` where
        it has none.
        """
        assert len({(e.dataset, e.class_names) for e in episodes}) == 1, (
            "runs in lockstep share their dataset"
        )
        optimiser, found = (
            adam(0.0, self.beta1, self.beta2, self.epsilon, decoupled=True),
            dict[int, Tensor](),
        )
        for chosen in (True, False):
            places = [
                i for i, episode in enumerate(episodes) if (episode.val is not None) == chosen
            ]
            anchors = _checks.numbers("anchors", self.anchors, low=0) if chosen else (self.anchor,)
            group = [episodes[i] for i in places]
            for i, weights_AX in zip(
                places,
                learn(group, form, self.search(), anchors, optimiser) if group else [],
                strict=True,
            ):
                found[i] = weights_AX[choose(episodes[i], weights_AX, form, anchors)]
        return [found[i] for i in range(len(episodes))]


@torch.no_grad()
def choose(episode: Episode, weights_AX: Tensor, form: Form, anchors: Sequence[float]) -> int:
    """The place of the anchor with most validation images right; on a tie the stronger one."""
    place = len(anchors) - 1
    if episode.val is not None and len(anchors) > 1:
        text_KD = episode.text_features()
        cosines_NAK = form.cosines(
            episode.val.images.features().to(text_KD.device), weights_AX, text_KD
        )
        correct = (
            (cosines_NAK.argmax(2) == episode.val.labels_N.to(text_KD.device)[:, None])
            .sum(0)
            .tolist()
        )
        place = max(range(len(anchors)), key=lambda a: (correct[a], anchors[a]))
        episode.notes["val_correct"] = int(correct[place])
    episode.notes["anchor"] = float(anchors[place])
    episode.notes["selection"] = "fixed" if episode.val is None or len(anchors) == 1 else "val"
    return place


def per_class(init: str) -> Form:
    """Level A: one concept per class, of length sqrt(D) at the start, so that a rate is a share of
    a coordinate's own size.
    """

    def start(episode: Episode, rng: Generator) -> Tensor:
        text_KD = episode.text_features()
        noise_KD = normal(text_KD.shape, rng, episode.backbone)
        return lengthened(unit(noise_KD) if init == "random" else text_KD, 1.0)

    def home(episode: Episode, image_MD: Tensor, labels_M: Tensor) -> Tensor:
        return episode.text_features()

    return Form(
        start,
        lambda image_BD, concept_AKD, text_KD: class_cosines(image_BD, concept_AKD),
        distance,
        home,
    )


def class_cosines(image_BD: Tensor, concept_AKD: Tensor) -> Tensor:
    """cosine_BAK."""
    return (image_BD @ unit(concept_AKD).flatten(0, 1).T).unflatten(1, concept_AKD.shape[:2])


def distance(concept_AKD: Tensor, home_KD: Tensor) -> Tensor:
    """distance_A: the mean over classes of the squared distance between unit vectors."""
    return (unit(concept_AKD) - home_KD).square().sum(-1).mean(-1)


def adam(
    weight_decay: float, beta1: float, beta2: float, epsilon: float, *, decoupled: bool
) -> Update:
    """torch's AdamW, or its Adam, where weight decay is part of the gradient."""

    def optimiser(weights: Tensor) -> loop.Update:
        move = loop.adamw(weights, weight_decay if decoupled else 0.0, epsilon, beta1, beta2)
        if decoupled:
            return move
        return lambda weights, gradient, rate_R: move(
            weights, gradient + weight_decay * weights, rate_R
        )

    return optimiser


def lengthened(text_KD: Tensor, text_rms: float) -> Tensor:
    """Unit text features at the length their coordinates have when their root mean square is
    `text_rms`.
    """
    return text_KD * (text_rms * text_KD.shape[1] ** 0.5)


def predictor(form: Form, weights_X: Tensor, episode: Episode) -> Predictor:
    """Logits of found concepts on stored features."""
    text_KD, scale = episode.text_features(), episode.backbone.logit_scale

    @torch.no_grad()
    def predict(images: ImageSet) -> Tensor:
        return (
            scale
            * form.cosines(images.features().to(text_KD.device), weights_X[None], text_KD)[:, 0]
        )

    return predict
