"""Backbone weights fetched on request: the only module of the project that downloads any."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

from benchmark.backbones import weights
from benchmark.backbones.hub import HUB, TIMM, from_hub, offline, quiet, unreachable, why
from benchmark.errors import MISSING, UserError, nearest


def prepare_backbone(name: str, offline: bool = False) -> Path:
    """Bring the weights of a backbone to this machine, where `backbones.locate` finds them; returns
    their file.

    Weights that are embedded, given as a file, or here already are only looked up. Raises UserError
    for an unknown name and for weights that cannot be had.
    """
    name = weights.canonical(name)
    arch, _, tag = name.partition("/")
    if name.startswith((HUB, TIMM)) and Path(tag).suffix not in weights.FILES and not offline:
        return from_hub(name, fetch=True)
    if offline or not tag or Path(tag).suffix:
        return weights.locate(name).file
    import open_clip

    if tag not in open_clip.list_pretrained_tags_by_model(arch):
        full = [f"{each}/{its_tag}" for each, its_tag in open_clip.list_pretrained()]
        known = [*weights.SHORT_NAMES, *full]
        raise UserError(f"unknown backbone '{name}': {nearest(name, known)}")
    return _fetched(name, open_clip.get_pretrained_cfg(arch, tag))


def _fetched(name: str, source: dict[str, object]) -> Path:
    import open_clip
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # the one who called shows progress
    repo = os.path.dirname(str(source.get("hf_hub", "")))
    silent = unreachable(repo) if repo else None
    try:
        with quiet(), offline() if silent else nullcontext():
            return Path(open_clip.download_pretrained(source, prefer_hf_hub=True))
    except (
        Exception
    ) as error:  # whatever the libraries below raise; all of it means that the weights are not here
        reason = (
            "HF_HUB_OFFLINE is set"
            if os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"}
            else why(silent or error)
        )
        raise UserError(
            f"the weights of {name} could not be fetched ({reason}); try again with a network",
            exit_code=MISSING,
        ) from error
