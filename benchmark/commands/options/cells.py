"""Options that say which cells are meant. Lists take commas or repetition."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from benchmark.commands.options import completion
from benchmark.commands.options.values import List, known_protocol, numbers, words
from benchmark.protocols import PROTOCOLS

PANEL = "Which cells"  # of --help

Method = Annotated[
    List,
    typer.Option(
        "--method",
        "-m",
        autocompletion=completion.methods,
        callback=words,
        metavar="NAME,...",
        help="Methods: names of `list methods`, dotted modules, or plug-ins.",
        rich_help_panel=PANEL,
    ),
]
Trusted = Annotated[
    List,
    typer.Option(
        "--method",
        "-m",
        autocompletion=completion.methods,
        callback=words,
        metavar="NAME,...",
        help="A plug-in that may run.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Dataset = Annotated[
    List,
    typer.Option(
        "--dataset",
        "-d",
        autocompletion=completion.datasets,
        callback=words,
        metavar="NAME,...",
        help="Datasets: names of `list datasets`, or TOML files.",
        rich_help_panel=PANEL,
    ),
]
Suite = Annotated[
    List,
    typer.Option(
        "--suite",
        autocompletion=completion.suites,
        callback=words,
        metavar="NAME,...",
        help="Suites: what of them is prepared.",
        rich_help_panel=PANEL,
    ),
]
Protocol = Annotated[
    str,
    typer.Option(
        "--protocol",
        autocompletion=completion.protocols,
        metavar="NAME",
        help="few-shot; base-to-new (learn on the first half of the classes, test on both); "
        "cross-dataset or domain (learn on one dataset, test on others or on shifted variants).",
        rich_help_panel=PANEL,
    ),
]
OfProtocol = Annotated[
    str,
    typer.Option(
        "--protocol",
        autocompletion=completion.protocols,
        metavar="NAME",
        callback=known_protocol,
        help=f"Only records of {', '.join(PROTOCOLS)}.",
        show_default="all, each by itself",
        rich_help_panel=PANEL,
    ),
]
LearnFrom = Annotated[
    str | None,
    typer.Option(
        "--learn-from",
        autocompletion=completion.datasets,
        metavar="NAME",
        help="The dataset that cross-dataset and domain learn on.",
        show_default="imagenet; of the embedded suite tiny_shapes",
        rich_help_panel=PANEL,
    ),
]
Shots = Annotated[
    List,
    typer.Option(
        "--shots",
        callback=numbers,
        metavar="K,...",
        help="Images per class, also a range: 1-4.",
        show_default="1,2,4,8,16; of protocols other than few-shot 16",
        rich_help_panel=PANEL,
    ),
]
Seed = Annotated[
    List,
    typer.Option(
        "--seed",
        callback=numbers,
        metavar="N,...",
        help="Seeds, also a range: 1-10.",
        show_default="1,2,3",
        rich_help_panel=PANEL,
    ),
]


def backbones(help_text: str, default: str) -> Any:
    """An option that takes backbones, to choose cells or records."""
    return typer.Option(
        "--backbone",
        "-b",
        autocompletion=completion.backbones,
        callback=words,
        metavar="NAME,...",
        help=help_text,
        show_default=default,
        rich_help_panel=PANEL,
    )


Backbone = Annotated[List, backbones("tiny, ViT-B/16, or ARCH/TAG.", "by suite")]
