"""What a pretraining stage leaves behind: computed once, stored with where it came from, shared by
every cell that needs it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmark.api import Adapter, Pretrainable, State
from benchmark.backbones.weights import NAMED
from benchmark.compute.episode import source_episode
from benchmark.compute.resources import Resources
from benchmark.compute.stages import OnStage
from benchmark.grid import Cell
from benchmark.paths import write_atomic
from benchmark.records.record import Identity, hash_of
from benchmark.records.store import Store, save_json


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
    facts = prior_identity(identity, adapter)
    path = store.root / "priors" / f"{hash_of(facts)}.safetensors"
    with store.claim(path.stem, wait=True):
        known = _load(path)
        if known is None:
            on_stage(cell, "pretrain")
            _pretrain(resources, cell, identity, adapter, path, facts)
            known = _load(path)
        assert known, "what was just written can be read"
        return known


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
    return shared | {"pretraining": adapter.pretraining()}


def _pretrain(
    resources: Resources,
    cell: Cell,
    identity: Identity,
    adapter: Pretrainable,
    path: Path,
    facts: dict[str, Any],
) -> None:
    from safetensors.torch import save

    episodes = [
        source_episode(resources, cell, source, identity.source_shots) for source in cell.sources
    ]
    start = time.perf_counter()
    state = adapter.pretrain(episodes)
    facts = facts | {
        "seconds": time.perf_counter() - start,
        "classes": {each.dataset: len(each.class_names) for each in episodes},
    }
    save_json(path.with_suffix(".json"), facts)
    write_atomic(
        path,
        save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()},
            {"seconds": repr(facts["seconds"])},
        ),
    )


def _load(path: Path) -> tuple[State, float] | None:
    """None where the file is not there, or damaged: then it is written anew."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            seconds = float((file.metadata() or {})["seconds"])
            return {name: file.get_tensor(name) for name in names}, seconds
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None
