"""Learned once, tested on several targets.

What a method with a state free of classes (api.Transferable) has learned is kept in the store, and
becomes a predictor for any target. What another method has learned gives logits of the classes it
was learned on; a target which has some of these classes gets their columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from benchmark import methods
from benchmark.api import Adapter, ImageSet, Predictor, State, Transferable, UserError
from benchmark.compute.episode import Problem
from benchmark.compute.kept_states import Kept, kept
from benchmark.compute.timing import timed
from benchmark.grid import Cell
from benchmark.records.record import Identity
from benchmark.records.store import Store

# fields of an identity that say what is tested, on which no learned state depends
TESTED = {"dataset", "dataset_digest", "classes", "evaluation", "learned_on"}


@dataclass(frozen=True, eq=False)
class Transferred:
    """A predictor for every problem, each one's share of the seconds, and how many share them; what
    was learnt, where it serves all of them."""

    predictors: Sequence[Predictor]
    share_s: float
    shared_by: int
    state: State | None = None


def transferred(
    store: Store, adapter: Adapter, cell: Cell, identity: Identity, problems: Sequence[Problem]
) -> Transferred:
    """All problems have the same episode to learn from; `cell` and `identity` are those of one."""
    bound = methods.card(cell.method).bound(dict(cell.params))
    if bound or not isinstance(adapter, Transferable):
        return _selected(adapter, problems, bound)
    learn = partial(_learned, adapter, problems)
    made = kept(store, "states", state_identity(cell, identity), learn)
    shared_by = made.about.get("shared_by", len(problems))
    for problem in problems:
        problem.episode.notes.update(made.about.get("notes", {}))
    predictors, seconds = timed(
        lambda: [_predictor(adapter, made.state, problem) for problem in problems], problems
    )
    share_s = made.seconds / shared_by + seconds / len(problems)
    return Transferred(predictors, share_s, shared_by, made.state)


def state_identity(cell: Cell, identity: Identity) -> dict[str, Any]:
    """Everything that a learned state depends on, the code of its method included."""
    return {
        **identity.model_dump(exclude=TESTED, exclude_defaults=True),
        "learned_on": identity.learned_on or {identity.dataset: identity.dataset_digest},
        "learned_classes": cell.learned.classes,
        "learning_code": [methods.card(cell.method).source_digest, methods.training_digest()],
    }


def _learned(adapter: Transferable, problems: Sequence[Problem]) -> Kept:
    episode = problems[0].episode
    state, seconds = timed(partial(adapter.learn, episode), problems[:1])
    notes = {name: _plain(note) for name, note in episode.notes.items()}
    return Kept(state, seconds, {"notes": notes, "shared_by": len(problems)})


def _plain(note: Any) -> Any:
    return note.item() if isinstance(note, Tensor) else note


def _predictor(adapter: Transferable, state: State, problem: Problem) -> Predictor:
    device = problem.target.backbone.device
    return adapter.predictor(
        {name: part.to(device) for name, part in state.items()}, problem.target
    )


def _selected(adapter: Adapter, problems: Sequence[Problem], bound: str) -> Transferred:
    """The columns of each target's classes."""
    columns = [problem.columns for problem in problems]
    if None in columns:
        raise UserError(f"{bound}, and {problems[columns.index(None)].target.dataset} has others")
    episode = replace(problems[0].episode, notes={})  # of no single problem
    predict, seconds = timed(partial(adapter.fit, episode), problems[:1])
    for problem in problems:
        problem.episode.notes.update(episode.notes)
    predictors = [
        partial(_columns, predict, list(own or ()), episode.notes, problem.target.notes)
        for own, problem in zip(columns, problems, strict=True)
    ]
    return Transferred(predictors, seconds / len(problems), len(problems))


def _columns(
    predict: Predictor,
    columns: list[int],
    shared: dict[str, Any],
    own: dict[str, Any],
    images: ImageSet,
) -> Tensor:
    """What `predict`, which all targets share, notes goes to the target's own notes."""
    learned = dict(shared)
    logits_QK = predict(images)
    own.update(shared)
    shared.clear()
    shared.update(learned)
    return logits_QK[:, columns]
