"""What is known of a method without running it."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, said
from benchmark.methods.fields import fields_only
from benchmark.parameters import Parameter, parameters_of
from benchmark.records.record import Scalar

REQUIRED = {"title": str, "paper": str, "version": int, "few_shot": bool}  # class variables
OF_PRIORS = {"sources": str, "source_shots": int}  # of a method that pretrains


@dataclass(frozen=True)
class Card:
    """What is known of a method without running it."""

    name: str
    title: str
    paper: str
    version: int
    few_shot: bool
    summary: str  # first line of the module's docstring
    parameters: dict[str, Parameter]  # by flat name, in the order of the fields
    pretrains: bool = False
    batchable: bool = False  # can train several runs at once (api.Batchable)
    keeps: bool = False  # what it learns can be stored (api.Keepable)
    transfers: bool = False  # what it learns may serve other classes (api.Transferable)
    transfers_at: Mapping[str, Scalar] = field(default_factory=dict)  # where it does
    needs: tuple[str, ...] = ()  # of a backbone (backbones/abilities.py)
    transductive: bool = False  # predicts all test images together
    sources: str = ""
    source_shots: int = 0
    source_digest: str = ""  # of the adapter's file: provenance, not identity
    # identity: of the code of a method whose `version` nobody answers for (methods/code.py)
    code: str = ""

    @property
    def defaults(self) -> dict[str, Scalar]:
        """Flat name -> default."""
        return {name: parameter.default for name, parameter in self.parameters.items()}

    def bound(self, params: Mapping[str, Scalar]) -> str:
        """Why what is learned with `params` in place of defaults serves the learned classes only;
        nothing where it serves others as well.
        """
        sentence = f"{self.name} is bound to the classes it has learned"
        if not self.transfers:
            return sentence
        values = {**self.defaults, **params}
        needed = [
            f"--set {self.name}.{name}={value}"
            for name, value in self.transfers_at.items()
            if values[name] != value
        ]
        return f"{sentence} without {' '.join(needed)}" if needed else ""


def read_file(name: str, file: Path) -> Card:
    """The card of a file of which only the fields are evaluated.

    Raises UserError where that is not enough.
    """
    try:
        source = file.read_bytes()
        tree = ast.parse(source)
        return _card(name, fields_only(name, tree), ast.get_docstring(tree) or "", source)
    except UserError:
        raise
    except Exception as error:  # a file may hold anything
        raise UserError(
            f"{file} is no method ({said(error)}); its class Adapter gives plain values"
            " to its fields"
        ) from error


def described(name: str, adapter: type) -> Card:
    module = sys.modules[adapter.__module__]
    source = Path(module.__file__).read_bytes() if module.__file__ else b""
    return _card(name, adapter, module.__doc__ or "", source)


def _card(name: str, adapter: type, doc: str, source: bytes) -> Card:
    _require_class_variables(name, adapter)
    if not dataclasses.is_dataclass(adapter):
        raise UserError(
            f"class Adapter of '{name}' is not a dataclass; put @dataclass(frozen=True) above it"
        )
    pretrains = hasattr(adapter, "pretrain")
    keeps = hasattr(adapter, "learn") and hasattr(adapter, "predictor")
    return Card(
        name=name,
        **{key: getattr(adapter, key) for key in REQUIRED},
        summary=doc.strip().split("\n")[0],
        parameters=parameters_of(name, adapter),
        pretrains=pretrains,
        batchable=hasattr(adapter, "fit_batch"),
        keeps=keeps,
        transfers=keeps and getattr(adapter, "transfers", True),
        transfers_at=getattr(adapter, "transfers_at", {}),
        needs=tuple(getattr(adapter, "needs", ())),
        transductive=bool(getattr(adapter, "transductive", False)),
        sources=getattr(adapter, "sources", ""),
        source_shots=getattr(adapter, "source_shots", 0),
        source_digest=hashlib.sha256(source).hexdigest()[:12],
    )


def _require_class_variables(name: str, adapter: Any) -> None:
    """UserError for what class Adapter does not say of itself, or says in another type."""
    pretrains = hasattr(adapter, "pretrain")
    required = {**REQUIRED, **(OF_PRIORS if pretrains else {})}
    missing = [key for key in required if not hasattr(adapter, key)]
    if missing:
        raise UserError(
            f"method '{name}' does not say its {' and '.join(missing)};"
            " give class Adapter these class variables"
        )
    if pretrains and not hasattr(adapter, "pretraining"):
        raise UserError(
            f"method '{name}' has pretrain, but no pretraining, which says what a prior depends on;"
            " give class Adapter this method"
        )
    for key, kind in required.items():
        value = getattr(adapter, key)
        if type(value) is not kind:
            raise UserError(
                f"{key} of '{name}' is {value!r}, which is no {kind.__name__}; "
                "give the class variable one"
            )
    if not adapter.title.strip():
        raise UserError(f"the title of '{name}' is empty; tables need one to name its rows")
    if adapter.version < 0:
        raise UserError(f"the version of '{name}' is {adapter.version}; count from 1")
