"""What methods may ask of a backbone, known from its configuration alone. Imports no torch by
itself.

A method says what it needs in a class variable, `needs: ClassVar[tuple[str, ...]]`, of these words.
One that says nothing is taken to need nothing that is not tried first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from benchmark.backbones import weights
from benchmark.backbones.hub import HUB, TIMM
from benchmark.errors import UserError
from benchmark.methods import Card

ABILITIES = {
    "text": "a text side",
    "text blocks": "a text tower that is open between its blocks",
    "prompts": "a text tower that prompts can be learned in",
    "projection": "an image tower that ends in a projection of open_clip's own",
    "local": "an image tower with features of single places, of open_clip's own",
    "image blocks": "an image tower that is open between its blocks, a ViT of open_clip's own",
}
CONVOLUTIONAL = {"RN50/openai", "RN101/openai"}  # of the named ones


def offered(name: str) -> frozenset[str]:
    """The ABILITIES of a backbone; weights are looked up and not loaded."""
    if name in weights.NAMED:
        return frozenset(ABILITIES) - ({"image blocks"} if name in CONVOLUTIONAL else set())
    source = weights.locate(name)
    if source.arch.startswith(TIMM):
        return frozenset()
    config = _config(source)
    return _of_config(config) if config else frozenset(ABILITIES)


def _config(source: weights.Source) -> Mapping[str, Any] | None:
    """The configuration of the architecture; None where there is none, which loading will say."""
    if source.arch.startswith(HUB):
        with suppress(OSError, ValueError, LookupError, TypeError):
            return json.loads(weights.config_file(source).read_bytes())["model_cfg"]
        return None
    import open_clip

    return open_clip.get_model_config(source.arch)


def _of_config(config: Mapping[str, Any]) -> frozenset[str]:
    text, vision = config.get("text_cfg") or {}, config.get("vision_cfg") or {}
    lacking = set[str]()
    if text.get("hf_model_name"):
        lacking |= {"text blocks", "prompts"}
    if text.get("embed_cls") or text.get("use_pad_mask"):
        lacking |= {"prompts"}  # tokens or masks of its own
    if vision.get("timm_model_name"):
        lacking |= {"projection"}
    if vision.get("timm_model_name") or vision.get("attentional_pool"):
        lacking |= {"local"}
    if vision.get("timm_model_name") or isinstance(vision.get("layers"), (list, tuple)):
        lacking |= {"image blocks"}
    return frozenset(ABILITIES) - lacking


def require_served(card: Card, backbone: str, known: Callable[[], Sequence[Card]]) -> None:
    """UserError for a method that a backbone cannot serve, naming those of `known` that it can."""
    abilities = offered(backbone) if card.needs else frozenset()
    lacking = [need for need in card.needs if need not in abilities]
    if lacking:
        work = [each.name for each in known() if set(each.needs) <= abilities]
        raise UserError(
            f"{card.name} needs {ABILITIES.get(lacking[0], lacking[0])}, which {backbone} has not; "
            f"methods that work with it: {', '.join(work) or 'none'}"
        )
