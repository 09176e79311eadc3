"""Whole cells, alone and in batches of runs, on pictures that are on the device already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from benches.gpu.setting import SEEDS, Row, Size, backbone, episode, settled_s
from benchmark import methods
from benchmark.api import Episode
from benchmark.compute.power import metered
from benchmark.errors import UserError


def whole_cells(size: Size) -> Iterator[Row]:
    """Seconds to fit one cell of each kind, alone."""
    given = backbone(size.device, size.precision)
    for method, shots, parameters in size.cells:
        one = episode(given, size.cell_classes, shots, 1)
        row: Row = {"method": method, "shots": shots, "fit, s": "", "steps": "", "final loss": ""}
        yield row | _fitted(method, parameters, [one], size.device)


def batches(size: Size) -> Iterator[Row]:
    """Batches of runs, and the share of the clock in which the GPU had work by its own counter:
    shots and three seeds of a method together."""
    given = backbone(size.device, size.precision)
    for method, shots, parameters in size.batches:
        episodes = [
            episode(given, size.cell_classes, each, seed) for each in shots for seed in range(SEEDS)
        ]
        of = ", ".join(map(str, shots))
        row: Row = {"method": method, "shots": of, "runs": len(episodes), "GPU busy": ""}
        with metered(size.device) as used:
            row |= _fitted(method, parameters, episodes, size.device)
        yield row | {"GPU busy": "" if used().gpu_use is None else used().gpu_use}


def _fitted(
    method: str, parameters: dict[str, Any], episodes: Sequence[Episode], device: str
) -> Row:
    adapter = methods.load(method, parameters)
    fit = getattr(adapter, "fit_batch", lambda each: [adapter.fit(one) for one in each])
    try:
        seconds = settled_s(partial(fit, episodes), device)
    except UserError as error:
        return {"failed": str(error)}
    steps = sum(one.notes.get("steps", 0) for one in episodes)
    loss = episodes[0].notes.get("final_loss", "")
    return {"fit, s": seconds, "steps": steps, "final loss": loss}
