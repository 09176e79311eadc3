"""Options about grids that are written down."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options.values import List, path, words

PANEL = "Grids written down"  # of --help

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        parser=path,
        metavar="FILE",
        help="The cells of a grid file; options that choose cells choose among them.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
SaveConfig = Annotated[
    Path | None,
    typer.Option(
        "--save-config",
        parser=path,
        metavar="FILE",
        help="Write the chosen cells as such a file.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Trust = Annotated[
    List,
    typer.Option(
        "--trust",
        callback=words,
        metavar="NAME,...",
        help="Methods from elsewhere that a grid file names and that may run.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
