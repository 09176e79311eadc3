"""Hyper-parameters of a method: the fields of its dataclass, with their types, and values for them.

A field holds a JSON scalar, is optional, a Literal, or a group: a frozen dataclass of such fields.
Fields of groups are named without the group (`lr`, not `training.lr`), so a name occurs once.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter

from benchmark.errors import UserError, nearest
from benchmark.records.record import Scalar

SCALARS = (str, int, float, bool, type(None))
WORDS = {
    str: "printable text",
    int: "an integer",
    float: "a finite number",
    bool: "true or false",
    type(None): "none",
}


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter: its resolved type, its default, and the groups that lead to it."""

    type: Any
    default: Scalar
    groups: tuple[str, ...] = ()


Parameters = Mapping[str, Parameter]


def parameters_of(method: str, adapter: type) -> dict[str, Parameter]:
    """The hyper-parameters of a dataclass. UserError for a type or a default that cannot be."""
    parameters: dict[str, Parameter] = {}
    for name, parameter in _fields(method, adapter, ()):
        if name in parameters:
            raise UserError(
                f"hyper-parameter {name} of '{method}' occurs twice, in its groups or beside them;"
                " names are flat, so rename one of them"
            )
        parameters[name] = parameter
    return parameters


def _fields(method: str, owner: Any, groups: tuple[str, ...]) -> Iterator[tuple[str, Parameter]]:
    """The fields of a dataclass, or of an instance that is a group, depth first."""
    kinds = _resolved(method, owner if isinstance(owner, type) else type(owner))
    for field in dataclasses.fields(owner):
        kind = kinds[field.name]
        default = _default(method, field) if isinstance(owner, type) else getattr(owner, field.name)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            if not isinstance(default, kind):
                raise _unfit(method, field.name, kind.__name__, default)
            yield from _fields(method, default, (*groups, field.name))
        else:
            yield field.name, _parameter(method, field.name, kind, default, groups)


def _resolved(method: str, kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except Exception as error:  # an annotation may be any expression
        raise UserError(
            f"the annotations of '{method}' cannot be resolved ({error});"
            " import what they name, outside of `if TYPE_CHECKING`"
        ) from error


def _default(method: str, field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise UserError(
        f"hyper-parameter {field.name} of '{method}' has no default;"
        " give it one so that the method can run as it is"
    )


def _parameter(
    method: str, name: str, kind: Any, default: Any, groups: tuple[str, ...]
) -> Parameter:
    if not all(_is_allowed(member) for member in _members(kind)):
        raise UserError(
            f"hyper-parameter {name} of '{method}' has the type {kind}; use str, int, float, bool,"
            " one of these | None, a Literal, or a frozen dataclass of such fields"
        )
    try:
        return Parameter(kind, _value(kind, default), groups)
    except ValueError:
        raise _unfit(method, name, described(kind), default) from None


def _unfit(method: str, name: str, wanted: str, default: Any) -> UserError:
    return UserError(
        f"hyper-parameter {name} of '{method}' takes {wanted}, so its default {default!r:.60}"
        " will not do"
    )


def _members(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type there is."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _is_allowed(member: Any) -> bool:
    if typing.get_origin(member) is Literal:
        return all(isinstance(choice, SCALARS) for choice in typing.get_args(member))
    return member in SCALARS


def takes_text(kind: Any) -> bool:
    """Whether any text is a value of the type."""
    return str in _members(kind)


def _choices(kind: Any) -> list[Scalar]:
    """The values that a type names one by one, None included."""
    choices: list[Scalar] = []
    for member in _members(kind):
        if typing.get_origin(member) is Literal:
            choices += typing.get_args(member)
        if member is type(None):
            choices.append(None)
    return choices


def described(kind: Any) -> str:
    """A type in words: 'an integer or none', 'end, middle or front'."""
    words = []
    for member in _members(kind):
        named = typing.get_origin(member) is Literal
        words += [str(choice) for choice in typing.get_args(member)] if named else [WORDS[member]]
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def read(method: str, parameters: Parameters, params: Mapping[str, Any]) -> dict[str, Scalar]:
    """`params` under flat names, each with the type of its field; text is read as that type.

    A group may be given as a mapping of its fields. Raises UserError for a name or value unknown.
    """
    values: dict[str, Scalar] = {}
    for name, value in _flat(method, parameters, params):
        if name not in parameters:
            hint = nearest(name, list(parameters))
            raise UserError(f"method '{method}' has no parameter '{name}'; {hint}")
        if name in values:
            raise UserError(f"{method}.{name} is given twice, by itself and in its group")
        values[name] = _read(method, name, parameters[name], value)
    return values


def _flat(
    method: str, parameters: Parameters, params: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if not isinstance(value, Mapping):
            yield name, value
            continue
        members = [key for key, parameter in parameters.items() if name in parameter.groups]
        for key, inner in _flat(method, parameters, value):
            if key not in members:
                raise UserError(
                    f"method '{method}' has no parameter '{key}' in a group '{name}';"
                    f" {nearest(key, members)}"
                )
            yield key, inner


def _read(method: str, name: str, parameter: Parameter, value: Any) -> Scalar:
    try:
        return _value(parameter.type, value)
    except ValueError:
        shown = value[:60] if isinstance(value, str) else repr(value)[:60]
        raise UserError(
            f"{method}.{name} takes {described(parameter.type)}, so '{shown}' will not do;"
            f" its default is {parameter.default!r}"
        ) from None


def _value(kind: Any, value: Any) -> Any:
    """The value as its type. ValueError where it is none, as a bool is no number here."""
    if isinstance(value, str):
        for choice in _choices(kind):
            if value == str(choice) or (choice is None and value.lower() == "none"):
                return choice
    if isinstance(value, bool) and bool not in _members(kind) and value not in _choices(kind):
        raise ValueError
    if isinstance(value, str) and not value.isprintable():  # no record may have it
        raise ValueError
    return _adapter(kind).validate_python(value)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """pydantic's reader of a type; its errors are ValueErrors."""
    return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False, coerce_numbers_to_str=True))


def build(adapter: type, parameters: Parameters, values: Mapping[str, Scalar]) -> Any:
    """An instance of the dataclass with `values` in place of defaults, groups filled in."""
    return _replaced(adapter(), parameters, values, ())


def _replaced(
    owner: Any, parameters: Parameters, values: Mapping[str, Scalar], groups: tuple[str, ...]
) -> Any:
    changes: dict[str, Any] = {
        name: value for name, value in values.items() if parameters[name].groups == groups
    }
    for field in dataclasses.fields(owner):
        inner = getattr(owner, field.name)
        if dataclasses.is_dataclass(inner):
            changes[field.name] = _replaced(inner, parameters, values, (*groups, field.name))
    return dataclasses.replace(owner, **changes)
