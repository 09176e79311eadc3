"""Checks of hyper-parameters, each a UserError that names the parameter and its value."""

from __future__ import annotations

import math

from benchmark.errors import UserError

MOST_STEPS = 10_000  # of a range of numbers


def at_least(low: float, **values: float) -> None:
    """Every named value is finite and no smaller than `low`."""
    for name, value in values.items():
        if not math.isfinite(value) or value < low:
            raise UserError(
                f"{name}={value} is out of range: it must be a number of {low:g} or more"
            )


def at_most(high: float, **values: float) -> None:
    """No named value is greater than `high`."""
    for name, value in values.items():
        if value > high:
            raise UserError(f"{name}={value} is out of range: it must be at most {high:g}")


def above_zero(**values: float) -> None:
    """Every named value is finite and greater than 0."""
    for name, value in values.items():
        if not math.isfinite(value) or value <= 0:
            raise UserError(f"{name}={value} is out of range: it must be a number greater than 0")


def share(**values: float) -> None:
    """Every named value lies in (0, 1]."""
    for name, value in values.items():
        if not 0 < value <= 1:
            raise UserError(
                f"{name}={value} is out of range: it is a share, so more than 0 and at most 1"
            )


def decay(**values: float) -> None:
    """Every named value lies in [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UserError(f"{name}={value} is out of range: it must be 0 or more and less than 1")


def one_of(known: tuple[str, ...], **values: str) -> None:
    """Every named value is one of `known`."""
    for name, value in values.items():
        if value not in known:
            raise UserError(f"{name}='{value}' is not a choice; take one of {', '.join(known)}")


def numbers(name: str, text: str, low: float) -> tuple[float, ...]:
    """'0,0.1,1' as ascending numbers of `low` or more, each once.

    'from:to:count' stands for so many even steps from the first on; `to` is not among them.
    """
    try:
        values = sorted({value for part in text.split(",") for value in _values(part)})
    except ValueError:
        raise UserError(
            f"{name}='{text}' is not a list of numbers;"
            " write them with commas between, as in '0.1,1,10', or as a range, '0.1:10:200'"
        ) from None
    for value in values:
        at_least(low, **{name: value})
    return tuple(values)


def _values(part: str) -> list[float]:
    """A number, or those of a range 'from:to:count'."""
    if ":" not in part:
        return [float(part)]
    first, end, count = part.split(":")
    if not 0 < int(count) <= MOST_STEPS:
        raise ValueError
    return [float(first) + i * (float(end) - float(first)) / int(count) for i in range(int(count))]


def by_shots(name: str, text: str) -> tuple[tuple[float, int], ...]:
    """'1:50,4:100' as ((1, 50), (4, 100)), and '200' as ((inf, 200),), by ascending shots."""
    pairs = [part.split(":") for part in text.split(",")]
    pairs = [pair if len(pair) == 2 else ["inf", *pair] for pair in pairs]
    try:
        table = [(float(most), int(value)) for most, value in pairs]
    except ValueError:
        raise UserError(
            f"{name}='{text}' cannot be read; write one number, or pairs as in '1:50,4:100,16:200'"
        ) from None
    at_least(0, **{name: min(value for _, value in table)})
    return tuple(sorted(table))


def value_at(table: tuple[tuple[float, int], ...], shots: int) -> int:
    """The value of the first row that reaches `shots`; the last row's beyond all of them."""
    return next((value for most, value in table if shots <= most), table[-1][1])
