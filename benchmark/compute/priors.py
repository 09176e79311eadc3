"""What a pretraining stage leaves behind: computed once, stored with where it came from, shared by
every cell that needs it.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from benchmark.api import Adapter, Pretrainable, State
from benchmark.backbones.weights import NAMED
from benchmark.compute.episode import source_episode
from benchmark.compute.kept_states import Kept, kept
from benchmark.compute.resources import Resources
from benchmark.compute.stages import OnStage
from benchmark.grid import Cell
from benchmark.records.record import Identity
from benchmark.records.store import Store


def prior_of(
    resources: Resources,
    store: Store,
    on_stage: OnStage,
    cell: Cell,
    identity: Identity,
    adapter: Adapter,
) -> tuple[State | None, float]:
    """The prior of a cell and the seconds its pretraining took, whether it happened now or before;
    (None, 0) where there is none.
    """
    if not cell.sources or not isinstance(adapter, Pretrainable):
        return None, 0.0
    pretrain = partial(_pretrained, resources, on_stage, cell, identity, adapter)
    prior = kept(store, "priors", prior_identity(identity, adapter), pretrain)
    return prior.state, prior.seconds


def prior_identity(identity: Identity, adapter: Pretrainable) -> dict[str, Any]:
    """Everything a prior depends on: what the adapter says of itself, what it is shown, and by
    which backbone.
    """
    shared = identity.model_dump(
        include={
            "sources",
            "source_shots",
            "seed",
            "sampler",
            "weights_digest",
            "precision",
            "transform",
            "protocol",
        }
    )
    if identity.backbone not in NAMED:  # the same weights mean something else to another model
        shared["backbone"] = identity.backbone
    if identity.code:  # nobody promises that edited code says something else of its pretraining
        shared["code"] = identity.code
    return shared | {"pretraining": adapter.pretraining()}


def _pretrained(
    resources: Resources,
    on_stage: OnStage,
    cell: Cell,
    identity: Identity,
    adapter: Pretrainable,
) -> Kept:
    on_stage(cell, "pretrain")
    episodes = [
        source_episode(resources, cell, source, identity.source_shots) for source in cell.sources
    ]
    start = time.perf_counter()
    state = adapter.pretrain(episodes)
    classes = {each.dataset: len(each.class_names) for each in episodes}
    return Kept(state, time.perf_counter() - start, {"classes": classes})
