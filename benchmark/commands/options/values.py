"""Values of options, read and checked: lists, numbers, names, paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from benchmark.errors import UserError, guess
from benchmark.protocols import PROTOCOLS

DEFAULT = Path("results")
List = list[str]
NOTHING: List = []  # the default of every list: the choice is left to the suite
MOST_DIGITS = 9  # of a number of shots or a seed
LONGEST_RANGE = 10_000  # numbers


def words(option: typer.CallbackParam, values: List) -> list[str]:
    """Commas and repetition mean the same: ['a,b', 'c'] -> ['a', 'b', 'c'], each once.

    Raises UserError for an empty value: an unset shell variable must not choose everything.
    """
    parts = [word.strip() for value in values for word in value.split(",")]
    if not all(parts):
        raise UserError(
            f"{option.opts[0]} has an empty value; name what you want, or leave the option out"
        )
    return list(dict.fromkeys(parts))


def whole_numbers(flag: str, values: Sequence[str]) -> list[int]:
    """A list of whole numbers, as --shots and --seed take it."""
    for value in values:
        if not value.isdecimal() or len(value) > MOST_DIGITS:
            raise UserError(
                f"--{flag} takes whole numbers separated by commas, not '{value[:60]}'; "
                f"for example --{flag} 1,2,4 or --{flag} 1-10"
            )
    return [int(value) for value in values]


def numbers(option: typer.CallbackParam, values: List) -> list[str]:
    """`words` in which 2-5 stands for 2, 3, 4 and 5; what is no number is left as it is."""
    return expanded(option.opts[0].strip("-"), words(option, values))


def expanded(flag: str, values: Sequence[str]) -> list[str]:
    """`values` with every range FIRST-LAST written out. UserError for an empty or a long one."""
    return list(dict.fromkeys(each for value in values for each in _range(flag, value)))


def _range(flag: str, value: str) -> Sequence[str]:
    ends = [end.strip() for end in value.split("-")]
    if len(ends) != 2 or not all(end.isdecimal() and len(end) <= MOST_DIGITS for end in ends):
        return [value]
    first, last = map(int, ends)
    if not first <= last < first + LONGEST_RANGE:
        raise UserError(
            f"--{flag} takes a range as 1-10, from a smaller to a larger number and of at most "
            f"{LONGEST_RANGE:,} numbers, not '{value}'"
        )
    return list(map(str, range(first, last + 1)))


def source_shots(number: int | None) -> int | None:
    """A number of images per class as --source-shots takes it, -1 included."""
    if number is not None and not -1 <= number < 10**MOST_DIGITS:
        raise UserError(
            f"--source-shots takes a number of images per class, 0 for as many as the cell or -1 "
            f"for full training sets, not {number}"
        )
    return number


def one_of(flag: str, value: str, allowed: Sequence[str]) -> str:
    """`value`; UserError with the nearest allowed one where it is not allowed."""
    if value not in allowed:
        hint = guess(value, allowed)
        sentence = f"--{flag} takes {', '.join(allowed)}, not '{value}'"
        raise UserError(f"{sentence}; {hint}" if hint else sentence)
    return value


def known_protocol(name: str) -> str:
    """`name`, which may be empty; UserError where there is no such protocol."""
    return one_of("protocol", name, PROTOCOLS) if name else ""


def path(value: str | Path) -> Path:
    """A path as it was given; UserError for an empty one, which would mean the folder at hand."""
    if not str(value).strip():
        raise UserError(
            "a path is empty, as an unset shell variable is; name it, or leave the option out"
        )
    return Path(value)


def require_folder(flag: str, path: Path | None) -> None:
    """UserError where `path` is a file or lies below one; a folder may still have to be made."""
    if path is None:
        return
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not existing.is_dir():
        raise UserError(f"--{flag} takes a folder, and {existing} is a file; name another one")
