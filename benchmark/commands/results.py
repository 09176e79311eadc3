"""Commands that read records: tables, the leaderboard, comparisons, replays, merges. Part of the
command line in cli.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.errors import UserError, nearest

app = typer.Typer(add_completion=False)


@app.command()
def report(
    results: opt.Results = opt.DEFAULT,
    table: Annotated[
        str,
        typer.Option(
            "--table", metavar="KIND", help="dataset-shots, method-shots or method-dataset."
        ),
    ] = "dataset-shots",
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="text, markdown, csv or latex.")
    ] = "text",
    method: opt.Method = opt.NOTHING,
    dataset: opt.Dataset = opt.NOTHING,
    backbone: opt.Backbone = opt.NOTHING,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Show records of older adapter versions too.")
    ] = False,
    cost: Annotated[
        bool,
        typer.Option(
            "--cost", help="Show what accuracy is bought with: parameters, computation, seconds."
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="DIR", help="Write a page that opens from disk instead."),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="Draw figures as PDF and PNG instead."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="METHOD",
            help="With --figures. [default: zero-shot]",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="With --html: show disputed test images.")
    ] = True,
    data_root: opt.DataRoot = None,
) -> None:
    """Print tables from the records in a folder, write them as a page, or draw figures."""
    from rich.console import Console

    from benchmark.records.store import Store
    from benchmark.report import cost_tables, grouping, record_selection, rendering, tables

    among("table", table, tables.KINDS)
    among("format", form, rendering.FORMATS)
    if cost and form == "csv":
        raise UserError("--cost has no CSV of its own; `export` writes every cost of every row")
    notes: list[str] = []
    records = record_selection.select_records(Store(results), notes, method, dataset, backbone)
    groups = grouping.group_records(records, notes, superseded)
    if html:
        from benchmark.report import page

        size = page.write_page(html, groups, Store(results), data_root, images)
        print(f"{html / 'index.html'}: {size / 1e6:.1f} MB without images")
    elif figures:
        from benchmark.report import figures as drawing

        print("\n".join(map(str, drawing.write_figures(figures, groups, baseline))))
    else:
        found = (
            cost_tables.cost_tables(groups) if cost else tables.tables(groups, table, ranked=True)
        )
        if form == "text":
            out = Console()
            for one in found:
                out.print(rendering.terminal(one), soft_wrap=True)
        else:
            print(rendering.render(found, form), end="")
    warn(notes)


@app.command()
def export(
    results: opt.Results = opt.DEFAULT,
    to: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to write; stdout if not given."),
    ] = None,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Records of older adapter versions too.")
    ] = False,
) -> None:
    """Write the leaderboard as CSV, one row per method x dataset x shots x backbone x protocol."""
    from benchmark.paths import write_atomic
    from benchmark.records.store import Store
    from benchmark.report import grouping, record_selection
    from benchmark.report.leaderboard import leaderboard_csv

    notes: list[str] = []
    text = leaderboard_csv(
        grouping.group_records(
            record_selection.select_records(Store(results), notes), notes, superseded
        )
    )
    if to:
        write_atomic(to, text.encode())
    else:
        print(text, end="")
    warn(notes)


@app.command()
def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="A method, or a whole row heading of `report`.")
    ],
    second: Annotated[str, typer.Argument(metavar="B")],
    shots: opt.Shots = opt.NOTHING,
    results: opt.Results = opt.DEFAULT,
    data_root: opt.DataRoot = None,
    as_json: opt.Json = False,
) -> None:
    """Compare two methods on the same seeds and test images, and over the datasets of a suite."""
    from benchmark.records.store import Store
    from benchmark.report import comparison as comparison
    from benchmark.report import grouping, record_selection

    notes: list[str] = []
    store = Store(results)
    groups = grouping.group_records(record_selection.select_records(store, notes), notes)
    found = comparison.compare(groups, first, second, store, data_root, opt.numbers("shots", shots))
    if as_json:
        print(json.dumps([comparison.comparison_dict(one) for one in found], indent=1))
    else:
        print("\n\n".join(comparison.comparison_text(one) for one in found))
    warn(notes)


@app.command()
def status(
    results: opt.Results = opt.DEFAULT,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Look every 2 s until all is done, nothing ran for 10 s, or Ctrl-C."
        ),
    ] = False,
    as_json: opt.Json = False,
    plain: opt.Plain = False,
) -> None:
    """Say how a grid is getting on that runs in another terminal or on another machine: done,
    running, failed, time left.
    """
    from rich.console import Console

    from benchmark.commands import status as progress
    from benchmark.records.store import Store

    notes: list[str] = []
    progress.conduct(Store(results), Console(file=sys.stdout), notes, watch, as_json, plain)
    warn(notes)


@app.command()
def replay(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="The key of a record, or its first digits.")
    ],
    results: opt.Results = opt.DEFAULT,
    data_root: opt.DataRoot = None,
    device: opt.Device = "auto",
    method: opt.Trusted = opt.NOTHING,
) -> None:
    """Run a record's cell again and say whether the counts are identical; exit code 3 where they
    are not.
    """
    from benchmark.commands import replay
    from benchmark.records.store import Store

    found = replay.replay(replay.find(Store(results), key), data_root, device, method)
    print(replay.text(found))
    raise typer.Exit(0 if found.identical else 3)


@app.command()
def merge(
    sources: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of records.")],
    results: opt.Results = opt.DEFAULT,
) -> None:
    """Copy the records of several folders into one (--results); exit code 1 where the same key has
    other counts.
    """
    from benchmark.records import merge
    from benchmark.records.store import Store

    done = merge.merge([Store(source) for source in sources], Store(results))
    print(
        f"{done.added} records added to {results}, {done.known} were there already, {len(done.conflicts)} conflicts"
    )
    warn([*done.passed_over, *(f"conflict: {conflict}" for conflict in done.conflicts)])
    raise typer.Exit(1 if done.conflicts else 0)


def among(flag: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UserError(
            f"--{flag} takes {', '.join(allowed)}, not '{value}'; {nearest(value, list(allowed))}"
        )


def warn(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
