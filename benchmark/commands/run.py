"""`run`: compute the cells of a grid that are not on record."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from benchmark.commands import options as opt

if TYPE_CHECKING:
    from benchmark.commands.cell_selection import Flags
    from benchmark.commands.grid_run import RunRequest
    from benchmark.grid import Cell


def run(
    method: opt.Method = opt.NOTHING,
    dataset: opt.Dataset = opt.NOTHING,
    suite: opt.Suite = opt.NOTHING,
    shots: opt.Shots = opt.NOTHING,
    seed: opt.Seed = opt.NOTHING,
    backbone: opt.Backbone = opt.NOTHING,
    val: opt.Val = "up-to-4",
    sources: opt.Sources = "default",
    source_shots: opt.SourceShots = None,
    precision: opt.Precision = "auto",
    classes: opt.Classes = "all",
    sampler: opt.Sampler = "coop",
    set_: opt.Set = opt.NOTHING,
    results: opt.Results = opt.DEFAULT,
    data_root: opt.DataRoot = None,
    accept_changed_data: opt.AcceptChangedData = False,
    device: opt.Device = "auto",
    offline: opt.Offline = False,
    force: opt.Force = False,
    executor: opt.Executor = "serial",
    address: opt.Address = None,
    gpus_per_cell: opt.GpusPerCell = None,
    shard: opt.Shard = None,
    time_limit: opt.TimeLimit = None,
    batch: opt.Batch = None,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
    plain: opt.Plain = False,
) -> None:
    """Run a grid of cells; those on record are not computed again.

    Ctrl-C loses only the cells that are running.
    """
    from benchmark.commands.cell_selection import Flags
    from benchmark.commands.executor_choice import ExecutorChoice
    from benchmark.commands.grid_run import RunRequest

    if offline:
        _go_offline()
    request = RunRequest(
        data_root=data_root,
        accept_changed_data=accept_changed_data,
        device=device,
        force=force,
        executor=ExecutorChoice(executor, address, gpus_per_cell),
        limit_s=time_limit,
        batch=batch,
        plain=plain,
        as_json=as_json,
    )
    flags = Flags(
        methods=method,
        datasets=dataset,
        suites=suite,
        shots=shots,
        seeds=seed,
        backbones=backbone,
        val=val,
        sources=sources,
        source_shots=source_shots,
        precision=precision,
        classes=classes,
        sampler=sampler,
        settings=set_,
        data_root=data_root,
    )
    if dry_run:
        return _plan(flags, request, shard, results)
    raise typer.Exit(_run(flags, request, shard, results))


def _run(flags: Flags, request: RunRequest, shard: str | None, results: Path) -> int:
    from benchmark.commands.grid_run import run_grid
    from benchmark.commands.printing import consoles
    from benchmark.records.store import Store

    cells = _cells(flags, shard)
    store = Store(results)
    store.make_ready()
    return run_grid(cells, store, request, *consoles())


def _plan(flags: Flags, request: RunRequest, shard: str | None, results: Path) -> None:
    from benchmark.commands.planned_cells import print_plan
    from benchmark.records.store import Store

    print_plan(
        _cells(flags, shard),
        Store(results),
        request.data_root,
        accept_changed_data=request.accept_changed_data,
        as_json=request.as_json,
        device=request.device,
    )


def _cells(flags: Flags, shard: str | None) -> list[Cell]:
    """The cells of one shard, after the remarks about their choice are printed."""
    from benchmark.commands.cell_selection import announce, select
    from benchmark.commands.grid_run import shard_of

    selection = select(flags)
    cells = shard_of(selection.cells, shard)
    announce(selection)
    return cells


def _go_offline() -> None:
    """Keep the hub libraries off the network; they read these variables when imported."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
