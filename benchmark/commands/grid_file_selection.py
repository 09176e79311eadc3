"""The cells of a grid file, all of them or those that options beside --config ask for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from benchmark import methods
from benchmark.backbones import weights
from benchmark.commands.cell_selection import Selection, select
from benchmark.commands.dataset_selection import with_recorded
from benchmark.commands.grid_file import Grid, WrittenGrids, naming_grid, read_grid_file
from benchmark.commands.method_settings import Setting
from benchmark.commands.option_fields import Flags
from benchmark.commands.options.values import whole_numbers
from benchmark.commands.recorded_names import dataset_name
from benchmark.errors import UserError, nearest
from benchmark.grid import Cell
from benchmark.records.record import Record

NARROWING = ("methods", "datasets", "shots", "seeds", "backbones")  # fields of Flags
FREE = ("data_root",)  # a file says nothing of it
WORDS = {"settings": "set", "suites": "suite"}  # options that are named otherwise than their field
NUMERIC = ("shots", "seed")
TRUST = "--trust"


def select_written(
    path: Path, flags: Flags, trusted: Sequence[str] = ()
) -> tuple[Selection, WrittenGrids]:
    """The cells of a grid file that `flags` ask for, and the file.

    Raises UserError for options that would contradict the file, for methods from elsewhere that are
    not `trusted`, and for what `select` refuses, with the grid.
    """
    require_free(_changed(flags))
    written = read_grid_file(path)
    return select_grids(written, flags, trusted), written


def select_grids(
    written: WrittenGrids,
    flags: Flags,
    trusted: Sequence[str],
    *,
    records: Sequence[Record] | None = None,
    all_known: bool = True,
) -> Selection:
    """The cells of a file that was read, of its grids that name a method: to be run, or those whose
    `records` are looked for, which need no data here.

    Where cells of the file are not known here (`all_known`), they may have a value that `flags`
    ask for and no other cell has.
    """
    parts = [
        _selected(written, number, each, flags, trusted, records)
        for number, each in enumerate(written.content.grid, 1)
        if each.methods != []
    ]
    cells = list(dict.fromkeys(cell for part in parts for cell in part.cells))
    remarks = dict.fromkeys(remark for part in parts for remark in part.remarks)
    grids = [each for part in parts for each in part.grids]
    narrowed = _narrowed(cells, flags, written.path if all_known else None)
    by_policy = frozenset[Cell]().union(*(part.by_policy for part in parts))
    return Selection(narrowed, list(remarks), grids, by_policy)


def narrows(flags: Flags) -> bool:
    """Whether options beside --config ask for some of its cells only."""
    return any(getattr(flags, name) for name in NARROWING)


def require_free(given: Collection[str]) -> None:
    """UserError for a field of Flags that was given and is the file's to say."""
    for name in (field.name for field in fields(Flags)):
        if name in given and name not in (*NARROWING, *FREE):
            option = f"--{WORDS.get(name, name).replace('_', '-')}"
            raise UserError(
                f"{option} cannot stand beside --config, whose file says what its cells are; write "
                "it there (--method, --dataset, --shots, --seed and --backbone choose among its "
                "cells)"
            )


def _changed(flags: Flags) -> list[str]:
    usual = vars(Flags())
    return [name for name, value in vars(flags).items() if value != usual[name]]


def _selected(
    written: WrittenGrids,
    number: int,
    each: Grid,
    flags: Flags,
    trusted: Sequence[str],
    records: Sequence[Record] | None,
) -> Selection:
    with naming_grid(written, number):
        options = flags_of(each, written.path.parent, flags.data_root)
        methods.require_trusted(options.methods, trusted, TRUST)
        if records is None:
            return select(options, _settings(each))
        return select(with_recorded(options, records), _settings(each), data_needed=False)


def flags_of(each: Grid, folder: Path, data_root: Path | None = None) -> Flags:
    """The options that mean the same as a grid, its paths taken from `folder`."""
    usual, here = Flags(), each.with_paths(lambda path: str(folder / path))
    return Flags(
        methods=here.methods or [],
        datasets=here.datasets or [],
        suites=here.suites or [],
        shots=list(map(str, here.shots or ())),
        seeds=list(map(str, here.seeds or ())),
        backbones=here.backbones or [],
        protocol=here.protocol or usual.protocol,
        learn_from=here.learn_from,
        val=here.val or usual.val,
        sampler=here.sampler or usual.sampler,
        classes=here.classes or usual.classes,
        texts=here.texts or [],
        sources=",".join(here.sources or [usual.sources]),
        source_shots=here.source_shots,
        precision=here.precision or usual.precision,
        preset=here.preset or usual.preset,
        data_root=data_root,
    )


def _settings(each: Grid) -> list[Setting]:
    """Those of all methods first: what is said of one replaces them."""
    tables = {key: value for key, value in each.set.items() if isinstance(value, dict)}
    return [
        *(Setting("", key, value) for key, value in each.set.items() if key not in tables),
        *(Setting(name, key, value) for name, of in tables.items() for key, value in of.items()),
    ]


def _narrowed(cells: list[Cell], flags: Flags, path: Path | None) -> list[Cell]:
    """The cells with the values that were asked for; those without shots have any number of them
    and any seed.

    Raises UserError for a value that no cell of the file at `path` has; None: others may have it.
    """
    for field, wanted, of in _asked(flags):
        if path:
            _require_values(field, wanted, list(dict.fromkeys(map(of, cells))), path)
        numeric = field in NUMERIC
        cells = [
            cell
            for cell in cells
            if not wanted or of(cell) in wanted or (numeric and not cell.shots)
        ]
    return cells


def _require_values(field: str, wanted: Sequence[str], known: Sequence[str], path: Path) -> None:
    for value in wanted:
        if value not in known:
            hint = nearest(value, known)
            raise UserError(f"no cell of {path} has the {field} '{value}'; {hint}")


def _asked(flags: Flags) -> Iterator[tuple[str, list[str], Callable[[Cell], str]]]:
    """Field, wanted values, and how a cell says its own."""
    shots, seeds = whole_numbers("shots", flags.shots), whole_numbers("seed", flags.seeds)
    datasets = list(map(dataset_name, flags.datasets))
    yield "method", list(map(methods.stable_name, flags.methods)), lambda cell: cell.method
    yield "dataset", datasets, lambda cell: dataset_name(cell.dataset)
    yield "backbone", list(map(weights.canonical, flags.backbones)), lambda cell: cell.backbone
    yield "shots", list(map(str, shots)), lambda cell: str(cell.shots)
    yield "seed", list(map(str, seeds)), lambda cell: str(cell.seed)
