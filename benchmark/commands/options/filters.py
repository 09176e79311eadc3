"""Options that say which records are shown. Lists take commas or repetition; methods that use no
images stay beside any shots, seed, sampler or validation policy.
"""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.commands.options import completion
from benchmark.commands.options.cells import PANEL, backbones
from benchmark.commands.options.values import List, numbers, words

OnlyBackbone = Annotated[List, backbones("Only numbers of these backbones.", "all, a table each")]
OnlySuite = Annotated[
    List,
    typer.Option(
        "--suite",
        autocompletion=completion.suites,
        callback=words,
        metavar="NAME,...",
        help="Only datasets of these suites.",
        rich_help_panel=PANEL,
    ),
]
OnlyShots = Annotated[
    List,
    typer.Option(
        "--shots",
        callback=numbers,
        metavar="K,...",
        help="Only these numbers of images per class, and methods that use none.",
        rich_help_panel=PANEL,
    ),
]
OnlySeed = Annotated[
    List,
    typer.Option(
        "--seed",
        callback=numbers,
        metavar="N,...",
        help="Only these seeds, and methods that use none.",
        rich_help_panel=PANEL,
    ),
]
OnlySampler = Annotated[
    str,
    typer.Option(
        "--sampler",
        metavar="RULE",
        help="Only support sets drawn by this rule.",
        show_default="all, a row each",
        rich_help_panel=PANEL,
    ),
]
OnlyVal = Annotated[
    str,
    typer.Option(
        "--val",
        metavar="POLICY",
        help="Only this policy of validation images.",
        show_default="all, a row each",
        rich_help_panel=PANEL,
    ),
]
OnlyPrecision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="Only numbers of this precision.",
        show_default="all, a table each",
        rich_help_panel=PANEL,
    ),
]
OnlyPreset = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="released",
        help="Only rows with the settings of this preset.",
        show_default="all rows",
        rich_help_panel=PANEL,
    ),
]
