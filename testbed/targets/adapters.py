"""Adapters that were kept, and folders that a TOML is to be written for."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmark.api import FeatureBackbone, Target
from benchmark.compute.kept_adapters import keep, read_tensors
from benchmark.data import layouts
from benchmark.records.kept_adapters import find, json_file, tensor_file
from benchmark.records.record import key
from benchmark.records.store import Store
from testbed.mutation import json_text, mutated, mutated_tree
from testbed.synthetic import identity
from testbed.targets.inputs import Random, written
from testbed.targets.records import rekeyed

Adapter = tuple[bytes, bytes]  # what describes it, and its tensors


@cache
def honest_adapter() -> Adapter:
    """One of GDA's, of two classes and four channels."""
    named = identity("gda")
    backbone = FeatureBackbone(4, 1.0, torch.device("cpu"))
    target = Target("x", ("a", "b"), ("a {}.",), backbone, 1, torch.ones(2, 4))
    state = {"weight_KD": torch.ones(2, 4), "bias_K": torch.zeros(2)}
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        keep(store, named, target, state, "ignore")
        files = [file(store, key(named)) for file in (json_file, tensor_file)]
        return files[0].read_bytes(), files[1].read_bytes()


def make_adapter(rng: Random) -> Adapter:
    """Other facts, under the key they hash to most of the time, or other bytes in one file."""
    text, tensors = honest_adapter()
    chance = rng.random()
    if chance < 0.5:
        tree = mutated_tree(rng, json.loads(text))
        return json_text(rekeyed(tree) if rng.random() < 0.7 else tree), tensors
    if chance < 0.6:
        return mutated(rng, text, [text]), tensors
    return text, mutated(rng, tensors, [tensors])


def read_adapter(folder: Path, parts: Adapter) -> None:
    """The tensors that were kept, to the last bit, or a sentence."""
    name = _name(parts[0])
    store = Store(folder)
    written(json_file(store, name), parts[0])
    written(tensor_file(store, name), parts[1])
    kept = find(store, name)
    tensors = read_tensors(tensor_file(store, name), kept)
    assert set(tensors) == set(kept.tensors)
    assert all(bool(part.isfinite().all()) for part in tensors.values())


def _name(text: bytes) -> str:
    """The key that a description claims, where that can be a file's name."""
    try:
        claimed: Any = json.loads(text)["key"]
    except (ValueError, LookupError, TypeError, RecursionError):
        claimed = ""
    return claimed if isinstance(claimed, str) and claimed.isalnum() and claimed.isascii() and (
        len(claimed) <= 12
    ) else "0" * 12  # fmt: skip


def read_layout_split(folder: Path, content: bytes) -> None:
    """What a folder with a split file of CoOp's is taken for."""
    for name in ("a.jpg", "train/cat.jpg"):
        written(folder / "pictures" / name, b"")
    written(folder / "split_x.json", content)
    layouts.recognised(folder)


def read_layout_table(folder: Path, content: bytes) -> None:
    """What a folder of two tables is taken for."""
    for split in ("train", "test"):
        written(folder / f"{split}-0.parquet", content)
    layouts.recognised(folder)


def honest_layout_split() -> bytes:
    return json_text({split: [["a.jpg", 0, "cat"]] for split in ("train", "val", "test")})
