"""What is installed is what is there; versions are named, hosts are not."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed() -> None:
    """setuptools is told the packages one by one; a forgotten one would be missing from the wheel
    only.
    """
    there = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for top in ("benchmark", "adapters")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == there | {"datasets_cfg"}


def test_every_data_file_of_a_package_has_a_listed_ending() -> None:
    endings = {
        pattern.lstrip("*") for pattern in PROJECT["tool"]["setuptools"]["package-data"]["*"]
    }
    for top in ("benchmark", "adapters", "datasets_cfg"):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and path.suffix not in {".py", ".pyc"}:
                assert path.suffix in endings or path.name in endings, path


def test_constraints_name_versions_of_every_dependency_and_nothing_else() -> None:
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line) for line in lines)
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    needed = {
        re.split(r"[><=\[]", each)[0].lower().replace("_", "-")
        for each in PROJECT["project"]["dependencies"]
    }
    assert needed <= pinned


def tracked() -> list[Path]:
    try:
        names = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in names]


def test_no_picture_split_file_or_foreign_weight_is_committed() -> None:
    allowed = {ROOT / "benchmark" / "tiny" / "weights.safetensors"}
    foreign = {
        ".jpg",
        ".jpeg",
        ".png",
        ".pt",
        ".pth",
        ".bin",
        ".zip",
        ".tar",
        ".gz",
        ".npz",
        ".safetensors",
        ".pkl",
    }
    predictions = ROOT / "results" / "real" / "records"  # our own: a label and a confidence each
    kept = [path for path in tracked() if path.parent != predictions]
    assert [path for path in kept if path.suffix in foreign and path not in allowed] == []
    assert [path for path in tracked() if path.name.startswith("split_")] == []


def test_every_test_that_the_noxfile_names_exists() -> None:
    named = re.findall(r"(tests/test_\w+\.py)(?:::(\w+))?", (ROOT / "noxfile.py").read_text())
    assert named
    for file, function in named:
        assert f"def {function}" in (ROOT / file).read_text(), f"{file}::{function}"
