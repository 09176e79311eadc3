"""Which datasets and suites there are: the file names in datasets_cfg/, and suites.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, nearest

SUITES = "suites"


@cache
def names() -> tuple[str, ...]:
    """Every shipped dataset, alphabetically."""
    stems = (Path(file.name).stem for file in _folder().iterdir() if file.name.endswith(".toml"))
    return tuple(sorted(stem for stem in stems if stem != SUITES))


@cache
def suites() -> dict[str, tuple[str, ...]]:
    """Suite name -> its datasets, in the order of datasets_cfg/suites.toml."""
    return read_suites(_folder() / f"{SUITES}.toml")


def read_suites(file: Traversable) -> dict[str, tuple[str, ...]]:
    """Suite name -> its datasets, of a TOML that holds nothing but lists of names."""
    contents = parse(file)
    for suite, members in contents.items():
        if not isinstance(members, list) or not all(isinstance(name, str) for name in members):
            raise UserError(f"{file}: suite '{suite}' is not a list of names; correct it")
    return {suite: tuple(members) for suite, members in contents.items()}


def expand(selected: Sequence[str]) -> tuple[str, ...]:
    """Datasets that names, suites and "all" (every shipped one) stand for, each once, in order."""
    known = {**{name: (name,) for name in names()}, **suites(), "all": names()}
    for name in selected:
        if name not in known and not name.endswith(".toml"):
            raise UserError(f"unknown dataset or suite '{name}'; {nearest(name, tuple(known))}")
    members = (member for name in selected for member in known.get(name, (name,)))
    return tuple(dict.fromkeys(members))


def find(name: str) -> Traversable:
    """The TOML of a shipped dataset, or the file itself where `name` is a path ending in .toml.

    Raises UserError where there is none, with the nearest known name.
    """
    if not name.endswith(".toml"):
        if name not in names():
            raise UserError(f"unknown dataset '{name}'; {nearest(name, names())}")
        return _folder() / f"{name}.toml"
    if not _is_file(name):
        raise UserError(
            f"dataset file {name} is not there; give the path of an existing TOML "
            f"or one of `list datasets`"
        )
    return Path(name)


def parse(file: Traversable) -> dict[str, Any]:
    """The contents of a TOML file; UserError where it is no TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    # ValueError: no TOML, no UTF-8, or a number of too many digits.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid TOML ({error}); correct the line named") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from error


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a name longer than any file may have
        return False


def _folder() -> Traversable:
    return resources.files("datasets_cfg")
