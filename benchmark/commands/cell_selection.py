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
from benchmark.commands.dataset_selection import is_prepared, source_and_datasets, suite_around
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
    """Cells to run, and what was decided for the user, one sentence each."""

    cells: list[Cell]
    remarks: list[str] = field(default_factory=list)


def announce(selection: Selection) -> None:
    """Print the remarks on stderr."""
    for remark in selection.remarks:
        print(remark, file=sys.stderr)


def select(flags: Flags) -> Selection:
    """The cells that options choose.

    Raises UserError for an unknown name, with the nearest known one.
    """
    remarks: list[str] = []
    protocol = protocol_selection.protocol_of(flags)
    cards = _methods(flags, remarks)
    protocol_selection.require_unbound(protocol, cards)
    source, datasets = source_and_datasets(flags, remarks)
    usual_shots = grid.SHOTS if protocol == FEW_SHOT else protocols.SHOTS
    choices = Choices(
        shots=whole_numbers("shots", flags.shots) or usual_shots,
        seeds=whole_numbers("seed", flags.seeds) or grid.SEEDS,
        val=one_of("val", flags.val, grid.VAL_POLICIES),
        sampler=one_of("sampler", flags.sampler, grid.SAMPLERS),
        classes=one_of("classes", flags.classes, grid.CLASSES),
        evaluation=protocol,
        learned_on=source,
        sources=_sources(flags.sources),
        source_shots=flags.source_shots,
        precision=one_of("precision", flags.precision, (AUTO, *PRECISIONS)),
        preset=flags.preset,
        texts=list(dict.fromkeys(map(text_sets.reference, flags.texts))) or ("",),
    )
    chosen = [weights.canonical(name) for name in flags.backbones]
    remarks += filter(None, map(guessed, chosen))
    suite_of = _prepared_suite(flags, cards, remarks, datasets if source else ())
    cells: list[Cell] = []
    for names, backbones in _with_backbones(datasets, chosen, source):
        served = cards if flags.methods else _served(cards, backbones, remarks)
        cells += grid.expand(served, names, backbones, choices, suite_of)
    return Selection(cells, remarks)


def _served(
    cards: Sequence[tuple[Card, dict[str, Scalar]]], backbones: Sequence[str], remarks: list[str]
) -> list[tuple[Card, dict[str, Scalar]]]:
    """Of methods that nobody named, those that all backbones can serve."""
    offers = {name: abilities.offered(name) for name in backbones}
    able = [
        (card, params)
        for card, params in cards
        if all(set(card.needs) <= offered for offered in offers.values())
    ]
    left_out = [card.name for card, _ in cards if card not in [each for each, _ in able]]
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
        usual = weights.TINY if is_embedded(source) else weights.STANDARD
        return [(list(datasets), [usual])]
    embedded = list(filter(is_embedded, datasets))
    others = [name for name in datasets if name not in embedded]
    pairs = [(embedded, [weights.TINY]), (others, [weights.STANDARD])]
    return [(names, backbones) for names, backbones in pairs if names]


def _prepared_suite(
    flags: Flags,
    cards: Sequence[tuple[Card, object]],
    remarks: list[str],
    tested: Collection[str],
) -> Callable[[str], tuple[str, ...]]:
    """dataset -> what of its suite is prepared and not `tested`, which is what its prior may see.

    Records name each source, so that no two mixtures are confused.
    """
    priors = any(card.pretrains for card, _ in cards) and flags.sources != "none"

    @cache
    def prepared_suite(dataset: str) -> tuple[str, ...]:
        suite = suite_around(dataset)
        others = [
            name
            for name in suite
            if name != dataset and name not in tested and is_prepared(name, flags.data_root)
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


def _methods(flags: Flags, remarks: list[str]) -> list[tuple[Card, dict[str, Scalar]]]:
    if flags.preset:
        one_of("preset", flags.preset, presets.PRESETS)
        presets.require_known(flags.preset, flags.methods)
    chosen = flags.methods or _default_methods(flags, remarks)
    cards = [methods.card(name) for name in chosen]
    given = settings_by_method(flags.settings, [card.name for card in cards])
    return [(card, methods.checked(card, given[card.name])) for card in cards]


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


def settings_by_method(
    settings: Sequence[str], names: Sequence[str]
) -> dict[str, dict[str, Scalar]]:
    """method -> parameters as text.

    A bare key goes to every method; a later setting replaces an earlier one.
    """
    given: dict[str, dict[str, Scalar]] = {name: {} for name in names}
    for setting in settings:
        target, equals, value = setting.partition("=")
        method, _, key = target.rpartition(".")
        if not equals or not key:
            raise UserError(
                f"--set takes key=value or method.key=value, not '{setting}'; "
                "for example --set coop.n_ctx=4"
            )
        if method and method not in given:
            raise UserError(
                f"--set {setting}: '{method}' is not among the chosen methods; "
                f"{nearest(method, list(names))}"
            )
        for name in [method] if method else names:
            given[name][key] = value
    return given


def _sources(text: str) -> str:
    if text in SOURCES:
        return text
    known = [*SOURCES, *data.names()]
    for name in map(str.strip, text.split(",")):
        if name not in known and not name.endswith(".toml"):
            raise UserError(
                f"--sources takes {', '.join(SOURCES)} or datasets, not '{name}'; "
                f"{nearest(name, known)}"
            )
    return text
