"""Parameters under which a method trains long enough to be recorded, and no longer.

A method trains where its card has a length of training.
"""

from __future__ import annotations

from typing import Any

from benchmark import methods

LENGTHS = {"epochs": 30, "tune_epochs": 30, "steps_per_shot": 15}


def trained_methods() -> list[str]:
    """Our methods that train."""
    return [name for name in methods.own() if LENGTHS.keys() & methods.card(name).defaults.keys()]


def parameters(method: str, longest: int = 30) -> dict[str, Any]:
    """What differs from the method's defaults; no length of training is above `longest`."""
    defaults = methods.card(method).defaults
    short = {
        name: type(defaults[name])(min(count, longest))
        for name, count in LENGTHS.items()
        if name in defaults
    }
    if "keep_mb" in defaults:  # the image tower is in the loop
        short["views"] = 2
    if "tune_min_steps" in defaults:
        short["tune_min_steps"] = 0
    if "most_epochs" in defaults:  # a bound on the steps of the few images here
        short["most_epochs"] = 0
    return short
