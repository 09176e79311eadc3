"""An adapter that was kept, loaded: what it says of pictures that nobody has labelled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark import methods
from benchmark.api import ImageSet, Keepable, Predictor, Target, UserError
from benchmark.backbones.weights import weights_digest
from benchmark.compute import devices
from benchmark.compute.kept_adapters import STATE, TEXT, read_tensors
from benchmark.compute.resources import Resources
from benchmark.compute.threads import as_computed
from benchmark.errors import MISSING
from benchmark.features.feature_store import Stopwatch
from benchmark.features.given_pictures import table_of, unreadable
from benchmark.features.image_sets import image_set
from benchmark.records.kept_adapters import NOTED, KeptAdapter, find, require_noted, tensor_file
from benchmark.records.record import Identity
from benchmark.records.store import Store


@dataclass(frozen=True, eq=False)
class Prediction:
    """Logits and features of the pictures that could be read, in the order given; of the others,
    why they could not."""

    paths: tuple[str, ...]  # N
    class_names: tuple[str, ...]  # K
    logits_NK: Tensor
    feature_ND: Tensor | None  # the backbone's, of unit length; None where not asked for
    unreadable: dict[str, str]  # path -> a sentence

    def most_probable(self, count: int = 1) -> tuple[Tensor, Tensor]:
        """label_NC and probability_NC (float64) of so many classes, the most probable first; of
        equal logits the first class, as in records."""
        order_NK = self.logits_NK.sort(dim=1, descending=True, stable=True).indices
        label_NC = order_NK[:, :count]
        return label_NC, self.logits_NK.double().softmax(1).gather(1, label_NC)


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter that was kept, ready to predict.

    `logits` gives logits_NK of any images (api.ImageSet), as the method scales them; `resources`
    hold its backbone, and `precision` is what that computes in.
    """

    kept: KeptAdapter
    resources: Resources
    backbone: str  # by which name the resources know it
    predictor: Predictor

    @property
    def class_names(self) -> tuple[str, ...]:
        """K, in label order."""
        return self.kept.class_names

    @property
    def precision(self) -> str:
        return self.kept.identity.precision

    def logits(self, images: ImageSet) -> Tensor:
        """logits_NK on the host. UserError where they have another shape or are not finite, or
        where the method does not understand the tensors."""
        with self.computing(), torch.no_grad(), _understood(self.kept):
            logits_NK = self.predictor(images)
            if tuple(logits_NK.shape) != (len(images), len(self.class_names)):
                raise ValueError(f"logits of the shape {tuple(logits_NK.shape)}")
            if not bool(torch.isfinite(logits_NK).all()):
                raise ValueError("logits that are not finite")
        return logits_NK.cpu()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Device, threads and arithmetic of the run that made the adapter."""
        backbone = self.resources.backbone(self.backbone, self.precision)
        with as_computed(backbone, self.precision):
            yield

    def images(self, paths: Sequence[str]) -> ImageSet:
        """Pictures by their paths as the backbone sees them: decoded, cut and encoded as in a run,
        features kept in the cache."""
        encoder = self.resources.encoder(self.backbone, self.precision)
        table = table_of(paths, self.kept.exif)
        return image_set(table, encoder, self.resources.features, Stopwatch())

    def predict(self, paths: Sequence[str], *, with_features: bool = False) -> Prediction:
        """What it says of pictures by their paths. Those that cannot be read are left out and
        named; UserError where none can be read.
        """
        bad: dict[int, str] = {}
        try:
            logits_NK, feature_ND = self._predicted(paths, with_features)
        except UserError:
            bad = dict(unreadable(table_of(paths, self.kept.exif)))
            if not bad:
                raise
            _require_some(paths, bad)
            readable = [path for i, path in enumerate(paths) if i not in bad]
            logits_NK, feature_ND = self._predicted(readable, with_features)
        return Prediction(
            paths=tuple(path for i, path in enumerate(paths) if i not in bad),
            class_names=self.class_names,
            logits_NK=logits_NK,
            feature_ND=feature_ND,
            unreadable={paths[i]: sentence for i, sentence in bad.items()},
        )

    def _predicted(self, paths: Sequence[str], with_features: bool) -> tuple[Tensor, Tensor | None]:
        images = self.images(paths)
        logits_NK = self.logits(images)
        if not with_features:
            return logits_NK, None
        with self.computing(), torch.no_grad():
            return logits_NK, images.features().cpu()


def _require_some(paths: Sequence[str], bad: dict[int, str]) -> None:
    if len(bad) == len(paths):
        first = next(iter(bad.values()))
        raise UserError(f"none of {len(paths)} pictures can be read: {first}", exit_code=MISSING)


def load_adapter(
    key: str,
    results: Path | str = "results",
    *,
    device: str = "auto",
    backbone: str = "",
    trusted: Sequence[str] = (),
) -> LoadedAdapter:
    """An adapter that `run --keep` has kept, by its record's key or the first digits of it.

    `results` is the folder of the records. `backbone` says where its weights lie, if not where the
    record's name leads; `trusted` names a method of your own that may run. Raises UserError for an
    unknown key, for tensors that were changed, and where method, weights or precision are not those
    that the adapter was learnt with.
    """
    store = Store(Path(results))
    kept = find(store, key)
    record = store.get(kept.key)
    if record and NOTED in record.provenance:
        require_noted(store, record)
    identity = kept.identity
    name = backbone or identity.backbone
    _require_same_method(identity, trusted)
    _require_same_weights(identity, name)
    devices.check_name(device)
    devices.require(name, device, identity.precision)
    tensors = read_tensors(tensor_file(store, kept.key), kept)
    resources = Resources(device=device)
    return LoadedAdapter(kept, resources, name, _predictor(kept, tensors, resources, name))


def _require_same_method(identity: Identity, trusted: Sequence[str]) -> None:
    methods.require_trusted([identity.method], trusted)
    card = methods.card(identity.method)
    again = "run its cell again with --keep"
    if card.version != identity.adapter_version:
        raise UserError(
            f"the adapter was learnt by version {identity.adapter_version} of {card.name}, and this"
            f" is version {card.version}; {again}"
        )
    if card.code != identity.code:
        raise UserError(f"the code of {card.name} is not that which learnt the adapter; {again}")


def _require_same_weights(identity: Identity, name: str) -> None:
    found = weights_digest(name)
    if found != identity.weights_digest:
        raise UserError(
            f"the adapter was learnt on the weights {identity.weights_digest[:12]} of"
            f" {identity.backbone}, and {name} has {found[:12]}; give the right ones as --backbone"
            " ARCH/path/to/file",
            exit_code=MISSING,
        )


def _predictor(
    kept: KeptAdapter, tensors: dict[str, Tensor], resources: Resources, name: str
) -> Predictor:
    identity = kept.identity
    backbone = resources.backbone(name, identity.precision)
    on_device = {each: part.to(backbone.device) for each, part in tensors.items()}
    target = Target(
        dataset=identity.dataset,
        class_names=kept.class_names,
        templates=kept.templates,
        backbone=backbone,
        seed=identity.seed,
        text_KD=on_device.pop(TEXT, None),
        underscores=identity.underscores,
        texts=kept.texts,
    )
    state = {each.removeprefix(STATE): part for each, part in on_device.items()}
    adapter: Any = methods.load(identity.method, identity.params)
    if not isinstance(adapter, Keepable):
        raise UserError(f"{identity.method} has no predictor for what it has learnt")
    with as_computed(backbone, identity.precision), torch.no_grad(), _understood(kept):
        return adapter.predictor(state, target)


@contextmanager
def _understood(kept: KeptAdapter) -> Iterator[None]:
    """UserError where a method cannot make sense of the tensors, which may be anyone's."""
    try:
        yield
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"the tensors of {kept.key} are not what {kept.identity.method} leaves"
            f" ({type(error).__name__}: {error}); run its cell again with --keep --force"
        ) from error
