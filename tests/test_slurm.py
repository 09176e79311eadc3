"""The recipes for SLURM, as far as a machine without SLURM can try them: the array for
real, with its variables set by hand.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.records.store import Store

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/cluster.md").read_text()
SCRIPTS = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", PAGE, re.S)
ELSEWHERE = (
    "--suite classic --method coop,prompt_adapter --backbone ViT-B/16 \\\n"
    "    --data-root /shared/datasets"
)
HERE = "--dataset tiny_digits --method zero_shot,tip_adapter --shots 1,2 --seed 1,2"


@pytest.mark.parametrize("script", SCRIPTS, ids=["array", "allocation"])
def test_the_recipes_are_bash(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert ELSEWHERE in script


def test_the_parts_of_an_array_make_the_whole_grid_each_cell_once(tmp_path: Path) -> None:
    script = (
        SCRIPTS[0]
        .replace(ELSEWHERE, HERE)
        .replace("/shared/results", str(tmp_path / "results"))
        .replace("/shared", str(tmp_path))
    )
    computed = 0
    for number in ("1", "2", "3"):
        environment = os.environ | {
            "SLURM_ARRAY_TASK_ID": number,
            "SLURM_ARRAY_TASK_COUNT": "3",
            "PYTHONPATH": str(ROOT),
        }
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        computed += len(re.findall(r"^\[ *\d+/", done.stderr, re.MULTILINE))  # a line a cell
    assert computed == len(list(Store(tmp_path / "results").records())) == 5
    assert (tmp_path / "fsbench-cache" / "features").is_dir()
