"""Method name -> its card, or an adapter instance. The only seam to adapters/.

Cards of our own adapters are made from the fields of `class Adapter` alone, without importing the
file, so that listing methods, checking flags and skipping finished cells needs no torch. A method
from elsewhere is imported, as any Python code that a user names: a file (`./my_method.py`), a
module (`my_method`, `my_lab.my_method`), or an entry point in the group `fsbench.adapters`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, nearest
from benchmark.methods import cards, elsewhere, places
from benchmark.methods.cards import Card
from benchmark.methods.code import code_digest, mistaken
from benchmark.methods.elsewhere import FILES
from benchmark.methods.places import names, own, preset_file, stable_name
from benchmark.methods.trust import is_elsewhere, require_trusted
from benchmark.parameters import build, read
from benchmark.records.record import Scalar

__all__ = [
    "FILES",
    "Card",
    "card",
    "checked",
    "is_elsewhere",
    "load",
    "names",
    "own",
    "preset_file",
    "require_trusted",
    "stable_name",
    "training_digest",
]


@cache
def card(given: str) -> Card:
    """The card of a method; unknown names raise UserError with the nearest known one."""
    if given in own():
        try:
            return cards.read_file(given, places.folder() / f"{given}.py")
        except UserError:  # its fields need more than `fields_only` keeps
            return cards.described(given, elsewhere.adapter_class(f"adapters.{given}"))
    described = cards.described(stable_name(given), _adapter(given))
    module = sys.modules[_adapter(given).__module__]
    file = Path(module.__file__ or "")
    if places.is_released(given, file):
        return described
    by_path = places.is_path(given) or given in elsewhere.files()
    return dataclasses.replace(described, code=_code(file, "" if by_path else module.__name__))


def _code(file: Path, module: str) -> str:
    """The digest of the code of a method that is a file or a module.

    Raises UserError where another module of the same name is imported in place of a digested one.
    """
    for name, meant, found in mistaken(file, module):
        raise UserError(
            f"{file.name} imports '{name}' from {found} and not from {meant};"
            " rename one of the two modules"
        )
    return code_digest(file, module)


def load(given: str, params: Mapping[str, Any] | None = None) -> Any:
    """An adapter instance with `params` in place of defaults.

    Its own checks of hyper-parameters raise UserError.
    """
    method = card(given)
    return build(_adapter(given), method.parameters, checked(method, params or {}))


def checked(method: Card, params: Mapping[str, Any]) -> dict[str, Scalar]:
    """`params` by flat name, with the types of the fields; see `parameters.read`."""
    return read(method.name, method.parameters, params)


def _adapter(given: str) -> Any:
    """class Adapter of a method, wherever it is from."""
    if places.is_path(given):
        return elsewhere.class_of(elsewhere.import_file(Path(given)), given)
    if given in own():
        return elsewhere.adapter_class(f"adapters.{given}")
    if given in places.plug_ins():
        return elsewhere.adapter_class(places.plug_ins()[given])
    if given in elsewhere.files():
        return elsewhere.class_of(elsewhere.import_file(elsewhere.files()[given]), given)
    if "." in given or elsewhere.is_module(given):
        return elsewhere.adapter_class(given)
    raise UserError(
        f"unknown method '{given[:60]}'; {nearest(given, names())}"
        " (one of your own is given by its file, as --method ./my_method.py)"
    )


@cache
def training_digest() -> str:
    """Of the code that methods are trained with: adapters/_*.py and benchmark/training/."""
    training = Path(__file__).parent.parent / "training"
    digest = hashlib.sha256()
    for path in sorted([*places.folder().glob("_[!_]*.py"), *training.rglob("*.py")]):
        digest.update(f"{path.parent.name}/{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
