"""What a method has learnt, kept beside its record: which files there are and what they must say.

DIR/adapters/<key>.safetensors  the tensors
DIR/adapters/<key>.json         what they are and what they belong to; written last

Nothing in them is executed. They are read as a stranger's: names, numbers and sizes are checked
here, the tensors themselves in benchmark/compute/kept_adapters.py.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.errors import UserError
from benchmark.paths import require_regular
from benchmark.records.keys import find_key
from benchmark.records.predictions import is_small
from benchmark.records.record import Identity, Record, key
from benchmark.records.store import Store

FORMAT = 1
NOTED = "adapter_sha256"  # of the file of tensors, in the provenance of a record
SAID = "said_sha256"  # in the metadata of the file of tensors
MOST_TENSORS = 100_000
# as safetensors names them
Dtype = Literal["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"]
Extent = Annotated[int, Field(ge=0, lt=1 << 40)]
Texts = Annotated[tuple[str, ...], Field(min_length=1, max_length=1_000_000)]
Sentences = Annotated[tuple[tuple[str, ...], ...], Field(max_length=1_000_000)]


class KeptTensor(BaseModel):
    """What a tensor must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Dtype
    shape: Annotated[tuple[Extent, ...], Field(max_length=16)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # of its numbers, row by row


class KeptAdapter(BaseModel):
    """All that is needed to predict beside the backbone, the method's code and the tensors.

    Tensors named "state/..." are what the method has learnt; "target/text_KD" is the zero-shot
    classifier of the classes, where the backbone has a text side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    key: str
    identity: Identity  # method and parameters, backbone, digest of its weights, precision, ...
    class_names: Texts  # K, in label order
    templates: Texts
    texts: Sentences = ()  # of every class, in place of the filled templates
    exif: Literal["ignore", "apply"] = "ignore"  # whether pictures are turned as EXIF data say
    tensors: Annotated[dict[str, KeptTensor], Field(max_length=MOST_TENSORS)]


def said_digest(kept: KeptAdapter) -> str:
    """The sha256 of what is said of the tensors beside their identity; their file notes it, so that
    its own digest in the record covers both files.
    """
    said = kept.model_dump_json(include={"class_names", "templates", "texts", "exif"})
    return hashlib.sha256(said.encode()).hexdigest()


def json_file(store: Store, name: str) -> Path:
    return store.root / "adapters" / f"{name}.json"


def tensor_file(store: Store, name: str) -> Path:
    return json_file(store, name).with_suffix(".safetensors")


def is_kept(store: Store, name: str) -> bool:
    """Whether what was learnt lies beside a record."""
    return json_file(store, name).is_file() and tensor_file(store, name).is_file()


def require_noted(store: Store, record: Record) -> None:
    """UserError where the file of tensors beside a record is not the one that it notes."""
    file = tensor_file(store, record.key)
    try:
        require_regular(file)
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}); run its cell again with --keep --force"
        ) from error
    if digest != record.provenance.get(NOTED):
        raise UserError(
            f"{file} is not what record {record.key} notes; run its cell again with --keep --force"
        )


def find(store: Store, prefix: str) -> KeptAdapter:
    """The adapter whose key is or begins with `prefix`; UserError unless there is exactly one."""
    folder = store.root / "adapters"
    if not any(folder.glob("*.json")):
        raise UserError(
            f"no adapter is kept in {store.root}; give the command of a run again with --keep"
        )
    return read(json_file(store, find_key(folder, prefix, "kept adapter", store.root)))


def read(path: Path) -> KeptAdapter:
    """The description of one adapter; UserError where it is none of this suite."""
    try:
        if not is_small(path):
            raise UserError(f"{path} is no file, or too large to describe an adapter; keep it anew")
        found = KeptAdapter.model_validate_json(path.read_bytes())
    except OSError as error:  # a link that leads nowhere, or no permission
        raise UserError(
            f"{path} cannot be read ({error.strerror}); run its cell again with --keep --force"
        ) from error
    except ValidationError as error:
        what = error.errors()[0]
        where = ".".join(map(str, what["loc"])) or "the file"
        raise UserError(
            f"{path} does not describe an adapter of this suite ({where}: {what['msg']});"
            " run its cell again with --keep --force"
        ) from None
    if found.key != key(found.identity) or found.key != path.stem:
        raise UserError(
            f"{path} was changed or renamed: its identity hashes to {key(found.identity)}; run its"
            " cell again with --keep --force"
        )
    return found
