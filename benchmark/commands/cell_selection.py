"""What the flags of a command mean: names become methods, datasets, backbones, and those become
cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from benchmark import data, grid, methods
from benchmark.backbones import weights
from benchmark.errors import MISSING, UserError, nearest
from benchmark.grid import Cell, Choices
from benchmark.methods import Card
from benchmark.records.record import Scalar

TINY, STANDARD = "tiny", "classic"  # suites
FULL_SETS = -1  # of source_shots
MOST_DIGITS = 9  # of a number of shots or a seed
SOURCES = ("default", "others", "all", "none")


@dataclass(frozen=True)
class Flags:
    """The flags of `run` and `plan` as given; empty means that the user left the choice to us."""

    methods: Sequence[str] = ()
    datasets: Sequence[str] = ()
    suites: Sequence[str] = ()
    shots: Sequence[str] = ()
    seeds: Sequence[str] = ()
    backbones: Sequence[str] = ()
    val: str = "up-to-4"
    sources: str = "default"
    classes: str = "all"
    sampler: str = "coop"
    settings: Sequence[str] = ()  # [method.]key=value
    root: Path | None = None


@dataclass(frozen=True)
class Selection:
    """Cells to run, and what was decided for the user, one sentence each."""

    cells: list[Cell]
    remarks: list[str] = field(default_factory=list)


def select(flags: Flags) -> Selection:
    """Raises UserError for whatever names nothing, with the nearest name that does."""
    remarks: list[str] = []
    cards = _methods(flags, remarks)
    datasets = _datasets(flags, remarks)
    choices = Choices(
        shots=_integers("shots", flags.shots) or grid.SHOTS,
        seeds=_integers("seed", flags.seeds) or grid.SEEDS,
        val=_one_of("val", flags.val, grid.VAL_POLICIES),
        sampler=_one_of("sampler", flags.sampler, grid.SAMPLERS),
        classes=_one_of("classes", flags.classes, grid.CLASSES),
        sources=_sources(flags.sources),
    )
    chosen = [weights.canonical(name) for name in flags.backbones]
    around = _prepared_around(flags, cards, remarks)
    cells = [
        cell
        for names, backbone in _with_backbones(datasets, chosen)
        for cell in grid.expand(cards, names, backbone, choices, around)
    ]
    return Selection(cells, remarks)


def _with_backbones(
    datasets: Sequence[str], chosen: Sequence[str]
) -> list[tuple[list[str], list[str]]]:
    """The embedded suite has its embedded backbone, everything else the field's standard one,
    unless the user chose.
    """
    if chosen:
        return [(list(datasets), list(chosen))]
    embedded = [name for name in datasets if name in data.suites()[TINY]]
    others = [name for name in datasets if name not in embedded]
    return [
        (names, [backbone])
        for names, backbone in ((embedded, weights.TINY), (others, weights.STANDARD))
        if names
    ]


def suite_around(dataset: str) -> tuple[str, ...]:
    """The suite that a dataset belongs to; a dataset outside of all suites is alone."""
    return next((names for names in data.suites().values() if dataset in names), (dataset,))


def _prepared_around(
    flags: Flags, cards: Sequence[tuple[Card, object]], remarks: list[str]
) -> Callable[[str], tuple[str, ...]]:
    """What a prior may see beside a dataset: what of its suite is prepared. The record names each,
    so no two mixtures are confused.
    """

    @cache
    def around(dataset: str) -> tuple[str, ...]:
        suite = suite_around(dataset)
        here = tuple(name for name in suite if name == dataset or _is_here(name, flags.root))
        if (
            len(here) < len(suite)
            and any(card.pretrains for card, _ in cards)
            and flags.sources != "none"
        ):
            rest = (
                ", ".join(name for name in here if name != dataset)
                or "no other dataset, so there is no prior"
            )
            remarks.append(
                f"{dataset}: of {len(suite)} datasets of its suite {len(here)} are prepared; its prior sees {rest}"
            )
        return here

    return around


def _methods(flags: Flags, remarks: list[str]) -> list[tuple[Card, dict[str, Scalar]]]:
    names = list(flags.methods) or _rankable(remarks)
    given = _settings(flags.settings, names)
    return [(card, methods.checked(card, given[card.name])) for card in map(methods.card, names)]


def _rankable(remarks: list[str]) -> list[str]:
    """Every method but those whose prior reads full training sets: their numbers stand beside no
    others.
    """
    names = methods.names()
    chosen = [name for name in names if methods.card(name).source_shots != FULL_SETS]
    left_out = [name for name in names if name not in chosen]
    rest = (
        f"; left out, because their priors read full training sets: {', '.join(left_out)}"
        if left_out
        else ""
    )
    remarks.append(f"no --method given: taking all {len(chosen)} ({', '.join(chosen)}){rest}")
    return chosen


def _settings(settings: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Scalar]]:
    """method -> parameters as text. A bare key goes to every method, a later setting over an
    earlier one.
    """
    given: dict[str, dict[str, Scalar]] = {name: {} for name in names}
    for setting in settings:
        target, equals, value = setting.partition("=")
        method, _, key = target.rpartition(".")
        if not equals or not key:
            raise UserError(
                f"--set takes key=value or method.key=value, not '{setting}'; for example --set coop.n_ctx=4"
            )
        if method and method not in given:
            raise UserError(
                f"--set {setting}: '{method}' is not among the chosen methods; {nearest(method, list(names))}"
            )
        for name in [method] if method else names:
            given[name][key] = value
    return given


def _datasets(flags: Flags, remarks: list[str]) -> list[str]:
    if not flags.datasets and not flags.suites:
        return _whatever_is_here(flags, remarks)
    for name in flags.datasets:
        data.read_spec(name)  # raises for an unknown name
    missing = [name for name in flags.datasets if not data.prepared(name, flags.root)]
    if missing:
        raise UserError(
            f"the data of {', '.join(missing)} are not here; {_how_to(missing)}", exit_code=MISSING
        )
    chosen = [name for suite in flags.suites for name in _suite(suite)]
    return list(dict.fromkeys([*flags.datasets, *_only_prepared(chosen, flags.root, remarks)]))


def _suite(name: str) -> tuple[str, ...]:
    suites = data.suites()
    if name not in suites:
        raise UserError(f"unknown suite '{name}'; {nearest(name, list(suites))}")
    return suites[name]


def _whatever_is_here(flags: Flags, remarks: list[str]) -> list[str]:
    """The standard datasets that are prepared, where there is a backbone to run them with; the
    embedded suite otherwise.
    """
    here = [name for name in data.suites()[STANDARD] if _is_here(name, flags.root)]
    if here and (flags.backbones or weights.seem_here(weights.STANDARD)):
        return _only_prepared(data.suites()[STANDARD], flags.root, remarks)
    lacking = (
        f"{', '.join(here)} prepared, but not the weights of {weights.STANDARD}"
        if here
        else "no dataset is prepared"
    )
    remedy = (
        f"`python -m benchmark prepare --backbone {weights.STANDARD}` gets them"
        if here
        else _how_to(["--suite " + STANDARD])
    )
    remarks.append(f"{lacking}: taking the embedded suite '{TINY}'; {remedy}")
    return list(data.suites()[TINY])


def _only_prepared(names: Sequence[str], root: Path | None, remarks: list[str]) -> list[str]:
    """Rather a short grid now than a failure in an hour; with nothing left there is nothing to do."""
    left_out = [name for name in names if not _is_here(name, root)]
    if names and len(left_out) == len(names):
        raise UserError(
            f"none of {', '.join(names)} is prepared; {_how_to(left_out)}", exit_code=MISSING
        )
    if left_out:
        remarks.append(f"left out, not prepared: {', '.join(left_out)}; {_how_to(left_out)}")
    return [name for name in names if name not in left_out]


def _is_here(name: str, root: Path | None) -> bool:
    return name in data.names() and data.prepared(name, root)


def _how_to(names: Sequence[str]) -> str:
    return f"`python -m benchmark prepare {' '.join(names)}` gets them, or --data-root says where they lie"


def _sources(text: str) -> str:
    if text in SOURCES:
        return text
    known = [*SOURCES, *data.names()]
    for name in map(str.strip, text.split(",")):
        if name not in known and not name.endswith(".toml"):
            raise UserError(
                f"--sources takes {', '.join(SOURCES)} or datasets, not '{name}'; {nearest(name, known)}"
            )
    return text


def _one_of(flag: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise UserError(
            f"--{flag} takes {' or '.join(allowed)}, not '{value}'; {nearest(value, list(allowed))}"
        )
    return value


def _integers(flag: str, values: Sequence[str]) -> list[int]:
    for value in values:
        if not value.isdecimal() or len(value) > MOST_DIGITS:
            raise UserError(
                f"--{flag} takes whole numbers separated by commas, not '{value[:60]}'; for example --{flag} 1,2,4"
            )
    return [int(value) for value in values]
