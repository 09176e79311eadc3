"""The fields of a method's `class Adapter`, evaluated without running its file: no torch is needed.

Only plain values, and groups of them, are evaluated; whatever computes is refused.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from typing import Any

LIGHT = ("dataclasses", "typing", "adapters._settings")  # all that fields of ours are made from
PLAIN = (
    ast.AnnAssign,
    ast.Assign,
    ast.Attribute,
    ast.BinOp,
    ast.BitOr,
    ast.Call,
    ast.Constant,
    ast.Dict,
    ast.List,
    ast.Name,
    ast.Subscript,
    ast.Tuple,
    ast.USub,
    ast.UnaryOp,
    ast.expr_context,
    ast.keyword,
)


def fields_only(name: str, tree: ast.Module) -> type:
    """`class Adapter` with its fields and the names of its methods, and nothing else of the file.

    Imports from LIGHT and module variables are kept where a field needs them. Raises NameError
    where that is not enough, ValueError where a field is more than plain values and groups.
    """
    (adapter,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Adapter")
    fields = [node for node in adapter.body if isinstance(node, ast.AnnAssign)]
    stubs = [_stub(method) for node in adapter.body for method in _methods_in(node)]
    needed = _names([*fields, *adapter.decorator_list, *adapter.bases])
    imports: list[ast.stmt] = []
    variables: list[ast.stmt] = []
    for node in reversed(tree.body):
        if isinstance(node, ast.Assign) and _targets(node) & needed:
            variables.insert(0, node)
            needed |= _names([node])
        if isinstance(node, ast.ImportFrom):
            imports += _light(node, needed)
    _require_plain([*variables, *fields], _imported(imports))
    body = [*fields, *stubs] or [ast.Pass()]
    stand_in = ast.ClassDef("Adapter", adapter.bases, [], body, adapter.decorator_list)
    if sys.version_info >= (3, 12):
        stand_in.type_params = []
    module = ast.fix_missing_locations(ast.Module([*imports, *variables, stand_in], []))
    namespace: dict[str, Any] = {"__name__": f"adapters.{name}"}
    exec(compile(module, f"{name}.py", "exec", dont_inherit=True), namespace)
    return namespace["Adapter"]


def _methods_in(node: ast.stmt) -> Iterable[str]:
    """The name of a method that is defined, or the names of those taken from a module, as by `fit,
    learn = _transfer.fit, _transfer.learn`.
    """
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    if not isinstance(node, ast.Assign):
        return []
    values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
    taken = all(isinstance(value, ast.Attribute) for value in values)
    return sorted(_names(node.targets)) if taken else []


def _stub(name: str) -> ast.FunctionDef:
    """A method of that name that does nothing."""
    stub = ast.parse(f"def {name}(self, *_, **__): pass").body[0]
    assert isinstance(stub, ast.FunctionDef)
    return stub


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    inner = (each for node in nodes for each in ast.walk(node))
    return {each.id for each in inner if isinstance(each, ast.Name)}


def _targets(node: ast.Assign) -> set[str]:
    return {target.id for target in node.targets if isinstance(target, ast.Name)}


def _light(node: ast.ImportFrom, needed: set[str]) -> list[ast.ImportFrom]:
    """The import reduced to what is needed; nothing of a module that is not light."""
    aliases = [alias for alias in node.names if (alias.asname or alias.name) in needed]
    return [ast.ImportFrom(node.module, aliases, 0)] if aliases and node.module in LIGHT else []


def _imported(imports: Iterable[ast.stmt]) -> set[str]:
    nodes = [node for node in imports if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in nodes for alias in node.names}


def _require_plain(nodes: Iterable[ast.AST], functions: set[str]) -> None:
    """ValueError for an expression that does more than build values with what is imported."""
    for node in (inner for each in nodes for inner in ast.walk(each)):
        if not isinstance(node, PLAIN):
            raise ValueError(f"{type(node).__name__} computes a value")
        if isinstance(node, ast.Call) and not _names([node.func]) <= functions:
            raise ValueError("a value calls a function")
