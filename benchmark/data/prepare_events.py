"""Requests to prepare a dataset, and the events that report progress: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.data.http_download import DEFAULT_RETRIES, RetryPolicy
from benchmark.data.specs import Spec
from benchmark.errors import UserError

Step = Literal["download", "unpack", "read", "verify", "adopted", "note", "ready", "failed"]


@dataclass(frozen=True)
class PrepareEvent:
    """What just happened to a dataset.

    `done` of `total` counts bytes while downloading or unpacking, images while reading or
    verifying.
    """

    dataset: str
    step: Step
    text: str = ""
    done: int = 0
    total: int | None = None
    error: UserError | None = None  # with step "failed"; the other datasets go on


@dataclass(frozen=True)
class PrepareRequest:
    """One dataset to prepare and how."""

    spec: Spec
    root: Path
    licence_accepted: bool
    source: str | None = None
    adopt_from: Path | None = None
    verify: bool = False
    offline: bool = False
    retries: RetryPolicy = DEFAULT_RETRIES

    @property
    def name(self) -> str:
        return self.spec.name
