"""The sentences that describe classes, as features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor

from benchmark.api.backbones import Backbone
from benchmark.api.images import unit


def template_mean(
    backbone: Backbone,
    class_names: Sequence[str],
    templates: Sequence[str],
    *,
    underscores: bool = False,
) -> Tensor:
    """text_KD: unit features per template, averaged over templates, at unit length again.

    Underscores in class names are read as spaces, or left where `underscores` is true.
    """
    per_template_TKD = [
        backbone.encode_texts(class_texts(class_names, template, underscores))
        for template in templates
    ]
    return unit(torch.stack(per_template_TKD).mean(0))


def sentence_features(backbone: Backbone, texts: Sequence[Sequence[str]]) -> tuple[Tensor, ...]:
    """text_TD of every class, unit length: a row per sentence."""
    return by_class(backbone.encode_texts, texts)


def class_means(text_KTD: Sequence[Tensor]) -> Tensor:
    """text_KD: the mean of every class's rows, at unit length."""
    return unit(torch.stack([text_TD.mean(0) for text_TD in text_KTD]))


def by_class(
    encode: Callable[[Sequence[str]], Tensor], texts: Sequence[Sequence[str]]
) -> tuple[Tensor, ...]:
    """All sentences encoded at once, each different one once, and given back class by class."""
    place = {text: row for row, text in enumerate(dict.fromkeys(chain.from_iterable(texts)))}
    text_ND = encode(list(place))
    return tuple(text_ND[[place[text] for text in of_class]] for of_class in texts)


def class_texts(class_names: Sequence[str], template: str, underscores: bool = False) -> list[str]:
    """The template filled with each class name, whose underscores are read as spaces, or left."""
    names = class_names if underscores else [name.replace("_", " ") for name in class_names]
    return [template.format(name) for name in names]
