"""Options that say where images lie, and which of them will do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

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


def _data_root(help_text: str, callback: Callable[[Path | None], Path | None] | None = None) -> Any:
    return typer.Option(
        "--data-root",
        parser=path,
        callback=callback,
        metavar="DIR",
        help=help_text,
        show_default="FSBENCH_DATA",
        rich_help_panel=PANEL,
    )


DataRoot = Annotated[Path | None, _data_root("Folder of datasets.", _there)]
NewDataRoot = Annotated[Path | None, _data_root("Folder of datasets, made where it is not there.")]
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
