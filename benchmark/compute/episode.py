"""A cell becomes an episode: data, support set, frozen backbone, features, text. Imports torch; the
runner asks for it late.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from benchmark import data, grid
from benchmark.api import Episode, ImageSet, Labelled, State
from benchmark.backbones import clip
from benchmark.compute.resources import Resources
from benchmark.data.sampling import few_shot
from benchmark.features.feature_store import Stopwatch
from benchmark.features.image_sets import image_set


@dataclass(frozen=True)
class Problem:
    """An episode to learn from and the unlabelled images to predict; apart from them, what the
    harness alone may know.
    """

    episode: Episode
    query: ImageSet
    answers: data.ImageTable  # the test table with its labels and paths, which nothing in the episode or the images leads to
    support_digest: str  # of the paths of the support set, in sampling order
    changed_data: bool  # the data are not what their spec promises, and the user accepted that
    timer: Stopwatch


def problem(
    resources: Resources, cell: grid.Cell, prior: State | None = None, memory_share: float = 1.0
) -> Problem:
    """The episode of a cell; the test labels stay beside it and never enter it. `memory_share` is
    the backbone's (clip.OpenClip).
    """
    drawn, timer = _drawn(resources.dataset(cell.dataset), cell), Stopwatch()
    images = partial(
        image_set, encoder=resources.encoder(cell.backbone), store=resources.features(), timer=timer
    )
    backbone = resources.backbone(cell.backbone)
    if isinstance(backbone, clip.OpenClip):
        backbone = replace(backbone, memory_share=memory_share)
    episode = Episode(
        dataset=drawn.name,
        class_names=drawn.class_names,
        templates=drawn.templates,
        support=_labelled(drawn.train, images, backbone.device),
        val=_labelled(drawn.val, images, backbone.device) if len(drawn.val) else None,
        backbone=backbone,
        seed=cell.seed,
        prior=prior,
        text_KD=resources.text(cell.backbone, drawn),
    )
    return Problem(
        episode,
        images(drawn.test, sealed=True),
        drawn.test,
        _digest(drawn.train),
        drawn.changed,
        timer,
    )


def source_episode(resources: Resources, cell: grid.Cell, source: str, shots: int) -> Episode:
    """Support and validation images of a source dataset for a prior; `shots` -1 means its full
    training set.
    """
    as_target = replace(cell, dataset=source, shots=max(shots, 0), classes="all", sources=())
    made = problem(resources, as_target).episode
    if shots >= 0:
        return made
    images = partial(
        image_set,
        encoder=resources.encoder(cell.backbone),
        store=resources.features(),
        timer=Stopwatch(),
    )
    return replace(
        made, support=_labelled(resources.dataset(source).train, images, made.backbone.device)
    )


def _drawn(dataset: data.Dataset, cell: grid.Cell) -> data.Dataset:
    """The dataset with its support set for training and its few-shot validation set; drawn from all
    classes, then halved, as CoOp does.
    """
    train: Sequence[int] = ()
    val: Sequence[int] = ()
    if cell.shots:
        train, val = few_shot(
            dataset.train.labels, dataset.val.labels, cell.shots, cell.seed, cell.sampler
        )
    val = val if cell.val == "up-to-4" else ()
    return replace(dataset, train=dataset.train.take(train), val=dataset.val.take(val)).half(
        cell.classes
    )


def _labelled(
    table: data.ImageTable, images: Callable[[data.ImageTable], ImageSet], device: torch.device
) -> Labelled:
    return Labelled(images(table), torch.tensor(table.labels, dtype=torch.int64, device=device))


def _digest(table: data.ImageTable) -> str:
    return hashlib.sha256("\n".join(table.keys).encode()).hexdigest()
