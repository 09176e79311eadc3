"""Options that say where images lie, and which of them will do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options.values import path
from benchmark.errors import MISSING, UserError

PANEL = "Data"  # of --help


def _there(folder: Path | None) -> Path | None:
    if folder and not folder.is_dir():
        raise UserError(
            f"--data-root names {folder}, and there is no such folder; correct the path",
            exit_code=MISSING,
        )
    return folder


DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        parser=path,
        callback=_there,
        metavar="DIR",
        help="Folder of datasets.",
        show_default="FSBENCH_DATA",
        rich_help_panel=PANEL,
    ),
]
NewDataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        parser=path,
        metavar="DIR",
        help="Folder of datasets, made where it is not there.",
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
