"""What the options of a command mean: names become methods, datasets and backbones, those cells."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from benchmark import data, grid, methods, presets, protocols
from benchmark.backbones import abilities, weights
from benchmark.backbones.precision import AUTO, PRECISIONS
from benchmark.backbones.preprocessing import guessed
from benchmark.commands import protocol_selection
from benchmark.commands.option_fields import Flags
from benchmark.commands.options import one_of, whole_numbers
from benchmark.commands.protocol_selection import is_embedded
from benchmark.errors import MISSING, UserError, nearest
from benchmark.grid import Cell, Choices
from benchmark.methods import Card
from benchmark.protocols import BASE_TO_NEW, DOMAIN, FEW_SHOT, FROM_A_SOURCE
from benchmark.records.record import Scalar

TINY, STANDARD = "tiny", "classic"  # suites
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
    source, datasets = _source_and_datasets(flags, remarks)
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


def suite_around(dataset: str) -> tuple[str, ...]:
    """The suite that a dataset belongs to; a dataset outside of all suites is alone."""
    return next((names for names in data.suites().values() if dataset in names), (dataset,))


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
            if name != dataset and name not in tested and _is_prepared(name, flags.data_root)
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


def _source_and_datasets(flags: Flags, remarks: list[str]) -> tuple[str, list[str]]:
    """The dataset to learn on, '' where that is the tested one, and the datasets to test."""
    if flags.protocol not in FROM_A_SOURCE:
        chosen = _datasets(flags, remarks)
        if flags.protocol == BASE_TO_NEW:
            protocol_selection.require_halves(chosen)
        return "", chosen
    named = bool(flags.datasets or flags.suites)
    chosen = _datasets(flags, remarks) if named or not flags.learn_from else []
    source = protocol_selection.source_of(flags, chosen)
    _require_prepared([source], flags)
    if not named:
        wanted = (
            protocol_selection.variants_of(source)
            if flags.protocol == DOMAIN
            else suite_around(source)
        )
        chosen = _only_prepared(wanted, flags.data_root, remarks)
    if flags.protocol == DOMAIN:
        protocol_selection.require_variants(chosen, source)
    targets = protocols.others(chosen, source)
    if not targets and not named:
        known = "no shifted variants of it are known" if flags.protocol == DOMAIN else ""
        raise UserError(
            f"there is nothing to test but {source} itself; {known or 'name other datasets'}"
        )
    return source, list(targets)


def _datasets(flags: Flags, remarks: list[str]) -> list[str]:
    if not flags.datasets and not flags.suites:
        return _default_datasets(flags, remarks)
    _require_prepared(flags.datasets, flags)
    chosen = [name for suite in flags.suites for name in _suite(suite)]
    prepared = _only_prepared(chosen, flags.data_root, remarks)
    return list(dict.fromkeys([*flags.datasets, *prepared]))


def _require_prepared(names: Sequence[str], flags: Flags) -> None:
    for name in names:
        data.read_spec(name)  # raises for an unknown name
    missing = [name for name in names if not data.prepared(name, flags.data_root)]
    if missing:
        raise UserError(
            f"the data of {', '.join(missing)} are not here; {_remedy(missing)}", exit_code=MISSING
        )


def _suite(name: str) -> tuple[str, ...]:
    suites = data.suites()
    if name not in suites:
        raise UserError(f"unknown suite '{name}'; {nearest(name, list(suites))}")
    return suites[name]


def _default_datasets(flags: Flags, remarks: list[str]) -> list[str]:
    """The prepared standard datasets if there is a backbone for them, else the embedded suite."""
    standard = data.suites()[STANDARD]
    here = [name for name in standard if _is_prepared(name, flags.data_root)]
    if here and (flags.backbones or weights.seem_here(weights.STANDARD)):
        return _only_prepared(standard, flags.data_root, remarks)
    if here:
        lacking = f"{', '.join(here)} prepared, but not the weights of {weights.STANDARD}"
        remedy = f"`python -m benchmark prepare --backbone {weights.STANDARD}` gets them"
    else:
        lacking = "no dataset is prepared"
        remedy = _remedy([f"--suite {STANDARD}"])
    remarks.append(f"{lacking}: taking the embedded suite '{TINY}'; {remedy}")
    return list(data.suites()[TINY])


def _only_prepared(names: Sequence[str], data_root: Path | None, remarks: list[str]) -> list[str]:
    """The prepared ones of `names`: a short grid now is better than a failure in an hour.

    Raises UserError where none is left.
    """
    left_out = [name for name in names if not _is_prepared(name, data_root)]
    if names and len(left_out) == len(names):
        raise UserError(
            f"none of {', '.join(names)} is prepared; {_remedy(left_out)}", exit_code=MISSING
        )
    if left_out:
        remarks.append(f"left out, not prepared: {', '.join(left_out)}; {_remedy(left_out)}")
    return [name for name in names if name not in left_out]


def _is_prepared(name: str, data_root: Path | None) -> bool:
    return name in data.names() and data.prepared(name, data_root)


def _remedy(names: Sequence[str]) -> str:
    command = f"python -m benchmark prepare {' '.join(names)}"
    return f"`{command}` gets them, or --data-root names the folder they are in"


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
