"""Options that say where and how cells run, and which of them."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.commands.options import completion

PANEL = "Where and how it runs"  # of --help

Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1; auto takes a GPU where there is one, but for the tiny backbone.",
        rich_help_panel=PANEL,
    ),
]
Executor = Annotated[
    str,
    typer.Option(
        "--executor",
        autocompletion=completion.executors,
        metavar="serial|ray",
        help="Where cells run: in this process, or in Ray's workers.",
        rich_help_panel=PANEL,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT|auto",
        help="A Ray cluster to join.",
        show_default="workers on this machine",
        rich_help_panel=PANEL,
    ),
]
GpusPerCell = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-cell",
        metavar="SHARE",
        min=0,
        help="With ray: 0.25, 1, ...",
        show_default="from earlier records",
        rich_help_panel=PANEL,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only part I of N of the grid, as in a job array.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        metavar="SECONDS",
        min=0,
        help="For one cell; then it has failed.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Batch = Annotated[
    bool | None,
    typer.Option(
        "--batch/--no-batch",
        help="Train shots and seeds in one batch wherever a method can (faster; rounding may "
        "differ), or nowhere.",
        show_default="on a GPU; of the tiny backbone the seeds",
        rich_help_panel=PANEL,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Compute again what is on record, priors and learned states included.",
        rich_help_panel=PANEL,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Say what would run, and stop: the same as `plan`.", rich_help_panel=PANEL
    ),
]
Keep = Annotated[
    bool,
    typer.Option(
        "--keep",
        help="Keep what is learnt beside each record, for `predict` and `export --adapter`.",
        rich_help_panel=PANEL,
    ),
]
