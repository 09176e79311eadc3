"""The records of a grid that is written down, also of one that ran on another machine: cells and
records are matched by what a user chooses, so neither data nor weights have to be here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import methods, text_sets
from benchmark.backbones.precision import AUTO
from benchmark.commands.cell_selection import Selection
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
Draw = tuple[int, int]  # shots and seed


@dataclass(frozen=True)
class Family:
    """Cells that differ in shots and seed alone, and which of them have a record."""

    cells: dict[Draw, Cell]
    have: set[Draw]


def records_of_grid(
    records: Sequence[Record], path: Path, filters: RecordFilters, notes: list[str]
) -> list[Record]:
    """The records of the cells of a grid file that `filters` choose among them, of records that
    were so chosen; how many cells have none goes into `notes`.

    Raises UserError where no cell has one.
    """
    written = read_grid_file(path)
    unknown = strangers(written, filters.trusted)
    asked = _families(_selected(without(written, unknown), filters, unknown, records), filters)
    found = _matching(records, asked)
    theirs = records_of_strangers(records, written, unknown)
    if not found and not theirs:
        count = sum(len(family.cells) for family in asked.values())
        cells_of = f"none of the {counted(count, 'cell')}" if count else "no such cell"
        raise UserError(f"{cells_of} of {path} has a record here")
    notes += [*_said_missing(asked.values(), path), *_said_of_strangers(theirs, path)]
    return [*found, *theirs]


def _said_missing(families: Collection[Family], path: Path) -> Iterator[str]:
    """How many cells have no record, and which they are; nothing where all have one."""
    missing = [
        cell
        for family in families
        for draw, cell in family.cells.items()
        if draw not in family.have
    ]
    if missing:
        count = sum(len(family.cells) for family in families)
        yield f"{len(missing)} of {counted(count, 'cell')} of {path} {_lack(missing)}"


def _said_of_strangers(theirs: Sequence[Record], path: Path) -> Iterator[str]:
    if theirs:
        names = ", ".join(sorted({record.identity.method for record in theirs}))
        yield (
            f"records of {names} are those that {path} may mean; how many are missing only its code"
            " knows, which runs with --trust"
        )


def _lack(cells: Sequence[Cell]) -> str:
    """'have no record', and which they are."""
    more = [f"and {len(cells) - MOST_NAMED} more"] if len(cells) > MOST_NAMED else []
    named = ", ".join([*map(str, cells[:MOST_NAMED]), *more])
    return f"{'has' if len(cells) == 1 else 'have'} no record ({named})"


def _selected(
    written: WrittenGrids,
    filters: RecordFilters,
    unknown: Sequence[str],
    records: Sequence[Record],
) -> Selection:
    """The cells of the methods that may run, those that `filters` choose by value; records of
    `unknown` methods may have the values that no such cell has.
    """
    strange = list(map(methods.stable_name, unknown))
    left = [name for name in filters.methods if name not in strange]
    if filters.methods and not left:
        return Selection([], [], [])
    among = Flags(
        methods=left,
        datasets=filters.datasets,
        backbones=filters.backbones,
        shots=filters.shots,
        seeds=filters.seeds,
    )
    return select_grids(written, among, filters.trusted, records=records, all_known=not unknown)


def _families(selected: Selection, filters: RecordFilters) -> dict[CellKey, Family]:
    """The cells of which records are asked for, by what a family shares."""
    alike: dict[tuple[CellKey, bool], list[Cell]] = defaultdict(list)
    for cell in selected.cells:
        alike[_but_shots_and_seed(cell), cell in selected.by_policy].append(cell)
    asked: dict[CellKey, Family] = defaultdict(lambda: Family({}, set()))
    for (_, by_policy), each in alike.items():
        named = _of_cell(each[0])
        if _passes(named, filters):
            sources = _sources(named, by_policy=by_policy)
            family = asked[_asked(named, sources, named.precision)]
            family.cells.update({(cell.shots, cell.seed): cell for cell in each})
    return dict(asked)


def _but_shots_and_seed(cell: Cell) -> CellKey:
    """What names a cell's family; shots of sources are told in numbers by now (grid.expand)."""
    return tuple({**vars(cell), "shots": cell.shots > 0, "seed": 0}.values())


def _matching(records: Iterable[Record], asked: Mapping[CellKey, Family]) -> list[Record]:
    """The records of cells that are asked for; their families have them from now on."""
    answered: dict[str, list[Family]] = {}
    found = []
    for record in records:
        named = record.identity
        if record.family not in answered:
            answered[record.family] = [asked[key] for key in _asked_by(named) if key in asked]
        draw = named.shots, named.seed
        families = [family for family in answered[record.family] if draw in family.cells]
        for family in families:
            family.have.add(draw)
        if families:
            found.append(record)
    return found


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


def _asked(named: Identity, sources: Sources, precision: str) -> CellKey:
    return (*cell_key(named, "shots", "seed", "sources", "precision"), sources, precision)


def _asked_by(named: Identity) -> list[CellKey]:
    """What a record answers: cells of its precision, and those that leave it to the device; of its
    very sources, and of the policy by which these were what was prepared of a suite.
    """
    sources_of: list[Sources] = [tuple(sorted(named.sources))]
    if _of_suite(named):
        sources_of.append(_with_target(named))
    return [
        _asked(named, sources, precision)
        for precision in (named.precision, AUTO)
        for sources in sources_of
    ]


def _sources(named: Identity, *, by_policy: bool) -> Sources:
    """The policy of a cell, whose sources are what was prepared where it ran, or the very datasets
    that its grid names.
    """
    if by_policy and _of_suite(named):
        return _with_target(named)
    return tuple(sorted(named.sources))


def _of_suite(named: Identity) -> bool:
    """Whether the sources may be what a policy makes of the suite."""
    return bool(named.sources) and set(named.sources) <= _suite(named)


def _with_target(named: Identity) -> str:
    return "all" if _learned(named) in named.sources else "others"


def _suite(named: Identity) -> set[str]:
    return set(suite_around(_learned(named)))


def _learned(named: Identity) -> str:
    return next(iter(named.learned_on), named.dataset)
