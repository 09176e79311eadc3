"""Options that several commands share as a group: the fields of a dataclass.

A command decorated with `takes_fields` has one parameter for the whole group; on the command line
every field is an option of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any, get_type_hints

import typer

from benchmark.commands import options as opt
from benchmark.errors import UserError
from benchmark.protocols import FEW_SHOT


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The options of `run` and `plan` that choose cells; an empty list means the default choice."""

    methods: opt.Method = field(default_factory=list)
    protocol: opt.Protocol = FEW_SHOT
    learn_from: opt.LearnFrom = None  # None: imagenet, or tiny_shapes of the embedded suite
    datasets: opt.Dataset = field(default_factory=list)
    suites: opt.Suite = field(default_factory=list)
    shots: opt.Shots = field(default_factory=list)
    seeds: opt.Seed = field(default_factory=list)
    backbones: opt.Backbone = field(default_factory=list)
    settings: opt.Set = field(default_factory=list)  # [method.]key=value
    preset: opt.Preset = ""
    val: opt.Val = "up-to-4"
    sources: opt.Sources = "default"
    source_shots: opt.SourceShots = None  # None: each method's own
    precision: opt.Precision = "auto"
    classes: opt.Classes = "all"
    texts: opt.Texts = field(default_factory=list)
    sampler: opt.Sampler = "coop"
    data_root: opt.DataRoot = None


@dataclass(frozen=True, kw_only=True)
class GridFileFlags:
    """The options of `run` and `plan` about grids that are written down."""

    config: opt.Config = None
    save_config: opt.SaveConfig = None
    trusted: opt.Trust = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RecordFilters:
    """The options that say which records are shown; an empty one keeps all."""

    methods: opt.Method = field(default_factory=list)
    datasets: opt.Dataset = field(default_factory=list)
    backbones: opt.OnlyBackbone = field(default_factory=list)
    suites: opt.OnlySuite = field(default_factory=list)
    shots: opt.OnlyShots = field(default_factory=list)
    seeds: opt.OnlySeed = field(default_factory=list)
    preset: opt.OnlyPreset = ""
    protocol: opt.OfProtocol = ""
    sampler: opt.OnlySampler = ""
    val: opt.OnlyVal = ""
    precision: opt.OnlyPrecision = ""
    config: opt.Config = None
    trusted: opt.Trust = field(default_factory=list)


def given(context: typer.Context) -> set[str]:
    """Names of the parameters that stand on the command line, their defaults written out too."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def refuse_ignored(
    context: typer.Context, names: Collection[str], *, beside: str = "", without: str = ""
) -> None:
    """UserError where parameters in `names` stand on the command line, though they say nothing
    `beside` one option, or `without` another.
    """
    flag_of = {each.name: each.opts[0] for each in context.command.params}
    ignored = sorted(flag_of[name] for name in given(context) & set(names))
    flags, verb = ", ".join(ignored), "goes" if len(ignored) == 1 else "go"
    if ignored and without:
        raise UserError(f"{flags} {verb} with {without}; add that, or leave {flags} out")
    if ignored:
        raise UserError(f"{beside} does not go with {flags}; leave one of them out")


def refuse_trust_alone(context: typer.Context, config: Path | None) -> None:
    """UserError for --trust without the grid file whose methods it is about."""
    if not config:
        refuse_ignored(context, {"trusted"}, without="--config")


def takes_fields(
    command: Callable[..., None], without: Collection[str] = ()
) -> Callable[..., None]:
    """`command` for typer: each parameter that is a dataclass becomes a parameter per field; those
    in `without` are no options and keep their defaults.
    """
    whole = signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in whole.parameters.items()
        if is_dataclass(parameter.annotation)
    }

    @wraps(command)
    def expanded(**values: Any) -> None:
        for name, group in groups.items():
            names = {each.name for each in fields(group)} - set(without)
            values[name] = group(**{each: values.pop(each) for each in names})
        command(**values)

    flat = _expanded_signature(whole, without)
    expanded.__signature__ = flat  # type: ignore[attr-defined]
    expanded.__annotations__ = {each.name: each.annotation for each in flat.parameters.values()}
    return expanded


def _expanded_signature(whole: Signature, without: Collection[str]) -> Signature:
    parameters: list[Parameter] = []
    for parameter in whole.parameters.values():
        if is_dataclass(parameter.annotation):
            own = _field_parameters(parameter.annotation)
            parameters += [each for each in own if each.name not in without]
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
    return whole.replace(parameters=parameters)


def _field_parameters(group: Any) -> list[Parameter]:
    types = get_type_hints(group, include_extras=True)
    parameters = []
    for each in fields(group):
        default = each.default if each.default_factory is MISSING else each.default_factory()
        parameters.append(
            Parameter(
                each.name, Parameter.KEYWORD_ONLY, default=default, annotation=types[each.name]
            )
        )
    return parameters
