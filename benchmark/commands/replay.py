"""`replay`: run the cell of a record again."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.commands import options as opt

Key = Annotated[
    str, typer.Argument(metavar="KEY", help="The key of a record, or its first digits.")
]


def replay(
    key: Key,
    results: opt.Results = opt.DEFAULT,
    data_root: opt.DataRoot = None,
    device: opt.Device = "auto",
    method: opt.Trusted = opt.NOTHING,
) -> None:
    """Run a record's cell again and say whether the counts are identical.

    Exit code 3 where they are not.
    """
    from benchmark.compute import rerun
    from benchmark.records.store import Store

    result = rerun.rerun(rerun.find(Store(results), key), data_root, device, method)
    print(rerun.text(result))
    raise typer.Exit(0 if result.identical else 3)
