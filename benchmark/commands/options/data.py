"""Options that say where images lie, and which of them will do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options.values import path

PANEL = "Data"  # of --help

DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        parser=path,
        metavar="DIR",
        help="Folder of datasets.",
        show_default="FSBENCH_DATA",
        rich_help_panel=PANEL,
    ),
]
AcceptChangedData = Annotated[
    bool,
    typer.Option(
        "--accept-changed-data",
        help="Go on with data that differ from their spec; every record is marked.",
        rich_help_panel=PANEL,
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Never ask a network; what is missing is an error at once.",
        rich_help_panel=PANEL,
    ),
]
