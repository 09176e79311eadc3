"""`plan`: say what `run` would do with the same options."""

from __future__ import annotations

from benchmark.commands import options as opt
from benchmark.commands.option_fields import Flags, takes_fields


@takes_fields
def plan(
    flags: Flags,
    results: opt.Results = opt.DEFAULT,
    accept_changed_data: opt.AcceptChangedData = False,
    device: opt.Device = "auto",
    as_json: opt.Json = False,
) -> None:
    """Say what `run` would do with the same options.

    Counts the cells on record and the missing ones, and estimates how long those may take.
    """
    from benchmark.commands.grid_run import RunRequest, chosen_cells
    from benchmark.commands.planned_cells import print_plan
    from benchmark.records.store import Store

    request = RunRequest(
        data_root=flags.data_root,
        accept_changed_data=accept_changed_data,
        device=device,
        as_json=as_json,
    )
    print_plan(chosen_cells(flags), Store(results), request)
