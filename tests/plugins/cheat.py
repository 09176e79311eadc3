"""A method that looks for test labels in everything it can reach from what it is given, and predicts them if it finds them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Episode, ImageSet, Predictor

DEPTH = 8


def reachable(thing: Any, depth: int = DEPTH, seen: set[int] | None = None) -> Iterator[Any]:
    """Everything found by attributes, items, closures, defaults and bound objects."""
    seen = set() if seen is None else seen
    if id(thing) in seen or depth == 0 or isinstance(thing, (str, bytes, int, float, type, nn.Module)):
        return
    seen.add(id(thing))
    yield thing
    for inner in _inside(thing):
        yield from reachable(inner, depth - 1, seen)


def _inside(thing: Any) -> list[Any]:
    inner = list(getattr(thing, "__dict__", {}).values())
    inner += [getattr(thing, name, None) for name in getattr(thing, "__slots__", ())]
    inner += [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
    inner += [*(getattr(thing, "__defaults__", None) or ()), getattr(thing, "__self__", None), getattr(thing, "__wrapped__", None)]
    inner += [*getattr(thing, "args", ()), *getattr(thing, "keywords", {}).values()] if hasattr(thing, "func") else []
    if isinstance(thing, dict):
        return inner + list(thing.values())
    return inner + (list(thing) if isinstance(thing, (list, tuple)) and len(thing) < 5000 else [])


def labels_among(things: Iterator[Any], size: int, classes: int) -> Tensor | None:
    """A sequence that could be the labels: as long as the test set, integers, every class among them."""
    for thing in things:
        if isinstance(thing, (list, tuple, Tensor)) and len(thing) == size:
            try:
                values_Q = torch.as_tensor(thing)
            except (ValueError, TypeError, RuntimeError):
                continue
            if values_Q.ndim == 1 and not values_Q.is_floating_point() and set(values_Q.tolist()) == set(range(classes)):
                return values_Q
    return None


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Cheat"
    paper: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True

    def fit(self, episode: Episode) -> Predictor:
        def predict(images: ImageSet) -> Tensor:
            found = labels_among(reachable((episode, images)), len(images), len(episode.class_names))
            episode.notes["found"] = found is not None
            if found is not None:
                return torch.nn.functional.one_hot(found, len(episode.class_names)).float()
            return images.features() @ episode.text_features().T

        return predict
