"""A cell becomes an episode: data, support set, frozen backbone, features, text. Imports torch; the runner asks for it late."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from benchmark import clip, data, fewshot, grid
from benchmark.api import Episode, ImageSet, Labelled, State, template_mean
from benchmark.features import Encoder, FeatureStore, Stopwatch, image_set
from benchmark.paths import cache_dir
from benchmark.transforms import Pipeline

Made = TypeVar("Made")


@dataclass(frozen=True)
class Workshop:
    """What one process keeps between cells: datasets, backbones, classifiers, features."""

    root: Path | None = None  # of the datasets
    device: str = "cpu"
    kept: dict[tuple[str, ...], object] = field(default_factory=dict, repr=False)

    def once(self, kind: str, name: str, make: Callable[[], Made]) -> Made:
        """Make a thing the first time it is asked for."""
        if (kind, name) not in self.kept:
            self.kept[kind, name] = make()
        return self.kept[kind, name]  # type: ignore[return-value]

    def dataset(self, name: str) -> data.Dataset:
        return self.once("dataset", name, lambda: data.load(name, self.root))

    def backbone(self, name: str) -> clip.OpenClip:
        return self.once("backbone", name, lambda: clip.load(name, self.device))

    def encoder(self, name: str) -> Encoder:
        return self.once("encoder", name, lambda: encoder(self.backbone(name), name))

    def features(self) -> FeatureStore:
        return self.once("features", "", lambda: FeatureStore(cache_dir() / "features"))

    def text(self, backbone: str, dataset: data.Dataset) -> Tensor:
        """text_KD of the dataset's own templates."""
        make = partial(template_mean, self.backbone(backbone), dataset.class_names, dataset.templates)
        return self.once("text", f"{backbone} {dataset.digest}", make)


def encoder(backbone: clip.OpenClip, name: str) -> Encoder:
    """The image side of a backbone, named by its weights, its pixels and our pipeline's version."""
    from benchmark.backbones import weights_digest

    mean, std = backbone.normalisation
    pipeline = Pipeline(backbone.image_px, mean, std)
    facts = json.dumps([weights_digest(name), pipeline.image_px, mean, std, grid.transform_version()])
    return Encoder(backbone, pipeline, hashlib.sha256(facts.encode()).hexdigest())


@dataclass(frozen=True)
class Problem:
    """An episode to learn from and the unlabelled images to predict; apart from them, what the harness alone may know."""

    episode: Episode
    query: ImageSet
    query_labels: tuple[int, ...]
    support_digest: str  # of the paths of the support set, in sampling order
    watch: Stopwatch


def problem(shop: Workshop, cell: grid.Cell, prior: State | None = None) -> Problem:
    """The episode of a cell; the test labels stay beside it and never enter it."""
    dataset, watch = shop.dataset(cell.dataset), Stopwatch()
    chosen = _chosen_classes(len(dataset.class_names), cell.classes)
    support, val, query = (_only(table, chosen) for table in _sampled(dataset, cell))
    images = partial(image_set, encoder=shop.encoder(cell.backbone), store=shop.features(), watch=watch)
    backbone = shop.backbone(cell.backbone)
    episode = Episode(
        dataset=cell.dataset,
        class_names=tuple(dataset.class_names[label] for label in chosen),
        templates=dataset.templates,
        support=_labelled(support, images, backbone.device),
        val=_labelled(val, images, backbone.device) if len(val) else None,
        backbone=backbone,
        seed=cell.seed,
        prior=prior,
        text_KD=shop.text(cell.backbone, dataset)[list(chosen)],
    )
    return Problem(episode, images(query), query.labels, _digest(support), watch)


def source_episode(shop: Workshop, cell: grid.Cell, source: str, shots: int) -> Episode:
    """Support and validation images of a source dataset for a prior; `shots` -1 means its full training set."""
    as_target = replace(cell, dataset=source, shots=max(shots, 0), classes="all", sources=())
    made = problem(shop, as_target).episode
    if shots >= 0:
        return made
    images = partial(image_set, encoder=shop.encoder(cell.backbone), store=shop.features(), watch=Stopwatch())
    return replace(made, support=_labelled(shop.dataset(source).train, images, made.backbone.device))


def _sampled(dataset: data.Dataset, cell: grid.Cell) -> tuple[data.Table, data.Table, data.Table]:
    """Support, validation and test tables; sampling sees all classes, a half of them is cut out afterwards, as CoOp does."""
    if cell.shots == 0:
        return dataset.train.take([]), dataset.val.take([]), dataset.test
    train, val = fewshot.sample(dataset.train.labels, dataset.val.labels, cell.shots, cell.seed, cell.sampler)
    return dataset.train.take(train), dataset.val.take(val if cell.val == "min4" else []), dataset.test


def _chosen_classes(classes: int, which: str) -> tuple[int, ...]:
    """Labels of all classes, of the first ceil(K/2), or of the rest (CoOp `subsample_classes`)."""
    half = -(-classes // 2)
    return tuple({"all": range(classes), "base": range(half), "new": range(half, classes)}[which])


def _only(table: data.Table, chosen: tuple[int, ...]) -> data.Table:
    """The rows of the chosen classes, labelled anew from 0."""
    new = {label: position for position, label in enumerate(chosen)}
    kept = table.take([i for i, label in enumerate(table.labels) if label in new])
    return replace(kept, labels=tuple(new[label] for label in kept.labels))


def _labelled(table: data.Table, images: Callable[[data.Table], ImageSet], device: torch.device) -> Labelled:
    return Labelled(images(table), torch.tensor(table.labels, dtype=torch.int64, device=device))


def _digest(table: data.Table) -> str:
    return hashlib.sha256("\n".join(table.keys).encode()).hexdigest()
