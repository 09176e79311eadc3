"""`report`: tables from records, as text, as a page, or as figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import warn
from benchmark.errors import UserError

if TYPE_CHECKING:
    from benchmark.records.store import Store
    from benchmark.report.grouping import GroupedRecords
    from benchmark.report.image_results import ImageResults
    from benchmark.report.tables import ResultTable

Kind = Annotated[
    str,
    typer.Option("--table", metavar="KIND", help="dataset-shots, method-shots or method-dataset."),
]
Format = Annotated[
    str, typer.Option("--format", metavar="FORMAT", help="text, markdown, csv or latex.")
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
        "--html", parser=opt.path, metavar="DIR", help="Write a page that opens from disk instead."
    ),
]
Figures = Annotated[
    Path | None,
    typer.Option(
        "--figures", parser=opt.path, metavar="DIR", help="Draw figures as PDF and PNG instead."
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
OnlyPreset = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="released",
        help="Only rows with the settings of this preset.",
        show_default="all rows",
    ),
]
Images = Annotated[
    bool, typer.Option("--images/--no-images", help="With --html: show disputed test images.")
]


def report(
    results: opt.Results = opt.DEFAULT,
    table: Kind = "dataset-shots",
    form: Format = "text",
    method: opt.Method = opt.NOTHING,
    dataset: opt.Dataset = opt.NOTHING,
    backbone: opt.Backbone = opt.NOTHING,
    preset: OnlyPreset = "",
    protocol: opt.OfProtocol = "",
    superseded: opt.Superseded = False,
    metric: Metric = None,
    cost: Cost = False,
    calibration: Calibration = False,
    html: Html = None,
    figures: Figures = None,
    baseline: Baseline = None,
    images: Images = True,
    data_root: opt.DataRoot = None,
) -> None:
    """Print tables from the records in a folder, write them as a page, or draw figures."""
    from benchmark.records.store import Store
    from benchmark.report import grouping, record_selection

    _check(table, form, metric, cost, calibration)
    for flag, folder in (("html", html), ("figures", figures)):
        opt.require_folder(flag, folder)
    notes: list[str] = []
    store = Store(results)
    groups = grouping.group_records(
        record_selection.select_records(store, notes, method, dataset, backbone, preset, protocol),
        notes,
        superseded,
    )
    if html:
        _write_page(html, groups, store, data_root, images)
    elif figures:
        from benchmark.report import figures as drawing

        print("\n".join(map(str, drawing.write_figures(figures, groups, baseline))))
    elif cost:
        from benchmark.report.cost_tables import cost_tables

        _print_tables(cost_tables(groups), form)
    elif calibration:
        from benchmark.report.calibration import Calibrations
        from benchmark.report.calibration_tables import calibration_tables

        _print_tables(calibration_tables(groups, Calibrations(store)), form)
    else:
        from benchmark.report.image_results import ImageResults

        tables = _tables(groups, ImageResults(store, data_root), table, metric, own_h=form == "csv")
        _print_tables(tables, form)
    warn(notes)


def _check(table: str, form: str, metric: str | None, cost: bool, calibration: bool) -> None:
    """UserError for unknown names and for options of which one would be ignored."""
    from benchmark.report import averages, rendering, tables

    opt.one_of("table", table, tables.KINDS)
    opt.one_of("format", form, rendering.FORMATS)
    if metric is not None:
        opt.one_of("metric", metric, tuple(averages.METRICS))
    if cost and form == "csv":
        raise UserError("--cost has no CSV of its own; `export` writes every cost of every row")
    kinds = {"--cost": cost, "--calibration": calibration, "--metric": metric is not None}
    chosen = [flag for flag, given in kinds.items() if given]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} are tables of their own; take one of them")


def _write_page(
    folder: Path, groups: GroupedRecords, store: Store, data_root: Path | None, images: bool
) -> None:
    from benchmark.report import page

    size = page.write_page(folder, groups, store, data_root, images)
    print(f"{folder / 'index.html'}: {size / 1e6:.1f} MB without images")


def _tables(
    groups: GroupedRecords,
    images: ImageResults,
    kind: str,
    metric: str | None,
    *,
    own_h: bool,
) -> list[ResultTable]:
    """The tables of all protocols; of imbalanced support sets by class as well, unless a metric was
    asked for.
    """
    from benchmark.report import averages, protocol_tables, tables

    chosen = averages.METRICS[metric or "accuracy"]
    shown = tables.tables(groups, kind, ranked=True, images=images, metric=chosen)
    if metric is None:
        shown += tables.tables(tables.imbalanced(groups), kind, metric=averages.PER_CLASS)
    rank = tables.ranking_by(images) if chosen is averages.ACCURACY else None
    return [*shown, *protocol_tables.tables(groups, kind, rank, chosen, own_h=own_h)]


def _print_tables(tables: list[ResultTable], form: str) -> None:
    from rich.console import Console

    from benchmark.report import rendering
    from benchmark.report.text_tables import text_table

    out = Console()
    if form != "text" or not out.is_terminal:
        print(rendering.render(tables, form), end="")
        return
    for number, table in enumerate(tables):
        if number:
            out.print()
        out.print(text_table(table, out.width))
