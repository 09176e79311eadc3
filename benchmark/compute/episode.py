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
    # the test table with its labels and paths, which nothing in the episode or the images leads to
    answers: data.ImageTable
    support_digest: str  # of the paths of the support set, in sampling order
    changed_data: bool  # the data are not as their spec says, and the user accepted that
    data_remarks: tuple[str, ...]  # what is doubtful about the images of the dataset
    timer: Stopwatch


def problem(
    resources: Resources, cell: grid.Cell, prior: State | None = None, memory_share: float = 1.0
) -> Problem:
    """The episode of a cell; the test labels stay beside it and never enter it. `memory_share` is
    the backbone's (clip.OpenClip).
    """
    dataset, timer = resources.dataset(cell.dataset), Stopwatch()
    train, val = _sampled(dataset, cell)
    test = dataset.half(cell.classes).test
    images = _image_sets(resources, cell, timer)
    learned_from = _episode(resources, cell, train, val, timer)
    if cell.selection == "test":
        labelled = _labelled(test, images, learned_from.backbone.device)
        learned_from = replace(learned_from, selection=labelled)
    backbone = learned_from.backbone
    if isinstance(backbone, clip.OpenClip):
        backbone = replace(backbone, memory_share=memory_share)
    return Problem(
        episode=replace(learned_from, backbone=backbone, prior=prior),
        query=images(test, sealed=True),
        answers=test,
        support_digest=_digest(train),
        changed_data=dataset.changed,
        data_remarks=dataset.remarks,
        timer=timer,
    )


def source_episode(resources: Resources, cell: grid.Cell, source: str, shots: int) -> Episode:
    """Support and validation images of a source dataset for a prior, of all its classes; no test
    image is listed. `shots` -1 means its full training set.
    """
    as_target = replace(
        cell,
        dataset=source,
        shots=max(shots, 0),
        classes="all",
        sources=(),
        val=cell.val if cell.val in grid.VAL_POLICIES else "none",
        templates=(),
        underscores=False,
    )
    train, val = _sampled(resources.dataset(source), as_target)
    if shots < 0:
        train = resources.dataset(source).train
    return _episode(resources, as_target, train, val, Stopwatch())


def _episode(
    resources: Resources,
    cell: grid.Cell,
    train: data.ImageTable,
    val: data.ImageTable,
    timer: Stopwatch,
) -> Episode:
    dataset = resources.dataset(cell.dataset).half(cell.classes)
    dataset = replace(dataset, templates=cell.templates or dataset.templates)
    images = _image_sets(resources, cell, timer)
    backbone = resources.backbone(cell.backbone, cell.precision)
    return Episode(
        dataset=dataset.name,
        class_names=dataset.class_names,
        templates=dataset.templates,
        support=_labelled(train, images, backbone.device),
        val=_labelled(val, images, backbone.device) if len(val) else None,
        backbone=backbone,
        seed=cell.seed,
        text_KD=resources.text(
            cell.backbone, cell.precision, dataset, underscores=cell.underscores
        ),
        underscores=cell.underscores,
    )


def _image_sets(resources: Resources, cell: grid.Cell, timer: Stopwatch) -> Callable[..., ImageSet]:
    return partial(
        image_set,
        encoder=resources.encoder(cell.backbone, cell.precision),
        store=resources.features,
        timer=timer,
    )


def _sampled(dataset: data.Dataset, cell: grid.Cell) -> tuple[data.ImageTable, data.ImageTable]:
    """The support set and the validation set: sampled from all classes, then halved, as CoOp
    does. Presets of releases may validate on the whole split, or on the test set.
    """
    train: Sequence[int] = ()
    val: Sequence[int] = ()
    if cell.shots:
        train, val = few_shot(
            dataset.train.labels, dataset.val.labels, cell.shots, cell.seed, cell.sampler
        )
    validation = {
        "up-to-4": dataset.val.take(val),
        "none": dataset.val.take(()),
        "full": dataset.val,
        "test": dataset.test,
    }[cell.val]
    sampled = replace(dataset, train=dataset.train.take(train), val=validation)
    halved = sampled.half(cell.classes)
    return halved.train, halved.val


def _labelled(
    table: data.ImageTable, images: Callable[..., ImageSet], device: torch.device
) -> Labelled:
    return Labelled(images(table), torch.tensor(table.labels, dtype=torch.int64, device=device))


def _digest(table: data.ImageTable) -> str:
    return hashlib.sha256("\n".join(table.keys).encode()).hexdigest()
