"""Predictions, features and priors: files of numbers."""

from __future__ import annotations

import io
import json
import pickle
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as safetensors

from benchmark.compute import kept_states
from benchmark.features import inventory
from benchmark.features.feature_store import Stopwatch, _checksum, open_store, space
from benchmark.records.store import Store
from testbed.mutation import VALUES, Trap, json_text, mutated, mutated_tree
from testbed.targets.inputs import Random, written, zipped


def _npz(array: Any, name: str = "predicted", **others: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: array}, **others)
    return stream.getvalue()


def _judged(confidence: Any, right: Any) -> bytes:
    """Predictions with what is kept beside them."""
    return _npz(np.arange(3, dtype=np.int32), confidence=confidence, right=right)


@cache
def npz_files() -> list[bytes]:
    return [
        _npz(np.arange(400, dtype=np.int32)),
        _judged(np.float16([0.5, 1, 0.25]), np.array([True, False, True])),
        _npz(np.zeros((2, 3))),
        _npz(np.array(["a", "b"])),
    ]


def npy(shape: object, kind: str = "'<i4'", body: bytes = b"") -> bytes:
    """The predictions of an archive whose array says what it likes."""
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return zipped(
        {"predicted.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body}
    )


def crafted_npz() -> list[bytes]:
    plain = io.BytesIO()
    np.save(plain, np.arange(3))
    trapped = _npz(np.array([Trap()], dtype=object))
    shapes = [
        npy((10**9,)),
        npy((10**12,)),
        npy((2**62, 4)),
        npy((-1,)),
        npy("(True,)"),
        npy("-" * 9000 + "1"),
        npy("(" * 300),
        npy("()"),
    ]
    kinds = [
        npy((1,), kind)
        for kind in (
            "'O'",
            "'|O'",
            "[('a', 'O')]",
            "'<i4,' * 99",
            "'<U99999999'",
            "'M8[ns]'",
            "None",
        )
    ]
    zeros = _npz(np.zeros(300_000_000, np.int32))
    return [
        plain.getvalue(),
        pickle.dumps(Trap()),
        trapped,
        *shapes,
        *kinds,
        zeros,
        _npz(np.arange(3), "other"),
        b"",
        b"PK\x05\x06" + bytes(18),
    ]


def crafted_confidences() -> list[bytes]:
    """Sound predictions beside confidences that are none."""
    third, right = np.full(3, 1 / 3, np.float16), np.ones(3, bool)
    return [
        _judged(np.float16([0.5, np.nan, 1]), right),
        _judged(np.float16([0.5, np.inf, 1]), right),
        _judged(np.float16([0.5, -0.5, 1]), right),
        _judged(np.float16([0.5, 1.5, 1]), right),
        _judged(third.astype(np.float64), right),
        _judged(third, right[:2]),
        _judged(third, np.arange(3)),
        _judged(third, np.array([0, 1, 2], np.uint8).view(bool)),
        _judged(np.array([Trap()], dtype=object), right),
        _npz(np.arange(3, dtype=np.int32), confidence=third),
    ]


def read_predictions(folder: Path, content: bytes) -> None:
    written(folder / "records" / "0123456789ab.npz", content)
    labels = Store(folder).predictions("0123456789ab")
    assert labels.ndim == 1, "predictions are one row of labels"
    assert labels.dtype == np.int32, "predictions are int32"
    kept = Store(folder).confidences("0123456789ab")
    if kept is not None:
        confidence_Q = kept.confidence_Q
        assert ((confidence_Q >= 0) & (confidence_Q <= 1)).all(), "a confidence is a probability"
        assert kept.right_Q.dtype == bool, "an image is right or not"


DIGESTS = [f"{i:064x}" for i in range(4)]


def shard_bytes(rows: torch.Tensor, facts: dict[str, Any], honest: bool = True) -> bytes:
    """A shard; `honest` says that its checksum fits, as a forger's would."""
    named = {"digests": json.dumps(DIGESTS), "seconds_per_row": "0.1", "backbone": "tiny"} | facts
    named["sha256"] = _checksum(rows, named["digests"]) if honest else "0" * 64
    body = rows.numpy().tobytes()  # by hand, since the library shuffles its metadata
    kind = {torch.float32: "F32", torch.int64: "I64"}[rows.dtype]
    head = {
        "__metadata__": named,
        "features": {"dtype": kind, "shape": list(rows.shape), "data_offsets": [0, len(body)]},
    }
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + body


def make_shard(rng: Random) -> bytes:
    rows = rng.choice(
        (
            torch.ones(4, 8),
            torch.ones(3, 8),
            torch.ones(4, 9),
            torch.ones(4),
            torch.tensor(1.0),
            torch.ones(4, 8, dtype=torch.int64),
        )
    )
    facts: dict[str, Any] = (
        {"digests": json_text(mutated_tree(rng, DIGESTS)).decode()} if rng.random() < 0.4 else {}
    )
    facts |= {"seconds_per_row": rng.choice(VALUES)} if rng.random() < 0.2 else {}
    whole = shard_bytes(rows, {key: _encodable(str(value)) for key, value in facts.items()})
    return whole if rng.random() < 0.4 else mutated(rng, whole, [shard_bytes(torch.ones(4, 8), {})])


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def honest_shard() -> bytes:
    return shard_bytes(torch.ones(4, 8), {})


def crafted_safetensors() -> list[bytes]:
    """Headers that lie about their own length, about shapes and about offsets in the file."""

    def with_head(head: Any, body: bytes = bytes(64), length: int | None = None) -> bytes:
        text = head if isinstance(head, bytes) else json.dumps(head).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + body

    def entry(**fields: Any) -> dict[str, Any]:
        return {"features": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]} | fields}

    lengths = [
        with_head(entry(), length=length) for length in (0, 1, 2**63, 2**64 - 1, 10**8, 10**8 + 1)
    ]
    shapes = [
        with_head(entry(shape=shape))
        for shape in ([2**62, 4], [2**64 - 1], [-1], [], [0], [1] * 1000)
    ]
    offsets = [
        with_head(entry(data_offsets=pair))
        for pair in ([0, 2**63], [64, 0], [-1, 64], [0], [8, 72])
    ]
    texts = [
        with_head(text)
        for text in (
            b"[" * 50_000,
            b"{" * 50_000,
            b"\xff",
            b"{}",
            b"null",
            b'{"features":1}',
            b'{"__metadata__":[]}',
        )
    ]
    return [
        *lengths,
        *shapes,
        *offsets,
        *texts,
        b"",
        bytes(8),
        b"\xff" * 8,
        pickle.dumps(Trap()),
        with_head(entry(dtype="F8_E4M3")),
    ]


def read_shard(folder: Path, content: bytes) -> None:
    """Believed, or dropped and computed again: four rows in either case."""
    where = space("0" * 16, None)
    written(folder / where.folder / "0123456789abcdef.safetensors", content)
    rows_ND = open_store(folder).rows(
        where, DIGESTS, lambda positions: iter([torch.ones(len(positions), 8)]), Stopwatch()
    )
    assert len(rows_ND) == 4, f"features of shape {tuple(rows_ND.shape)}"


def read_listing(folder: Path, content: bytes) -> None:
    written(folder / "0" / "centre" / "x.safetensors", content)
    inventory.table_rows(inventory.list_files(folder))


@cache
def prior_files() -> list[bytes]:
    state = {"ctx": torch.ones(4, 8), "scale": torch.tensor(1.0)}
    return [safetensors(state, {"seconds": seconds}) for seconds in ("1.5", "nan", "x")] + [
        safetensors(state)
    ]


def read_prior(folder: Path, content: bytes) -> None:
    kept_states.load(written(folder / "priors" / "x.safetensors", content))
