"""A CUDA graph's twin on a CPU: records the operations a function sends to tensors and runs the
same operations on the same tensors again.

Like a CUDA graph it sees tensors alone: whatever Python decided while recording stays decided, and
a step that reads a tensor's value on the host cannot be recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from testbed.dispatch import Watched

HOST_READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::item"}


class HostRead(RuntimeError):
    """A step asked for the value of a tensor, for which a GPU would have to stop."""


Entry = tuple[Any, tuple[Any, ...], dict[str, Any], list[Any]]


def _taped(entries: list[Entry]) -> Watched:
    """Appends every operation with its arguments and what it gave; raises HostRead."""
    return Watched(_refuse_host_read, lambda *entry: entries.append(entry))


def _refuse_host_read(func: Any, args: tuple[Any, ...]) -> None:
    if func._schema.name in HOST_READS:
        raise HostRead(f"a step reads a tensor on the host ({func._schema.name})")


class TapeRecorder:
    """`benchmark.training.capture.Recorder` without a GPU; counts what it recorded and replayed."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def record(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Unlike a CUDA graph, recording here also computes, so what it changed is put back."""
        entries: list[Entry] = []
        before: dict[int, tuple[Tensor, Tensor]] = {}
        with _kept(before), _taped(entries):
            filled = work()
        for tensor, value in before.values():
            tensor.copy_(value)
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            for func, args, kwargs, results in entries:
                for old, new in zip(results, tree_flatten(func(*args, **kwargs))[0], strict=True):
                    _fill(old, new)

        return replay, filled


def _fill(old: Any, new: Any) -> None:
    """Results of in-place operations and views are there already."""
    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
        old.copy_(new)


def _kept(values: dict[int, tuple[Tensor, Tensor]]) -> Watched:
    """Keeps the value of every tensor that an operation is about to change in place."""

    def before(func: Any, args: tuple[Any, ...]) -> None:
        for argument, value in zip(func._schema.arguments, args, strict=False):
            written = argument.alias_info is not None and argument.alias_info.is_write
            if written and isinstance(value, Tensor) and value.data_ptr() not in values:
                values[value.data_ptr()] = (value.detach(), value.detach().clone())

    return Watched(before)


@torch.no_grad()
def eager(work: Callable[[], Any]) -> Any:
    """`work` with every read of a tensor on the host refused; raises HostRead."""
    with _taped([]):
        return work()
