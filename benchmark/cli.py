"""The command line: flags become plain data, plain data become one call. Exit codes:

0 all well; 1 some cells failed; 2 the command makes no sense; 3 regression; 4 data or weights are
missing; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from benchmark.commands import options as opt
from benchmark.commands import prepare as cli_data
from benchmark.commands import results as cli_results
from benchmark.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.commands.cell_selection import Selection
    from benchmark.records.store import Store

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Few-shot adaptation of vision-language models: datasets x methods x shots x seeds.",
)
app.add_typer(cli_results.app)
app.add_typer(cli_data.app)


def main() -> None:
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; an error of the user's is one sentence on
    stderr.
    """
    try:
        return int(
            app(list(arguments), prog_name="python -m benchmark", standalone_mode=False) or 0
        )
    except UserError as error:
        return _complain(str(error), error.exit_code)
    except TyperException as error:
        return _complain(_worded(error), getattr(error, "exit_code", 2))
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", 130)
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _worded(error: TyperException) -> str:
    """A usage error in one sentence; 'No such command' and 'No such option' name what comes
    nearest.
    """
    word = getattr(error, "format_message", None)
    return str(word() if word else error)


def _complain(message: str, code: int) -> int:
    if message:
        print(f"error: {message}" if code != 130 else message, file=sys.stderr)
    return code


def _consoles() -> tuple[Console, Console]:
    """Results to stdout, everything else to stderr; bound to the streams of now, because a cell's
    prints are led into its log.
    """
    from rich.console import Console

    return Console(file=sys.stdout), Console(file=sys.stderr)


def _go_offline(offline: bool) -> None:
    if offline:  # the hub libraries read these when they are imported
        os.environ |= {
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
        }


def _announce(selection: Selection) -> None:
    for remark in selection.remarks:
        print(remark, file=sys.stderr)


@app.command()
def run(
    method: opt.Method = opt.NOTHING,
    dataset: opt.Dataset = opt.NOTHING,
    suite: opt.Suite = opt.NOTHING,
    shots: opt.Shots = opt.NOTHING,
    seed: opt.Seed = opt.NOTHING,
    backbone: opt.Backbone = opt.NOTHING,
    val: opt.Val = "up-to-4",
    sources: opt.Sources = "default",
    classes: opt.Classes = "all",
    sampler: opt.Sampler = "coop",
    set_: opt.Set = opt.NOTHING,
    results: opt.Results = opt.DEFAULT,
    data_root: opt.DataRoot = None,
    accept_changed_data: opt.AcceptChangedData = False,
    device: opt.Device = "auto",
    offline: opt.Offline = False,
    force: opt.Force = False,
    executor: opt.Executor = "serial",
    address: opt.Address = None,
    gpus_per_cell: opt.GpusPerCell = None,
    shard: opt.Shard = None,
    time_limit: opt.TimeLimit = None,
    batch: opt.Batch = None,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
    plain: opt.Plain = False,
) -> None:
    """Run a grid of cells; those on record are not computed again. Ctrl-C loses only the cells that
    are running.
    """
    from benchmark.commands import run
    from benchmark.commands.cell_selection import Flags, select
    from benchmark.records.store import Store

    _go_offline(offline)
    place = run.Place(executor, address, gpus_per_cell)
    selection = select(
        Flags(
            method,
            dataset,
            suite,
            shots,
            seed,
            backbone,
            val,
            sources,
            classes,
            sampler,
            set_,
            data_root,
        )
    )
    selection = replace(selection, cells=run.part(selection.cells, shard))
    _announce(selection)
    store = Store(results)
    if dry_run:
        return _show_plan(selection, store, as_json, data_root, accept_changed_data)
    store.make_ready()
    manner = run.Manner(
        data_root, accept_changed_data, device, force, place, time_limit, batch, plain, as_json
    )
    raise typer.Exit(run.conduct(selection.cells, store, manner, *_consoles()))


@app.command()
def plan(
    method: opt.Method = opt.NOTHING,
    dataset: opt.Dataset = opt.NOTHING,
    suite: opt.Suite = opt.NOTHING,
    shots: opt.Shots = opt.NOTHING,
    seed: opt.Seed = opt.NOTHING,
    backbone: opt.Backbone = opt.NOTHING,
    val: opt.Val = "up-to-4",
    sources: opt.Sources = "default",
    classes: opt.Classes = "all",
    sampler: opt.Sampler = "coop",
    set_: opt.Set = opt.NOTHING,
    results: opt.Results = opt.DEFAULT,
    data_root: opt.DataRoot = None,
    accept_changed_data: opt.AcceptChangedData = False,
    as_json: opt.Json = False,
) -> None:
    """Say what `run` would do with the same flags: cells on record, cells missing, how long they
    may take.
    """
    from benchmark.commands.cell_selection import Flags, select
    from benchmark.records.store import Store

    selection = select(
        Flags(
            method,
            dataset,
            suite,
            shots,
            seed,
            backbone,
            val,
            sources,
            classes,
            sampler,
            set_,
            data_root,
        )
    )
    _announce(selection)
    _show_plan(selection, Store(results), as_json, data_root, accept_changed_data)


def _show_plan(
    selection: Selection, store: Store, as_json: bool, root: Path | None, accept_changed_data: bool
) -> None:
    from benchmark.commands import plan

    items = plan.look(selection.cells, store, root, accept_changed_data=accept_changed_data)
    print(json.dumps(plan.as_dict(items), indent=1) if as_json else plan.text(items))


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="methods|datasets|suites|backbones")],
    data_root: opt.DataRoot = None,
    as_json: opt.Json = False,
) -> None:
    """List what there is to choose from."""
    from benchmark.commands import listing

    found = listing.rows(what, data_root)
    print(json.dumps(found, indent=1) if as_json else listing.text(found))


@app.command()
def check(
    method: opt.Method = opt.NOTHING,
    dataset: opt.Dataset = opt.NOTHING,
    shots: opt.Shots = opt.NOTHING,
    seed: opt.Seed = opt.NOTHING,
    golden: Annotated[
        Path | None,
        typer.Option("--golden", metavar="FILE", help="Golden table. [default: the suite's own]"),
    ] = None,
    against: Annotated[
        str, typer.Option("--against", metavar="golden|published", help="What to compare with.")
    ] = "golden",
    update: Annotated[
        bool, typer.Option("--update", help="Rewrite the rows asked for instead of comparing.")
    ] = False,
    tolerance: Annotated[
        int | None,
        typer.Option(
            "--tolerance",
            metavar="IMAGES",
            min=0,
            help="With --update: of the rows written.",
            show_default=False,
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results", metavar="DIR", help="Keep the records there.", show_default=False
        ),
    ] = None,
    device: opt.Device = "cpu",
    as_json: opt.Json = False,
    plain: opt.Plain = False,
) -> None:
    """Run cells of the embedded suite again and compare their counts with a golden table; exit code
    3 where they differ.

    With --against published: put the records in a folder beside published numbers instead; nothing
    is run.
    """
    from benchmark.commands import check

    cli_results.among("against", against, ("golden", "published"))
    if against == "published":
        raise typer.Exit(check.published(results or opt.DEFAULT, method, dataset, shots, as_json))
    asked = check.Asked(method, dataset, shots, seed)
    raise typer.Exit(
        check.conduct(
            asked, golden, update, results, device, as_json, *_consoles(), plain, tolerance
        )
    )


@app.command()
def doctor(
    results: opt.Results = opt.DEFAULT,
    data_root: opt.DataRoot = None,
    devices: Annotated[
        bool, typer.Option("--devices", help="Look for GPUs as well (imports torch).")
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Say what this machine has: versions, folders, prepared data, weights."""
    from benchmark.commands import doctor as examination

    found = examination.examine(results, data_root, devices)
    print(json.dumps(found, indent=1) if as_json else examination.text(found))
