"""Which backbones there are, where their weights lie, and the digest that names those weights.
Imports no torch.

A name is one of
- `tiny`: embedded;
- `ARCH/TAG`: open_clip's weights ("ViT-B-16/openai");
- `ARCH/path/to/file.safetensors`: a local checkpoint of an open_clip architecture;
- `hf-hub:ORG/REPO`: an open_clip model of the Hugging Face hub, with its own configuration;
- `timm:NAME` or `timm:ARCH/path/to/file.safetensors`: an image encoder without a text side
("timm:resnet50.a1_in1k").
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmark.backbones.hub import HUB, TIMM, from_hub, missing, offline
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
HUB_REPOS = {  # where open_clip fetches the named weights from
    "RN50/openai": "timm/resnet50_clip.openai",
    "RN101/openai": "timm/resnet101_clip.openai",
    "ViT-B-32/openai": "timm/vit_base_patch32_clip_224.openai",
    "ViT-B-16/openai": "timm/vit_base_patch16_clip_224.openai",
    "ViT-L-14/openai": "timm/vit_large_patch14_clip_224.openai",
}
FILE = "file"  # stands for a tag where a checkpoint is given as a file
FILES = {".safetensors", ".pt", ".pth", ".bin"}  # what a local checkpoint ends with


@dataclass(frozen=True)
class Source:
    """What a backbone is built from."""

    arch: str  # with the prefix of its kind
    tag: str
    file: Path


def canonical(name: str) -> str:
    """The one spelling of a backbone name; 'ViT-B/16' and 'ViT-B-16' mean the OpenAI weights.

    Raises UserError for a name of no known form.
    """
    if name in NAMED:
        return name
    aliases = {known.removesuffix("/openai").lower(): known for known in NAMED}
    alias = aliases.get(name.lower().replace("/", "-"))
    if alias:
        return alias
    if "/" not in name and not name.startswith(TIMM):
        near = nearest(name, list(NAMED))
        raise UserError(
            f"unknown backbone '{name}': a name is 'tiny' or ARCH/TAG as in '{STANDARD}'; {near}"
        )
    return name


def locate(name: str) -> Source:
    """Where the weights of `name` lie on this machine.

    Never downloads; raises UserError (exit code 4) where they are missing.
    """
    if name == TINY:
        from benchmark.tiny.model import WEIGHTS

        return Source("tiny", "embedded", Path(WEIGHTS))
    arch, _, tag = name.partition("/")
    if Path(tag).suffix in FILES and not name.startswith(HUB):
        return _local(arch, tag)
    if name.startswith((HUB, TIMM)):
        return Source(name, "hub", from_hub(name, fetch=False))
    return Source(_with_quick_gelu(arch, tag), tag, _downloaded(name, arch, tag))


def _local(arch: str, file: str) -> Source:
    if not _is_file(file):
        raise UserError(
            f"weights file {file[:200]} is not there; give the path of an existing checkpoint",
            exit_code=MISSING,
        )
    return Source(arch, FILE, Path(file))


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a name longer than any file may have
        return False


def _with_quick_gelu(arch: str, tag: str) -> str:
    """OpenAI trained with QuickGELU; the plain architecture would silently give other numbers
    (open_clip issue 771).
    """
    return arch + "-quickgelu" if tag == "openai" and not arch.endswith("-quickgelu") else arch


def _downloaded(name: str, arch: str, tag: str) -> Path:
    """The file that open_clip has in its caches for a tag."""
    import open_clip

    if tag not in open_clip.list_pretrained_tags_by_model(arch):
        known = [f"{a}/{t}" for a, t in open_clip.list_pretrained()]
        raise UserError(f"unknown backbone '{name}': {nearest(name, known)}")
    config = open_clip.get_pretrained_cfg(arch, tag)
    try:
        with offline():
            return Path(open_clip.download_pretrained(config, prefer_hf_hub=True))
    except Exception as error:
        raise missing(name) from error


def seem_here(name: str) -> bool:
    """Whether a named backbone seems to be in a cache: asking open_clip would take seconds."""
    if name == TINY:
        return True
    hub = Path(
        os.environ.get("HF_HUB_CACHE")
        or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser() / "hub"
    )
    snapshots = hub / f"models--{HUB_REPOS[name].replace('/', '--')}" / "snapshots"
    plain = Path("~/.cache/clip").expanduser() / f"{name.partition('/')[0]}.pt"
    return plain.is_file() or any(snapshots.glob("*/*"))


@cache
def weights_digest(name: str) -> str:
    """sha256 of the weights file, kept by size and modification time: gigabytes are hashed once."""
    file = locate(name).file.resolve()
    stat = file.stat()
    stamp = f"{file}:{stat.st_size}:{stat.st_mtime_ns}"
    memo = cache_dir() / "weights" / f"{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.json"
    known = _remembered(memo, stamp)
    if known:
        return known
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    write_atomic(memo, json.dumps({"file": stamp, "sha256": digest}).encode())
    return digest


def _remembered(memo: Path, stamp: str) -> str | None:
    """The digest that was written down for this file; None where nothing was, or something else."""
    try:
        facts = json.loads(memo.read_bytes())
        known = facts["file"] == stamp and re.fullmatch("[0-9a-f]{64}", facts["sha256"])
        return facts["sha256"] if known else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
