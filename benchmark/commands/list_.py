"""`list`: the methods, datasets, suites and backbones there are."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import print_json

What = Annotated[str, typer.Argument(metavar="methods|datasets|suites|backbones")]


def list_(what: What, data_root: opt.DataRoot = None, as_json: opt.Json = False) -> None:
    """List what there is to choose from."""
    from benchmark.commands import list_rows

    rows = list_rows.rows(what, data_root)
    if as_json:
        print_json(rows)
    else:
        print(list_rows.text(rows))
