"""The toy in float64, for twins of methods that change its towers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmark import methods
from benchmark.api import Episode
from benchmark.backbones.clip import OpenClip
from benchmark.conformance import toy
from tests import features64


def adapter(name: str, **params: object) -> Any:
    """The method with these hyper-parameters, by their flat names."""
    return methods.load(name, params)


def double() -> OpenClip:
    """A private toy in float64."""
    copy = toy.backbone().copy()
    copy.model.double()
    return copy


def with_pixels(shots: int = 2) -> Episode:
    return replace(toy.episode(shots), backbone=double())


def with_features() -> Episode:
    """An episode of stored features whose text tower is the toy's."""
    given = features64.episode((2, 2, 2))
    return replace(given, backbone=double(), class_names=toy.NAMES[:3], text_KD=None)


def noise(like: Tensor, seed: int = 0, size: float = 0.1) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return size * torch.randn(like.shape, generator=rng, dtype=torch.float64)
