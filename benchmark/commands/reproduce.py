"""`reproduce`: the published grid, from the plan to the comparison."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.commands import options as opt
from benchmark.errors import MISSING, UserError

if TYPE_CHECKING:
    from benchmark.grid import Cell
    from benchmark.records.store import Store

Yes = Annotated[bool, typer.Option("--yes", help="Run it without asking.")]
OnlyBackbone = Annotated[
    list[str],
    typer.Option(
        *("--backbone", "-b"),
        callback=opt.words,
        metavar="NAME,...",
        help="Only these backbones.",
        show_default="ViT-B/16 and RN50",
    ),
]


def reproduce(
    method: opt.Method = opt.NOTHING,
    dataset: opt.Dataset = opt.NOTHING,
    shots: opt.Shots = opt.NOTHING,
    seed: opt.Seed = opt.NOTHING,
    backbone: OnlyBackbone = opt.NOTHING,
    preset: opt.Preset = "",
    device: opt.Device = "auto",
    results: opt.Results = opt.DEFAULT,
    data_root: opt.DataRoot = None,
    yes: Yes = False,
) -> None:
    """Compute the published numbers of our methods on the eleven datasets.

    Says first what would run, for how long, and what is missing: exit code 4.
    """
    from benchmark.commands import published_grid
    from benchmark.records.index import read_records
    from benchmark.records.store import Store

    request = published_grid.GridRequest(
        methods=method,
        datasets=dataset,
        backbones=backbone,
        shots=opt.whole_numbers("shots", shots),
        seeds=opt.whole_numbers("seed", seed),
        preset=preset,
    )
    cells, store = published_grid.cells(request), Store(results)
    missing = published_grid.missing_parts(cells, data_root)
    done = published_grid.on_record(cells, missing, store, data_root, device)
    records = read_records(store, [])
    print(published_grid.forecast(cells, done, missing, records, device))
    if missing:
        raise UserError(
            f"{len(missing)} parts are missing; get them by the commands above, or choose cells "
            "without them (--method, --dataset, --backbone)",
            exit_code=MISSING,
        )
    to_do = [cell for cell in cells if cell not in done]
    published_grid.require_device(to_do, device)
    if to_do and not yes:
        _ask()
    raise typer.Exit(_run(cells, store, data_root, device))


def _ask() -> None:
    if not sys.stdin.isatty():
        raise UserError("nobody is there to be asked; add --yes to run this grid")
    typer.confirm("run it?", abort=True)


def _run(cells: list[Cell], store: Store, data_root: Path | None, device: str) -> int:
    from benchmark.commands.grid_run import RunRequest, run_grid
    from benchmark.commands.printing import consoles

    code = run_grid(cells, store, RunRequest(data_root=data_root, device=device), *consoles())
    if code == 0:
        folder = "" if store.root == opt.DEFAULT else f" --results {store.root}"
        print(f"beside published numbers: python -m benchmark check --against published{folder}")
    return code
