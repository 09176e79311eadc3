"""Tensors that took long to compute: made once, stored with what they depend on, and found again.

DIR/<folder>/<hash>.safetensors, with a JSON beside it that says what the hash is of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark.api import State
from benchmark.paths import write_atomic
from benchmark.records.record import hash_of
from benchmark.records.store import Store, save_json


@dataclass(frozen=True, eq=False)
class Kept:
    """A state, the seconds that it took, what else is to be known of it, as JSON, and the forced
    run that made it, if one did.
    """

    state: State
    seconds: float
    about: Mapping[str, Any] = field(default_factory=dict)
    forced_run: str = ""


def kept(store: Store, folder: str, facts: dict[str, Any], make: Callable[[], Kept]) -> Kept:
    """What was made of these facts before, or now, by one process at a time.

    A forced run takes what it has made itself.
    """
    path = store.root / folder / f"{hash_of(facts)}.safetensors"
    with store.claim(path.stem, wait=True):
        known = load(path)
        if known is None or (store.forced_run and known.forced_run != store.forced_run):
            _save(path, replace(make(), forced_run=store.forced_run), facts)
            known = load(path)
        assert known, "what was just written can be read"
        return known


def _save(path: Path, made: Kept, facts: dict[str, Any]) -> None:
    from safetensors.torch import save

    save_json(path.with_suffix(".json"), {**facts, **made.about, "seconds": made.seconds})
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in made.state.items()}
    metadata = {
        "seconds": repr(made.seconds),
        "about": json.dumps(dict(made.about)),
        "forced_run": made.forced_run,
    }
    write_atomic(path, save(tensors, metadata))


def load(path: Path) -> Kept | None:
    """None where the file is not there, or damaged: then it is written anew."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            state = {name: file.get_tensor(name) for name in names}
            about = json.loads(metadata.get("about", "{}"))
            forced_run = metadata.get("forced_run", "")
            return Kept(state, float(metadata["seconds"]), about, forced_run)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None
