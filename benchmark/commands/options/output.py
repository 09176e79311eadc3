"""Options that say where records lie and how results are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options.values import path

PANEL = "Results and output"  # of --help

Results = Annotated[
    Path,
    typer.Option(
        "--results", parser=path, metavar="DIR", help="Folder of records.", rich_help_panel=PANEL
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        *("--output", "--out"),
        parser=path,
        metavar="FILE",
        help="Where to write.",
        show_default="stdout",
    ),
]
Superseded = Annotated[
    bool,
    typer.Option(
        "--superseded", help="Include records of older adapter versions.", rich_help_panel=PANEL
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Machine output on stdout; everything else goes to stderr.",
        rich_help_panel=PANEL,
    ),
]
Plain = Annotated[
    bool,
    typer.Option(
        "--plain",
        help="Lines instead of a live view (by itself without a terminal, or with CI=1).",
        rich_help_panel=PANEL,
    ),
]
