"""What a result was made with: versions, device, source state. Recorded beside a number, never part
of what names it.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch

from benchmark import methods
from benchmark.compute.packages import NUMERIC, commit, installed_version
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
        **commit(),
        "python": platform.python_version(),
        "packages": {name: installed_version(name) for name in NUMERIC},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name()
        if device.startswith("cuda")
        else torch.backends.cpu.get_cpu_capability(),
    }
