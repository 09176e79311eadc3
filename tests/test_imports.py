"""The direction of dependencies, as docs/architecture.md draws it, over every import of every file.

Imports behind `if TYPE_CHECKING` and inside functions count as well: a circle is a circle.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = (  # a wing may import from those before it; the top-level modules stand among the wings
    "errors", "paths", "toml_text", "ticks", "reference", "api", "training", "records",
    "parameters", "methods", "protocols", "presets", "text_sets", "grid", "tiny",
    "data", "backbones", "conformance", "features", "compute", "report", "commands", "cli",
    "__main__",
)  # fmt: skip
HEAVY = {"torch", "ray", "open_clip", "torchvision", "timm", "datasets", "sklearn"}
WITH_TORCH = {  # everything else must be importable without torch
    "benchmark.api", "benchmark.training", "benchmark.conformance", "benchmark.tiny.train",
    "benchmark.backbones.clip", "benchmark.backbones.tokenizers",
    "benchmark.backbones.towers", "benchmark.backbones.image_only", "benchmark.backbones.prompting",
    "benchmark.backbones.projection", "benchmark.backbones.local_features",
    "benchmark.features.decoding",
    "benchmark.features.encoding", "benchmark.features.resampling",
    "benchmark.features.image_sets", "benchmark.features.feature_store",
    "benchmark.features.transforms", "benchmark.compute.cell", "benchmark.compute.episode",
    "benchmark.compute.resources", "benchmark.compute.priors", "benchmark.compute.kept_states",
    "benchmark.compute.timing", "benchmark.compute.transfer", "benchmark.compute.metrics",
    "benchmark.compute.macs", "benchmark.compute.provenance", "benchmark.compute.power",
    "benchmark.compute.peak_memory", "benchmark.compute.threads", "benchmark.compute.fitting",
    "benchmark.compute.kept_adapters", "benchmark.compute.loaded_adapters",
    "benchmark.compute.classifier_matrix", "benchmark.features.given_pictures",
}  # fmt: skip


@cache
def modules(folder: str) -> dict[str, Path]:
    """Dotted name -> file of every module below a top-level folder."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return {".".join(_parts(path.relative_to(ROOT).with_suffix(""))): path for path in files}


def _parts(path: Path) -> tuple[str, ...]:
    return path.parts[:-1] if path.name == "__init__" else path.parts


@cache
def imported(path: Path, at_import_only: bool = False) -> set[str]:
    """Dotted names a file imports: anywhere, or only those that run when it is imported itself."""
    names: set[str] = set()
    for node in _at_import(path) if at_import_only else ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _at_import(path: Path) -> list[ast.stmt]:
    """Statements that run on import: not function bodies, not `if TYPE_CHECKING`."""
    statements: list[ast.stmt] = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        nested = isinstance(node, (ast.If, ast.Try))
        statements += (
            [each for each in ast.walk(node) if isinstance(each, ast.stmt)] if nested else [node]
        )
    return statements


@cache
def arrows(folder: str) -> dict[str, set[str]]:
    """Module -> the modules of the same folder it imports, each by the longest name that exists."""
    known = modules(folder)
    graph: dict[str, set[str]] = defaultdict(set)
    for name, path in known.items():
        for target in imported(path):
            while target and target not in known:
                target = target.rpartition(".")[0]
            if target not in {"", folder, name}:
                graph[name].add(target)
    return graph


def wing(name: str) -> str:
    """The room of a dotted name directly below benchmark/."""
    return name.split(".")[1]


@pytest.mark.parametrize("folder", ["benchmark", "adapters", "benches", "tests", "testbed"])
def test_no_module_imports_itself_by_a_detour(folder: str) -> None:
    order = list(TopologicalSorter(arrows(folder)).static_order())  # raises CycleError with names
    assert order


def test_every_module_stands_in_the_drawn_order() -> None:
    unknown = {wing(name) for name in modules("benchmark") if name != "benchmark"} - set(ORDER)
    assert not unknown, (
        f"add these to ORDER and to the tree in docs/architecture.md: {sorted(unknown)}"
    )


@pytest.mark.parametrize("name", [name for name in modules("benchmark") if name != "benchmark"])
def test_no_arrow_points_against_the_drawn_order(name: str) -> None:
    allowed = set(ORDER[: ORDER.index(wing(name)) + 1])
    assert {target for target in arrows("benchmark")[name] if wing(target) not in allowed} == set()


def test_the_order_is_a_test_that_can_fail() -> None:
    """The graph sees what stands inside functions and behind TYPE_CHECKING."""
    assert "benchmark.compute.cell" in arrows("benchmark")["benchmark.compute.executors.worker"]


@pytest.mark.parametrize("name", modules("adapters"))
def test_adapters_know_the_contract_and_their_own_shared_files_only(name: str) -> None:
    ours = {
        each
        for each in imported(modules("adapters")[name])
        if each.split(".")[0] in {"benchmark", "adapters", "benches", "tests", "testbed"}
    }
    allowed = ("benchmark.api.", "benchmark.errors.", "benchmark.training.", "adapters._")
    assert {each for each in ours if not each.startswith(allowed)} == set()


@pytest.mark.parametrize("name", modules("benchmark"))
def test_the_harness_names_no_method_and_nothing_outside_the_package(name: str) -> None:
    outside = {"adapters", "benches", "tests", "testbed"}
    assert not {
        each for each in imported(modules("benchmark")[name]) if each.split(".")[0] in outside
    }


@pytest.mark.parametrize(
    "name", [name for name in modules("benchmark") if not name.startswith(tuple(WITH_TORCH))]
)
def test_light_modules_stay_light_when_imported(name: str) -> None:
    at_import = imported(modules("benchmark")[name], at_import_only=True)
    assert not {
        each
        for each in at_import
        if each.split(".")[0] in HEAVY or each.startswith(tuple(WITH_TORCH))
    }


@pytest.mark.parametrize(
    "name", [name for name in modules("benchmark") if wing(name + ".") == "report"]
)
def test_the_report_never_imports_torch_nor_what_does(name: str) -> None:
    names = imported(modules("benchmark")[name])
    assert not {
        each for each in names if each.split(".")[0] in HEAVY or each.startswith(tuple(WITH_TORCH))
    }


def test_benches_and_tests_do_not_import_each_other() -> None:
    """What both need, naive twins of what is measured and makers of input, lies in testbed/."""
    for folder, other in (("benches", "tests"), ("tests", "benches")):
        for path in modules(folder).values():
            assert not {each for each in imported(path) if each.split(".")[0] == other}, path
    for path in modules("testbed").values():
        assert not {each for each in imported(path) if each.split(".")[0] in {"tests", "benches"}}
