"""Method name -> its card, or an adapter instance. The only seam to adapters/.

Cards of our own adapters are read from the source without running it, so that listing methods,
checking flags and finding finished cells needs no torch. A method from elsewhere is a dotted module
with `class Adapter`, or an entry point in the group `fsbench.adapters`; it is imported, as any
Python code a user names.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, nearest
from benchmark.records.record import Scalar

GROUP = "fsbench.adapters"
REQUIRED = ("title", "paper", "version", "few_shot")


@dataclass(frozen=True)
class Card:
    """What can be known of a method without running it."""

    name: str
    title: str
    paper: str
    version: int
    few_shot: bool
    summary: str  # first line of the module's docstring
    defaults: dict[str, Scalar]
    types: dict[str, str]
    pretrains: bool = False
    batchable: bool = False  # can train several runs at once (api.Batchable)
    sources: str = ""
    source_shots: int = 0
    source_digest: str = ""  # of the adapter's file: provenance, not identity


def names() -> list[str]:
    """Our own methods, then those of installed plug-ins."""
    ours = own()
    return ours + sorted(name for name in _plug_ins() if name not in ours)


@cache
def _plug_ins() -> dict[str, str]:
    """Entry points of installed packages: method name -> module. Asked for once: it reads what
    every package says of itself.
    """
    return {point.name: point.value.partition(":")[0] for point in entry_points(group=GROUP)}


def own() -> list[str]:
    """Our own methods by file name."""
    return sorted(path.stem for path in _folder().glob("*.py") if not path.stem.startswith("_"))


def _folder() -> Path:
    spec = importlib.util.find_spec("adapters")
    assert spec is not None, "the package `adapters` is installed with the suite"
    assert spec.submodule_search_locations, "`adapters` is a package"
    return Path(next(iter(spec.submodule_search_locations)))


def require_trusted(names: Iterable[str], trusted: Iterable[str]) -> None:
    """UserError for a method that a file names and the user does not, and that is neither ours nor
    an installed plug-in: whoever wrote the file would else choose which module of this machine is
    run.
    """
    for name in names:
        if name not in own() and name not in _plug_ins() and name not in trusted:
            raise UserError(
                f"the method '{name[:60]}' is a module from elsewhere, whose code would run; if you trust it, add --method {name[:60]}"
            )


@cache
def card(name: str) -> Card:
    """The card of a method; unknown names raise UserError with the nearest known one."""
    if name in own():
        return _read(name, _folder() / f"{name}.py")
    return _card_of(name, _adapter_class(_module_name(name)))


def _read(name: str, file: Path) -> Card:
    """The card of a file that is parsed and never run."""
    try:
        source = file.read_text(encoding="utf-8")
        return _parsed(name, source, ast.parse(source))
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        SyntaxError,
        RecursionError,
        MemoryError,
        StopIteration,
    ) as error:
        raise UserError(
            f"{file} is no method ({_words(error)}); its class Adapter gives plain values to its fields"
        ) from error


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _parsed(name: str, source: str, tree: ast.Module) -> Card:
    body = next(
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Adapter"
    ).body
    assigned = [
        node
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
    ]
    values = {node.target.id: ast.literal_eval(node.value) for node in assigned}  # type: ignore[union-attr, arg-type]
    types = {node.target.id: ast.unparse(node.annotation) for node in assigned}  # type: ignore[union-attr]
    facts = {key: values.pop(key) for key, kind in types.items() if kind.startswith("ClassVar")}
    fields = {key: kind for key, kind in types.items() if key in values}
    methods = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    return _card(name, ast.get_docstring(tree) or "", facts, values, fields, methods, source)


def _card(
    name: str,
    doc: str,
    facts: dict[str, Any],
    defaults: dict[str, Scalar],
    types: dict[str, str],
    offers: Set[str],
    source: str,
) -> Card:
    """`offers` names the functions of class Adapter."""
    pretrains = "pretrain" in offers
    missing = [key for key in REQUIRED if key not in facts]
    if missing:
        raise UserError(
            f"method '{name}' does not say its {' and '.join(missing)}; give class Adapter these class variables"
        )
    return Card(
        name=name,
        title=facts["title"],
        paper=facts["paper"],
        version=facts["version"],
        few_shot=facts["few_shot"],
        summary=doc.strip().split("\n")[0],
        defaults=defaults,
        types=types,
        pretrains=pretrains,
        batchable="fit_batch" in offers,
        sources=facts.get("sources", "others" if pretrains else ""),
        source_shots=facts.get("source_shots", 0),
        source_digest=hashlib.sha256(source.encode()).hexdigest()[:12],
    )


def _card_of(name: str, adapter: type) -> Card:
    facts = {
        key: getattr(adapter, key)
        for key in (*REQUIRED, "sources", "source_shots")
        if hasattr(adapter, key)
    }
    if not dataclasses.is_dataclass(adapter):
        raise UserError(
            f"class Adapter of '{name}' is not a dataclass; put @dataclass(frozen=True) above it"
        )
    fields = dataclasses.fields(adapter)
    module = sys.modules[adapter.__module__]
    return _card(
        name,
        module.__doc__ or "",
        facts,
        {field.name: _default(name, field) for field in fields},
        {
            field.name: field.type if isinstance(field.type, str) else field.type.__name__
            for field in fields
        },
        {name for name in dir(adapter) if callable(getattr(adapter, name))},
        Path(module.__file__).read_text() if module.__file__ else "",
    )


def _default(name: str, field: dataclasses.Field[Any]) -> Scalar:
    if field.default is dataclasses.MISSING:
        raise UserError(
            f"hyper-parameter {field.name} of '{name}' has no default; give it one so that the method can run as it is"
        )
    default: Scalar = field.default
    return default


def _module_name(name: str) -> str:
    if name in _plug_ins():
        return _plug_ins()[name]
    if "." in name:
        return name
    if name in names():
        return f"adapters.{name}"
    raise UserError(f"unknown method '{name}'; {nearest(name, names())}")


def _adapter_class(module_name: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(
            0, ""
        )  # a plug-in beside the user's own work, also when started as `fsbench`
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise UserError(
            f"'{module_name[:60]}' is no name of a module; give a dotted name, as my_lab.my_method"
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # of code that is not ours: whatever it raises, the user has named a method that cannot be had
        raise UserError(
            f"cannot import method '{module_name[:60]}' ({_words(error)}); give the dotted name of a module that can be imported"
        ) from error
    if not isinstance(getattr(module, "Adapter", None), type):
        raise UserError(
            f"module '{module_name}' has no class Adapter; a method is a module with a dataclass of that name"
        )
    return module.Adapter


def load(name: str, params: dict[str, Scalar] | None = None) -> Any:
    """An adapter instance with `params` in place of defaults; its own range checks raise UserError."""
    return _adapter_class(_module_name(name))(**checked(card(name), params or {}))


def checked(method: Card, params: dict[str, Scalar]) -> dict[str, Scalar]:
    """`params` with the types of the method's fields; text (from the command line) is read as that
    type.
    """
    for key in params:
        if key not in method.defaults:
            raise UserError(
                f"method '{method.name}' has no parameter '{key}'; {nearest(key, list(method.defaults))}"
            )
    return {key: _typed(method, key, value) for key, value in params.items()}


def _typed(method: Card, key: str, value: Scalar) -> Scalar:
    readers: dict[str, Callable[[Any], Scalar]] = {
        "int": _integer,
        "float": _number,
        "bool": _truth,
        "str": str,
    }
    kind = method.types[key]
    try:
        return readers.get(kind, str)(value)
    except (ValueError, TypeError, OverflowError):
        shown = value[:60] if isinstance(value, str) else type(value).__name__
        raise UserError(
            f"{method.name}.{key} takes a {kind}, so '{shown}' will not do; its default is {method.defaults[key]!r}"
        ) from None


def _integer(value: Scalar) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return int(value)  # type: ignore[arg-type]


def _number(value: Scalar) -> float:
    number = float(value)  # type: ignore[arg-type]
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError
    return number


def _truth(value: Scalar) -> bool:
    if isinstance(value, bool):
        return value
    answers = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if str(value).lower() not in answers:
        raise ValueError
    return answers[str(value).lower()]
