"""What a worker keeps between cells: datasets, backbones, text classifiers, stored features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from benchmark import data, grid
from benchmark.api import template_mean
from benchmark.backbones import clip
from benchmark.backbones.image_only import ImageOnly
from benchmark.features.encoding import Encoder, frozen_encoder
from benchmark.features.feature_store import FeatureStore, open_store
from benchmark.features.transforms import Pipeline
from benchmark.paths import cache_dir

Made = TypeVar("Made")


@dataclass(frozen=True)
class Resources:
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
    on_device = backbone.device.type == "cuda"
    pipeline = Pipeline(backbone.image_px, mean, std, cuts_on_device=on_device)
    transform = grid.transform_version(on_device=on_device)
    facts = json.dumps(
        [weights_digest(name), pipeline.image_px, mean, std, transform, str(backbone.dtype)]
    )
    return frozen_encoder(backbone, pipeline, hashlib.sha256(facts.encode()).hexdigest())
