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
from pathlib import Path

from benchmark.backbones.hub import HUB, TIMM, from_hub, missing, offline
from benchmark.data import digests
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
SHORT_NAMES = ("RN50", "RN101", "ViT-B/32", "ViT-B/16", "ViT-L/14")  # as people write them
HUB_REPOS = {  # where open_clip fetches the named weights from
    "RN50/openai": "timm/resnet50_clip.openai",
    "RN101/openai": "timm/resnet101_clip.openai",
    "ViT-B-32/openai": "timm/vit_base_patch32_clip_224.openai",
    "ViT-B-16/openai": "timm/vit_base_patch16_clip_224.openai",
    "ViT-L-14/openai": "timm/vit_large_patch14_clip_224.openai",
}
DIGEST = "sha256-"  # begins what stands for the tag of a checkpoint file in records
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
    if is_file(name):
        return _local(arch, tag)
    if tag.startswith(DIGEST) and not name.startswith(HUB):
        return Source(arch, FILE, _remembered_file(name, tag.removeprefix(DIGEST)))
    if name.startswith((HUB, TIMM)):
        return Source(name, "hub", from_hub(name, fetch=False))
    return Source(_with_quick_gelu(arch, tag), tag, _downloaded(name, arch, tag))


def is_file(name: str) -> bool:
    """Whether a name is that of a checkpoint given by its path."""
    return Path(name.partition("/")[2]).suffix in FILES and not name.startswith(HUB)


def recorded(name: str) -> str:
    """The name of a backbone in records, which no path is part of: a checkpoint given as a file is
    known by its architecture and digest, a tag by the architecture that it is read as.
    """
    arch, _, tag = name.partition("/")
    if is_file(name):
        return f"{arch}/{DIGEST}{weights_digest(name)[:16]}"
    if name in NAMED or tag.startswith(DIGEST) or name.startswith((HUB, TIMM)):
        return name
    # OpenAI's are read with QuickGELU, which their name has always meant
    return name if tag == "openai" else f"{_with_quick_gelu(arch, tag)}/{tag}"


def _remembered_file(name: str, digest: str) -> Path:
    """The file whose digest was once computed on this machine and begins so."""
    for memo in sorted((cache_dir() / "weights").glob("*.json")):
        facts = _facts(memo)
        if facts and facts["sha256"].startswith(digest):
            file = Path(facts["file"])
            if _is_file(facts["file"]) and digests.of_file(file) == facts["sha256"]:
                return file
    raise UserError(
        f"no file with the weights of {name} is known on this machine; give the path of a "
        f"checkpoint with that digest, as {name.partition('/')[0]}/path/to/file",
        exit_code=MISSING,
    )


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
    """OpenAI and some others trained with QuickGELU; the plain architecture would silently give
    other numbers (open_clip issue 771).
    """
    if arch.endswith("-quickgelu"):
        return arch
    return arch + "-quickgelu" if tag == "openai" or _wants_quick_gelu(arch, tag) else arch


def _wants_quick_gelu(arch: str, tag: str) -> bool:
    """Whether the tag says so and the architecture has a twin that computes so."""
    import open_clip

    said = (open_clip.get_pretrained_cfg(arch, tag) or {}).get("quick_gelu", False)
    plain = not (open_clip.get_model_config(arch) or {}).get("quick_gelu", False)
    return bool(said and plain and open_clip.get_model_config(f"{arch}-quickgelu"))


def _downloaded(name: str, arch: str, tag: str) -> Path:
    """The file that open_clip has in its caches for a tag."""
    import open_clip

    if tag not in open_clip.list_pretrained_tags_by_model(arch):
        known = [f"{a}/{t}" for a, t in open_clip.list_pretrained()]
        raise UserError(f"unknown backbone '{name}': {nearest(name, [*SHORT_NAMES, *known])}")
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


def config_file(source: Source) -> Path:
    """The configuration that lies beside the weights of a model of the hub."""
    return source.file.parent / "open_clip_config.json"


def weights_digest(name: str) -> str:
    """sha256 of the weights file as it is now; of a model of the hub, of that and of its
    configuration, which says how the same weights are computed with.
    """
    source = locate(name)
    digest = _file_digest(source.file.resolve())
    if not source.arch.startswith(HUB):
        return digest
    return hashlib.sha256(f"{digest}\0".encode() + config_file(source).read_bytes()).hexdigest()


def _file_digest(file: Path) -> str:
    """sha256, by which the file is found again. Gigabytes are hashed once (data/digests.py)."""
    facts = {"file": str(file), "sha256": digests.of_file(file)}
    memo = cache_dir() / "weights" / f"{hashlib.sha256(str(file).encode()).hexdigest()[:16]}.json"
    if _facts(memo) != facts:
        write_atomic(memo, json.dumps(facts).encode())
    return facts["sha256"]


def _facts(memo: Path) -> dict[str, str] | None:
    """The file and the digest that a memo names; None where it is none."""
    try:
        facts = json.loads(memo.read_bytes())
        known = isinstance(facts["file"], str) and re.fullmatch("[0-9a-f]{64}", facts["sha256"])
        return facts if known else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
