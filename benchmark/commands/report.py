"""`report`: tables from records as text, or a page and figures instead."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from benchmark.commands import options as opt
from benchmark.commands import report_options as own
from benchmark.commands.option_fields import (
    RecordFilters,
    refuse_ignored,
    refuse_trust_alone,
    takes_fields,
)
from benchmark.commands.printing import print_tables, warn
from benchmark.errors import UserError

if TYPE_CHECKING:
    from benchmark.report.grouping import GroupedRecords
    from benchmark.report.image_results import ImageResults
    from benchmark.report.result_table import ResultTable


@takes_fields
def report(
    context: typer.Context,
    filters: RecordFilters,
    shape: own.Shape,
    results: opt.Results = opt.DEFAULT,
    superseded: opt.Superseded = False,
    data_root: opt.DataRoot = None,
) -> None:
    """Print tables from the records in a folder, write them as a page, or draw figures."""
    from benchmark.commands.record_choice import chosen_records, files_of_datasets, named_files
    from benchmark.records.index import without_collection
    from benchmark.records.store import Store
    from benchmark.report import edited_methods, grouping
    from benchmark.report.image_results import ImageResults

    _check(shape)
    _refuse_ignored(context, shape, filters)
    notes: list[str] = []
    store = Store(results)
    groups = grouping.group_records(chosen_records(store, filters, notes), notes, superseded)
    groups = edited_methods.with_edited_files(groups, named_files(filters))
    if shape.instead:  # nothing else says it there
        said = (edited_methods.notes_of_edited(variants) for variants in groups.values())
        notes += dict.fromkeys(note for of_setting in said for note in of_setting)
    images = ImageResults(store, data_root, files_of_datasets(filters))
    if shape.html:
        _write_page(shape.html, groups, images, shape.images)
    if shape.figures:
        _write_figures(shape.figures, groups, shape, notes)
    if not shape.instead:
        with without_collection():
            tables = list(_tables(groups, shape, images))
            _print_tables(tables, shape.form, shape.text_width)
    warn(notes)


def _check(shape: own.Shape) -> None:
    """UserError for unknown names, files in place of folders, and two tables at once."""
    from benchmark.report import averages, figure_style, rendering, tables

    opt.one_of("table", shape.table, tables.KINDS)
    opt.one_of("format", shape.form, rendering.FORMATS)
    if shape.metric is not None:
        opt.one_of("metric", shape.metric, tuple(averages.METRICS))
    if shape.figure_width is not None:
        opt.one_of("figure-width", shape.figure_width, tuple(figure_style.WIDTHS))
    if shape.cost and shape.form == "csv":
        raise UserError("--cost has no CSV of its own; `export` writes every cost of every row")
    kinds = {"--cost": shape.cost, "--calibration": shape.calibration}
    kinds |= {"--metric": shape.metric is not None}
    chosen = [flag for flag, given in kinds.items() if given]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} are tables of their own; take one of them")
    opt.require_folder("html", shape.html)
    opt.require_folder("figures", shape.figures)


def _refuse_ignored(context: typer.Context, shape: own.Shape, filters: RecordFilters) -> None:
    """UserError for options on the command line that would change nothing."""
    if shape.instead:
        refuse_ignored(context, own.OF_TABLES, beside=shape.instead)
    elif shape.cost or shape.calibration:
        flag = "--cost" if shape.cost else "--calibration"
        refuse_ignored(context, {"table"}, beside=flag)
    if shape.form != "latex":
        refuse_ignored(context, {"text_width"}, without="--format latex")
    if not shape.figures:
        refuse_ignored(context, {"figure_width", "baseline"}, without="--figures")
    if not shape.html:
        refuse_ignored(context, {"images"}, without="--html")
    refuse_trust_alone(context, filters.config)


def _write_page(folder: Path, groups: GroupedRecords, images: ImageResults, pictures: bool) -> None:
    from benchmark.report import page

    size = page.write_page(folder, groups, images, pictures)
    print(f"{folder / 'index.html'}: {size / 1e6:.1f} MB without images")


def _write_figures(
    folder: Path, groups: GroupedRecords, shape: own.Shape, notes: list[str]
) -> None:
    from benchmark.report import figure_style
    from benchmark.report.figures import write_figures

    width = shape.figure_width or figure_style.USUAL_WIDTH
    print("\n".join(map(str, write_figures(folder, groups, shape.baseline, width, notes))))


def _tables(
    groups: GroupedRecords, shape: own.Shape, images: ImageResults
) -> Iterable[ResultTable]:
    """The tables that were asked for."""
    if shape.cost:
        from benchmark.report.cost_tables import cost_tables

        return cost_tables(groups)
    if shape.calibration:
        from benchmark.report.calibration import Calibrations
        from benchmark.report.calibration_tables import calibration_tables

        return calibration_tables(groups, Calibrations(images.store))
    return _accuracy_tables(groups, images, shape)


def _accuracy_tables(
    groups: GroupedRecords, images: ImageResults, shape: own.Shape
) -> list[ResultTable]:
    """The tables of all protocols; of imbalanced support sets by class as well, unless a metric was
    asked for.
    """
    from benchmark.report import averages, protocol_tables, tables

    kind, own_h = shape.table, shape.form == "csv"
    chosen = averages.METRICS[shape.metric or "accuracy"]
    shown = tables.tables(groups, kind, ranked=True, images=images, metric=chosen)
    if shape.metric is None:
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
