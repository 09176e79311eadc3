"""What this machine has: versions, folders, data, weights. Imports neither torch nor open_clip
unless asked for devices.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmark import data
from benchmark.backbones import weights
from benchmark.paths import cache_dir, data_dir

PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "pillow",
    "numpy",
    "scikit-learn",
    "pandas",
    "typer",
    "rich",
)


def examine(results: Path, root: Path | None, devices: bool) -> dict[str, dict[str, str]]:
    """Section -> item -> finding."""
    found = {
        "versions": {"fsbench": _version("fsbench"), "python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES},
        "folders": {
            name: _folder(path)
            for name, path in (
                ("cache", cache_dir()),
                ("data", root or data_dir()),
                ("results", results),
            )
        },
        "datasets": {
            name: "prepared" if data.prepared(name, root) else "not prepared"
            for name in data.names()
        },
        "backbones": {name: _weights(name) for name in weights.NAMED},
    }
    return found | ({"devices": _devices()} if devices else {})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _folder(path: Path) -> str:
    """Whether a file could be made there, without making one: the nearest folder that exists
    decides.
    """
    existing = next(
        folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists()
    )
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    state = "writable" if writable else f"NOT writable ({existing})"
    return f"{path}: {state}{'' if path.exists() else ', made when needed'}"


def _weights(name: str) -> str:
    return "embedded" if name == weights.TINY else "here" if weights.seem_here(name) else "not here"


def _devices() -> dict[str, str]:
    import torch

    gpus = {
        f"cuda:{index}": torch.cuda.get_device_name(index)
        for index in range(torch.cuda.device_count())
    }
    return {"cpu": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"} | gpus


def text(found: dict[str, dict[str, str]]) -> str:
    """Sections with aligned items."""
    blocks = []
    for section, items in found.items():
        width = max(map(len, items))
        blocks.append(
            "\n".join(
                [section, *(f"  {name.ljust(width)}  {finding}" for name, finding in items.items())]
            )
        )
    return "\n\n".join(blocks)
