"""The options of `export` that no other command has."""

from __future__ import annotations

from typing import Annotated

import typer

FORMATS = ("csv", "parquet")
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="csv or parquet.",
        show_default="by the ending of --output, else csv",
    ),
]
Records = Annotated[
    bool, typer.Option("--records", help="A row per record, as `load_results` gives them.")
]
PerClass = Annotated[bool, typer.Option("--per-class", help="A row per record and class.")]
Confusion = Annotated[
    bool,
    typer.Option("--confusion", help="A row per record, true class and class it was taken for."),
]

To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="PROGRAM:WHERE",
        help="Hand the records to tensorboard:FOLDER or wandb:PROJECT instead.",
        show_default="nobody",
    ),
]
Online = Annotated[
    bool, typer.Option("--online", help="With --to wandb: send them, instead of keeping them.")
]
Adapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="KEY",
        help="Write the classifier matrix of a kept adapter instead: logits = f W' + b of a unit "
        "image feature f. The ending of --output says how: .csv, .safetensors or .npz.",
        show_default=False,
    ),
]
