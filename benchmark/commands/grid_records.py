"""The records of a grid that is written down, also of one that ran on another machine: cells and
records are matched by what a user chooses, so neither data nor weights have to be here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmark import methods, text_sets
from benchmark.backbones.precision import AUTO
from benchmark.commands.grid_file import WrittenGrids, read_grid_file
from benchmark.commands.grid_file_selection import select_grids
from benchmark.commands.grid_strangers import records_of_strangers, strangers, without
from benchmark.commands.option_fields import Flags
from benchmark.commands.recorded_names import backbone_name, dataset_name
from benchmark.errors import UserError, counted
from benchmark.grid import Cell
from benchmark.records.record import Identity, Record

MOST_NAMED = 3  # of the cells that have no record
Choice = tuple[object, ...]  # what names a cell, without versions, digests and precision


def records_of_grid(
    records: Sequence[Record], path: Path, flags: Flags, trusted: Sequence[str], notes: list[str]
) -> list[Record]:
    """The records of the cells of a grid file that `flags` choose among them; how many cells have
    none goes into `notes`.

    Raises UserError where no cell has one.
    """
    written = read_grid_file(path)
    unknown = strangers(written, trusted)
    cells = _cells_of(without(written, unknown), flags, unknown, trusted)
    by_choice = {_of_cell(cell): cell for cell in cells}
    precisions = {choice: cell.precision for choice, cell in by_choice.items()}
    found = [
        record
        for record in records
        if precisions.get(_of_record(record.identity)) in (AUTO, record.identity.precision)
    ]
    have = {_of_record(record.identity) for record in found}
    theirs = records_of_strangers(records, written, unknown)
    missing = [cell for choice, cell in by_choice.items() if choice not in have]
    if not found and not theirs:
        raise UserError(f"none of the {counted(len(missing), 'cell')} of {path} has a record here")
    if missing:
        verb = "has" if len(missing) == 1 else "have"
        cells_of = f"{len(missing)} of {counted(len(by_choice), 'cell')} of {path}"
        notes.append(f"{cells_of} {verb} no record ({_named(missing)})")
    if theirs:
        names = ", ".join(sorted({record.identity.method for record in theirs}))
        notes.append(
            f"records of {names} are those that {path} may mean; how many are missing only its code"
            " knows, which runs with --trust"
        )
    return [*found, *theirs]


def _named(cells: Sequence[Cell]) -> str:
    more = [f"and {len(cells) - MOST_NAMED} more"] if len(cells) > MOST_NAMED else []
    return ", ".join([*map(str, cells[:MOST_NAMED]), *more])


def _cells_of(
    written: WrittenGrids, flags: Flags, unknown: Sequence[str], trusted: Sequence[str]
) -> list[Cell]:
    """The cells of the methods that may run, those that `flags` choose; records of `unknown`
    methods may have the values that no such cell has.
    """
    left = [name for name in flags.methods if name not in map(methods.stable_name, unknown)]
    if flags.methods and not left:
        return []
    among = replace(flags, methods=left)
    all_known = not unknown
    return select_grids(written, among, trusted, data_needed=False, all_known=all_known).cells


def _of_cell(cell: Cell) -> Choice:
    card = methods.card(cell.method)
    return (
        cell.method,
        tuple(sorted((card.defaults | dict(cell.params)).items())),
        dataset_name(cell.dataset),
        cell.classes,
        cell.evaluation,
        dataset_name(cell.learned_on) if cell.learned_on else "",
        cell.shots,
        cell.seed,
        cell.sampler,
        cell.val,
        backbone_name(cell.backbone),
        bool(cell.sources),
        (cell.source_shots or cell.shots) if cell.sources else 0,
        cell.preset,
        cell.selection,
        cell.templates,
        cell.underscores,
        text_sets.short(cell.texts) if cell.texts else "",
    )


def _of_record(named: Identity) -> Choice:
    return (
        named.method,
        tuple(sorted(named.params.items())),
        named.dataset,
        named.classes,
        named.evaluation,
        next(iter(named.learned_on), ""),
        named.shots,
        named.seed,
        named.sampler,
        named.val,
        named.backbone,
        bool(named.sources),
        named.source_shots,
        named.preset,
        named.selection,
        named.templates,
        named.underscores,
        named.texts,
    )
