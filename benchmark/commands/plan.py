"""`plan`: say what `run` would do with the same options."""

from __future__ import annotations

import typer

from benchmark.commands import options as opt
from benchmark.commands.option_fields import Flags, GridFileFlags, given, takes_fields


@takes_fields
def plan(
    context: typer.Context,
    files: GridFileFlags,
    flags: Flags,
    accept_changed_data: opt.AcceptChangedData = False,
    device: opt.Device = "auto",
    results: opt.Results = opt.DEFAULT,
    as_json: opt.Json = False,
) -> None:
    """Say what `run` would do with the same options.

    Counts the cells on record and the missing ones, and estimates how long those may take.
    """
    from benchmark.commands.grid_choice import chosen_cells
    from benchmark.commands.grid_file_selection import require_free
    from benchmark.commands.grid_run import RunRequest
    from benchmark.commands.planned_cells import print_plan
    from benchmark.records.store import Store

    request = RunRequest(
        data_root=flags.data_root,
        accept_changed_data=accept_changed_data,
        device=device,
        as_json=as_json,
    )
    if files.config:
        require_free(given(context))
    cells, request = chosen_cells(flags, files, request)
    print_plan(cells, Store(results), request)
