"""Which backbones there are, where their weights lie, and the digest that names those weights. Imports no torch.

A name is `tiny` (embedded), `ARCH/TAG` for open_clip's weights ("ViT-B-16/openai"), or the path of a local checkpoint as
`ARCH/path/to/file.safetensors`.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmark.errors import MISSING, UserError, nearest
from benchmark.paths import cache_dir, write_atomic

TINY = "tiny"
NAMED = {  # the field's standard set; any other open_clip name and tag works too
    TINY: "embedded CLIP of the tiny suite, trained by benchmark.tiny.train",
    "RN50/openai": "ResNet-50, 1024-d",
    "RN101/openai": "ResNet-101, 512-d",
    "ViT-B-32/openai": "ViT-B/32, 512-d",
    "ViT-B-16/openai": "ViT-B/16, 512-d, the default for prepared datasets",
    "ViT-L-14/openai": "ViT-L/14, 768-d",
}
STANDARD = "ViT-B-16/openai"


@dataclass(frozen=True)
class Source:
    """What open_clip needs to build a backbone: architecture name, weights file, and the tag it came from."""

    arch: str
    tag: str
    file: Path


def canonical(name: str) -> str:
    """The one spelling of a backbone name: 'ViT-B/16' and 'ViT-B-16' mean the OpenAI weights; anything unknown is refused."""
    if name in NAMED:
        return name
    aliases = {known.removesuffix("/openai").lower(): known for known in NAMED}
    alias = aliases.get(name.lower().replace("/", "-"))
    if alias:
        return alias
    if "/" not in name:
        raise UserError(f"unknown backbone '{name}': a name is 'tiny' or ARCH/TAG as in '{STANDARD}'; {nearest(name, list(NAMED))}")
    return name


def locate(name: str) -> Source:
    """Where the weights of `name` lie on this machine. Never downloads; raises UserError (exit code 4) where they are missing."""
    if name == TINY:
        from benchmark.tiny.model import WEIGHTS

        return Source("tiny", "embedded", Path(WEIGHTS))
    arch, _, tag = name.partition("/")
    if Path(tag).suffix in {".safetensors", ".pt", ".bin"}:
        return _local(arch, tag)
    return Source(_with_quick_gelu(arch, tag), tag, _downloaded(name, arch, tag))


def _local(arch: str, file: str) -> Source:
    if not Path(file).is_file():
        raise UserError(f"weights file {file} is not there; give the path of an existing checkpoint", exit_code=MISSING)
    return Source(arch, "file", Path(file))


def _with_quick_gelu(arch: str, tag: str) -> str:
    """OpenAI trained with QuickGELU; the plain architecture would silently give other numbers (open_clip issue 771)."""
    return arch + "-quickgelu" if tag == "openai" and not arch.endswith("-quickgelu") else arch


def _downloaded(name: str, arch: str, tag: str) -> Path:
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub library is first imported
    import open_clip

    if tag not in open_clip.list_pretrained_tags_by_model(arch):
        known = [f"{a}/{t}" for a, t in open_clip.list_pretrained()]
        raise UserError(f"unknown backbone '{name}': {nearest(name, known)}")
    try:
        return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(arch, tag), prefer_hf_hub=True))
    except Exception as error:
        raise UserError(
            f"the weights of {name} are not on this machine and nothing is downloaded by itself; "
            f"run `python -m benchmark prepare --backbone {name}` where there is a network",
            exit_code=MISSING,
        ) from error


@cache
def weights_digest(name: str) -> str:
    """sha256 of the weights file, remembered by size and modification time so that gigabytes are hashed once."""
    file = locate(name).file.resolve()
    stat = file.stat()
    stamp = f"{file}:{stat.st_size}:{stat.st_mtime_ns}"
    memo = cache_dir() / "weights" / f"{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.json"
    if memo.is_file():
        return str(json.loads(memo.read_text())["sha256"])
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    write_atomic(memo, json.dumps({"file": stamp, "sha256": digest}).encode())
    return digest
