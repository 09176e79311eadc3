"""The method under test, with the episodes that a check hands to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmark import methods
from benchmark.api import Episode, Labelled, Predictor, Pretrainable, State, UserError
from benchmark.conformance import toy
from benchmark.records.record import Scalar

TOLERANCE = 1e-4  # of the largest logit: batches of another size or order sum in another order

NEEDS_MORE = "built from features"  # what api.FeatureBackbone says to a method that needs a tower


class ContractViolation(Exception):
    """A clause of the contract does not hold: a sentence that ends with what to do."""


@dataclass(frozen=True)
class Subject:
    """A method at its defaults, but for what it gives as `tested_at`, and for `params`."""

    name: str
    params: Mapping[str, Scalar] = field(default_factory=dict)
    priors: dict[int, State | None] = field(default_factory=dict, repr=False)  # by shots

    def card(self) -> methods.Card:
        return methods.card(self.name)

    def settings(self) -> dict[str, Scalar]:
        """What differs from the defaults: `tested_at`, which keeps training short, and `params`."""
        tested_at = getattr(methods.load(self.name), "tested_at", {})
        return {**tested_at, **self.params}

    def adapter(self, **changes: Scalar) -> Any:
        return methods.load(self.name, {**self.settings(), **changes})

    def prior(self, shots: int) -> State | None:
        """What pretraining on two small source problems leaves; None of a method without it."""
        if shots not in self.priors:
            adapter = self.adapter()
            sources = source_episodes(shots)
            pretrains = isinstance(adapter, Pretrainable)
            self.priors[shots] = adapter.pretrain(sources) if pretrains else None
        return self.priors[shots]

    def episode(
        self,
        shots: toy.PerClass = 4,
        classes: int = 3,
        *,
        val: bool = True,
        seed: int = 1,
        primed: bool = True,
        names: tuple[str, ...] = toy.NAMES,
    ) -> Episode:
        """An episode as the harness hands it to this method: without support images to one that
        says few_shot=False, with a prior to one that pretrains.
        """
        if self.card().few_shot:
            most = shots if isinstance(shots, int) else max(shots)
            prior = self.prior(most) if primed else None
            return toy.episode(shots, classes, val=val, seed=seed, prior=prior, names=names)
        empty = Labelled(
            toy.image_set(torch.zeros(0, 3, toy.IMAGE_PX, toy.IMAGE_PX)),
            torch.zeros(0, dtype=torch.int64),
        )
        given = toy.episode(1, classes, val=False, seed=seed, names=names)
        return dataclasses.replace(given, support=empty)

    def fit(self, episode: Episode, **changes: Scalar) -> Predictor:
        predictor: Predictor = self.adapter(**changes).fit(episode)
        if not callable(predictor):
            raise ContractViolation(
                f"fit returned {type(predictor).__name__}; return a function of the images"
            )
        return predictor

    def reads_features_only(self) -> bool:
        """Whether it fits on plain features; one that needs a tower is stopped by the episode's
        backbone with a UserError.
        """
        try:
            self.fit(toy.feature_episode())
        except UserError as error:
            return NEEDS_MORE not in str(error)
        return True


def close(a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> bool:
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


def source_episodes(shots: int) -> list[Episode]:
    """Two source problems for pretraining."""
    return [toy.episode(shots, classes, val=False, seed=3) for classes in (2, 4)]


@dataclass(frozen=True)
class Check:
    """One clause of the contract and the function that tests it, which raises ContractViolation."""

    clause: str
    test: Callable[[Subject], None]
    applies: Callable[[Subject], bool] = lambda subject: True
    capability: bool = False  # the method could be better, but is not wrong


def few_shot(subject: Subject) -> bool:
    return subject.card().few_shot


def pretrains(subject: Subject) -> bool:
    return subject.card().pretrains
