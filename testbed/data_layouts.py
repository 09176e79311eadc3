"""Miniature copies of the shipped datasets' layouts: their own TOMLs with smaller counts, over
pictures of a few pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from PIL import Image

from benchmark import data
from benchmark.data.sources import ClassFolders, CoopFolder

PER_CLASS = {"train": 2, "val": 1, "test": 1}


def jpeg(seed: int = 0) -> bytes:
    """A picture of 8 x 8 random pixels."""
    stream = io.BytesIO()
    Image.frombytes("RGB", (8, 8), random.Random(seed).randbytes(192)).save(stream, "JPEG")
    return stream.getvalue()


def miniature(name: str, root: Path) -> Path:
    """Write a small dataset in the layout of `name`, and its TOML, whose path is returned."""
    spec = data.read_spec(name)
    text = (resources.files("datasets_cfg") / f"{name}.toml").read_text(encoding="utf-8")
    if isinstance(spec.source, CoopFolder):
        split_sha256 = _coop(spec, spec.source, root)
        text = re.sub(r'(split = \{.*), sha256 = "\w+"', rf'\1, sha256 = "{split_sha256}"', text)
        text = re.sub(r"(lists = \{.*), sha256 = \{.*?\}", r"\1", text)
    else:
        assert isinstance(spec.source, ClassFolders)
        _class_folders(spec, spec.source, root)
    images = [
        PER_CLASS[split] * len(spec.class_names) if getattr(spec.counts, split) else 0
        for split in PER_CLASS
    ]
    text = re.sub(
        r"counts = \{.*?\}", "counts = {{ train = {}, val = {}, test = {} }}".format(*images), text
    )
    text = re.sub(r'(sample|content)_sha256 = "\w+"\n', "", text).replace(
        "held_out = { val = 50 }", "held_out = { val = 1 }"
    )
    (root / f"{name}.toml").write_text(text, encoding="utf-8")
    return root / f"{name}.toml"


def _coop(spec: data.Spec, source: CoopFolder, root: Path) -> str:
    """Images and their lists in an order in which neither labels nor names are sorted; returns the
    split file's sha256.
    """
    folder, rng = root / source.folder, random.Random(0)
    labels = range(len(spec.class_names))
    rows = {split: _rows(split, labels) for split in PER_CLASS}
    for split, members in rows.items():
        rng.shuffle(members)
        _write([folder / source.images / _path(source, split, path) for path, _ in members])
    if source.lists:
        for split, members in rows.items():
            lines = [f"{path} {spec.class_names[label]}" for path, label in members]
            (folder / getattr(source.lists, split)).write_text("\n".join(lines) + "\n")
        return ""
    assert source.split
    listed: dict[str, list[tuple[str, int, str]]] = {split: [] for split in rows}
    for split, members in rows.items():
        for path, label in members:
            name = spec.class_names[label]
            listed[split].append((_path(source, split, path), label, name))
    raw = json.dumps(listed).encode()
    (folder / source.split.file).write_bytes(raw)
    return hashlib.sha256(raw).hexdigest()


def _rows(split: str, labels: Iterable[int]) -> list[tuple[str, int]]:
    count = PER_CLASS[split]
    return [(f"{split}_{label:04}_{i}", label) for label in labels for i in range(count)]


def _path(source: CoopFolder, split: str, stem: str) -> str:
    """Cars have their folder inside the path; others have a folder per class or one for all."""
    if source.images != ".":
        return f"{stem}.jpg"
    return f"cars_{'test' if split == 'test' else 'train'}/{stem}.jpg"


def _class_folders(spec: data.Spec, source: ClassFolders, root: Path) -> None:
    for split, count in (("train", 3), ("test", 1)):  # of three, one is held out for validation
        if below := getattr(source, split):
            _write(
                [
                    root / source.folder / below / name / f"{i}.JPEG"
                    for name in spec.folders
                    for i in range(count)
                ]
            )


def _write(files: list[Path]) -> None:
    """A few different pictures under many names: links are much cheaper than files."""
    originals = [jpeg(seed) for seed in range(4)]
    for folder in {file.parent for file in files}:
        folder.mkdir(parents=True, exist_ok=True)
    first = [file for file in files if file.name]
    for i, file in enumerate(first[:4]):
        file.write_bytes(originals[i])
    for i, file in enumerate(first[4:]):
        os.link(first[i % 4], file)
