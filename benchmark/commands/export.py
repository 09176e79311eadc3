"""`export`: write the leaderboard as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import warn

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", parser=opt.path, metavar="FILE", help="Where to write.", show_default="stdout"
    ),
]


def export(
    results: opt.Results = opt.DEFAULT,
    out: Out = None,
    protocol: opt.OfProtocol = "",
    superseded: opt.Superseded = False,
) -> None:
    """Write the leaderboard as CSV, one row per method x dataset x shots x backbone x protocol."""
    from benchmark.paths import write_atomic
    from benchmark.records.store import Store
    from benchmark.report import grouping, record_selection
    from benchmark.report.calibration import Calibrations
    from benchmark.report.leaderboard import leaderboard_csv

    notes: list[str] = []
    store = Store(results)
    records = record_selection.select_records(store, notes, protocol=protocol)
    groups = grouping.group_records(records, notes, superseded)
    text = leaderboard_csv(groups, Calibrations(store))
    if out:
        write_atomic(out, text.encode())
    else:
        print(text, end="")
    warn(notes)
