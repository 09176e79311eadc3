"""What this machine has: versions, folders, data, weights.

Imports neither torch nor open_clip unless GPUs are wanted.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from benchmark import data
from benchmark.backbones import weights
from benchmark.compute.packages import NUMERIC, commit, installed_version
from benchmark.paths import cache_dir, data_dir

Facts = dict[str, dict[str, str]]  # section -> item -> what was seen
PACKAGES = (*NUMERIC, "pandas", "typer", "rich")


def facts(results: Path, data_root: Path | None, devices: bool) -> Facts:
    """Everything `doctor` prints; `devices` imports torch and looks for GPUs."""
    folders = {"cache": cache_dir(), "data": data_root or data_dir(), "results": results}
    sections = {
        "versions": {
            "fsbench": _version("fsbench"),
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        "folders": {name: _folder(path) for name, path in folders.items()},
        "datasets": {name: _dataset(name, data_root) for name in data.names()},
        "backbones": {name: _weights(name) for name in weights.NAMED},
    }
    return sections | ({"devices": _devices()} if devices else {})


def version_line() -> str:
    """'fsbench 0.1.0, torch 2.11.0, Python 3.11.7, commit 0123456789ab (changed)'."""
    tree = commit()
    state = " (changed)" if tree.get("dirty") else ""
    source = [f"commit {tree['commit'][:12]}{state}"] if tree else []
    versions = [f"fsbench {_version('fsbench')}", f"torch {_version('torch')}"]
    return ", ".join([*versions, f"Python {platform.python_version()}", *source])


def _version(package: str) -> str:
    return installed_version(package) or "not installed"


def _folder(path: Path) -> str:
    """Whether a file could be written there, without writing one.

    The nearest folder that exists decides.
    """
    parents = (path.absolute(), *path.absolute().parents)
    existing = next(folder for folder in parents if folder.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    state = "writable" if writable else f"NOT writable ({existing})"
    return f"{path}: {state}{'' if path.exists() else ', created when needed'}"


def _dataset(name: str, data_root: Path | None) -> str:
    return "prepared" if data.prepared(name, data_root) else "not prepared"


def _weights(name: str) -> str:
    if name == weights.TINY:
        return "embedded"
    return "here" if weights.seem_here(name) else "not here"


def _devices() -> dict[str, str]:
    import torch

    cpu = f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    gpus = range(torch.cuda.device_count())
    return {"cpu": cpu} | {f"cuda:{gpu}": torch.cuda.get_device_name(gpu) for gpu in gpus}


def text(facts: Facts) -> str:
    """Sections with aligned items."""
    return "\n\n".join(_section(title, items) for title, items in facts.items())


def _section(title: str, items: dict[str, str]) -> str:
    width = max(map(len, items))
    return "\n".join([title, *(f"  {name.ljust(width)}  {fact}" for name, fact in items.items())])
