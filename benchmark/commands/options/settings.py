"""Options that say how a cell is made: its settings, and what it is given."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.commands.options import completion
from benchmark.commands.options.values import List, source_shots, words

PANEL = "How a cell is made"  # of --help

Set = Annotated[
    List,
    typer.Option(
        "--set",
        autocompletion=completion.settings,
        metavar="[METHOD.]KEY=VALUE",
        help="A hyper-parameter, of every chosen method or of one. Repeat for more. Several values "
        "(lr=0.001,0.002) are a row each; in a text a comma is a comma.",
        rich_help_panel=PANEL,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        "--preset",
        autocompletion=completion.presets,
        metavar="released",
        help="Each method with the settings of its released code. Where that selects on the test "
        "set, rows are diagnostics.",
        show_default="one setting for all datasets",
        rich_help_panel=PANEL,
    ),
]
Val = Annotated[
    str,
    typer.Option(
        "--val",
        autocompletion=completion.val_policies,
        metavar="up-to-4|none",
        help="Validation images: min(shots, 4) per class, or none.",
        rich_help_panel=PANEL,
    ),
]
Sampler = Annotated[
    str,
    typer.Option(
        "--sampler",
        autocompletion=completion.samplers,
        metavar="RULE",
        help="How the support set is drawn: coop, nested; coop-short: a class with fewer images "
        "than shots gives all it has; relaxed or realistic: in proportion to the training pool.",
        rich_help_panel=PANEL,
    ),
]
Texts = Annotated[
    List,
    typer.Option(
        "--texts",
        callback=words,
        metavar="SET,...",
        help="The sentences that describe a class: hand (the dataset's own templates), tiny (ours, "
        "for the embedded suite), a JSON or TOML file of sentences by class name, as CuPL's, or "
        "hand+SET for both.",
        show_default="hand",
        rich_help_panel=PANEL,
    ),
]
Classes = Annotated[
    str,
    typer.Option(
        "--classes",
        autocompletion=completion.classes,
        metavar="all|base|new",
        help="Learn and test on all classes, on the first half, or on the second. What is learned "
        "on the first half is tested on the second by --protocol base-to-new.",
        rich_help_panel=PANEL,
    ),
]
Sources = Annotated[
    str,
    typer.Option(
        "--sources",
        metavar="POLICY",
        help="What priors see: default, others, all, none, or datasets by name.",
        rich_help_panel=PANEL,
    ),
]
SourceShots = Annotated[
    int | None,
    typer.Option(
        "--source-shots",
        metavar="NUMBER",
        callback=source_shots,
        help="Images per class of each source: 0 as many as the cell, -1 full training sets.",
        show_default="each method's own",
        rich_help_panel=PANEL,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        autocompletion=completion.precisions,
        metavar="NAME",
        help="Of the frozen backbone: float64, float32, tf32, bfloat16, float16; auto is float64 "
        "for tiny, float32 on a CPU, float16 on a GPU.",
        rich_help_panel=PANEL,
    ),
]
