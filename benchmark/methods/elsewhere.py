"""`class Adapter` of a method from elsewhere: a file, a module, or an installed plug-in."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.errors import UserError, said
from benchmark.methods.places import names

# Files of methods, separated as in PATH. What a user names is added, so that workers find it too.
FILES = "FSBENCH_METHOD_FILES"


def adapter_class(module_name: str) -> Any:
    """class Adapter of a module that can be imported by its dotted name."""
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
            f"cannot import method '{module_name[:60]}' ({said(error)});"
            " give the dotted name of a module that can be imported"
        ) from error
    return class_of(module, module_name)


def is_module(name: str) -> bool:
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


def class_of(module: ModuleType, given: str) -> Any:
    """class Adapter of a module; `given` names it in sentences."""
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


def import_file(file: Path) -> ModuleType:
    """The module of a file that the user names, remembered under its stem."""
    register(file)
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
            f"cannot import method '{str(file)[-60:]}' ({said(error)}); correct the file"
        ) from error
    return module


def register(file: Path) -> None:
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
    known = files()
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


def files() -> dict[str, Path]:
    """Stem -> file of the methods given by file."""
    given = filter(None, os.environ.get(FILES, "").split(os.pathsep))
    return {Path(file).stem: Path(file) for file in given}
