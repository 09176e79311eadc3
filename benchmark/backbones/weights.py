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
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

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
HUB, TIMM = "hf-hub:", "timm:"
LONGEST_NAME = 1000  # of a parameter, or of what a pickle calls for
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    OSError,
    LookupError,
    RuntimeError,
    EOFError,
    MemoryError,
)
FILES = {".safetensors", ".pt", ".pth", ".bin"}  # what a local checkpoint ends with


@dataclass(frozen=True)
class Source:
    """What is needed to build a backbone: architecture name, weights file, and the tag it came
    from.
    """

    arch: str  # with the prefix of its kind
    tag: str
    file: Path


def canonical(name: str) -> str:
    """The one spelling of a backbone name: 'ViT-B/16' and 'ViT-B-16' mean the OpenAI weights;
    anything unknown is refused.
    """
    if name in NAMED:
        return name
    aliases = {known.removesuffix("/openai").lower(): known for known in NAMED}
    alias = aliases.get(name.lower().replace("/", "-"))
    if alias:
        return alias
    if "/" not in name and not name.startswith(TIMM):
        raise UserError(
            f"unknown backbone '{name}': a name is 'tiny' or ARCH/TAG as in '{STANDARD}'; {nearest(name, list(NAMED))}"
        )
    return name


def locate(name: str) -> Source:
    """Where the weights of `name` lie on this machine. Never downloads; raises UserError (exit code
    4) where they are missing.
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
    return Source(arch, "file", Path(file))


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a name longer than any file may have
        return False


def check_unpacked(file: Path) -> None:
    """Raise a UserError for a checkpoint of torch's that grows when it is read, or that would keep
    its reader busy for hours.
    """
    try:
        if not zipfile.is_zipfile(file):
            if file.suffix != ".safetensors":
                with file.open("rb") as stream:
                    _check_names(
                        file, stream, pickles=5
                    )  # the older format is five of them, one after the other
            return
        with zipfile.ZipFile(file) as archive:
            grown = sum(member.file_size for member in archive.infolist())
            if grown > 2 * file.stat().st_size:  # torch stores its archives unpacked
                raise UserError(
                    f"weights file {file} would grow to {grown} bytes, as no checkpoint does; fetch it from elsewhere"
                )
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    with archive.open(name) as stream:
                        _check_names(file, stream, pickles=1)
    except UNREADABLE as error:
        raise UserError(
            f"weights file {file} is damaged ({error}); fetch it again", exit_code=MISSING
        ) from error


def _check_names(file: Path, stream: IO[bytes], pickles: int) -> None:
    """Look at the words of pickles without obeying them: torch searches its own complaint about a
    long name in quadratic time.
    """
    for _ in range(pickles):
        for _, word, _ in pickletools.genops(stream):
            if isinstance(word, str) and len(word) > LONGEST_NAME:
                raise UserError(
                    f"weights file {file} holds a name of {len(word)} characters, as no checkpoint does; fetch it from elsewhere"
                )


def from_hub(name: str, fetch: bool) -> Path:
    """The weights file of a `hf-hub:` or `timm:` name, with the configuration it needs beside it;
    fetched only where `fetch`.
    """
    if not fetch:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub library is first imported
    from huggingface_hub import hf_hub_download

    if name.startswith(HUB):
        repo, needed, weights = (
            name.removeprefix(HUB),
            "open_clip_config.json",
            ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"],
        )
    else:
        repo, needed, weights = (
            _timm_repo(name),
            "config.json",
            ["model.safetensors", "pytorch_model.bin"],
        )
    try:
        revision = Path(
            hf_hub_download(repo, needed, local_files_only=not fetch)
        ).parent.name  # one revision for all its files
        place: dict[str, Any] = {"revision": revision, "local_files_only": not fetch}
        return _first(weights, lambda file: Path(hf_hub_download(repo, file, **place)))
    except Exception as error:  # of the hub library, or of whatever carries its requests
        raise _not_here(name, error if fetch else None) from error


def _first(files: list[str], get: Callable[[str], Path]) -> Path:
    """The first file that can be had: safetensors before what must be unpickled, if with care."""
    from huggingface_hub.errors import (
        EntryNotFoundError,  # also what is raised for a file that the cache lacks
    )

    for file in files[:-1]:
        with suppress(EntryNotFoundError):
            return get(file)
    return get(files[-1])


def _timm_repo(name: str) -> str:
    import timm
    from timm.models import get_pretrained_cfg

    try:
        found = get_pretrained_cfg(name.removeprefix(TIMM), allow_unregistered=True)
    except RuntimeError:  # a known architecture, but no such weights
        found = None
    if found is None or not found.hf_hub_id:
        raise UserError(
            f"unknown backbone '{name}': {nearest(name.removeprefix(TIMM), timm.list_pretrained())}"
        )
    return str(found.hf_hub_id)


def _not_here(name: str, reason: Exception | None) -> UserError:
    if reason:
        words = str(reason).strip().partition("\n")[0] or type(reason).__name__
        return UserError(
            f"the weights of {name} could not be fetched ({words}); check the name, or try again with a network",
            exit_code=MISSING,
        )
    return UserError(
        f"the weights of {name} are not on this machine and nothing is downloaded by itself; "
        f"run `python -m benchmark prepare --backbone {name}` where there is a network",
        exit_code=MISSING,
    )


def _with_quick_gelu(arch: str, tag: str) -> str:
    """OpenAI trained with QuickGELU; the plain architecture would silently give other numbers
    (open_clip issue 771).
    """
    return arch + "-quickgelu" if tag == "openai" and not arch.endswith("-quickgelu") else arch


def _downloaded(name: str, arch: str, tag: str) -> Path:
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub library is first imported
    import open_clip

    if tag not in open_clip.list_pretrained_tags_by_model(arch):
        known = [f"{a}/{t}" for a, t in open_clip.list_pretrained()]
        raise UserError(f"unknown backbone '{name}': {nearest(name, known)}")
    try:
        return Path(
            open_clip.download_pretrained(
                open_clip.get_pretrained_cfg(arch, tag), prefer_hf_hub=True
            )
        )
    except Exception as error:
        raise _not_here(name, None) from error


def seem_here(name: str) -> bool:
    """Whether the weights of a named backbone seem to be there: a glance into the caches; asking
    open_clip would cost seconds.
    """
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
    """sha256 of the weights file, remembered by size and modification time so that gigabytes are
    hashed once.
    """
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
        return (
            facts["sha256"]
            if facts["file"] == stamp and re.fullmatch("[0-9a-f]{64}", facts["sha256"])
            else None
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
