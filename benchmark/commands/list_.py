"""`list`: the methods, datasets, suites and backbones there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.options import completion
from benchmark.commands.printing import print_json


def _names(context: typer.Context, incomplete: str) -> list[str]:
    return completion.names_of(str(context.params.get("what")), incomplete)


What = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        autocompletion=completion.lists,
        help="methods, datasets, suites or backbones.",
    ),
]
Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME", autocompletion=_names, help="Show everything about this one."),
]


def list_(
    what: What, name: Name = None, data_root: opt.DataRoot = None, as_json: opt.Json = False
) -> None:
    """List what there is to choose from, or show everything about one of them."""
    if name is not None:
        return _show_one(what, name, data_root, as_json)
    from benchmark.commands import list_rows

    rows = list_rows.rows(what, data_root)
    if as_json:
        return print_json(rows)
    from benchmark.commands.row_tables import print_rows

    print_rows(rows, list_rows.COLUMNS[what])
    return None


def _show_one(what: str, name: str, data_root: Path | None, as_json: bool) -> None:
    from benchmark.commands import list_rows

    row = list_rows.row(what, name, data_root)
    if as_json:
        return print_json(row)
    from benchmark.commands.row_tables import print_details

    return print_details(row)
