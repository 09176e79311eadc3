"""What a result is: the identity of a cell, counts, costs, notes, provenance. One small JSON each, named by its identity's hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Scalar = str | int | float | bool | None


class Identity(BaseModel):
    """Everything that may change the number, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    adapter_version: int
    params: dict[str, Scalar]  # every hyper-parameter, defaults written out
    dataset: str
    dataset_digest: str
    classes: str  # "all", "base" or "new"
    shots: int  # images per class; 0 for a method that never looks at the support set
    seed: int
    sampler: str  # which rule draws the support set: "coop" or "nested"
    val: str  # "min4": min(shots, 4) validation images per class; "none"
    sources: dict[str, str]  # dataset name -> digest of every dataset a prior has seen
    source_shots: int  # shots per class shown to the prior; -1 for full training sets
    backbone: str
    weights_digest: str
    transform: str  # version of the image pipeline, Pillow's resize order included
    protocol: int  # raised when the harness's own rules change numbers


class Counts(BaseModel):
    """Test images, per class in label order; accuracy is computed at report time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    correct: list[int]
    total: list[int]


class Costs(BaseModel):
    """Seconds of each stage, apart. `encode_s` is what encoding the features used takes, whether or not they were stored already."""

    model_config = ConfigDict(frozen=True)

    encode_s: float
    pretrain_s: float
    fit_s: float
    predict_s: float
    peak_mb: float
    trainable_params: int
    added_macs: int | None = None  # per image at prediction, beyond the frozen image encoder (benchmark/costs.py)
    images_per_s: float | None = None  # at prediction, encoding included
    together: int = 1  # runs trained at once; `fit_s` is each one's share, `peak_mb` that of all
    energy_j: float | None = None  # of the whole GPU while fitting and predicting, features encoded on the way included (power.py)
    gpu_use: float | None = None  # mean share of that time in which the GPU had work, in [0, 1]


class Record(BaseModel):
    """One finished cell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    key: str
    identity: Identity
    counts: Counts
    costs: Costs
    notes: dict[str, Scalar]
    provenance: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy over the whole test list, in [0, 1]."""
        return sum(self.counts.correct) / max(1, sum(self.counts.total))


def hash_of(identity: dict[str, Any]) -> str:
    """The first 12 hex digits of the sha256 of the canonical JSON."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def key(identity: Identity) -> str:
    return hash_of(identity.model_dump())
