"""The direction of dependencies, as the README draws it, kept by walking every import statement."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "ray", "open_clip", "torchvision", "timm", "datasets", "pooch", "sklearn"}
TORCH_FREE = (
    "errors", "paths", "record", "grid", "methods", "leases", "store", "watching", "progress", "history", "backbones", "runner", "cli",
    "__main__", "fewshot", "executors/jobs", "executors/worker", "executors/serial", "executors/on_ray", "executors/flights",
    "executors/limits", "executors/logs",
)  # fmt: skip
LAYERS = {  # a module may import from its own layer and from below, never from above
    "errors": 0, "api": 1, "paths": 1, "record": 1, "fewshot": 1,
    "cli": 9, "__main__": 9,
}  # fmt: skip


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Dotted names imported anywhere in a file, or when it is itself imported."""
    tree = ast.parse(path.read_text())
    nodes = _executed(tree) if top_level_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def _executed(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run on import: not function bodies, not `if TYPE_CHECKING`."""
    found: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        found += [child for child in ast.walk(node) if isinstance(child, ast.stmt)] if isinstance(node, (ast.If, ast.Try)) else [node]
    return found


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", modules("adapters"), ids=lambda path: path.stem)
def test_adapters_know_the_contract_and_their_own_shared_files_only(path: Path) -> None:
    ours = {name for name in imports(path) if name.split(".")[0] in {"benchmark", "adapters"}}
    allowed = {name for name in ours if name.startswith(("benchmark.api", "adapters._")) or name in {"adapters", "benchmark"}}
    assert ours == allowed


@pytest.mark.parametrize("path", modules("benchmark"), ids=lambda path: str(path.relative_to(ROOT / "benchmark")))
def test_the_harness_never_names_a_method(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] == "adapters"}


@pytest.mark.parametrize("path", modules("benchmark/report"), ids=lambda path: path.stem)
def test_the_report_never_imports_torch_nor_what_does(path: Path) -> None:
    above = {"benchmark.runner", "benchmark.cells", "benchmark.episodes", "benchmark.features", "benchmark.clip", "benchmark.api"}
    assert not {name for name in imports(path) if name.split(".")[0] in HEAVY or name in above}


@pytest.mark.parametrize("name", TORCH_FREE)
def test_the_light_modules_stay_light_when_imported(name: str) -> None:
    path = ROOT / "benchmark" / f"{name}.py"
    assert not {found for found in imports(path, top_level_only=True) if found.split(".")[0] in HEAVY or found == "benchmark.api"}


@pytest.mark.parametrize("path", modules("benchmark"), ids=lambda path: str(path.relative_to(ROOT / "benchmark")))
def test_nothing_below_imports_the_command_line_and_the_contract_imports_nothing_above(path: Path) -> None:
    name = path.stem if path.parent.name == "benchmark" else path.parent.name
    used = {found.split(".")[1] for found in imports(path) if found.startswith("benchmark.")}
    mine = LAYERS.get(name, 5)
    assert (
        not {other for other in used if LAYERS.get(other, 5) > max(mine, 1)} if mine < 5 else not ({"cli", "__main__"} & used) or mine == 9
    )
