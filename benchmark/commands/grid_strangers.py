"""Methods of a grid file that nobody trusts, in a report: their records are found by what the file
says of them. Which other cells they have only their code knows, and a report runs none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmark import data, methods
from benchmark.backbones import weights
from benchmark.commands.grid_file import Grid, WrittenGrids
from benchmark.records.record import Identity, Record


def strangers(written: WrittenGrids, trusted: Sequence[str]) -> list[str]:
    """The methods of the file whose code may not run, paths as seen from here."""
    methods.require_trusted([], trusted)
    folder = written.path.parent
    named = [name for each in written.content.grid for name in _seen_from(each, folder)]
    return [name for name in dict.fromkeys(named) if methods.is_elsewhere(name, trusted)]


def without(written: WrittenGrids, names: Sequence[str]) -> WrittenGrids:
    """The file without these methods; a grid of no other ones has none."""
    grids = [_without(each, written.path.parent, names) for each in written.content.grid]
    content = written.content.model_copy(update={"grid": grids})
    return WrittenGrids(written.path, written.digest, content)


def _without(each: Grid, folder: Path, names: Sequence[str]) -> Grid:
    seen = zip(each.methods or (), _seen_from(each, folder), strict=True)
    kept = [name for name, place in seen if place not in names]
    gone = set(map(methods.stable_name, names)) - set(map(methods.stable_name, kept))
    settings = {name: of for name, of in each.set.items() if name not in gone}
    return each.model_copy(update={"methods": kept if each.methods else None, "set": settings})


def _seen_from(each: Grid, folder: Path) -> list[str]:
    return each.with_paths(lambda path: str(folder / path)).methods or []


def records_of_strangers(
    records: Sequence[Record], written: WrittenGrids, names: Sequence[str]
) -> list[Record]:
    """The records of these methods that are as a grid of the file says, where it says something."""
    folder = written.path.parent
    grids = [each.with_paths(lambda path: str(folder / path)) for each in written.content.grid]
    meant = [
        (each, {methods.stable_name(name) for name in each.methods or () if name in names})
        for each in grids
    ]
    return [
        record
        for record in records
        if any(record.identity.method in of and _fits(record.identity, each) for each, of in meant)
    ]


def _fits(named: Identity, each: Grid) -> bool:
    datasets = {data.read_spec(name).name for name in each.datasets or ()}
    datasets |= {name for suite in each.suites or () for name in data.suites().get(suite, ())}
    said: list[tuple[Iterable[object], object]] = [
        (datasets, named.dataset),
        (map(weights.canonical, each.backbones or ()), named.backbone),
        ([each.protocol or "few-shot"], named.evaluation),
        ([each.sampler or "coop"], named.sampler),
        ([each.preset or ""], named.preset),
    ]
    if named.shots:
        said += [(each.shots or (), named.shots), (each.seeds or (), named.seed)]
        said += [([each.val or "up-to-4"], named.val)]
    told = [(list(wanted), value) for wanted, value in said]
    return all(not wanted or value in wanted for wanted, value in told) and _has(named, each)


def _has(named: Identity, each: Grid) -> bool:
    """Whether the hyper-parameters are among those the grid says."""
    own = each.set.get(named.method, {})
    shared = {key: of for key, of in each.set.items() if not isinstance(of, dict)}
    values = shared | (own if isinstance(own, dict) else {})
    return all(
        key in named.params and named.params[key] in (of if isinstance(of, list) else [of])
        for key, of in values.items()
    )
