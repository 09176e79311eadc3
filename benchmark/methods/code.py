"""What a method from elsewhere is made of: its file and what that imports from beside it.

The digest of these files names a record together with the method, because nobody promises that an
edited file has another `version`. Nothing is imported or executed: import statements are read. What
is loaded otherwise (data files, modules imported by a computed name) is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from benchmark.errors import UserError

SUITE = {"benchmark", "adapters", "datasets_cfg"}  # has versions of its own
INSTALLED = {"site-packages", "dist-packages"}  # folders of packages that have versions


def code_digest(file: Path, module: str = "") -> str:
    """The first 12 hex digits of a sha256 over the file of a method and its helpers.

    `module` is the dotted name that the file is imported by; empty for a file given by its path,
    whose helpers lie in its own folder. The digest does not depend on where the folder lies.
    UserError for a link to a file that lies in fewer folders than its name has.
    """
    root = _root(file.resolve(), module)
    digest = hashlib.sha256()
    for path in sorted(_reached(file.resolve(), root, module.partition(".")[0])):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def mistaken(file: Path, module: str = "") -> Iterator[tuple[str, Path, str]]:
    """Modules that `code_digest` takes from one file while Python takes them from another: the
    name, the digested file, and where Python finds it. To be asked after the import.
    """
    root = _root(file.resolve(), module)
    for path in sorted(_reached(file.resolve(), root, module.partition(".")[0])):
        inside = path.relative_to(root).with_suffix("").parts
        name = ".".join(inside[:-1] if inside[-1] == "__init__" else inside)
        if path != file.resolve() and name:
            found = _found(name, path)
            if found is None or Path(found).resolve() != path:
                yield name, path, found or "Python itself"


def _found(name: str, path: Path) -> str | None:
    """The file of a module: of what is imported, else of what would be; `path` where nothing is
    found. None for a module without a file.
    """
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    # of a module within a package the search would run the package
    spec = None if "." in name else importlib.util.find_spec(name)
    return spec.origin if spec else str(path)


def _root(file: Path, module: str) -> Path:
    """The folder from which the file's absolute imports start."""
    depth = module.count(".") + (bool(module) and file.name == "__init__.py")
    if depth >= len(file.parents):
        raise UserError(f"{file} lies in too few folders to be {module}; name the file by its path")
    return file.parents[depth]


def _reached(file: Path, root: Path, package: str) -> set[Path]:
    """The file, and every file below `root` that an import statement leads to."""
    reached: set[Path] = set()
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += _imported(path, root, package)
    return reached


def _imported(path: Path, root: Path, package: str) -> Iterator[Path]:
    """Files of modules that `path` imports, of the packages around them as well."""
    here = path.relative_to(root).parts[:-1]
    for parts in _names(path, here):
        foreign = root.name in INSTALLED and parts[:1] != (package,)
        if parts[0] in SUITE or foreign:
            continue
        for count in range(1, len(parts) + 1):
            module = root.joinpath(*parts[:count])
            yield from (
                each
                for each in (module.with_suffix(".py"), module / "__init__.py")
                if each.is_file()
            )


def _names(path: Path, here: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The parts of every name that may be a module; `here` are the packages around the file."""
    with suppress(SyntaxError, ValueError):  # then it cannot be imported either
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                yield from (tuple(alias.name.split(".")) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                around = here[: len(here) + 1 - node.level] if node.level else ()
                base = (*around, *(node.module.split(".") if node.module else ()))
                yield from ((*base, alias.name) for alias in node.names)
