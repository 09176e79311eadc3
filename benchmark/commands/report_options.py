"""The options of `report` alone: which tables, in what form, or a page or figures instead."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options.values import path

Kind = Annotated[
    str,
    typer.Option("--table", metavar="KIND", help="dataset-shots, method-shots or method-dataset."),
]
Format = Annotated[
    str, typer.Option("--format", metavar="FORMAT", help="text, markdown, csv or latex.")
]
TextWidth = Annotated[
    float | None,
    typer.Option(
        "--text-width",
        metavar="POINTS",
        min=100,
        help="With --format latex: \\textwidth of the paper, which no table exceeds.",
        show_default="345, of LaTeX's article class",
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="METRIC",
        help="accuracy, or per-class: the mean over classes.",
        show_default="accuracy, and per-class for imbalanced support sets",
    ),
]
Cost = Annotated[
    bool,
    typer.Option("--cost", help="Show what accuracy costs: parameters, computation, seconds."),
]
Calibration = Annotated[
    bool,
    typer.Option(
        "--calibration",
        help="Show how far confidences can be believed: ECE, accuracy at coverage.",
    ),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", parser=path, metavar="DIR", help="Write a page that opens from disk instead."
    ),
]
Figures = Annotated[
    Path | None,
    typer.Option(
        "--figures", parser=path, metavar="DIR", help="Draw figures as PDF and PNG instead."
    ),
]
FigureWidth = Annotated[
    str | None,
    typer.Option(
        "--figure-width",
        metavar="COLUMNS",
        help="With --figures: one-column (3.25 inches) or two-column (6.75) of a paper.",
        show_default="two-column",
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="METHOD",
        help="With --figures.",
        show_default="zero-shot",
    ),
]
Images = Annotated[
    bool, typer.Option("--images/--no-images", help="With --html: show disputed test images.")
]


OF_TABLES = {"table", "form", "text_width", "metric", "cost", "calibration"}  # fields of Shape


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is made of the records: tables of a kind in a form, a page, or figures."""

    table: Kind = "dataset-shots"
    form: Format = "text"
    text_width: TextWidth = None
    metric: Metric = None
    cost: Cost = False
    calibration: Calibration = False
    html: Html = None
    figures: Figures = None
    figure_width: FigureWidth = None
    baseline: Baseline = None
    images: Images = True

    @property
    def instead(self) -> str:
        """The options that stand in the place of tables."""
        pairs = {"--html": self.html, "--figures": self.figures}
        return " and ".join(flag for flag, folder in pairs.items() if folder)
