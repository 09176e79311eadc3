"""The session of tests that need a GPU is no success where all of them would be skipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_without_a_gpu_the_tests_that_need_one_are_an_error_when_asked_for() -> None:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "--require-gpu", "tests/test_gpu.py"]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "PATH": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=hidden
    )
    assert done.returncode == 4
    assert "there is no CUDA device here, so every test marked gpu would be skipped" in done.stderr
