"""The names `benchmark` offers: all there, all typed, none imported before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark

ROOT = Path(__file__).resolve().parent.parent
LIGHT = ("Cell", "Store", "UserError", "few_shot", "run")  # these must not need torch


def loaded(statement: str) -> set[str]:
    """The modules of a fresh interpreter after one statement."""
    code = f"import sys; import benchmark; {statement}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("name", benchmark.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(benchmark, name) is not None
    assert name in dir(benchmark)


def test_a_name_is_the_object_of_its_module() -> None:
    from benchmark.api import Episode
    from benchmark.data.sampling import few_shot

    assert benchmark.Episode is Episode
    assert benchmark.few_shot is few_shot


def test_what_type_checkers_see_is_what_is_imported() -> None:
    tree = ast.parse(Path(benchmark.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == benchmark._SOURCES
    assert sorted(typed) == sorted(benchmark.__all__)


@pytest.mark.parametrize("statement", ["pass", *(f"benchmark.{name}" for name in LIGHT)])
def test_light_names_import_no_torch(statement: str) -> None:
    assert "torch" not in loaded(statement)


def test_import_alone_loads_no_other_module_of_ours() -> None:
    assert {name for name in loaded("pass") if name.startswith("benchmark.")} == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Epsiode'"):
        _ = benchmark.Epsiode


def test_types_are_shipped() -> None:
    assert (ROOT / "benchmark" / "py.typed").is_file()
