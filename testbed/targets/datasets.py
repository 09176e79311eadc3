"""TOMLs, lists, tables of datasets, and what is written down about them."""

from __future__ import annotations

import io
import os
import pickle
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmark import data, text_sets
from benchmark.backbones import weights
from benchmark.data import catalog, digests, http_download, hub_download, parquet, verification
from benchmark.data.http_download import RetryPolicy
from benchmark.data.preparation import prepare_datasets
from testbed.data_layouts import jpeg
from testbed.mutation import PATHS, VALUES, Trap, json_text, mutated, toml_text
from testbed.targets.inputs import Random, nothing_beside, written, zipped

HEAD: dict[str, Any] = {
    "title": "Pets",
    "domain": "pets",
    "templates": ["a photo of a {}."],
    "class_names": ["cat", "dog"],
    "licence": "free",
}
SPLIT = {
    split: [[f"{split}/{name}.jpg", label, name] for label, name in enumerate(["cat", "dog"])]
    for split in ("train", "val", "test")
}
FOLDER = {"kind": "folder", "folder": "pets", "images": "images", "split": {"file": "split.json"}}
LISTS = {
    **FOLDER,
    "lists": {"train": "train.txt", "val": "val.txt", "test": "test.txt", "suffix": ".jpg"},
}
IMAGES = {
    "kind": "image_folder",
    "folder": "pets",
    "train": "train",
    "test": "test",
    "held_out": {"val": 1},
}
TABLE = {
    "kind": "table",
    "folder": "pets",
    "train": "train-*.parquet",
    "test": "test-*.parquet",
    "image": "image",
    "label": "label",
}
PART = {"gives": ["images", "split.json"], "by_hand": "ask"}
OFFERS: list[dict[str, Any]] = [
    {
        "label": "official",
        "url": "http://127.0.0.1/pets.zip",
        "md5": "0" * 32,
        "holds": ["images", "split.json"],
    },
    {"url": "http://127.0.0.1/pets.tar.gz", "inner": "inner.zip", "doubt": "none"},
    {
        "repo": "me/pets",
        "file": "data/*.zip",
        "revision": "main",
        "repo_type": "dataset",
        "opt_in": False,
    },
]


@cache
def specs() -> list[Any]:
    generated = {
        "kind": "generated",
        "generator": "shapes",
        "seed": 1,
        "per_class": {"train": 1, "val": 1, "test": 1},
    }
    counted = {"counts": {"train": 2, "val": 2, "test": 2}}
    unlisted = {key: value for key, value in LISTS.items() if key != "split"}
    own: list[Any] = [HEAD | {"source": each} for each in (FOLDER, unlisted, IMAGES, TABLE)]
    shifted = {key: value for key, value in HEAD.items() if key != "class_names"} | {
        "parent": "dtd",
        "source": IMAGES,
    }
    offered = [
        honest_spec(),
        *(HEAD | {"source": FOLDER, "parts": [PART | {"offers": [offer]}]} for offer in OFFERS),
    ]
    return [
        *own,
        HEAD | counted | {"source": generated},
        shifted,
        *offered,
        HEAD | counted | {"source": FOLDER, "name": "pets"},
    ]


def honest_spec() -> Any:
    """One that is fetched, unpacked, moved, adopted into a receipt and read."""
    offer = {key: value for key, value in OFFERS[0].items() if key != "md5"}
    return HEAD | {"source": FOLDER, "parts": [PART | {"offers": [offer]}]}


def crafted_specs() -> list[bytes]:
    outside = ["../../outside", "/tmp/fsbench-hostile", "a/../../../x"]
    named = [
        HEAD | {"source": IMAGES, "name": name}
        for name in (*outside, "..", ".", "a/b", "a\0b", "a\nb")
    ]
    placed = [
        HEAD | {"source": FOLDER | {"folder": folder}, "parts": [PART | {"offers": OFFERS[:1]}]}
        for folder in outside
    ]
    globs = [
        HEAD | {"source": TABLE | {"train": train}}
        for train in ("/**", "a**b", "", "*/../../*", "[", "\0*")
    ]
    urls = [
        HEAD | {"source": FOLDER, "parts": [PART | {"offers": [{"url": url}]}]}
        for url in (
            "http://h/..",
            "http://[",
            "http://h/\n",
            "http://é/é",
            "http://h:99999999/x",
            "http://h/" + "x" * 5000,
        )
    ]
    endless = [HEAD | {"source": IMAGES, "parent": "pets.toml"}]
    endless[0].pop("class_names")
    return [toml_text(tree) for tree in (*named, *placed, *globs, *urls, *endless)]


@cache
def small_archive() -> bytes:
    pictures_ = {f"images/{path}": jpeg() for rows in SPLIT.values() for path, *_ in rows}
    return zipped(pictures_ | {"split.json": json_text(SPLIT)})


def delivered(url: object, target: Path, *rest: object) -> Iterator[tuple[int, None]]:
    """In place of a download."""
    written(target, small_archive())
    yield 1, None


def dataset_folder(folder: Path) -> None:
    for split, rows in SPLIT.items():
        for path, _, name in rows:
            written(folder / "images" / path, jpeg())
            written(folder / split / name / "0.jpg", jpeg())
            written(folder / split / name / "1.jpg", jpeg())
    written(folder / "split.json", json_text(SPLIT))


def read_spec(folder: Path, text: bytes) -> None:
    """Prepared, with anything but the network, then loaded; what is refused while preparing is
    refused.
    """
    own = folder / "own"
    toml = written(own / "pets.toml", text)
    if b'"parts"' not in text:  # or it would not be fetched
        dataset_folder(own / "pets")
    before = Path.cwd()
    os.chdir(own)
    try:
        data.read_spec("pets.toml")
        with (
            mock.patch.object(http_download, "fetch", delivered),
            mock.patch.object(hub_download, "matching", _matching),
        ):
            events = list(
                prepare_datasets(
                    [str(toml)], folder / "root", ["all"], retries=RetryPolicy(1, 0, 0.1)
                )
            )
        for event in events:
            if event.error:
                raise event.error
        loaded = data.load(str(toml), folder / "root")
        loaded.test.open(0)
    finally:
        os.chdir(before)
        nothing_beside(folder, {"own", "root"})


def _matching(offer: Any) -> list[hub_download.HubFile]:
    """In place of the hub's answer."""
    return [hub_download.HubFile("data.zip", "http://127.0.0.1:9/data.zip")]


def read_suites(folder: Path, text: bytes) -> None:
    catalog.read_suites(written(folder / "suites.toml", text))


def read_texts(folder: Path, text: bytes) -> None:
    """As JSON; a TOML becomes the same tables."""
    texts = text_sets.read(f"hand+{written(folder / 'mine.json', text)}")
    texts.of(["tiny_digits"], ["cat", "old_car"])


TEXTS = {"cat": ["soft.", "a cat"], "old car": ["rust."]}


def texts() -> list[Any]:
    return [TEXTS, {"tiny_digits": TEXTS, "dtd": {"cat": ["striped"]}}]


def suites() -> list[Any]:
    return [tomllib.loads((resources.files("datasets_cfg") / "suites.toml").read_text())]


def loaded(folder: Path, source: dict[str, Any]) -> data.Dataset:
    toml = written(folder / "pets.toml", toml_text(HEAD | {"source": source}))
    dataset = data.load(str(toml), folder / "root")
    dataset.test.open(0)
    return dataset


def read_split(folder: Path, text: bytes) -> None:
    dataset_folder(folder / "pets")
    written(folder / "pets" / "split.json", text)
    loaded(folder, FOLDER)


def crafted_splits() -> list[bytes]:
    rows: list[Any] = (
        [[path, 0, "cat"] for path in PATHS]
        + [["a.jpg", value, "cat"] for value in VALUES]
        + [[5, 0, "cat"], ["a", 0, 5]]
    )
    return [json_text(SPLIT | {"train": [row]}) for row in rows] + [
        b"[" * 100_000,
        b"\xff",
        b"9" * 5000,
        b'{"train":' * 50_000,
    ]


LINES = "0001 cat\n0002 dog\n0003 cat\n"


def read_lists(folder: Path, text: bytes) -> None:
    for name in ("0001", "0002", "0003"):
        written(folder / "pets" / "images" / f"{name}.jpg", jpeg())
    for split in ("val", "test"):
        written(folder / "pets" / f"{split}.txt", LINES.encode())
    written(folder / "pets" / "train.txt", text)
    loaded(folder, {key: value for key, value in LISTS.items() if key != "split"})


def make_names(rng: Random) -> list[bytes]:
    return [
        mutated(rng, rng.choice((b"a.jpg", b"b.JPEG", b"c.png", b".hidden.jpg")), [b"x"])
        + rng.choice((b"", b".jpg"))
        for _ in range(3)
    ]


def read_names(folder: Path, names: list[bytes]) -> None:
    """Files of hostile names in the folders of classes; names that the file system refuses are left
    out.
    """
    dataset_folder(folder / "pets")
    for name in names:
        file = (
            os.fsencode(folder / "pets" / "train" / "cat")
            + b"/"
            + name.replace(b"/", b"").replace(b"\0", b"")[:255]
        )
        if not os.path.exists(file):
            with open(file, "wb") as stream:
                stream.write(jpeg())
    loaded(folder, IMAGES)


def table_bytes(images: Sequence[object], labels: Sequence[object], **options: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table({"image": images, "label": labels}), sink, row_group_size=2, **options)
    return sink.getvalue()


@cache
def parquets() -> list[bytes]:
    cells = [{"bytes": jpeg(i), "path": "x"} for i in range(3)]
    whole = [
        table_bytes(cells, [0, 1, 0]),
        table_bytes(cells, ["cat", "dog", "cat"]),
        table_bytes([jpeg()], [1]),
    ]
    return [
        *whole,
        *(table_bytes(cells, [0, 1, 0], compression=kind) for kind in ("gzip", "zstd", "none")),
    ]


def crafted_parquets() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    odd: list[Any] = [
        [None],
        [1.5],
        [True],
        [b"\xff"],
        [[1]],
        [{"a": 1}],
        ["x" * 10_000],
        [2**62],
        [-1],
    ]
    crafted = [table_bytes([jpeg()], labels) for labels in odd]
    crafted += [
        table_bytes(images, [0])
        for images in ([None], [5], ["text"], [{"path": "x"}], [{"bytes": None}], [[jpeg()]])
    ]
    crafted.append(bomb_of_rows())
    crafted += [table_with_metadata(text) for text in HOSTILE_METADATA]
    for name in ("arrow.py_extension_type", "pandas.period", "arrow.json"):
        marked = pa.field(
            "label",
            pa.binary(),
            metadata={
                "ARROW:extension:name": name,
                "ARROW:extension:metadata": pickle.dumps(Trap()),
            },
        )
        sink = io.BytesIO()
        pq.write_table(pa.table([pa.array([b"cat"])], schema=pa.schema([marked])), sink)
        crafted.append(sink.getvalue())
    sink = io.BytesIO()
    pq.write_table(
        pa.table(
            {"image": [jpeg()], "label": pa.array([b"\xff\xfe"]).cast(pa.string(), safe=False)}
        ),
        sink,
    )
    crafted.append(sink.getvalue())
    return crafted


HOSTILE_METADATA = (  # of the "huggingface" entry, where the datasets library keeps class names
    b"\xff",
    b"[" * 100_000,
    b'{"info": {"features": {"label": {"_type": "ClassLabel", "num_classes": 1000000000000}}}}',
    b'{"info": {"features": {"label": {"_type": "ClassLabel", "names_file": "/etc/passwd"}}}}',
    b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": {"a": 1}}}}}',
    b'{"info": {"features": {"label": {"_type": ["ClassLabel"]}}}}',
    b'{"info": {"features": ["label"]}}',
)


def table_with_metadata(text: bytes) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.table({"image": [jpeg()], "label": [0]})
    sink = io.BytesIO()
    pq.write_table(rows.replace_schema_metadata({b"huggingface": text}), sink)
    return sink.getvalue()


def bomb_of_rows(count: int = 30_000_000) -> bytes:
    """Some kilobytes that are thirty million rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    zeros = pa.array(np.zeros(count, np.int8))
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": zeros, "label": zeros}), sink, compression="zstd")
    return sink.getvalue()


def read_parquet(folder: Path, content: bytes) -> None:
    parquet._row_group.cache_clear()  # the files of the input before had the same names
    parquet._row_group_ends.cache_clear()
    for split in ("train", "test"):
        written(folder / "pets" / f"{split}-0.parquet", content)
    dataset = loaded(folder, TABLE)
    for i in range(min(3, len(dataset.train))):
        dataset.train.digest(i)


def receipts() -> list[Any]:
    empty = {"adopted": None, "listing": None, "sample": None, "broken": None, "licence": "free"}
    return [empty, empty | {"adopted": "pets"}, empty | {"listing": "0" * 64}]


def read_receipt(folder: Path, text: bytes) -> None:
    dataset_folder(folder / "pets")
    toml = written(folder / "pets.toml", toml_text(HEAD | {"source": IMAGES}))
    spec = data.read_spec(str(toml))
    written(folder / "root" / ".fsbench" / f"{spec.key}.json", text)
    data.load(str(toml), folder / "root").test.open(0)


def read_manifest(folder: Path, text: bytes) -> None:
    spec = data.read_spec("dtd")
    verification.problem(spec, ["0" * 64 + " a.jpg"], written(folder / "x.manifest", text))


def read_memo(folder: Path, text: bytes) -> None:
    """The two memories of checksums in the cache: of images and of weights."""
    with mock.patch.dict(os.environ, {"FSBENCH_CACHE": str(folder / "cache")}):
        digests._remembered.cache_clear()
        image = written(folder / "a.jpg", jpeg())
        written(digests._memory(str(folder), folder / "cache"), text)
        assert digests.of_file(image) == digests.hashed(image)
        expected = weights.weights_digest("tiny")
        (memo,) = (folder / "cache" / "weights").glob("*.json")
        memo.write_bytes(text)
        assert weights.weights_digest("tiny") == expected


def memos() -> list[bytes]:
    return [
        json_text({"file": "x:1:2", "sha256": "0" * 64}),
        b"0" * 64 + b" 1-2 b.jpg\n",
        b'{"sha256": 5}',
        b"[]",
        b"[" * 100_000,
        b'"x"',
    ]
