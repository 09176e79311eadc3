"""Presets: a method with the settings of its released code, dataset by dataset.

The settings of a preset stand in adapters/PRESET/METHOD.toml as rules. A rule says `when` it holds
(every condition that it names; no condition: always) and what it changes; a later rule overrides
an earlier one. Beside hyper-parameters (`set`) a rule may change what the harness decides: texts,
the sources of a prior, and what settings are selected on. Selection on the full validation split
or on the test set exists in presets only, because releases do it; such records are diagnostics.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark import methods, protocols
from benchmark.errors import UserError
from benchmark.records.record import BEYOND_FEW_SHOT, Identity, Scalar

PRESETS = ("released",)
Condition = Literal["dataset", "shots", "classes", "backbone"]  # fields of the cell learned from


class Changes(BaseModel):
    """What a preset changes of one cell; None leaves the choice to the user."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    set: dict[str, Scalar] = {}  # hyper-parameters
    val: Literal["up-to-4", "none", "full", "test"] | None = None
    selection: Literal["test"] | None = None  # a labelled set beside the validation set
    templates: tuple[str, ...] | None = None  # in place of the dataset's own
    underscores: bool | None = None  # True: of class names are left in texts
    sources: str | None = None  # of a prior, as in --sources
    source_shots: Annotated[int, Field(ge=-1)] | None = None


class Rule(Changes):
    """Changes, and the values of a cell's fields at which they hold."""

    when: dict[Condition, list[str | int]] = {}

    def holds(self, cell: Mapping[str, object]) -> bool:
        return all(cell.get(name) in values for name, values in self.when.items())


class Preset(BaseModel):
    """A file of rules. `source` names the code that they were read in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    rules: list[Rule]


def methods_with(preset: str) -> list[str]:
    """Our own methods that have this preset."""
    return [name for name in methods.own() if methods.preset_file(preset, name).is_file()]


def changes(preset: str, method: str, cell: Mapping[str, object]) -> Changes:
    """What the preset changes of a cell, given by its fields.

    Raises UserError for a method without it, and for hyper-parameters that the method lacks.
    """
    merged: dict[str, Any] = {"set": {}}
    for rule in _read(preset, method).rules:
        if rule.holds(cell):
            given = rule.model_dump(exclude_none=True, exclude={"when", "set"})
            merged |= given | {"set": merged["set"] | rule.set}
    merged["set"] = methods.checked(methods.card(method), merged["set"])
    return Changes(**merged)


def of_record(identity: Identity) -> Changes:
    """What the preset of a record says for its cell."""
    learned = identity.model_dump() | {
        "dataset": next(iter(identity.learned_on), identity.dataset),
        "classes": protocols.learned_classes(identity.evaluation, identity.classes),
    }
    return changes(identity.preset, identity.method, learned)


def overrides(identity: Identity) -> dict[str, Scalar]:
    """The hyper-parameters of a record that are not what its preset says for its cell."""
    expected = methods.card(identity.method).defaults | of_record(identity).set
    return {
        name: value for name, value in identity.params.items() if expected.get(name, ...) != value
    }


def is_diagnostic(identity: Identity) -> bool:
    """Whether settings were selected with more labels than the cell's shots allow."""
    return identity.val in BEYOND_FEW_SHOT or bool(identity.selection)


@cache
def _read(preset: str, method: str) -> Preset:
    file = methods.preset_file(preset, method)
    if method not in methods.own() or not file.is_file():
        have = methods_with(preset)
        raise UserError(
            f"method '{method[:60]}' has no preset '{preset}', because no released code has"
            f" settings for it; these have one: {', '.join(have)}"
        )
    try:
        return Preset(**tomllib.loads(file.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise UserError(f"{file} is no preset ({error}); correct it") from error


def require_known(preset: str, chosen: Sequence[str]) -> None:
    """UserError where one of the methods has no such preset, with those of them that have it."""
    have = methods_with(preset)
    lacking = [method[:60] for method in chosen if method not in have]
    able = [method for method in chosen if method in have]
    if lacking:
        do = f"leave {'it' if len(lacking) == 1 else 'them'} out: --method {','.join(able or have)}"
        raise UserError(
            f"no released code has settings for {', '.join(lacking)}, so --preset {preset} is not"
            f" for {'it' if len(lacking) == 1 else 'them'}; {do}"
        )
    for method in chosen:
        _read(preset, method)
