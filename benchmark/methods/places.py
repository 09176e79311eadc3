"""The names of methods: our own by file, those of installed plug-ins, and files that users name."""

from __future__ import annotations

import importlib.util
import json
import os
from functools import cache
from importlib.metadata import Distribution, entry_points
from pathlib import Path

from benchmark.methods.code import INSTALLED

GROUP = "fsbench.adapters"


def names() -> list[str]:
    """Our own methods, then those of installed plug-ins."""
    ours = own()
    return ours + sorted(name for name in plug_ins() if name not in ours)


def own() -> list[str]:
    """Our own methods by file name."""
    return sorted(path.stem for path in folder().glob("*.py") if not path.stem.startswith("_"))


def preset_file(preset: str, method: str) -> Path:
    """Where the preset of one of our own methods lies, if it has one (benchmark/presets.py)."""
    return folder() / preset / f"{method}.toml"


def folder() -> Path:
    """Of our own methods: where the package `adapters` lies."""
    spec = importlib.util.find_spec("adapters")
    assert spec is not None, "the package `adapters` is installed with the suite"
    assert spec.submodule_search_locations, "`adapters` is a package"
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def plug_ins() -> dict[str, str]:
    """Entry points of installed packages: method name -> module. Slow, so it is read once."""
    return {point.name: point.value.partition(":")[0] for point in entry_points(group=GROUP)}


def is_released(name: str, file: Path) -> bool:
    """Whether the file of a method is one of an installed package: a release does not change, while
    the source tree of an editable install does.
    """
    if name not in plug_ins():
        return False
    points = [point for point in entry_points(group=GROUP) if point.name == name]
    return all(point.dist and _holds(point.dist, file.resolve()) for point in points)


def _holds(package: Distribution, file: Path) -> bool:
    """Whether a package was installed as a copy, and the file with it."""
    try:
        origin = json.loads(package.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            return False
    except (ValueError, AttributeError, RecursionError):  # nobody knows
        return False
    if INSTALLED & set(file.parts):
        return True
    # without RECORD the list would be that of a source tree
    files = package.files if package.read_text("RECORD") else None
    return any(Path(str(each.locate())).resolve() == file for each in files or ())


def stable_name(given: str) -> str:
    """The name of a method in records: for a file its stem, never its path."""
    return Path(given).stem if is_path(given) else given


def is_path(given: str) -> bool:
    """Whether a method is given as a file."""
    return given.endswith(".py") or os.sep in given
