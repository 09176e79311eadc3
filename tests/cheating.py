"""An adapter that looks for the test labels in everything it is given, instead of learning.

It follows attributes, properties, containers, closures, defaults, bound methods and partial
functions: all that is reachable by public means from an object in hand. It does not read other
people's frames or the garbage collector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.api import Episode, ImageSet, Predictor

# nothing to find inside
CLOSED = (
    str,
    bytes,
    int,
    float,
    complex,
    type,
    ModuleType,
    nn.Module,
    torch.Generator,
    BuiltinFunctionType,
)
CONTAINERS = (list, tuple, set, frozenset)


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Cheat"
    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True

    def fit(self, episode: Episode) -> Predictor:
        def predict(images: ImageSet) -> Tensor:
            labels = stolen((images, episode), len(images), episode.class_names)
            if labels is None:
                return episode.backbone.logit_scale * images.features() @ episode.text_features().T
            return torch.nn.functional.one_hot(labels, len(episode.class_names)).float()

        return predict


def stolen(given: object, count: int, class_names: tuple[str, ...]) -> Tensor | None:
    """Something that looks like `count` labels and can be reached from `given`: integers, or texts
    that say the class, as paths do.
    """
    for thing in reachable(given):
        labels_N = _as_labels(thing) if not _texts(thing) else _as_named(thing, class_names)
        if (
            labels_N is not None
            and len(labels_N) == count
            and int(labels_N.min()) >= 0
            and int(labels_N.max()) < len(class_names)
        ):
            return labels_N
    return None


def _texts(thing: object) -> bool:
    return (
        isinstance(thing, (list, tuple))
        and bool(thing)
        and all(isinstance(text, str) for text in thing)
    )


def _as_named(texts: Any, class_names: tuple[str, ...]) -> Tensor | None:
    """The longest class name in every text; None where a text has none, or where the texts are the
    names themselves.
    """
    by_length = sorted(range(len(class_names)), key=lambda k: -len(class_names[k]))
    guesses = [next((k for k in by_length if class_names[k] in text), -1) for text in texts]
    return None if -1 in guesses or tuple(texts) == class_names else torch.tensor(guesses)


def reachable(given: object) -> Iterator[object]:
    """`given` and everything that can be had from it, each object once."""
    seen: dict[int, object] = {}  # holds what it names, so that no id is given out twice
    todo = [given]
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        yield item
        if not isinstance(item, (*CLOSED, Tensor, np.ndarray)) and item is not None:
            todo.extend(_inside(item))


def _inside(item: Any) -> Iterator[object]:
    if isinstance(item, Mapping):
        yield from (*item.keys(), *item.values())
    elif isinstance(item, CONTAINERS):
        yield from item
    elif isinstance(item, partial):
        yield from (item.func, item.args, item.keywords)
    elif isinstance(item, MethodType):
        yield from (item.__self__, item.__func__)
    elif isinstance(item, FunctionType):
        yield from (cell.cell_contents for cell in item.__closure__ or () if _filled(cell))
        yield from (item.__defaults__, item.__kwdefaults__, getattr(item, "__wrapped__", None))
    else:
        yield from _attributes(item)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not ...
    except ValueError:
        return False


def _attributes(item: object) -> Iterator[object]:
    """All public and private attributes that hold data, computed ones among them; what raises is
    passed over.
    """
    for name in dir(item):
        if name.startswith("__"):
            continue
        try:
            value = getattr(item, name)
        except Exception:  # a locked door; the next one
            continue
        if not isinstance(value, MethodType) or value.__self__ is not item:
            yield value


def _as_labels(thing: object) -> Tensor | None:
    """`thing` as integers in one row, if that is what it is."""
    if isinstance(thing, (list, tuple)) and thing and all(type(value) is int for value in thing):
        return torch.tensor(thing)
    if (
        isinstance(thing, np.ndarray)
        and thing.ndim == 1
        and thing.size
        and np.issubdtype(thing.dtype, np.integer)
    ):
        return torch.from_numpy(thing.astype(np.int64))
    if (
        isinstance(thing, Tensor)
        and thing.ndim == 1
        and len(thing)
        and not (thing.is_floating_point() or thing.is_complex())
    ):
        return thing.to(torch.int64)
    return None
