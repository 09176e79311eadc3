"""The stages of a cell (load, pretrain, fit, predict), as they are reported while it is
computed."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.grid import Cell

OnStage = Callable[[Cell, str], None]  # called with a cell and the stage that begins


def ignore_stage(cell: Cell, stage: str) -> None:
    """The OnStage of a caller who shows no progress."""
