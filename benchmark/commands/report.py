"""`report`: tables from records, as text, as a page, or as figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.commands import options as opt
from benchmark.commands import report_options as own
from benchmark.commands.printing import print_tables, warn
from benchmark.errors import UserError

if TYPE_CHECKING:
    from benchmark.records.store import Store
    from benchmark.report.grouping import GroupedRecords
    from benchmark.report.image_results import ImageResults
    from benchmark.report.result_table import ResultTable


def report(
    results: opt.Results = opt.DEFAULT,
    table: own.Kind = "dataset-shots",
    form: own.Format = "text",
    method: opt.Method = opt.NOTHING,
    dataset: opt.Dataset = opt.NOTHING,
    backbone: opt.Backbone = opt.NOTHING,
    suite: opt.OnlySuite = opt.NOTHING,
    shots: opt.OnlyShots = opt.NOTHING,
    seed: opt.OnlySeed = opt.NOTHING,
    preset: opt.OnlyPreset = "",
    protocol: opt.OfProtocol = "",
    sampler: opt.OnlySampler = "",
    val: opt.OnlyVal = "",
    precision: opt.OnlyPrecision = "",
    superseded: opt.Superseded = False,
    text_width: own.TextWidth = None,
    metric: own.Metric = None,
    cost: own.Cost = False,
    calibration: own.Calibration = False,
    html: own.Html = None,
    figures: own.Figures = None,
    figure_width: own.FigureWidth = None,
    baseline: own.Baseline = None,
    images: own.Images = True,
    data_root: opt.DataRoot = None,
) -> None:
    """Print tables from the records in a folder, write them as a page, or draw figures."""
    from benchmark.records.store import Store
    from benchmark.report import grouping, record_selection

    _check(table, form, metric, cost, calibration)
    if figure_width is not None:
        opt.one_of("figure-width", figure_width, own.FIGURE_WIDTHS)
    _check_company("--text-width", text_width, "--format latex", form == "latex")
    _check_company("--figure-width", figure_width, "--figures", figures)
    _check_company("--baseline", baseline, "--figures", figures)
    for flag, folder in (("html", html), ("figures", figures)):
        opt.require_folder(flag, folder)
    notes: list[str] = []
    store = Store(results)
    records = record_selection.select_records(
        *(store, notes, method, dataset, backbone, preset, protocol),
        suites=suite,
        precision=precision,
        shots=opt.whole_numbers("shots", shots),
        seeds=opt.whole_numbers("seed", seed),
        sampler=sampler,
        val=val,
    )
    groups = grouping.group_records(records, notes, superseded)
    if html:
        _write_page(html, groups, store, data_root, images)
    elif figures:
        from benchmark.report.figures import write_figures

        width = figure_width or own.FIGURE_WIDTHS[-1]
        print("\n".join(map(str, write_figures(figures, groups, baseline, width, notes))))
    elif cost:
        from benchmark.report.cost_tables import cost_tables

        _print_tables(cost_tables(groups), form, text_width)
    elif calibration:
        from benchmark.report.calibration import Calibrations
        from benchmark.report.calibration_tables import calibration_tables

        _print_tables(calibration_tables(groups, Calibrations(store)), form, text_width)
    else:
        from benchmark.report.image_results import ImageResults

        tables = _tables(groups, ImageResults(store, data_root), table, metric, own_h=form == "csv")
        _print_tables(tables, form, text_width)
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


def _check_company(flag: str, given: object, other: str, chosen: object) -> None:
    """UserError for an option that says nothing without another one."""
    if given is not None and not chosen:
        raise UserError(f"{flag} goes with {other}; add that, or leave {flag} out")


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


def _print_tables(tables: list[ResultTable], form: str, text_width: float | None) -> None:
    from rich.console import Console

    from benchmark.report import latex_tables, rendering

    if form == "text":
        print_tables(tables, Console())
    else:
        width = text_width or latex_tables.TEXT_WIDTH
        print(rendering.render(tables, form, width), end="")
