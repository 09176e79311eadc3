"""The most memory that was in use since the last reset."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch


def reset(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with suppress(OSError, IndexError):  # a container may deny a look at /proc
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (proc(5))


def peak_mb(device: str) -> float:
    """Peak memory in MiB since the last reset: of the device on a GPU, of the whole process
    elsewhere.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    with suppress(OSError, IndexError):  # a container may deny a look at /proc
        status = Path("/proc/self/status").read_text()
        return round(int(status.split("VmHWM:")[1].split()[0]) / 2**10, 1)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)
