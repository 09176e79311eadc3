"""Which device computes a cell, and in which precision: decided before any cell runs.

The CUDA driver itself is asked through ctypes, so that a grid of which every cell is on record
answers at once, and a card that is missing or too old is named before anything is loaded.
"""

from __future__ import annotations

import ctypes
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmark.backbones.precision import AUTO, resolved
from benchmark.backbones.weights import TINY
from benchmark.errors import UserError

ON_CPU = ("float64", "float32", "bfloat16")
OLDEST = {"tf32": (8, 0), "bfloat16": (8, 0), "float16": (7, 0)}  # compute capability of a card
DRIVER = "libcuda.so.1"
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of the driver's API

Capability = tuple[int, int]  # major, minor


@cache
def gpus() -> tuple[Capability, ...]:
    """Compute capability of every GPU this process may use, in the driver's order.

    Empty where there is no GPU or driver, or where the installed torch is built for CPUs only.
    """
    try:
        if version("torch").endswith("+cpu"):
            return ()
        driver = _driver()
    except (OSError, PackageNotFoundError):
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    return tuple(_capability(driver, ordinal) for ordinal in range(count.value))


def _driver() -> Any:
    return ctypes.CDLL(DRIVER)


def _capability(driver: Any, ordinal: int) -> Capability:
    device = ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), ordinal)
    major, minor = (_attribute(driver, device, number) for number in (MAJOR, MINOR))
    return major, minor


def _attribute(driver: Any, device: ctypes.c_int, number: int) -> int:
    value = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value


def check_name(device: str) -> None:
    """UserError for a word that names no device."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
        raise UserError(f"--device takes auto, cpu, cuda or cuda:N, not '{device[:60]}'")


def device_for(backbone: str, device: str) -> str:
    """The device of a backbone; "auto" is a GPU where there is one, and the CPU for the tiny
    backbone, whose steps are too small to gain from a GPU.
    """
    if device != "auto":
        return device
    return "cuda" if backbone != TINY and gpus() else "cpu"


def settled(device: str) -> str:
    """What is sent to workers on other machines: "auto" means the CPU where this process, which
    names the results, sees no GPU, whatever a worker has."""
    return "cpu" if device == "auto" and not gpus() else device


def precision_for(backbone: str, device: str, precision: str) -> str:
    """What "auto" stands for: float64 for the tiny backbone, float32 on a CPU, float16 on a GPU."""
    on_cpu = device_for(backbone, device) == "cpu"
    if precision != AUTO or backbone == TINY or on_cpu:
        return resolved(precision, backbone)
    return "float16"


def cuts_on_device(backbone: str, device: str, precision: str) -> bool:
    """Whether pictures are cut on the GPU that encodes them. Not for float64, whose numbers are to
    be those of a CPU."""
    return device_for(backbone, device) != "cpu" and precision != "float64"


def require(backbone: str, device: str, precision: str) -> None:
    """UserError where this machine lacks the device, or the device cannot compute in
    `precision`."""
    chosen = device_for(backbone, device)
    if chosen == "cpu":
        _require_on_cpu(precision)
        return
    ordinal, here = int(chosen.partition(":")[2] or 0), gpus()
    if ordinal >= len(here):
        count = f"{len(here)} GPU{'s' * (len(here) != 1)}" if here else "no GPU"
        raise UserError(
            f"--device {chosen}: torch and the driver offer {count} here; take --device cpu"
        )
    oldest = OLDEST.get(precision, (0, 0))
    if here[ordinal] < oldest:
        raise UserError(
            f"--precision {precision} needs a GPU of compute capability {_dotted(oldest)}, and "
            f"{chosen} has {_dotted(here[ordinal])}; take --precision float32"
        )


def _require_on_cpu(precision: str) -> None:
    if precision not in ON_CPU:
        raise UserError(
            f"--precision {precision} needs a GPU, and these cells run on the CPU; take "
            f"--precision {', '.join(ON_CPU[:-1])} or {ON_CPU[-1]}, or --device cuda"
        )


def _dotted(capability: Capability) -> str:
    return ".".join(map(str, capability))
