"""What a GPU draws while a cell is computed, from NVIDIA's management library (the extra `nvml`);
nothing where that is missing.

The board counts, not the process: cells that share a GPU count each other, and so does whatever
else runs on it. The counter moves every tenth of a second or so, which makes the joules of a cell
of less than a second a rough number.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from statistics import fmean
from typing import Any

import torch

# between looks at how busy the GPU is; the driver's own figure is a mean over up to a second
SAMPLE_S = 0.25


@dataclass(frozen=True)
class EnergyUse:
    """What a block of code used; None where the board does not say."""

    energy_j: float | None = None
    gpu_use: float | None = None  # mean share of the time in which the GPU had work, in [0, 1]

    def share(self, part: float) -> EnergyUse:
        """Of a cell that took `part`, in (0, 1], of what a batch used."""
        return EnergyUse(None if self.energy_j is None else self.energy_j * part, self.gpu_use)


@dataclass(frozen=True)
class _Board:
    """A GPU as NVML knows it; every answer is None where the board or the driver refuses it."""

    nvml: Any
    handle: Any

    def energy_j(self) -> float | None:
        return self._ask(lambda: self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1000)

    def use(self) -> float | None:
        return self._ask(lambda: self.nvml.nvmlDeviceGetUtilizationRates(self.handle).gpu / 100)

    def _ask(self, question: Callable[[], float]) -> float | None:
        try:
            return question()
        except self.nvml.NVMLError:
            return None


@contextmanager
def metered(device: str) -> Iterator[Callable[[], EnergyUse]]:
    """Yield what tells, once the block has ended, what the GPU `device` drew in it. Raises nothing
    of its own.
    """
    with _board(device) as board:
        if board is None:
            yield EnergyUse
            return
        drawn, used, before_j = [EnergyUse()], list[float](), board.energy_j()
        with _sampled(board, used):
            yield lambda: drawn[0]
        drawn[0] = EnergyUse(_difference(before_j, board.energy_j()), fmean(used) if used else None)


def _difference(before_j: float | None, after_j: float | None) -> float | None:
    """None as well where the counter began anew, as it does when the driver is loaded again."""
    return None if before_j is None or after_j is None or after_j < before_j else after_j - before_j


@contextmanager
def _board(device: str) -> Iterator[_Board | None]:
    """The board of a device of torch, found by what it is called for good: NVML does not count as
    CUDA_VISIBLE_DEVICES does.
    """
    nvml = _nvml() if device.startswith("cuda") else None
    if nvml is None:
        yield None
        return
    try:
        yield _found(nvml, str(torch.cuda.get_device_properties(device).uuid))
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _nvml() -> Any:
    """The library, ready to be asked; None where it, the driver or the permission is missing."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _found(nvml: Any, uuid: str) -> _Board | None:
    """By torch's number, which lacks the word that NVML puts before it; None where NVML knows no
    such board.
    """
    try:
        return _Board(
            nvml, nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        )
    except nvml.NVMLError:
        return None


@contextmanager
def _sampled(board: _Board, used: list[float]) -> Iterator[None]:
    """Look from a thread of its own how busy the board is, and once more at the end."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE_S) and _noted(board, used):
            pass

    thread = threading.Thread(target=look, name="gpu-use", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _noted(board, used)


def _noted(board: _Board, used: list[float]) -> bool:
    """Whether there was an answer; where there is none there will be none later."""
    use = board.use()
    used += [] if use is None else [use]
    return use is not None
