"""What a method has learnt, written beside its record and read again.

Which files there are, and what they say, records/kept_adapters.py knows.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from benchmark.api import State, Target, UserError
from benchmark.data.rgb import Exif
from benchmark.paths import write_atomic
from benchmark.records.kept_adapters import (
    SAID,
    KeptAdapter,
    KeptTensor,
    json_file,
    said_digest,
    tensor_file,
)
from benchmark.records.record import Identity, key
from benchmark.records.store import Store

STATE, TEXT = "state/", "target/text_KD"
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def keep(store: Store, identity: Identity, target: Target, state: State, exif: Exif) -> str:
    """Write what was learnt; the sha256 of the file of tensors.

    Raises UserError for a state that is more than finite tensors.
    """
    from safetensors.torch import save

    tensors = {f"{STATE}{name}": _plain(name, part) for name, part in state.items()}
    if target.text_KD is not None:
        tensors[TEXT] = _plain("text_KD", target.text_KD)
    name = key(identity)
    kept = KeptAdapter(
        key=name,
        identity=identity,
        class_names=target.class_names,
        templates=target.templates,
        texts=target.texts,
        exif=exif,
        tensors={each: _described(part) for each, part in tensors.items()},
    )
    content = save(tensors, {"key": name, SAID: said_digest(kept)})
    write_atomic(tensor_file(store, name), content)
    write_atomic(json_file(store, name), (kept.model_dump_json(indent=1) + "\n").encode())
    return hashlib.sha256(content).hexdigest()


def _plain(name: str, part: Tensor) -> Tensor:
    if part.dtype not in DTYPES:
        raise UserError(f"learn returned '{name}' of {part.dtype}, which cannot be kept")
    if not bool(torch.isfinite(part).all()):
        raise UserError(f"learn returned '{name}' with numbers that are not finite")
    return part.detach().cpu().contiguous().clone()


def _described(part: Tensor) -> KeptTensor:
    return KeptTensor(
        dtype=DTYPES[part.dtype],  # type: ignore[arg-type]
        shape=tuple(part.shape),
        sha256=hashlib.sha256(part.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest(),
    )


def read_tensors(path: Path, kept: KeptAdapter) -> dict[str, Tensor]:
    """The tensors that the description names; UserError for any other content."""
    from safetensors import SafetensorError, safe_open

    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        with safe_open(path, "pt") as file:
            if set(file.keys()) != set(kept.tensors):
                raise ValueError("it holds other tensors")
            for name, wanted in kept.tensors.items():
                part = file.get_slice(name)
                if (part.get_dtype(), tuple(part.get_shape())) != (wanted.dtype, wanted.shape):
                    raise ValueError(f"'{name[:60]}' has another shape or type")
            tensors = {name: file.get_tensor(name) for name in kept.tensors}
            noted = (file.metadata() or {}).get(SAID)
        for name, part in tensors.items():
            if _described(part) != kept.tensors[name] or not bool(torch.isfinite(part).all()):
                raise ValueError(f"'{name[:60]}' has other numbers")
        if noted != said_digest(kept):
            raise ValueError("it was written beside other class names, templates or texts")
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is not what {kept.key}.json says ({error}); run its cell again with --keep"
            " --force"
        ) from None
    return tensors
