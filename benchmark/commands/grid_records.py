"""The records of a grid that is written down, also of one that ran on another machine: cells and
records are matched by what a user chooses, so neither data nor weights have to be here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmark import methods, text_sets
from benchmark.backbones.precision import AUTO
from benchmark.commands.dataset_selection import members, suite_around
from benchmark.commands.grid_file import WrittenGrids, read_grid_file
from benchmark.commands.grid_file_selection import select_grids
from benchmark.commands.grid_strangers import records_of_strangers, strangers, without
from benchmark.commands.option_fields import Flags, RecordFilters
from benchmark.commands.recorded_names import backbone_name, dataset_name
from benchmark.errors import UserError, counted
from benchmark.grid import Cell, identity
from benchmark.records.record import CellKey, Identity, Record, cell_key

MOST_NAMED = 3  # of the cells that have no record
ANY = "any"  # digest
Sources = str | tuple[str, ...]  # a policy, or names of datasets


def records_of_grid(
    records: Sequence[Record], path: Path, filters: RecordFilters, notes: list[str]
) -> list[Record]:
    """The records of the cells of a grid file that `filters` choose among them, of records that
    were so chosen; how many cells have none goes into `notes`.

    Raises UserError where no cell has one.
    """
    written = read_grid_file(path)
    unknown = strangers(written, filters.trusted)
    cells = _cells_of(without(written, unknown), filters, unknown, records)
    wanted = [(cell, named) for cell in cells if _passes(named := _of_cell(cell), filters)]
    asked = {_asked(named, _sources(named)): cell for cell, named in wanted}
    matching = {record.key: asked.keys() & set(_asked_by(record.identity)) for record in records}
    found = [record for record in records if matching[record.key]]
    have = set[CellKey]().union(*matching.values())
    theirs = records_of_strangers(records, written, unknown)
    missing = [cell for each, cell in asked.items() if each not in have]
    if not found and not theirs:
        cells_of = f"none of the {counted(len(missing), 'cell')}" if missing else "no such cell"
        raise UserError(f"{cells_of} of {path} has a record here")
    if missing:
        notes.append(f"{len(missing)} of {counted(len(asked), 'cell')} of {path} {_lack(missing)}")
    if theirs:
        names = ", ".join(sorted({record.identity.method for record in theirs}))
        notes.append(
            f"records of {names} are those that {path} may mean; how many are missing only its code"
            " knows, which runs with --trust"
        )
    return [*found, *theirs]


def _lack(cells: Sequence[Cell]) -> str:
    """'have no record', and which they are."""
    more = [f"and {len(cells) - MOST_NAMED} more"] if len(cells) > MOST_NAMED else []
    named = ", ".join([*map(str, cells[:MOST_NAMED]), *more])
    return f"{'has' if len(cells) == 1 else 'have'} no record ({named})"


def _cells_of(
    written: WrittenGrids,
    filters: RecordFilters,
    unknown: Sequence[str],
    records: Sequence[Record],
) -> list[Cell]:
    """The cells of the methods that may run, those that `filters` choose by value; records of
    `unknown` methods may have the values that no such cell has.
    """
    strange = list(map(methods.stable_name, unknown))
    left = [name for name in filters.methods if name not in strange]
    if filters.methods and not left:
        return []
    among = Flags(
        methods=left,
        datasets=filters.datasets,
        backbones=filters.backbones,
        shots=filters.shots,
        seeds=filters.seeds,
    )
    return select_grids(
        written, among, filters.trusted, records=records, all_known=not unknown
    ).cells


def _passes(named: Identity, filters: RecordFilters) -> bool:
    """Whether records of a cell are asked for, as record_selection filters those that are here."""
    of_suites = {name for suite in filters.suites for name in members(suite)}
    asked = {"preset": filters.preset, "evaluation": filters.protocol}
    asked |= {"precision": filters.precision} if named.precision != AUTO else {}
    asked |= {"sampler": filters.sampler, "val": filters.val} if named.shots else {}
    return (not of_suites or named.dataset in of_suites) and all(
        value in ("", getattr(named, field)) for field, value in asked.items()
    )


def _of_cell(cell: Cell) -> Identity:
    """What names its record; digests, which say nothing here, are not asked for."""
    return identity(
        cell,
        methods.card(cell.method),
        lambda dataset: (dataset_name(dataset), ANY),
        lambda backbone: ANY,
        transform=ANY,
        backbone=backbone_name(cell.backbone),
        texts_of=lambda texts: (text_sets.short(texts), ANY),
    )


def _asked(named: Identity, sources: Sources) -> CellKey:
    return (*cell_key(named, "sources"), sources)


def _asked_by(named: Identity) -> Iterator[CellKey]:
    """What a record answers: cells of its precision, and those that leave it to the device; of its
    very sources, and of the policy by which these were what was prepared of a suite.
    """
    few = set(named.sources) <= _suite(named)
    sources_of: list[Sources] = [tuple(sorted(named.sources))]
    if named.sources and (few or named.learned_on):
        sources_of.append(_with_target(named))
    for each in (named, named.model_copy(update={"precision": AUTO})):
        for sources in sources_of:
            yield _asked(each, sources)


def _sources(named: Identity) -> Sources:
    """The policy of a cell, for which all of a suite is prepared, or the datasets it names."""
    everything = {*named.sources, _learned(named)} == _suite(named)
    if named.sources and (everything or named.learned_on):
        return _with_target(named)
    return tuple(sorted(named.sources))


def _with_target(named: Identity) -> str:
    return "all" if _learned(named) in named.sources else "others"


def _suite(named: Identity) -> set[str]:
    return set(suite_around(_learned(named)))


def _learned(named: Identity) -> str:
    return next(iter(named.learned_on), named.dataset)
