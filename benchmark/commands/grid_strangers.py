"""Methods of a grid file that nobody trusts, in a report: their records are found by what the file
says of them. Which other cells they have only their code knows, and a report runs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark import methods, text_sets
from benchmark.backbones.precision import AUTO
from benchmark.commands.cell_selection import SOURCES, checked_sources
from benchmark.commands.dataset_selection import members
from benchmark.commands.grid_file import Grid, WrittenGrids, naming_grid
from benchmark.commands.grid_file_selection import flags_of
from benchmark.commands.option_fields import Flags
from benchmark.commands.recorded_names import backbone_name, dataset_name
from benchmark.protocols import FEW_SHOT
from benchmark.records.record import Identity, Record

Wanted = dict[str, set[object]]  # field of Flags -> values


def strangers(written: WrittenGrids, trusted: Sequence[str]) -> list[str]:
    """The methods of the file whose code may not run, paths as seen from here."""
    methods.require_trusted([], trusted)
    return [name for name in named_methods(written) if methods.is_elsewhere(name, trusted)]


def named_methods(written: WrittenGrids) -> list[str]:
    """All methods that the file names, paths as seen from here."""
    folder = written.path.parent
    named = [name for each in written.content.grid for name in _seen_from(each, folder)]
    return list(dict.fromkeys(named))


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
    found: set[str] = set()
    for number, each in enumerate(written.content.grid, 1):
        flags = flags_of(each, written.path.parent)
        of = {methods.stable_name(name) for name in flags.methods if name in names}
        theirs = [record for record in records if record.identity.method in of]
        with naming_grid(written, number):
            wanted = _wanted(flags) if theirs else {}
        found |= {
            record.key
            for record in theirs
            if _fits(record.identity, wanted) and _has(record.identity, each)
        }
    return [record for record in records if record.key in found]


def _wanted(flags: Flags) -> Wanted:
    """What each field of Flags asks of a record; nothing where it leaves that open."""
    few_shot, auto = flags.protocol == FEW_SHOT, flags.precision == AUTO
    usual_sources = flags.sources == Flags().sources
    of_suites = (name for suite in flags.suites for name in members(suite))
    return {
        "datasets": {*map(dataset_name, flags.datasets), *of_suites},
        "shots": set(flags.shots),
        "seeds": set(flags.seeds),
        "backbones": set(map(backbone_name, flags.backbones)),
        "precision": set() if auto else {flags.precision},
        "protocol": {flags.protocol},
        "learn_from": {dataset_name(flags.learn_from)} if flags.learn_from else set(),
        "val": {flags.val},
        "sampler": {flags.sampler},
        "classes": {flags.classes} if few_shot else set(),
        "preset": {flags.preset},
        "texts": {_texts(given) for given in flags.texts or [""]},
        "sources": set() if usual_sources else {_policy(flags.sources)},
        "source_shots": set() if flags.source_shots is None else {flags.source_shots},
    }


def _fits(named: Identity, wanted: Wanted) -> bool:
    """Whether a record has one of the wanted values of every field that concerns it."""
    source = next(iter(named.learned_on), "")
    has: Wanted = {
        "backbones": {named.backbone},
        "precision": {named.precision},
        "protocol": {named.evaluation},
        "learn_from": {source},
        "classes": {named.classes},
        "preset": {named.preset},
        "texts": {named.texts},
    }
    if named.dataset != source:  # which is tested beside all others
        has["datasets"] = {named.dataset}
    if named.shots:
        has |= {"shots": {str(named.shots)}, "seeds": {str(named.seed)}}
        has |= {"val": {named.val}, "sampler": {named.sampler}}
    if named.sources:
        policy = "all" if (source or named.dataset) in named.sources else "others"
        as_many = {0} if named.source_shots == named.shots else set()
        has |= {"sources": {policy, ",".join(sorted(named.sources))}}
        has |= {"source_shots": {named.source_shots, *as_many}}
    return all(not of or name not in has or has[name] & of for name, of in wanted.items())


def _texts(given: str) -> str:
    of_cell = text_sets.reference(given)
    return text_sets.short(of_cell) if of_cell else ""


def _policy(sources: str) -> str:
    """Which sources a prior may see; datasets by their names, sorted."""
    if checked_sources(sources) in SOURCES:
        return sources
    return ",".join(sorted(dataset_name(name.strip()) for name in sources.split(",")))


def _has(named: Identity, each: Grid) -> bool:
    """Whether the hyper-parameters are among those the grid says."""
    own = each.set.get(named.method, {})
    shared = {key: of for key, of in each.set.items() if not isinstance(of, dict)}
    values = shared | (own if isinstance(own, dict) else {})
    return all(
        key in named.params and named.params[key] in (of if isinstance(of, list) else [of])
        for key, of in values.items()
    )
