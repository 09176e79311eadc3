"""What the options of a command mean: names become methods, datasets and backbones, those cells."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache

from benchmark import data, grid, methods, presets, protocols, text_sets
from benchmark.backbones import abilities, weights
from benchmark.backbones.precision import AUTO, PRECISIONS
from benchmark.backbones.preprocessing import guessed
from benchmark.commands import protocol_selection
from benchmark.commands.dataset_selection import (
    There,
    is_shipped_and,
    source_and_datasets,
    suite_around,
)
from benchmark.commands.grid_file import Grid
from benchmark.commands.method_settings import (
    Setting,
    Values,
    read_setting,
    rows_of,
    settings_by_method,
    values_given,
)
from benchmark.commands.option_fields import Flags
from benchmark.commands.options.values import one_of, whole_numbers
from benchmark.commands.protocol_selection import is_embedded
from benchmark.errors import UserError, nearest
from benchmark.grid import Cell, Choices
from benchmark.methods import Card
from benchmark.protocols import DOMAIN, FEW_SHOT
from benchmark.records.record import Scalar

FULL_SETS = -1  # of source_shots
SOURCES = ("default", "others", "all", "none")


@dataclass(frozen=True)
class Selection:
    """Cells to run, what was decided for the user, one sentence each, and the same choice as grids
    that leave nothing to decide; of which cells a policy chose the sources, and nobody by name.
    """

    cells: list[Cell]
    remarks: list[str] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    by_policy: frozenset[Cell] = frozenset()


@dataclass(frozen=True)
class ChosenMethod:
    """A method as it was named, and the values given for its parameters."""

    given: str
    card: Card
    values: Values

    @property
    def rows(self) -> list[tuple[Card, dict[str, Scalar]]]:
        return [(self.card, params) for params in rows_of(self.values)]


def announce(selection: Selection) -> None:
    """Print the remarks on stderr."""
    for remark in selection.remarks:
        print(remark, file=sys.stderr)


def select(
    flags: Flags, settings: Sequence[Setting] = (), *, data_needed: bool = True
) -> Selection:
    """The cells that options choose, with `settings` beside those among the options. Where data are
    not needed, every dataset is taken for prepared.

    Raises UserError for an unknown name, with the nearest known one.
    """
    remarks: list[str] = []
    protocol = protocol_selection.protocol_of(flags)
    chosen = _methods(flags, [*map(read_setting, flags.settings), *settings], remarks)
    protocol_selection.require_unbound(protocol, _rows(chosen))

    def there(name: str) -> bool:
        return not data_needed or data.prepared(name, flags.data_root)

    source, datasets = source_and_datasets(flags, remarks, there)
    choices = _choices(flags, protocol, source)
    backbones = [weights.canonical(name) for name in flags.backbones]
    remarks += filter(None, map(guessed, backbones))
    suite_of = _prepared_suite(flags, chosen, remarks, datasets if source else (), there)
    cells: list[Cell] = []
    grids: list[Grid] = []
    for names, taken in _with_backbones(datasets, backbones, source):
        served = chosen if flags.methods else _served(chosen, taken, remarks)
        cells += grid.expand(_rows(served), names, taken, choices, suite_of)
        grids.append(_written(served, names, taken, choices))
    by_policy = cells if choices.sources in SOURCES else ()
    return Selection(cells, remarks, grids, frozenset(by_policy))


def _choices(flags: Flags, protocol: str, source: str) -> Choices:
    usual_shots = grid.SHOTS if protocol == FEW_SHOT else protocols.SHOTS
    return Choices(
        shots=whole_numbers("shots", flags.shots) or usual_shots,
        seeds=whole_numbers("seed", flags.seeds) or grid.SEEDS,
        val=one_of("val", flags.val, grid.VAL_POLICIES),
        sampler=one_of("sampler", flags.sampler, grid.SAMPLERS),
        classes=one_of("classes", flags.classes, grid.CLASSES),
        evaluation=protocol,
        learned_on=source,
        sources=checked_sources(flags.sources),
        source_shots=flags.source_shots,
        precision=one_of("precision", flags.precision, (AUTO, *PRECISIONS)),
        preset=flags.preset,
        texts=list(dict.fromkeys(map(text_sets.reference, flags.texts))) or ("",),
    )


def _rows(chosen: Sequence[ChosenMethod]) -> list[tuple[Card, dict[str, Scalar]]]:
    return [row for method in chosen for row in method.rows]


def _written(
    chosen: Sequence[ChosenMethod], datasets: list[str], backbones: list[str], choices: Choices
) -> Grid:
    """What was chosen, as a grid of a file."""
    values = {each.card.name: each.values for each in chosen if each.values}
    return Grid.model_construct(
        methods=[each.given for each in chosen],
        datasets=datasets,
        shots=list(choices.shots),
        seeds=list(choices.seeds),
        backbones=backbones,
        precision=choices.precision,
        protocol=choices.evaluation,
        learn_from=choices.learned_on or None,
        val=choices.val,
        sampler=choices.sampler,
        classes=choices.classes,
        texts=[name or text_sets.HAND for name in choices.texts],
        sources=choices.sources.split(","),
        source_shots=choices.source_shots,
        preset=choices.preset or None,
        set={name: {key: list(each) for key, each in of.items()} for name, of in values.items()},
    )


def _served(
    chosen: Sequence[ChosenMethod], backbones: Sequence[str], remarks: list[str]
) -> list[ChosenMethod]:
    """Of methods that nobody named, those that all backbones can serve."""
    offers = {name: abilities.offered(name) for name in backbones}
    able = [
        each
        for each in chosen
        if all(set(each.card.needs) <= offered for offered in offers.values())
    ]
    left_out = [each.card.name for each in chosen if each not in able]
    if left_out:
        remarks.append(
            f"left out, because {', '.join(backbones)} cannot serve them: {', '.join(left_out)}"
        )
    return able


def _with_backbones(
    datasets: Sequence[str], chosen: Sequence[str], source: str = ""
) -> list[tuple[list[str], list[str]]]:
    """Datasets and the backbones to run them with.

    By default the embedded suite has its embedded backbone, everything else the standard one; where
    all are tested after learning on one source, they have that one's.
    """
    if chosen:
        return [(list(datasets), list(chosen))]
    if source:
        return [(list(datasets), [protocol_selection.usual_backbone(source)])]
    embedded = list(filter(is_embedded, datasets))
    others = [name for name in datasets if name not in embedded]
    pairs = [(embedded, [weights.TINY]), (others, [weights.STANDARD])]
    return [(names, backbones) for names, backbones in pairs if names]


def _prepared_suite(
    flags: Flags,
    chosen: Sequence[ChosenMethod],
    remarks: list[str],
    tested: Collection[str],
    there: There,
) -> Callable[[str], tuple[str, ...]]:
    """dataset -> what of its suite is prepared and not `tested`, which is what its prior may see.

    Records name each source, so that no two mixtures are confused.
    """
    priors = any(each.card.pretrains for each in chosen) and flags.sources != "none"

    @cache
    def prepared_suite(dataset: str) -> tuple[str, ...]:
        suite = suite_around(dataset)
        others = [
            name
            for name in suite
            if name != dataset and name not in tested and is_shipped_and(there, name)
        ]
        if priors and suite == (dataset,) and flags.sources in SOURCES:
            remarks.append(
                f"{dataset} belongs to no suite, so methods with a prior run without one; "
                "--sources names datasets for it"
            )
        elif priors and len(others) < len(suite) - 1:
            usable = "prepared and not tested" if tested else "prepared"
            remarks.append(
                f"{dataset}: of {len(suite) - 1} other datasets of its suite {len(others)} are "
                f"{usable}; its prior sees {', '.join(others) or 'none, so there is no prior'}"
            )
        return tuple(name for name in suite if name in (dataset, *others))

    return prepared_suite


def _methods(flags: Flags, settings: Sequence[Setting], remarks: list[str]) -> list[ChosenMethod]:
    if flags.preset:
        one_of("preset", flags.preset, presets.PRESETS)
        presets.require_known(flags.preset, flags.methods)
    names = flags.methods or _default_methods(flags, remarks)
    cards = [methods.card(name) for name in names]
    given = settings_by_method(settings, [card.name for card in cards])
    return [
        ChosenMethod(name, card, values_given(card, given[card.name]))
        for name, card in zip(names, cards, strict=True)
    ]


def _default_methods(flags: Flags, remarks: list[str]) -> list[str]:
    """Every method that can take part, but those whose priors read full training sets: they stand
    in no ranking.

    Under a preset those that have it.
    """
    names = presets.methods_with(flags.preset) if flags.preset else methods.names()
    if flags.protocol not in (FEW_SHOT, DOMAIN):
        names = protocol_selection.unbound(names)
    chosen = [name for name in names if methods.card(name).source_shots != FULL_SETS]
    left_out = [name for name in names if name not in chosen]
    remark = f"no --method given: taking all {len(chosen)} ({', '.join(chosen)})"
    if left_out:
        names_left_out = ", ".join(left_out)
        remark += f"; left out, because their priors read full training sets: {names_left_out}"
    remarks.append(remark)
    return chosen


def checked_sources(text: str) -> str:
    """A policy, or names of datasets. UserError for what is neither, and for both."""
    if text in SOURCES:
        return text
    known = [*SOURCES, *data.names()]
    for name in map(str.strip, text.split(",")):
        if name in SOURCES:
            raise UserError(f"--sources takes '{name}' alone, or datasets; leave out one of them")
        if name not in known and not name.endswith(".toml"):
            raise UserError(
                f"--sources takes {', '.join(SOURCES)} or datasets, not '{name}'; "
                f"{nearest(name, known)}"
            )
    return text
