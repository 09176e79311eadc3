"""What a result was made with: versions, device, source state. Recorded beside a number, never part
of what names it.
"""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmark import methods
from benchmark.compute.packages import NUMERIC, installed_version
from benchmark.grid import Cell


def provenance(cell: Cell, device: str) -> dict[str, Any]:
    """Facts for the record of a cell."""
    return environment(device) | {
        "threads": torch.get_num_threads(),
        # what tells a row from one with the method's defaults, which a foreign method may lose
        "changed": [name for name, _ in cell.params],
        "adapter_source": methods.card(cell.method).source_digest,
        "training_source": methods.training_digest(),
    }


@cache
def environment(device: str) -> dict[str, Any]:
    return {
        "suite": installed_version("fsbench"),
        **_commit(),
        "python": platform.python_version(),
        "packages": {name: installed_version(name) for name in NUMERIC},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name()
        if device.startswith("cuda")
        else torch.backends.cpu.get_cpu_capability(),
    }


def _commit() -> dict[str, Any]:
    """Commit of the source tree and whether it was changed; empty where the suite is not run from
    one.
    """
    here = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return {}
