"""The README is run: its Python blocks as they stand, its commands as far as they parse."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
COMMANDS = [
    line.split("#")[0].split(">")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.startswith("python -m benchmark ")
]


@pytest.mark.parametrize("block", PYTHON, ids=[block.strip().splitlines()[0] for block in PYTHON])
def test_python_blocks_run_as_they_stand(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "block.py").write_text(block)
    runpy.run_path(str(tmp_path / "block.py"))


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.split()[3] in {"run", "plan", "list"}])
def test_commands_parse_and_plan(command: str, tmp_path: Path) -> None:
    words = shlex.split(command.replace("/your/datasets", str(tmp_path)))[1:]
    words += ["--dry-run"] if words[2] == "run" else []
    result = subprocess.run([sys.executable, *words], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    missing_data = 4 if "classic" in command else 0
    assert result.returncode == missing_data, result.stderr
    assert "Traceback" not in result.stderr


def test_the_tree_in_the_readme_names_what_is_there() -> None:
    tree = re.search(r"```text\n(benchmark/.*?)```", README, re.S)
    assert tree
    folder = ROOT
    for line in tree.group(1).splitlines():
        name = line.split()[0]
        folder = ROOT / name if not line.startswith(" ") else folder
        path = folder / name if line.startswith(" ") else folder
        assert path.exists(), f"the README names {name}, which is not there"
