"""Few-shot adaptation of vision-language models: methods, datasets, shots, seeds, results.

What this module names is the public interface. Each name is imported when it is first used, so
`import benchmark` and plain data such as `Cell` need no torch. `benchmark.api` is the contract
between the harness and a method; read it first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.api import Adapter, Episode, ImageSet, Labelled, Predictor
    from benchmark.backbones.clip import from_model as backbone
    from benchmark.compute.loaded_adapters import load_adapter
    from benchmark.compute.runner import run
    from benchmark.data.sampling import few_shot
    from benchmark.errors import UserError
    from benchmark.grid import Cell
    from benchmark.records.store import Store
    from benchmark.report.frames import load_results
    from benchmark.training.choose import choose_on_val
    from benchmark.training.loop import train

__all__ = [
    "Adapter",
    "Cell",
    "Episode",
    "ImageSet",
    "Labelled",
    "Predictor",
    "Store",
    "UserError",
    "backbone",
    "choose_on_val",
    "few_shot",
    "load_adapter",
    "load_results",
    "run",
    "train",
]

_SOURCES = {  # public name -> module and name there
    "Adapter": ("benchmark.api", "Adapter"),
    "Cell": ("benchmark.grid", "Cell"),
    "Episode": ("benchmark.api", "Episode"),
    "ImageSet": ("benchmark.api", "ImageSet"),
    "Labelled": ("benchmark.api", "Labelled"),
    "Predictor": ("benchmark.api", "Predictor"),
    "Store": ("benchmark.records.store", "Store"),
    "UserError": ("benchmark.errors", "UserError"),
    "backbone": ("benchmark.backbones.clip", "from_model"),
    "choose_on_val": ("benchmark.training.choose", "choose_on_val"),
    "few_shot": ("benchmark.data.sampling", "few_shot"),
    "load_adapter": ("benchmark.compute.loaded_adapters", "load_adapter"),
    "load_results": ("benchmark.report.frames", "load_results"),
    "run": ("benchmark.compute.runner", "run"),
    "train": ("benchmark.training.loop", "train"),
}


def __getattr__(name: str) -> object:
    if name not in _SOURCES:
        raise AttributeError(f"module 'benchmark' has no attribute '{name}'")
    module, source = _SOURCES[name]
    value: object = getattr(import_module(module), source)
    globals()[name] = value  # the next use finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
