"""What happens to tensors, operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

Before = Callable[[Any, tuple[Any, ...]], None]  # of (operation, arguments)
# of (operation, arguments, keyword arguments, what it gave, flat)
After = Callable[[Any, tuple[Any, ...], dict[str, Any], list[Any]], None]


def _nothing(*_: Any) -> None:
    pass


class Watched(TorchDispatchMode):
    """Within it every operation that reaches torch's kernels is told before and after."""

    def __init__(self, before: Before = _nothing, after: After = _nothing) -> None:
        super().__init__()
        self._before, self._after = before, after

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self._before(func, args)
        result = func(*args, **(kwargs or {}))
        self._after(func, args, kwargs or {}, tree_flatten(result)[0])
        return result


def refusing_narrow() -> Watched:
    """AssertionError for an operation that gives floating numbers narrower than float64."""

    def after(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[Any]) -> None:
        for part in results:
            if isinstance(part, Tensor) and part.is_floating_point():
                assert part.dtype == torch.float64, f"{func} gives {part.dtype}"

    return Watched(after=after)
