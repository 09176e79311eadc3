"""What a worker keeps between cells: datasets, backbones, text classifiers, stored features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from benchmark import data, grid, text_sets
from benchmark.api import sentence_features, template_mean
from benchmark.backbones import clip
from benchmark.backbones.image_only import ImageOnly
from benchmark.backbones.preprocessing import label_of
from benchmark.backbones.weights import NAMED, locate, weights_digest
from benchmark.compute.devices import cuts_on_device, device_for, precision_for
from benchmark.data import rgb
from benchmark.errors import UserError
from benchmark.features.encoding import Encoder
from benchmark.features.feature_store import FeatureStore, open_store
from benchmark.features.transforms import Pipeline
from benchmark.paths import cache_dir

Kept = TypeVar("Kept")


class Resources:
    """Loads a dataset or a backbone when it is first needed and keeps it.

    A backbone exists once per precision. `device` may be "auto"; `features` are kept in the cache
    folder unless another store is given.
    """

    def __init__(
        self,
        root: Path | None = None,
        device: str = "cpu",
        *,
        accept_changed_data: bool = False,
        features: FeatureStore | None = None,
    ) -> None:
        self.root = root  # of the datasets
        self.device = device
        self.accept_changed_data = accept_changed_data
        self.features = features or open_store(cache_dir() / "features")
        self._cache: dict[tuple[str, ...], object] = {}

    def dataset(self, name: str) -> data.Dataset:
        return self._once(
            ("dataset", name),
            lambda: data.load(name, self.root, accept_changed_data=self.accept_changed_data),
        )

    def dataset_digest(self, name: str) -> str:
        """Of the images that were loaded; of a user's own, which may change under a run, anew."""
        loaded = self.dataset(name).digest
        if not data.read_spec(name).named_by_content:
            return loaded
        return data.digest(name, self.root, accept_changed_data=self.accept_changed_data)

    def backbone(self, name: str, precision: str = "auto") -> clip.Loaded:
        return self._backbone(name, precision)[0]

    def weights_digest(self, name: str, precision: str = "auto") -> str:
        """Of the weights that were loaded, whatever lies in their file now."""
        return self._backbone(name, precision)[1]

    def _backbone(self, name: str, precision: str) -> tuple[clip.Loaded, str]:
        precision = precision_for(name, self.device, precision)
        return self._once(
            ("backbone", name, precision),
            lambda: _with_digest(name, self.device_of(name), precision),
        )

    def encoder(self, name: str, precision: str = "auto") -> Encoder:
        """The image side of a backbone."""
        precision = precision_for(name, self.device, precision)
        return self._once(
            ("encoder", name, precision),
            lambda: encoder(*self._backbone(name, precision), name, precision),
        )

    def text(
        self, name: str, precision: str, dataset: data.Dataset, *, underscores: bool = False
    ) -> Tensor | None:
        """text_KD of the dataset's templates; None for an image encoder without a text side,
        so that only a method that needs the text fails.
        """
        backbone = self.backbone(name, precision)
        if isinstance(backbone, ImageOnly):
            return None
        return self._once(
            (
                *("text", name, precision, dataset.digest, dataset.classes, str(underscores)),
                *dataset.templates,
            ),
            lambda: template_mean(
                backbone, dataset.class_names, dataset.templates, underscores=underscores
            ),
        )

    def texts(self, reference: str) -> text_sets.TextSet:
        """The text set of a cell that has one, as it was when it was first read."""
        return self._once(("texts", reference), lambda: text_sets.read(reference))

    def sentences(
        self, name: str, precision: str, texts: Sequence[Sequence[str]]
    ) -> tuple[Tensor, ...] | None:
        """text_TD of every class's sentences; None for an image encoder without a text side."""
        backbone = self.backbone(name, precision)
        if isinstance(backbone, ImageOnly):
            return None
        return self._once(
            ("sentences", name, precision, json.dumps(texts)),
            lambda: sentence_features(backbone, texts),
        )

    def device_of(self, backbone: str) -> str:
        return device_for(backbone, self.device)

    def _once(self, key: tuple[str, ...], make: Callable[[], Kept]) -> Kept:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]  # type: ignore[return-value]


def _with_digest(name: str, device: str, precision: str) -> tuple[clip.Loaded, str]:
    """A backbone and the digest of its weights, which is the same before and after loading."""
    digest = weights_digest(name)
    loaded = clip.load(name, device, precision)
    if weights_digest(name) != digest:
        raise changed(f"the weights of {name}")
    return loaded, digest


def changed(what: str) -> UserError:
    """The error of a cell that would be computed from something else than it was named by."""
    return UserError(f"{what} changed after this run began; give the same command again")


def encoder(backbone: clip.Loaded, weights: str, name: str, precision: str) -> Encoder:
    """The image side of a backbone; its digest covers the digest `weights`, pixels, pipeline and
    precision.
    """
    on_device, own = cuts_on_device(name, backbone.device.type, precision), backbone.preprocessing
    transform = grid.transform_version(on_device=on_device, preprocessing=label_of(name))
    parts = [weights, own.height, own.mean, own.std, transform, precision, rgb.VERSION]
    if name not in NAMED:  # the same weights mean something else to another architecture
        parts += [locate(name).arch, own.label()]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return Encoder(backbone, Pipeline(own, on_device), digest, precision)
