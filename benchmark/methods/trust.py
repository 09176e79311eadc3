"""Which methods may run that a file names: a grid, a record or a submission of somebody else."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from benchmark.errors import UserError, guess
from benchmark.methods.elsewhere import register
from benchmark.methods.places import is_path, own, plug_ins, stable_name

MISSPELT = 0.8  # so like a known name that it is likely meant


def require_trusted(names: Iterable[str], trusted: Iterable[str], option: str = "--method") -> None:
    """UserError for a method that a file names, and neither we, a plug-in nor the user.

    `trusted` are the methods given by `option` on the command line; files among them are known by
    their stems from here on. A path is trusted where the same file was given: another one of its
    name is another's. Without this check whoever wrote the file could choose which module runs.
    """
    trusted = list(trusted)
    for file in filter(is_path, trusted):
        register(Path(file))
    known = {*own(), *plug_ins(), *map(stable_name, trusted)}
    for name in names:
        if is_path(name):
            _require_same_file(name, trusted, option)
        elif name not in known:
            hint = guess(name, sorted(known), MISSPELT)
            raise UserError(
                f"the method '{name[:60]}' is a module from elsewhere, whose code would run;"
                f" if you trust it, add {option} {name[:60]}{_or_file(name, option)}"
                f"{hint and f' ({hint})'}"
            )


def _or_file(name: str, option: str) -> str:
    """A record does not tell a module from a file, which is what most people have."""
    return f", or its file as {option} ./{name[:60]}.py" if name.isidentifier() else ""


def is_elsewhere(name: str, trusted: Iterable[str]) -> bool:
    """Whether a method that a file names would not pass `require_trusted`."""
    try:
        require_trusted([name], trusted)
    except UserError:
        return True
    return False


def _require_same_file(name: str, trusted: Iterable[str], option: str) -> None:
    if _resolved(name) not in map(_resolved, filter(is_path, trusted)):
        raise UserError(
            f"the method '{stable_name(name)[:60]}' is a file from elsewhere, whose code would run;"
            f" if you trust it, add {option} {shlex.quote(name)}"
        )


def _resolved(file: str) -> Path:
    try:
        return Path(file).resolve()
    except (OSError, ValueError, RuntimeError):  # no name that a file may have
        return Path(file)
