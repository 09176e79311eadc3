"""A cell becomes an episode: data, support set, frozen backbone, features, text. Imports torch; the
runner asks for it late.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from benchmark import data, grid
from benchmark.api import Episode, ImageSet, Labelled, State, template_mean
from benchmark.backbones import clip
from benchmark.backbones.image_only import ImageOnly
from benchmark.data.sampling import few_shot
from benchmark.features.image_sets import Encoder, FeatureStore, Stopwatch, image_set, open_store
from benchmark.features.transforms import Pipeline
from benchmark.paths import cache_dir

Made = TypeVar("Made")


@dataclass(frozen=True)
class Workshop:
    """What one process keeps between cells: datasets, backbones, classifiers, features."""

    root: Path | None = None  # of the datasets
    device: str = "cpu"
    accept_changed_data: bool = False
    kept: dict[tuple[str, ...], object] = field(default_factory=dict, repr=False)

    def once(self, kind: str, name: str, make: Callable[[], Made]) -> Made:
        """Make a thing the first time it is asked for."""
        if (kind, name) not in self.kept:
            self.kept[kind, name] = make()
        return self.kept[kind, name]  # type: ignore[return-value]

    def dataset(self, name: str) -> data.Dataset:
        return self.once(
            "dataset",
            name,
            lambda: data.load(name, self.root, accept_changed_data=self.accept_changed_data),
        )

    def backbone(self, name: str) -> clip.Loaded:
        return self.once("backbone", name, lambda: clip.load(name, self.device))

    def encoder(self, name: str) -> Encoder:
        return self.once("encoder", name, lambda: encoder(self.backbone(name), name))

    def features(self) -> FeatureStore:
        return self.once("features", "", lambda: open_store(cache_dir() / "features"))

    def text(self, backbone: str, dataset: data.Dataset) -> Tensor | None:
        """text_KD of the dataset's own templates; None of an image encoder without a text side, so
        that only who asks for it fails.
        """
        if isinstance(self.backbone(backbone), ImageOnly):
            return None
        make = partial(
            template_mean, self.backbone(backbone), dataset.class_names, dataset.templates
        )
        return self.once("text", f"{backbone} {dataset.digest} {dataset.classes}", make)


def encoder(backbone: clip.Loaded, name: str) -> Encoder:
    """The image side of a backbone, named by its weights, its pixels and our pipeline's version."""
    from benchmark.backbones.weights import weights_digest

    mean, std = backbone.normalisation
    pipeline = Pipeline(backbone.image_px, mean, std)
    facts = json.dumps(
        [weights_digest(name), pipeline.image_px, mean, std, grid.transform_version()]
    )
    return Encoder(backbone, pipeline, hashlib.sha256(facts.encode()).hexdigest())


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
    watch: Stopwatch


def problem(
    shop: Workshop, cell: grid.Cell, prior: State | None = None, memory_share: float = 1.0
) -> Problem:
    """The episode of a cell; the test labels stay beside it and never enter it. `memory_share` is
    the backbone's (clip.OpenClip).
    """
    drawn, watch = _drawn(shop.dataset(cell.dataset), cell), Stopwatch()
    images = partial(
        image_set, encoder=shop.encoder(cell.backbone), store=shop.features(), timer=watch
    )
    backbone = shop.backbone(cell.backbone)
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
        text_KD=shop.text(cell.backbone, drawn),
    )
    return Problem(
        episode,
        images(drawn.test, sealed=True),
        drawn.test,
        _digest(drawn.train),
        drawn.changed,
        watch,
    )


def source_episode(shop: Workshop, cell: grid.Cell, source: str, shots: int) -> Episode:
    """Support and validation images of a source dataset for a prior; `shots` -1 means its full
    training set.
    """
    as_target = replace(cell, dataset=source, shots=max(shots, 0), classes="all", sources=())
    made = problem(shop, as_target).episode
    if shots >= 0:
        return made
    images = partial(
        image_set, encoder=shop.encoder(cell.backbone), store=shop.features(), timer=Stopwatch()
    )
    return replace(
        made, support=_labelled(shop.dataset(source).train, images, made.backbone.device)
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
    val = val if cell.val == "min4" else ()
    return replace(dataset, train=dataset.train.take(train), val=dataset.val.take(val)).half(
        cell.classes
    )


def _labelled(
    table: data.ImageTable, images: Callable[[data.ImageTable], ImageSet], device: torch.device
) -> Labelled:
    return Labelled(images(table), torch.tensor(table.labels, dtype=torch.int64, device=device))


def _digest(table: data.ImageTable) -> str:
    return hashlib.sha256("\n".join(table.keys).encode()).hexdigest()
