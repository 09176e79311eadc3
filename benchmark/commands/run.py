"""`run`: compute the cells of a grid that are not on record."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from benchmark.commands import options as opt
from benchmark.commands.option_fields import Flags, GridFileFlags, given, takes_fields

if TYPE_CHECKING:
    from benchmark.commands.grid_run import RunRequest


@takes_fields
def run(
    context: typer.Context,
    files: GridFileFlags,
    flags: Flags,
    accept_changed_data: opt.AcceptChangedData = False,
    offline: opt.Offline = False,
    device: opt.Device = "auto",
    executor: opt.Executor = "serial",
    address: opt.Address = None,
    gpus_per_cell: opt.GpusPerCell = None,
    shard: opt.Shard = None,
    time_limit: opt.TimeLimit = None,
    batch: opt.Batch = None,
    force: opt.Force = False,
    keep: opt.Keep = False,
    dry_run: opt.DryRun = False,
    results: opt.Results = opt.DEFAULT,
    as_json: opt.Json = False,
    plain: opt.Plain = False,
) -> None:
    """Run a grid of cells; those on record are not computed again.

    Ctrl-C loses only the cells that are running.
    """
    from benchmark.commands.executor_choice import ExecutorChoice
    from benchmark.commands.grid_file_selection import require_free
    from benchmark.commands.grid_run import RunRequest

    if files.config:
        require_free(given(context))
    if offline:
        _go_offline()
    request = RunRequest(
        data_root=flags.data_root,
        accept_changed_data=accept_changed_data,
        device=device,
        force=force,
        keep=keep,
        executor=ExecutorChoice(executor, address, gpus_per_cell),
        limit_s=time_limit,
        batch=batch,
        plain=plain,
        as_json=as_json,
    )
    raise typer.Exit(_run(flags, files, request, shard, results, dry_run))


def _run(
    flags: Flags,
    files: GridFileFlags,
    request: RunRequest,
    shard: str | None,
    results: Path,
    dry_run: bool,
) -> int:
    """Run or plan the cells of one shard; the exit code."""
    from benchmark.commands.grid_choice import chosen_cells
    from benchmark.commands.grid_run import run_grid
    from benchmark.commands.planned_cells import print_plan
    from benchmark.commands.printing import consoles
    from benchmark.records.store import Store

    store = Store(results)
    cells, request = chosen_cells(flags, files, request, shard)
    if dry_run:
        print_plan(cells, store, request)
        return 0
    return run_grid(cells, store, request, *consoles())


def _go_offline() -> None:
    """Keep the hub libraries off the network; they read these variables when imported."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
