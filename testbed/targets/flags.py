"""Files of methods, and what stands on a command line."""

from __future__ import annotations

import os
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from unittest import mock

from benchmark import methods
from benchmark.backbones import weights
from benchmark.commands.cell_selection import select
from benchmark.commands.grid_file_selection import select_written
from benchmark.commands.option_fields import Flags
from benchmark.compute import rerun
from benchmark.methods import cards
from benchmark.records.store import Store
from testbed.mutation import TRAP_CODE, json_text, mutated
from testbed.targets.inputs import Random, written
from testbed.targets.records import record_trees


@cache
def sources() -> list[bytes]:
    own = [
        (resources.files("adapters") / f"{name}.py").read_bytes()
        for name in ("zero_shot", "coop", "prompt_adapter")
    ]
    return [*own, own[0] + f"\n{TRAP_CODE}\n".encode()]


def crafted_sources() -> list[bytes]:
    card = sources()[0]
    assigned = [
        card.replace(b'"Zero-shot CLIP"', text)
        for text in (
            b"print()",
            b"[" * 500 + b"]" * 500,
            b"1 + 1",
            b"9" * 5000,
            b"-" * 50_000 + b"1",
        )
    ]
    return [
        *assigned,
        b"\0",
        b"\xff",
        b"",
        b"class Adapter: pass",
        b"(" * 50_000,
        b"a" + b".a" * 50_000,
        b"# coding: latin-9\n",
        b"# coding: nonsense\n",
    ]


def read_source(folder: Path, text: bytes) -> None:
    cards.read_file("mine", written(folder / "mine.py", text))


FLAGS: dict[str, tuple[str, ...]] = {
    "methods": ("coop", "zero_shot", "my_lab.mine", "."),
    "datasets": ("tiny_digits", "dtd", "pets.toml"),
    "suites": ("tiny", "classic"),
    "texts": ("tiny", "hand+tiny", "texts.json"),
    "shots": ("1", "16"),
    "seeds": ("1", "3"),
    "backbones": ("tiny", "ViT-B/16", "ViT-B-32/weights.pt", "timm:test_vit", "hf-hub:a/b"),
    "settings": ("coop.n_ctx=4", "lr=0.1", "coop.ctx_init=a photo of a", "n_ctx=1e999"),
}


def make_flags(rng: Random) -> dict[str, Any]:
    flags: dict[str, Any] = {"methods": ["coop"], "datasets": ["tiny_digits"]}
    for name in rng.sample(list(FLAGS), rng.choice((1, 2))):
        text = mutated(
            rng, rng.choice(FLAGS[name]).encode(), [each.encode() for each in FLAGS[name]]
        )
        # as the shell hands over bytes that are no text
        flags[name] = [text[:200_000].decode(errors="surrogateescape")]
    return flags


def read_flags(folder: Path, flags: dict[str, Any]) -> None:
    for cell in select(Flags(**flags, data_root=folder)).cells:
        methods.load(cell.method, dict(cell.params))


GRIDS: dict[str, Any] = {
    "title": "two grids",
    "grid": [
        {"methods": ["zero_shot", "coop"], "datasets": ["tiny_digits"], "shots": [1, "2-4"]},
        {
            "methods": "coop",
            "datasets": ["tiny_digits"],
            "seeds": "1-3",
            "backbones": ["tiny"],
            "precision": "float64",
            "val": "none",
            "set": {"epochs": 5, "coop": {"lr": [0.001, 0.002], "ctx_init": "a, b"}},
        },
    ],
    "saved": {"cells": 12, "keys": "0123456789ab"},
}


def grid_trees() -> list[Any]:
    return [GRIDS, {"grid": GRIDS["grid"][1:]}]


def crafted_grid_files() -> list[bytes]:
    lists = [
        *(b'methods = ["testbed.mutation"]', b'methods = ["/dev/null/x.py"]', b"shots = '1-9999'"),
        *(b"seeds = '1-999999999'", b'datasets = ["/dev/null.toml"]', b"set.lr = nan"),
        *(b"shots = '1-9999'\nseeds = '1-9999'", b"set.lr = 1979-05-27", b"set = 3"),
        b"set.lr = [" + b"1," * 20_000 + b"]",
        *(b"a = " + b"[" * 50_000, b"[" * 9 + b"]" * 9, b"\xff"),
    ]
    return [b"", b"grid = []", b"grid = 1", *(b"[[grid]]\n" + each for each in lists)]


def read_grid_file(folder: Path, text: bytes) -> None:
    file = written(folder / "grid.toml", text)
    selection, _ = select_written(file, Flags(data_root=folder))
    for cell in selection.cells[:100]:
        methods.load(cell.method, dict(cell.params))


HOSTILE_NUMBERS = ("9" * 5000, "٣", "²", "-1", "", "1e3", " 1")
HOSTILE_FLAGS: dict[str, tuple[str, ...]] = {
    "datasets": (
        *("\0.toml", "x" * 5000 + ".toml", ".toml", "/.toml", "..", "\udcff.toml"),
        "/dev/null.toml",
    ),
    "methods": (
        *(".", "..", ".a", "a.", "a..b", "\0.a", "x" * 5000 + ".y", "os.path", "json.tool"),
        "testbed.mutation",
    ),
    "shots": HOSTILE_NUMBERS,
    "seeds": HOSTILE_NUMBERS,
    "backbones": (
        *("a/\0.pt", "a/" + "x" * 5000 + ".pt", "timm:/x.pt", "/", "timm:", "hf-hub:"),
        "\udcff/x.bin",
    ),
    "settings": (
        *("=", ".=", "coop.=1", "coop.n_ctx=" + "9" * 5000, "coop.lr=nan", "coop.n_ctx=\0"),
        "zero_shot.x=1",
    ),
}


def crafted_flags() -> list[dict[str, Any]]:
    good = {"methods": ["coop"], "datasets": ["tiny_digits"]}
    return [good | {name: [text]} for name, texts in HOSTILE_FLAGS.items() for text in texts]


def read_backbone(folder: Path, name: str) -> None:
    with mock.patch.dict(os.environ, {"HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}):
        weights.locate(weights.canonical(name))


def make_backbone(rng: Random) -> str:
    names = [name.encode() for name in FLAGS["backbones"]]
    return mutated(rng, rng.choice(names), names)[:100_000].decode(errors="surrogateescape")


def make_key(rng: Random) -> str:
    seeds = [b"0123456789ab", b"01", b"*", b"../x"]
    return mutated(rng, rng.choice(seeds), seeds)[:100_000].decode(errors="surrogateescape")


def read_key(folder: Path, name: str) -> None:
    written(folder / "secret.json", b"{}")
    tree = record_trees()[0]
    written(folder / "results" / "records" / f"{tree['key']}.json", json_text(tree))
    rerun.find(Store(folder / "results"), name)
