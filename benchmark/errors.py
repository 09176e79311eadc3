"""The exception whose message is shown to users without a traceback, and words for messages."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

MOST_CHARACTERS = 4000  # of a message
MISSING = 4  # exit code where data, weights or a licence are missing


class UserError(Exception):
    """What is wrong, why, and what to do instead, in one sentence.

    `exit_code` is what the command line ends with: 2 for usage, 4 where data or weights are
    missing. `stops` says that no other cell can run either: a disk that is full stays full.
    """

    def __init__(self, message: str, *, exit_code: int = 2, stops: bool = False) -> None:
        super().__init__(one_line(message))
        self.exit_code = exit_code
        self.stops = stops


def one_line(message: str) -> str:
    """`message` on one line of printable characters, cut in the middle where it is too long.

    Text from files of unknown origin could otherwise control the terminal.
    """
    line = " ".join(message.split())
    plain = "".join(character if character.isprintable() else "?" for character in line)
    if len(plain) <= MOST_CHARACTERS:
        return plain
    half = MOST_CHARACTERS // 2
    return f"{plain[:half]} ... {plain[-half:]}"


def nearest(name: str, known: Sequence[str]) -> str:
    """The hint "did you mean 'X'?" for the known name most like `name`, or else all known names."""
    return guess(name, known) or f"known are {', '.join(known) or 'none'}"


def guess(name: str, known: Sequence[str], likeness: float = 0.5) -> str:
    """The hint "did you mean 'X'?" for the known name most like `name`; '' where none is as like
    as that, from 0 to 1.
    """
    close = difflib.get_close_matches(name, known, n=1, cutoff=likeness)
    return f"did you mean '{close[0]}'?" if close else ""


def said(error: Exception) -> str:
    """What an error of code that is not ours says; its type where it says nothing."""
    return str(error) or type(error).__name__


def counted(number: int, noun: str) -> str:
    """'1 cell', '0 cells', '1,200 cells'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
