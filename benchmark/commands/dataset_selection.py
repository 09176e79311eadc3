"""Which datasets the options of a command mean, and which of them are prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache

from benchmark import data, protocols
from benchmark.backbones import weights
from benchmark.commands import protocol_selection
from benchmark.commands.option_fields import Flags
from benchmark.commands.recorded_names import backbone_name
from benchmark.errors import MISSING, UserError, nearest
from benchmark.methods import stable_name
from benchmark.protocols import BASE_TO_NEW, DOMAIN, FROM_A_SOURCE
from benchmark.records.record import Record

TINY, STANDARD = "tiny", "classic"  # suites
There = Callable[[str], bool]  # whether a dataset is prepared


def source_and_datasets(flags: Flags, remarks: list[str], there: There) -> tuple[str, list[str]]:
    """The dataset to learn on, '' where that is the tested one, and the datasets to test."""
    if flags.protocol not in FROM_A_SOURCE:
        chosen = _datasets(flags, remarks, there)
        if flags.protocol == BASE_TO_NEW:
            protocol_selection.require_halves(chosen)
        return "", chosen
    named = bool(flags.datasets or flags.suites)
    chosen = _datasets(flags, remarks, there) if named or not flags.learn_from else []
    source = protocol_selection.source_of(flags, chosen)
    _require_prepared([source], there)
    if not named:
        wanted = (
            protocol_selection.variants_of(source)
            if flags.protocol == DOMAIN
            else suite_around(source)
        )
        chosen = _only_prepared(wanted, remarks, there)
    if flags.protocol == DOMAIN:
        protocol_selection.require_variants(chosen, source)
    targets = protocols.others(chosen, source)
    if not targets and not named:
        known = "no shifted variants of it are known" if flags.protocol == DOMAIN else ""
        raise UserError(
            f"there is nothing to test but {source} itself; {known or 'name other datasets'}"
        )
    return source, list(targets)


def suite_around(dataset: str) -> tuple[str, ...]:
    """The suite that a dataset belongs to; a dataset outside of all suites is alone."""
    return next((names for names in data.suites().values() if dataset in names), (dataset,))


def _datasets(flags: Flags, remarks: list[str], there: There) -> list[str]:
    if not flags.datasets and not flags.suites:
        return _default_datasets(flags, remarks, there)
    _require_prepared(flags.datasets, there)
    chosen = [name for suite in flags.suites for name in members(suite)]
    prepared = _only_prepared(chosen, remarks, there)
    return list(dict.fromkeys([*flags.datasets, *prepared]))


def _require_prepared(names: Sequence[str], there: There) -> None:
    for name in names:
        data.read_spec(name)  # raises for an unknown name
    missing = [name for name in names if not there(name)]
    if missing:
        raise UserError(
            f"the data of {', '.join(missing)} are not here; {_remedy(missing)}", exit_code=MISSING
        )


def members(name: str) -> tuple[str, ...]:
    """The datasets of a suite; UserError for an unknown one."""
    suites = data.suites()
    if name not in suites:
        raise UserError(f"unknown suite '{name}'; {nearest(name, list(suites))}")
    return suites[name]


def _default_datasets(flags: Flags, remarks: list[str], there: There) -> list[str]:
    """The prepared standard datasets if there is a backbone for them, else the embedded suite."""
    standard = data.suites()[STANDARD]
    here = [name for name in standard if is_shipped_and(there, name)]
    if here and (flags.backbones or weights.seem_here(weights.STANDARD)):
        return _only_prepared(standard, remarks, there)
    if here:
        lacking = f"{', '.join(here)} prepared, but not the weights of {weights.STANDARD}"
        remedy = f"`python -m benchmark prepare --backbone {weights.STANDARD}` gets them"
    else:
        lacking = "no dataset is prepared"
        remedy = _remedy([f"--suite {STANDARD}"])
    remarks.append(f"{lacking}: taking the embedded suite '{TINY}'; {remedy}")
    return list(data.suites()[TINY])


def with_recorded(flags: Flags, records: Iterable[Record]) -> Flags:
    """The choice of a report: where a run takes what is prepared, what it would take here, and what
    these records say that it took elsewhere.
    """
    if flags.datasets or flags.suites or flags.protocol in FROM_A_SOURCE:
        return flags
    suites = data.suites()
    standard, embedded = suites[STANDARD], suites[TINY]
    recorded = _recorded(flags, records)
    here = set(_default_datasets(flags, [], lambda name: data.prepared(name, flags.data_root)))
    for_want_of_data = here == set(embedded) and not recorded & here
    if for_want_of_data and recorded & set(standard):
        here = set()
    return replace(flags, datasets=[x for x in (*standard, *embedded) if x in here | recorded])


def _recorded(flags: Flags, records: Iterable[Record]) -> set[str]:
    """The datasets of records of the protocol, the methods and the backbones of a grid."""
    names = set(map(stable_name, flags.methods))
    backbones = set(map(backbone_name, flags.backbones))
    return {
        named.dataset
        for named in (record.identity for record in records)
        if named.evaluation == flags.protocol
        and (not names or named.method in names)
        and named.backbone in (backbones or {_usual_backbone(named.dataset)})
    }


@cache
def _usual_backbone(dataset: str) -> str:
    return backbone_name(protocol_selection.usual_backbone(dataset))


def _only_prepared(names: Sequence[str], remarks: list[str], there: There) -> list[str]:
    """The prepared ones of `names`: a short grid now is better than a failure in an hour.

    Raises UserError where none is left.
    """
    left_out = [name for name in names if not is_shipped_and(there, name)]
    if names and len(left_out) == len(names):
        raise UserError(
            f"none of {', '.join(names)} is prepared; {_remedy(left_out)}", exit_code=MISSING
        )
    if left_out:
        remarks.append(f"left out, not prepared: {', '.join(left_out)}; {_remedy(left_out)}")
    return [name for name in names if name not in left_out]


def is_shipped_and(there: There, name: str) -> bool:
    """Whether a member of a suite is a dataset that is known, and `there`."""
    return name in data.names() and there(name)


def _remedy(names: Sequence[str]) -> str:
    command = f"python -m benchmark prepare {' '.join(names)}"
    return f"`{command}` gets them, or --data-root names the folder they are in"
