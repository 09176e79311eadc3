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
from benchmark.api import Episode, ImageSet, Labelled, State, Target, class_means
from benchmark.backbones import clip
from benchmark.compute.resources import Resources
from benchmark.compute.texts import sentences
from benchmark.data.sampling import few_shot
from benchmark.features.feature_store import Stopwatch
from benchmark.features.image_sets import image_set


@dataclass(frozen=True)
class Problem:
    """An episode to learn from, the classes to tell apart and the unlabelled images to predict;
    apart from them, what the harness alone may know.
    """

    episode: Episode
    target: Target  # the episode's own classes where the evaluation is few-shot
    query: ImageSet
    # the place of each tested class among those learned; None where some are not among them
    columns: tuple[int, ...] | None
    # the test table with its labels and paths, which nothing in the episode or the images leads to
    answers: data.ImageTable
    support_digest: str  # of the paths of the support set, in sampling order
    changed_data: bool  # the data are not as their spec says, and the user accepted that
    data_remarks: tuple[str, ...]  # what is doubtful about the images of the dataset
    timer: Stopwatch
    images_of: Callable[..., ImageSet]  # the images of a table, as `query` is made of `answers`


def problem(
    resources: Resources, cell: grid.Cell, prior: State | None = None, memory_share: float = 1.0
) -> Problem:
    """The episode of a cell; the test labels stay beside it and never enter it. `memory_share` is
    the backbone's (clip.OpenClip).
    """
    learned, timer = cell.learned, Stopwatch()
    images_of = _image_sets(resources, cell, timer)
    source, tested = resources.dataset(learned.dataset), resources.dataset(cell.dataset)
    train, val = _sampled(source, learned)
    test = tested.half(cell.classes).test
    episode = _episode(resources, learned, train, val, timer)
    backbone = episode.backbone
    if cell.selection == "test":
        own_test = source.half(learned.classes).test
        episode = replace(episode, selection=_labelled(own_test, images_of, backbone.device))
    if isinstance(backbone, clip.OpenClip):
        backbone = replace(backbone, memory_share=memory_share)
    return Problem(
        episode=replace(episode, backbone=backbone, prior=prior),
        target=replace(_target(resources, cell), backbone=backbone, notes=episode.notes),
        query=images_of(test, sealed=True),
        columns=_columns(cell, tested),
        answers=test,
        support_digest=_digest(train),
        changed_data=source.changed or tested.changed,
        data_remarks=tested.remarks,
        timer=timer,
        images_of=images_of,
    )


def _target(resources: Resources, cell: grid.Cell) -> Target:
    dataset = resources.dataset(cell.dataset).half(cell.classes)
    dataset = replace(dataset, templates=cell.templates or dataset.templates)
    target = Target(
        dataset=dataset.name,
        class_names=dataset.class_names,
        templates=dataset.templates,
        backbone=resources.backbone(cell.backbone, cell.precision),
        seed=cell.seed,
        underscores=cell.underscores,
    )
    if cell.texts:
        return _with_texts(resources, cell, target)
    text_KD = resources.text(cell.backbone, cell.precision, dataset, underscores=cell.underscores)
    return replace(target, text_KD=text_KD)


def _with_texts(resources: Resources, cell: grid.Cell, target: Target) -> Target:
    """The target with the sentences of the cell's text set, the filled templates before them where
    the set says so.
    """
    chosen = resources.texts(cell.texts)
    texts = sentences(chosen, cell.dataset, target.class_names)
    if chosen.with_templates:
        pairs = zip(target.sentences(), texts, strict=True)
        texts = tuple((*filled, *own) for filled, own in pairs)
    text_KTD = resources.sentences(cell.backbone, cell.precision, texts)
    text_KD = class_means(text_KTD) if text_KTD else None
    return replace(target, texts=texts, text_KTD=text_KTD, text_KD=text_KD)


def _columns(cell: grid.Cell, tested: data.Dataset) -> tuple[int, ...] | None:
    """Known where the tested classes are those learned, or where the tested dataset is a variant of
    the one learned on and says which of its classes it has.
    """
    learned = cell.learned
    if (learned.dataset, learned.classes) == (cell.dataset, cell.classes):
        return tuple(range(len(tested.half(cell.classes).class_names)))
    if learned.classes == "all" and data.read_spec(cell.dataset).parent == learned.dataset:
        return tested.parent_labels
    return None


def source_episode(resources: Resources, cell: grid.Cell, source: str, shots: int) -> Episode:
    """Support images of a source dataset for a prior, of all its classes; no validation or test
    image is listed. `shots` -1 means its full training set.
    """
    as_target = replace(
        cell.learned,
        dataset=source,
        shots=max(shots, 0),
        classes="all",
        sources=(),
        val="none",
        templates=(),
        underscores=False,
        texts="",
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
    target, images = _target(resources, cell), _image_sets(resources, cell, timer)
    device = target.backbone.device
    return Episode(
        **vars(target),
        support=_labelled(train, images, device),
        val=_labelled(val, images, device) if len(val) else None,
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
