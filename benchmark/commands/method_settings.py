"""Hyper-parameters as --set and grid files give them. Several values of one are a sweep: every
combination is a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from benchmark import methods
from benchmark.errors import UserError, nearest
from benchmark.methods import Card
from benchmark.parameters import takes_text
from benchmark.records.record import Scalar

MOST_ROWS = 10_000  # of one method
Values = Mapping[str, Sequence[Scalar]]  # parameter -> one value, or several of a sweep


@dataclass(frozen=True)
class Setting:
    """A hyper-parameter of one method, or of all where `method` is empty."""

    method: str
    key: str
    value: object  # a value, text that is read as one, or a list of values


def read_setting(text: str) -> Setting:
    """[METHOD.]KEY=VALUE, as --set takes it."""
    target, equals, value = text.partition("=")
    method, _, key = target.rpartition(".")
    if not equals or not key:
        raise UserError(
            f"--set takes key=value or method.key=value, not '{text}'; "
            "for example --set coop.n_ctx=4"
        )
    return Setting(method, key, value)


def settings_by_method(
    settings: Iterable[Setting], names: Sequence[str]
) -> dict[str, dict[str, object]]:
    """method -> what is given for its parameters.

    A bare key goes to every method; a later setting replaces an earlier one.
    """
    given: dict[str, dict[str, object]] = {name: {} for name in names}
    for setting in settings:
        if setting.method and setting.method not in given:
            raise UserError(
                f"--set {setting.method}.{setting.key}={setting.value}: '{setting.method}' is not "
                f"among the chosen methods; {nearest(setting.method, list(names))}"
            )
        for name in [setting.method] if setting.method else names:
            given[name][setting.key] = setting.value
    return given


def values_given(card: Card, given: Mapping[str, object]) -> Values:
    """The values of every parameter that was given, with the type of its field.

    Raises UserError for a name or a value that the method does not have, and for too many rows.
    """
    values = {
        name: [methods.checked(card, {name: each})[name] for each in _parts(card, name, value)]
        for name, value in given.items()
    }
    if (count := prod(map(len, values.values()))) > MOST_ROWS:
        raise UserError(
            f"the values given for {card.name} make {count:,} rows, more than {MOST_ROWS:,}; "
            "take fewer"
        )
    return values


def rows_of(values: Values) -> list[dict[str, Scalar]]:
    """The hyper-parameters of every row: one row, or one for each combination of a sweep."""
    return [dict(zip(values, row, strict=True)) for row in product(*values.values())]


def _parts(card: Card, name: str, value: object) -> Sequence[object]:
    """The values of one parameter. Commas part them, but in a parameter that may be any text."""
    if isinstance(value, list):
        return value
    parameter = card.parameters.get(name)
    if isinstance(value, str) and parameter and not takes_text(parameter.type):
        return [part.strip() for part in value.split(",")]
    return [value]
