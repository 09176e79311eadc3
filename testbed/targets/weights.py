"""Checkpoints, with code in them and without, and configurations of models of the hub."""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save as safetensors

from benchmark.backbones import clip, weights
from testbed.mutation import TRAP_CODE, Trap, json_text
from testbed.targets.inputs import BOMB_BYTES, written, zipped

CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 16, "patch_size": 4, "head_width": 8},
    # CLIP's vocabulary, without which its tokenizer is refused, at the least width
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 4, "heads": 2, "layers": 1},
}
ARCHITECTURE = "fsbench-hostile"


@cache
def state() -> dict[str, torch.Tensor]:
    import tempfile

    import open_clip

    with tempfile.TemporaryDirectory() as folder:
        open_clip.add_model_config(
            written(Path(folder) / f"{ARCHITECTURE}.json", json_text(CONFIG))
        )
    torch.manual_seed(0)
    return dict(open_clip.CLIP(**CONFIG).state_dict())  # type: ignore[arg-type]


@cache
def weight_files() -> list[bytes]:
    return [safetensors(state())]


def torch_bytes(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return _named_by_number(stream.getvalue())


def _named_by_number(content: bytes) -> bytes:
    """The older format names storages by where they lie in memory, which is elsewhere each time."""
    numbers_found = list(dict.fromkeys(re.findall(rb"X.\0\0\0(\d{10,20})", content, re.DOTALL)))
    numbers = {number: f"{i:06}".encode() for i, number in enumerate(numbers_found)}
    return re.sub(
        rb"X.\0\0\0(\d{10,20})",
        lambda ids: b"X\x06\0\0\0" + numbers[ids[1]],
        content,
        flags=re.DOTALL,
    )


@cache
def torch_files() -> list[bytes]:
    return [
        torch_bytes(state()),
        torch_bytes({"state_dict": state()}),
        torch_bytes({"logit_scale": torch.zeros(())}, _use_new_zipfile_serialization=False),
    ]


@cache
def crafted_torch() -> list[bytes]:
    class TypeTrap:
        """Open_clip answers a TypeError by loading once more, with whatever torch takes for
        granted.
        """

        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (Trap(), 5)

    traps = [Trap(), {"state_dict": Trap()}, {"a": state(), "b": Trap()}, TypeTrap()]
    crafted = [pickle.dumps(trap, protocol) for trap in traps[:3] for protocol in (0, 2, 4)]
    crafted += [
        torch_bytes(trap, _use_new_zipfile_serialization=new)
        for trap in traps
        for new in (True, False)
    ]
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but checkpoints of that kind are still about
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), stream)
    return [
        *crafted,
        stream.getvalue(),
        torch_bytes(5),
        torch_bytes([]),
        torch_bytes({}),
        torch_bytes({1: 2}),
        torch_bomb(),
        b"",
        zipped({"a": b"b"}),
    ]


@cache
def torch_bomb() -> bytes:
    """A checkpoint whose one tensor is all zeros, packed as torch itself never would."""
    whole = zipfile.ZipFile(io.BytesIO(torch_bytes({"logit_scale": torch.zeros(1)})))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in whole.namelist():
            body = whole.read(name)
            if name.endswith("data/0"):
                with bomb.open(name, "w") as stream:
                    for _ in range(BOMB_BYTES >> 20):
                        stream.write(bytes(1 << 20))
            else:
                bomb.writestr(name, body)
    return packed.getvalue()


def weights_reader(suffix: str) -> Callable[[Path, bytes], None]:
    def read(folder: Path, content: bytes) -> None:
        state()  # makes the architecture known
        clip.load(f"{ARCHITECTURE}/{written(folder / f'weights{suffix}', content)}")

    return read


def read_timm(folder: Path, content: bytes) -> None:
    clip.load(f"timm:test_vit/{written(folder / 'weights.pt', content)}")


def honest_timm() -> bytes:
    import timm

    torch.manual_seed(0)
    return torch_bytes(timm.create_model("test_vit", num_classes=0).state_dict())


def read_hub_model(folder: Path, text: bytes) -> None:
    """A model of the hub whose configuration comes from a stranger too; some of the strangers send
    Python files along.
    """
    written(folder / "open_clip_config.json", text)
    written(folder / "tokenization_evil.py", TRAP_CODE.encode())
    written(
        folder / "tokenizer_config.json",
        b'{"auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", null]}}',
    )
    file = written(folder / "open_clip_model.safetensors", weight_files()[0])
    with mock.patch.object(
        weights, "locate", return_value=weights.Source("hf-hub:someone/clip", "hub", file)
    ):
        clip.load("hf-hub:someone/clip")


HUB_CONFIG = {
    "model_cfg": CONFIG,
    "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
}


def crafted_hub_models() -> list[bytes]:
    text = {
        **CONFIG["text_cfg"],
        "hf_tokenizer_name": "x",
        "tokenizer_kwargs": {"trust_remote_code": True},
    }  # type: ignore[dict-item]
    return [
        json_text({"model_cfg": CONFIG | {"text_cfg": text}}),
        json_text({"model_cfg": CONFIG | {"embed_dim": 10**9}}),
        b"[" * 100_000,
    ]
