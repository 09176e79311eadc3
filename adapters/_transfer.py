"""fit, fit_batch and learn of the methods whose learned state can be kept.

Such a method writes what is its own, `_learn` (a state per episode, trained as a batch) and
`predictor`, and names the rest:

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

One that trains no runs as a batch leaves out `fit_batch`. One whose state belongs to the classes it
was learned on says `transfers: ClassVar[bool] = False`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from benchmark.api import Episode, Predictor, State, Target


class Learner(Protocol):
    """What a method brings."""

    def _learn(self, episodes: Sequence[Episode]) -> list[State]: ...
    def predictor(self, state: State, target: Target) -> Predictor: ...


def fit(method: Learner, episode: Episode) -> Predictor:
    """A predictor for the episode's own classes."""
    return fit_batch(method, [episode])[0]


def fit_batch(method: Learner, episodes: Sequence[Episode]) -> list[Predictor]:
    """A predictor per episode, for its own classes."""
    pairs = zip(method._learn(episodes), episodes, strict=True)
    return [method.predictor(state, episode.target) for state, episode in pairs]


def learn(method: Learner, episode: Episode) -> State:
    """The state of one episode."""
    return method._learn([episode])[0]
