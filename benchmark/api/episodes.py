"""What a method learns from, and the classes it is asked to tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from benchmark.api.backbones import Backbone, FeatureBackbone
from benchmark.api.images import ImageSet, Labelled, unit
from benchmark.api.texts import (
    by_class,
    class_means,
    class_texts,
    sentence_features,
    template_mean,
)
from benchmark.errors import UserError

# What pretraining or learning leaves behind.
State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Target:
    """Classes to tell apart, of which no image is known: an episode without its support set."""

    dataset: str
    class_names: tuple[str, ...]  # K, in label order
    templates: tuple[str, ...]
    backbone: Backbone
    seed: int
    text_KD: Tensor | None = None  # the zero-shot classifier where it is already known
    underscores: bool = False  # of class names are left in texts; else they are read as spaces
    texts: tuple[tuple[str, ...], ...] = ()  # of every class, in place of the filled templates
    text_KTD: tuple[Tensor, ...] | None = None  # what `sentence_features` gives, where known
    # Scalars that a predictor wants in the record, of an episode's own classes the episode's.
    notes: dict[str, Any] = field(default_factory=dict)

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        """The texts of every class: its own, or the templates filled with its name."""
        if self.texts:
            return self.texts
        by_template = [
            class_texts(self.class_names, template, self.underscores) for template in self.templates
        ]
        return tuple(zip(*by_template, strict=True))

    def sentence_features(self) -> tuple[Tensor, ...]:
        """text_TD of every class, unit length: a row per sentence, of which classes may have
        different numbers. Where only features are known, a class's text feature is its one row.
        """
        if self.text_KTD is not None:
            return self.text_KTD
        if isinstance(self.backbone, FeatureBackbone):
            return tuple(self.text_features()[:, None])
        return sentence_features(self.backbone, self.sentences())

    def text_features(self) -> Tensor:
        """Zero-shot classifier text_KD: every sentence's feature normalised, averaged over those of
        a class, normalised again.
        """
        if self.text_KD is not None:
            return self.text_KD
        if self.texts:
            return class_means(self.sentence_features())
        return template_mean(
            self.backbone, self.class_names, self.templates, underscores=self.underscores
        )


@dataclass(frozen=True, eq=False)
class Episode:
    """Everything an adapter may know about one few-shot problem."""

    dataset: str
    class_names: tuple[str, ...]  # K, in label order; not always unique (ImageNet's are not)
    templates: tuple[str, ...]
    support: Labelled
    val: Labelled | None  # None unless the cell grants one
    backbone: Backbone
    seed: int
    prior: State | None = None
    text_KD: Tensor | None = None  # the zero-shot classifier where it is already known
    underscores: bool = False  # of class names are left in texts; else they are read as spaces
    texts: tuple[tuple[str, ...], ...] = ()  # of every class, in place of the filled templates
    text_KTD: tuple[Tensor, ...] | None = None  # what `sentence_features` gives, where known
    # A labelled set that released code selects on beside its validation set. None but under a
    # preset that says so: then it is the test set, and the record is marked as a diagnostic.
    selection: Labelled | None = None
    # Scalars that an adapter wants in the record: trainable_params, alpha, ...
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """The episode's own classes, as a predictor is made for them."""
        return Target(
            self.dataset,
            self.class_names,
            self.templates,
            self.backbone,
            self.seed,
            self.text_KD,
            self.underscores,
            self.texts,
            self.text_KTD,
            self.notes,
        )

    def text_features(self) -> Tensor:
        """Zero-shot classifier text_KD; see `Target.text_features`."""
        return self.target.text_features()

    def sentence_features(self) -> tuple[Tensor, ...]:
        """text_TD of every class; see `Target.sentence_features`."""
        return self.target.sentence_features()

    @property
    def shots(self) -> int:
        """Support images per class: their mean where classes differ, rounded, 1 at least."""
        return max(1, round(len(self.support) / len(self.class_names)))

    def text_lengths(self) -> Tensor:
        """length_K: how long each class's text feature is before it is brought to unit length, of
        several sentences that of their mean; 1 where only features are known.
        """
        if isinstance(self.backbone, FeatureBackbone):
            return self.text_features().new_ones(len(self.class_names))
        if self.texts:
            parts = by_class(self.backbone.raw_texts, self.texts)
            return torch.stack([text_TD.mean(0) for text_TD in parts]).norm(dim=-1)
        per_template_TKD = [
            self.backbone.raw_texts(class_texts(self.class_names, template, self.underscores))
            for template in self.templates
        ]
        return torch.stack(per_template_TKD).mean(0).norm(dim=-1)

    def rng(self) -> Generator:
        """A fresh CPU generator at the episode's seed: the source of initial values, batch order
        and augmentation.
        """
        return torch.Generator().manual_seed(self.seed)

    @staticmethod
    def from_features(
        *,
        class_names: Sequence[str],
        text_KD: Tensor,
        support_ND: Tensor,
        support_labels_N: Tensor,
        val_ND: Tensor | None = None,
        val_labels_N: Tensor | None = None,
        logit_scale: float = 100.0,
        seed: int = 1,
    ) -> Episode:
        """An episode from plain tensors, for people with features of their own: every feature-only
        adapter fits on it.

        `text_KD` (K x D), `support_ND` and `val_ND` (N x D) are brought to unit length; labels are
        integers in [0, K). Raises UserError where shapes or labels do not fit together.
        """
        size = (len(class_names), text_KD.shape[-1])
        support = _labelled("support", support_ND, support_labels_N, *size)
        val = None if val_ND is None else _labelled("val", val_ND, val_labels_N, *size)
        if tuple(text_KD.shape) != size:
            raise UserError(
                f"text_KD has shape {tuple(text_KD.shape)},"
                f" but {size[0]} class names need {size[0]} rows"
            )
        image_ND = support.images.features()
        backbone = FeatureBackbone(size[1], float(logit_scale), image_ND.device, image_ND.dtype)
        text_KD = unit(text_KD.detach()).to(image_ND.dtype)
        return Episode(
            "features", tuple(class_names), ("{}",), support, val, backbone, seed, text_KD=text_KD
        )


def _labelled(
    what: str, image_ND: Tensor, labels_N: Tensor | None, classes: int, dim: int
) -> Labelled:
    if labels_N is None or image_ND.ndim != 2 or tuple(labels_N.shape) != (len(image_ND),):
        raise UserError(
            f"{what} needs features of shape (N, D) and N labels;"
            f" got {tuple(image_ND.shape)} features"
        )
    if image_ND.shape[1] != dim:
        raise UserError(
            f"{what} features have width {image_ND.shape[1]} but text features {dim};"
            " use the same backbone for both"
        )
    if labels_N.is_floating_point() or (
        len(labels_N) and not 0 <= int(labels_N.min()) <= int(labels_N.max()) < classes
    ):
        raise UserError(
            f"{what} labels must be integers in [0, {classes}); check the order of class_names"
        )
    return Labelled(ImageSet.from_features(image_ND), labels_N.to(image_ND.device, torch.int64))
