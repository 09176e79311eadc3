"""`plan`: say what `run` would do with the same options."""

from __future__ import annotations

from benchmark.commands import options as opt


def plan(
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
    as_json: opt.Json = False,
) -> None:
    """Say what `run` would do with the same options.

    Counts the cells on record and the missing ones, and estimates how long those may take.
    """
    from benchmark.commands.cell_selection import Flags, announce, select
    from benchmark.commands.planned_cells import print_plan
    from benchmark.records.store import Store

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
    selection = select(flags)
    announce(selection)
    print_plan(
        selection.cells,
        Store(results),
        data_root,
        accept_changed_data=accept_changed_data,
        as_json=as_json,
        device=device,
    )
