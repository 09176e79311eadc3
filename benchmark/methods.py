"""Method name -> its card, or an adapter instance. The only seam to adapters/.

Cards of our own adapters are made from the fields of `class Adapter` alone, without importing the
file, so that listing methods, checking flags and skipping finished cells needs no torch. A method
from elsewhere is imported, as any Python code that a user names: a file (`./my_method.py`), a
module (`my_method`, `my_lab.my_method`), or an entry point in the group `fsbench.adapters`.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import Distribution, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.errors import UserError, guess, nearest
from benchmark.method_code import INSTALLED, code_digest, mistaken
from benchmark.method_fields import fields_only
from benchmark.parameters import Parameter, build, parameters_of, read
from benchmark.records.record import Scalar

GROUP = "fsbench.adapters"
REQUIRED = {"title": str, "paper": str, "version": int, "few_shot": bool}  # class variables
OF_PRIORS = {"sources": str, "source_shots": int}  # of a method that pretrains
# Files of methods, separated as in PATH. What a user names is added, so that workers find it too.
FILES = "FSBENCH_METHOD_FILES"


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
    # identity: of the code of a method whose `version` nobody answers for (method_code.py)
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


# --- names


def names() -> list[str]:
    """Our own methods, then those of installed plug-ins."""
    ours = own()
    return ours + sorted(name for name in _plug_ins() if name not in ours)


@cache
def _plug_ins() -> dict[str, str]:
    """Entry points of installed packages: method name -> module. Slow, so it is read once."""
    return {point.name: point.value.partition(":")[0] for point in entry_points(group=GROUP)}


def _is_released(name: str, file: Path) -> bool:
    """Whether the file of a method is one of an installed package: a release does not change, while
    the source tree of an editable install does.
    """
    if name not in _plug_ins():
        return False
    points = [point for point in entry_points(group=GROUP) if point.name == name]
    return all(point.dist and _holds(point.dist, file.resolve()) for point in points)


def _holds(package: Distribution, file: Path) -> bool:
    """Whether a package was installed as a copy, and the file with it."""
    try:
        origin = json.loads(package.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            return False
    except (ValueError, AttributeError, RecursionError):  # nobody knows
        return False
    if INSTALLED & set(file.parts):
        return True
    # without RECORD the list would be that of a source tree
    files = package.files if package.read_text("RECORD") else None
    return any(Path(str(each.locate())).resolve() == file for each in files or ())


def own() -> list[str]:
    """Our own methods by file name."""
    return sorted(path.stem for path in _folder().glob("*.py") if not path.stem.startswith("_"))


def preset_file(preset: str, method: str) -> Path:
    """Where the preset of one of our own methods lies, if it has one (benchmark/presets.py)."""
    return _folder() / preset / f"{method}.toml"


def _folder() -> Path:
    spec = importlib.util.find_spec("adapters")
    assert spec is not None, "the package `adapters` is installed with the suite"
    assert spec.submodule_search_locations, "`adapters` is a package"
    return Path(next(iter(spec.submodule_search_locations)))


def stable_name(given: str) -> str:
    """The name of a method in records: for a file its stem, never its path."""
    return Path(given).stem if _is_path(given) else given


def _is_path(given: str) -> bool:
    return given.endswith(".py") or os.sep in given


def require_trusted(names: Iterable[str], trusted: Iterable[str], option: str = "--method") -> None:
    """UserError for a method that a file names, and neither we, a plug-in nor the user.

    `trusted` are the methods given by `option` on the command line; files among them are known by
    their stems from here on. A path is trusted where the same file was given: another one of its
    name is another's. Without this check whoever wrote the file could choose which module runs.
    """
    trusted = list(trusted)
    for file in filter(_is_path, trusted):
        _register(Path(file))
    known = {*own(), *_plug_ins(), *map(stable_name, trusted)}
    for name in names:
        if _is_path(name):
            _require_same_file(name, trusted, option)
        elif name not in known:
            hint = guess(name, sorted(known))
            raise UserError(
                f"the method '{name[:60]}' is a module from elsewhere, whose code would run;"
                f" if you trust it, add {option} {name[:60]}{hint and f' ({hint})'}"
            )


def is_elsewhere(name: str, trusted: Iterable[str]) -> bool:
    """Whether a method that a file names would not pass `require_trusted`."""
    try:
        require_trusted([name], trusted)
    except UserError:
        return True
    return False


def _require_same_file(name: str, trusted: Iterable[str], option: str) -> None:
    if _resolved(name) not in map(_resolved, filter(_is_path, trusted)):
        raise UserError(
            f"the method '{stable_name(name)[:60]}' is a file from elsewhere, whose code would run;"
            f" if you trust it, add {option} {shlex.quote(name)}"
        )


def _resolved(file: str) -> Path:
    try:
        return Path(file).resolve()
    except (OSError, ValueError, RuntimeError):  # no name that a file may have
        return Path(file)


# --- cards


@cache
def card(given: str) -> Card:
    """The card of a method; unknown names raise UserError with the nearest known one."""
    if given in own():
        try:
            return _read(given, _folder() / f"{given}.py")
        except UserError:  # its fields need more than `fields_only` keeps
            return _described(given, _adapter_class(f"adapters.{given}"))
    described = _described(stable_name(given), _adapter(given))
    module = sys.modules[_adapter(given).__module__]
    file = Path(module.__file__ or "")
    if _is_released(given, file):
        return described
    by_path = _is_path(given) or given in _files()
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


def _described(name: str, adapter: type) -> Card:
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


@cache
def training_digest() -> str:
    """Of the code that methods are trained with: adapters/_*.py and benchmark/training/."""
    training = Path(__file__).parent / "training"
    digest = hashlib.sha256()
    for path in sorted([*_folder().glob("_[!_]*.py"), *training.rglob("*.py")]):
        digest.update(f"{path.parent.name}/{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


# --- cards without torch


def _read(name: str, file: Path) -> Card:
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
            f"{file} is no method ({_words(error)}); its class Adapter gives plain values"
            " to its fields"
        ) from error


# --- adapters


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
    if _is_path(given):
        return _class_of(_import_file(Path(given)), given)
    if given in own():
        return _adapter_class(f"adapters.{given}")
    if given in _plug_ins():
        return _adapter_class(_plug_ins()[given])
    if given in _files():
        return _class_of(_import_file(_files()[given]), given)
    if "." in given or _is_module(given):
        return _adapter_class(given)
    raise UserError(
        f"unknown method '{given[:60]}'; {nearest(given, names())}"
        " (one of your own is given by its file, as --method ./my_method.py)"
    )


def _is_module(name: str) -> bool:
    """Whether a top-level module of this name can be imported."""
    _see_working_folder()
    try:
        return name.isidentifier() and importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _see_working_folder() -> None:
    """Modules beside the user can be imported, also when started as `fsbench`."""
    if "" not in sys.path:
        sys.path.insert(0, "")


def _adapter_class(module_name: str) -> Any:
    _see_working_folder()
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise UserError(
            f"'{module_name[:60]}' is no name of a module; give a dotted name, as my_lab.my_method,"
            " or a file, as ./my_method.py"
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # code that is not ours may raise anything
        raise UserError(
            f"cannot import method '{module_name[:60]}' ({_words(error)});"
            " give the dotted name of a module that can be imported"
        ) from error
    return _class_of(module, module_name)


def _class_of(module: ModuleType, given: str) -> Any:
    if not isinstance(getattr(module, "Adapter", None), type):
        raise UserError(
            f"module '{given[-60:]}' has no class Adapter; a method is a module with a dataclass"
            " of that name"
        )
    if not callable(getattr(module.Adapter, "fit", None)):
        raise UserError(
            f"class Adapter of '{given[-60:]}' has no fit(episode), which gives a predictor; add it"
        )
    return module.Adapter


def _import_file(file: Path) -> ModuleType:
    """The module of a file that the user names, remembered under its stem."""
    _register(file)
    name = f"fsbench_method_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"'{str(file)[-60:]}' is no Python file; give one that ends with .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    if str(file.resolve().parent) not in sys.path:
        sys.path.append(str(file.resolve().parent))  # for modules beside the file
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # code that is not ours may raise anything
        del sys.modules[name]
        raise UserError(
            f"cannot import method '{str(file)[-60:]}' ({_words(error)}); correct the file"
        ) from error
    return module


def _register(file: Path) -> None:
    """Notes a file for this process and its workers. UserError for a name that is taken."""
    if not _is_file(file):
        raise UserError(f"there is no file '{str(file)[-60:]}'; give the path of a method's file")
    if not file.stem.isidentifier():
        raise UserError(
            f"there is no method in the file '{str(file)[-60:]}'; give a Python file whose name is"
            " an identifier, as ./my_method.py"
        )
    if file.stem in names():
        raise UserError(
            f"'{file.stem}' is already the name of a method of the suite; rename {str(file)[-60:]}"
        )
    known = _files()
    if known.setdefault(file.stem, file.resolve()) != file.resolve():
        raise UserError(
            f"two files are named {file.name}, and records hold that name only; rename one of them"
        )
    os.environ[FILES] = os.pathsep.join(map(str, known.values()))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long to be one
        return False


def _files() -> dict[str, Path]:
    """Stem -> file of the methods given by file."""
    given = filter(None, os.environ.get(FILES, "").split(os.pathsep))
    return {Path(file).stem: Path(file) for file in given}


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
