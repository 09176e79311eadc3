"""The cells that a command is about, chosen by options or by a grid file, and that choice kept."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.commands.cell_selection import announce, select
from benchmark.commands.grid_file import GridFile, Saved
from benchmark.commands.grid_file_selection import narrows, select_written
from benchmark.commands.grid_file_writing import saved, write_grid_file
from benchmark.commands.grid_run import RunRequest
from benchmark.commands.option_fields import Flags, GridFileFlags
from benchmark.compute import runner
from benchmark.compute.executors import scheduling
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.records.record import key


def chosen_cells(
    flags: Flags, files: GridFileFlags, request: RunRequest, shard: str | None = None
) -> tuple[list[Cell], RunRequest]:
    """The cells of one shard, and the request with the name of their grid file.

    Remarks about the choice are printed, and --save-config is obeyed.
    """
    if files.config:
        return _from_file(files.config, flags, files, request, shard)
    if files.trusted:
        raise UserError("--trust is about the methods that a --config names; leave it out")
    selection = select(flags)
    cells = shard_of(selection.cells, shard)
    announce(selection)
    if files.save_config:
        names = _names(selection.cells, request)
        write_grid_file(files.save_config, selection.grids, names, request.device)
    return cells, request


def _from_file(
    config: Path, flags: Flags, files: GridFileFlags, request: RunRequest, shard: str | None
) -> tuple[list[Cell], RunRequest]:
    if files.save_config:
        raise UserError(
            "--save-config writes down what options choose, and --config is written already; "
            "take one of them"
        )
    selection, written = select_written(config, flags, files.trusted)
    cells = shard_of(selection.cells, shard)
    announce(selection)
    if not narrows(flags):
        _warn_of_other_names(config, written.content, selection.cells, request)
    return cells, replace(request, grid_file=written.label)


def _warn_of_other_names(
    path: Path, content: GridFile, cells: Sequence[Cell], request: RunRequest
) -> None:
    """Say where the records of a saved grid are called otherwise than when it was saved."""
    if content.saved and content.saved != _names(cells, request):
        print(
            f"{path}: its records have other names than when it was saved, because versions of "
            "methods, data, weights or the device are others: these are other numbers",
            file=sys.stderr,
        )


def _names(cells: Sequence[Cell], request: RunRequest) -> Saved:
    planned = runner.plan(
        cells,
        root=request.data_root,
        device=request.device,
        accept_changed_data=request.accept_changed_data,
    )
    return saved({key(identity) for _, identity in planned})


def shard_of(cells: Sequence[Cell], shard: str | None) -> list[Cell]:
    """The cells of --shard I/N; all of them where `shard` is None."""
    if shard is None:
        return list(cells)
    number, slash, count = shard.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(
            f"--shard takes I/N with I from 1 to N, not '{shard}'; "
            "the third of eight parts is --shard 3/8"
        )
    return scheduling.shard(cells, int(number), int(count))
