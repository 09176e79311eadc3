"""How long work on problems takes, without what it spends on encoding their images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from benchmark.compute.episode import Problem

Result = TypeVar("Result")


def timed(work: Callable[[], Result], problems: Sequence[Problem]) -> tuple[Result, float]:
    """The result and the seconds; those spent on encoding images are counted elsewhere."""
    before_s, start = _encoding_s(problems), time.perf_counter()
    result = work()
    if problems[0].episode.backbone.device.type == "cuda":
        torch.cuda.synchronize()
    taken_s = time.perf_counter() - start
    return result, taken_s - (_encoding_s(problems) - before_s)


def _encoding_s(problems: Sequence[Problem]) -> float:
    return sum(problem.timer.spent_s for problem in problems)
