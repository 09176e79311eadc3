"""Keys of records, or their first digits, as people give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark.errors import UserError, guess

EXAMPLE_KEY = "b11fdd36fd8a"
MOST_NAMED = 3  # keys
MOST_HINTED = 50  # keys: among more of them the nearest one means nothing


def find_key(folder: Path, prefix: str, what: str, where: Path) -> str:
    """The stem of the one JSON file in `folder` that is or begins with `prefix`.

    `what` the files are and `where` people know them to lie stand in the UserError that is raised
    unless there is exactly one.
    """
    # anything else could be a pattern or a path to another folder
    if not prefix.isalnum() or len(prefix) > len(EXAMPLE_KEY):
        raise UserError(
            f"'{prefix[:60]}' is no key of a record; keys are digits and letters, "
            f"as '{EXAMPLE_KEY}'"
        )
    prefix = prefix.lower()
    keys = sorted(path.stem for path in folder.glob(f"{prefix}*.json"))
    if len(keys) > 1 and prefix not in keys:
        raise UserError(
            f"'{prefix}' begins {len(keys)} keys ({', '.join(keys[:5])}); give more digits"
        )
    if not keys:
        every = [path.stem for path in folder.glob("*.json")]
        hint = guess(prefix, every) if len(every) < MOST_HINTED else ""
        raise UserError(f"no {what} {prefix} in {where}; {hint or _among(sorted(every))}")
    return prefix if prefix in keys else keys[0]


def _among(keys: Sequence[str]) -> str:
    """'3 are there, as A, B, C', of any number; 'none is there'."""
    as_these = f", as {', '.join(keys[:MOST_NAMED])}" if keys else ""
    return f"{len(keys) or 'none'} {'is' if len(keys) < 2 else 'are'} there{as_these}"
