"""Keys of records, or their first digits, as people give them."""

from __future__ import annotations

from pathlib import Path

from benchmark.errors import UserError, nearest

EXAMPLE_KEY = "b11fdd36fd8a"
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
        hint = f"; {nearest(prefix, every)}" if every and len(every) < MOST_HINTED else ""
        raise UserError(f"no {what} {prefix} in {where}{hint}")
    return prefix if prefix in keys else keys[0]
