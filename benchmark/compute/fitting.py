"""Runs of one method, fitted alone or in one batch, and what each one's share of the time is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from benchmark.api import Adapter, Batchable, Episode, Keepable, Predictor, State
from benchmark.compute.episode import Problem
from benchmark.compute.stages import OnStage
from benchmark.compute.timing import timed
from benchmark.compute.transfer import transferred
from benchmark.grid import Cell
from benchmark.protocols import FEW_SHOT
from benchmark.records.record import Identity
from benchmark.records.store import Store


@dataclass(frozen=True)
class CellRun:
    """A cell with all that its method is given."""

    cell: Cell
    identity: Identity
    problem: Problem
    pretrain_s: float


@dataclass(frozen=True, eq=False)
class Fitted:
    """A predictor per run, each one's share of the seconds, and how many were fitted together;
    what was learnt of each where that is to be kept."""

    predictors: Sequence[Predictor]
    fit_s: list[float]
    together: int
    states: Sequence[State] = ()


def fitted(
    store: Store, adapter: Adapter, runs: Sequence[CellRun], on_stage: OnStage, keep: bool
) -> Fitted:
    problems = [run.problem for run in runs]
    torch.manual_seed(runs[0].cell.seed)  # for plug-ins that forget episode.rng()
    if runs[0].cell.evaluation != FEW_SHOT:
        on_stage(runs[0].cell, "fit")
        made = transferred(store, adapter, runs[0].cell, runs[0].identity, problems)
        states = [made.state] * len(runs) if made.state is not None else []
        return Fitted(made.predictors, [made.share_s] * len(runs), made.shared_by, states)
    on_stage(runs[0].cell, "fit" if len(runs) == 1 else f"fit {len(runs)} runs in one batch")
    if len(runs) > 1:
        assert isinstance(adapter, Batchable), "only methods with fit_batch are given several runs"
        episodes = [problem.episode for problem in problems]
        predictors, seconds = timed(partial(adapter.fit_batch, episodes), problems)
        return Fitted(predictors, [seconds * share for share in shares(runs)], len(runs))
    if keep:
        assert isinstance(adapter, Keepable), "only methods with a state are asked to keep it"
        (predict, state), seconds = timed(partial(_in_two, adapter, problems[0].episode), problems)
        return Fitted([predict], [seconds], 1, [state])
    predict, seconds = timed(partial(adapter.fit, problems[0].episode), problems)
    return Fitted([predict], [seconds], 1)


def _in_two(adapter: Keepable, episode: Episode) -> tuple[Predictor, State]:
    """`fit` in its two steps, and what lies between them."""
    state = adapter.learn(episode)
    return adapter.predictor(state, episode.target), state


def shares(runs: Sequence[CellRun]) -> list[float]:
    """Each run's share of what a batch took: that of its training steps, else an equal one."""
    steps = [float(run.problem.episode.notes.get("steps", 0)) for run in runs]
    if not all(steps):
        return [1 / len(runs)] * len(runs)
    return [count / sum(steps) for count in steps]
