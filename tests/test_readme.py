"""The README is run: its Python blocks as they stand, its commands as far as they parse."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_imports import ORDER

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
COMMANDS = [
    line.split("#")[0].split(">")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("python -m benchmark ")
]


@pytest.mark.parametrize("block", PYTHON, ids=[block.strip().splitlines()[0] for block in PYTHON])
def test_python_blocks_run_as_they_stand(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "block.py").write_text(block)
    runpy.run_path(str(tmp_path / "block.py"))


PLANNED = [
    line
    for line in COMMANDS
    if line.split()[3] in {"run", "plan", "list"} and "pets.toml" not in line
]


@pytest.mark.parametrize("command", PLANNED)
def test_commands_parse_and_plan(command: str, tmp_path: Path) -> None:
    words = shlex.split(command.replace("/your/datasets", str(tmp_path)))[1:]
    words += ["--dry-run"] if words[2] == "run" else []
    result = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    missing_data = 4 if "classic" in command else 0
    assert result.returncode == missing_data, result.stderr
    assert "Traceback" not in result.stderr


def test_your_own_data_work_as_copied(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 5)):
        for shade, name in enumerate(("cat", "dog", "sea_horse")):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = (rng.integers(0, 90, (40, 50, 3)) + 80 * shade).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.jpg")
    (tmp_path / "pets.toml").write_text(re.search(r"```toml\n(.*?)```", README, re.S)[1])  # type: ignore[index]
    for command in (line for line in COMMANDS if "pets.toml" in line):
        words = [sys.executable, *shlex.split(command)[1:]]
        result = subprocess.run(
            words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
    assert "Tip-Adapter" in result.stdout
    assert len(list((tmp_path / "results" / "records").glob("*.json"))) == 7


def test_the_tree_in_the_readme_names_what_is_there() -> None:
    tree = re.search(r"```text\n(benchmark/.*?)```", README, re.S)
    assert tree
    folder = ROOT
    for line in tree.group(1).splitlines():
        name = line.split()[0]
        folder = ROOT / name if not line.startswith(" ") else folder
        path = folder / name if line.startswith(" ") else folder
        assert path.exists(), f"the README names {name}, which is not there"


def test_the_tree_in_the_readme_is_the_drawn_order() -> None:
    tree = re.search(r"```text\nbenchmark/.*?\n(.*?)\nadapters/", README, re.S)
    assert tree
    names = [line.split()[0].rstrip("/").removesuffix(".py") for line in tree[1].splitlines()]
    assert tuple(names) == tuple(name for name in ORDER if name != "__main__")


def test_no_line_is_longer_than_100_characters() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        lines = (ROOT / page).read_text().splitlines()
        assert [line for line in lines if len(line) > 100] == [], page
