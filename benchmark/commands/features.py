"""`features`: what the store of image features holds."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import print_json
from benchmark.errors import counted

Clear = Annotated[
    bool, typer.Option("--clear", help="Delete what is shown; it can be computed again.")
]
OlderThan = Annotated[
    float,
    typer.Option("--older-than", metavar="DAYS", help="Only what was written so long ago.", min=0),
]


def features(
    backbone: opt.Backbone = opt.NOTHING,
    clear: Clear = False,
    older_than: OlderThan = 0,
    as_json: opt.Json = False,
) -> None:
    """Show the stored image features, by backbone and kind of view, or clear them."""
    from benchmark.backbones import weights
    from benchmark.commands.row_tables import print_rows
    from benchmark.features import inventory
    from benchmark.paths import cache_dir

    root = cache_dir() / "features"
    backbones = [weights.canonical(name) for name in backbone]
    files = inventory.select(inventory.list_files(root), backbones, older_than)
    if clear:
        inventory.remove(root, files)
    rows = inventory.table_rows(files)
    if as_json:
        print_json(rows)
    elif rows:
        print_rows(rows, list(rows[0]))
    size_mb = sum(file.size_bytes for file in files) / 1e6
    action = "cleared from" if clear else "in"
    count = sum(file.rows for file in files)
    print(f"{counted(count, 'row')}, {size_mb:.1f} MB {action} {root}", file=sys.stderr)
