"""Benches that nobody runs between releases must still run: the GPU's, in its short form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_gpu_bench_runs_every_part_on_a_cpu(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benches.gpu", "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert figures.pop("machine").startswith("no GPU")
    assert list(figures) == ["rates", "steps", "grid", "cells", "batches", "pictures"]
    assert all(figures.values())
    total = figures["grid"][-1]
    assert (total["classes"], total["steps"]) == (2191, 747_600)
    assert figures["steps"][0]["TFLOP/s"] > 0
    assert "no CUDA device" in _without_quick()


def test_a_part_of_the_gpu_bench_ends_when_its_time_is_up() -> None:
    script = (
        "from benches.gpu.__main__ import measured; from benches.gpu.grid import step_ms\n"
        "rows = measured(lambda size: ({'classes': k, '15 runs': k} for k in (1, 3, 9)), None, 0)\n"
        "assert [row.get('classes') for row in rows] == [1, None], rows\n"
        "assert 'left out' in rows[1]\n"
        "assert step_ms(rows, 15, 1) == 1\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _without_quick() -> str:
    command = [sys.executable, "-m", "benches.gpu"]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "PATH": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=hidden
    )
    assert done.returncode == 1
    return done.stderr
