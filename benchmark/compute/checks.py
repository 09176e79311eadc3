"""Whether cells can run to their end, by their methods and this machine: asked before any does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmark import methods
from benchmark.compute import devices
from benchmark.compute.executors.scheduling import Executor
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.protocols import FEW_SHOT


def check_cells(cells: Sequence[Cell], executor: Executor, device: str, *, keep: bool) -> None:
    """UserError for what could not run to its end, before any of it runs."""
    _check_methods(cells)
    if keep:
        _check_keeping(cells)
    if executor.on_this_machine:
        _check_devices(cells, device)


def _check_methods(cells: Iterable[Cell]) -> None:
    """Build every adapter that will run: parameters out of range raise their UserError before any
    work is done.
    """
    for method, params in dict.fromkeys((cell.method, cell.params) for cell in cells):
        methods.load(method, dict(params))


def _check_keeping(cells: Iterable[Cell]) -> None:
    """UserError for a method whose learnt state cannot be kept, or not under this protocol."""
    for method, params, evaluation in dict.fromkeys(
        (cell.method, cell.params, cell.evaluation) for cell in cells
    ):
        card = methods.card(method)
        if not card.keeps:
            raise UserError(
                f"{method} cannot be kept: it gives no state, only a function; leave out --keep, or"
                " give it learn and predictor as docs/own_method.md says"
            )
        if evaluation != FEW_SHOT and (bound := card.bound(dict(params))):
            raise UserError(f"{bound}, so it can be kept under --protocol {FEW_SHOT} only")


def _check_devices(cells: Iterable[Cell], device: str) -> None:
    """Ask for every device and precision that will be used, before any work is done."""
    for backbone, precision in dict.fromkeys((cell.backbone, cell.precision) for cell in cells):
        devices.require(backbone, device, precision)
