"""How a model wants its pictures: size, resizing, channel statistics. Imports no torch by itself.

Sources: open_clip's `image_transform_v2` and timm's `transforms_imagenet_eval`, whose names for the
same things differ. What a model says of itself is read from the configuration that its name leads
to, so that a cell can be named without loading any weights.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.backbones import weights
from benchmark.backbones.hub import HUB, TIMM
from benchmark.errors import MISSING, UserError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
FILTERS = ("bicubic", "bilinear")
FITS = ("shortest", "longest", "squash")


@dataclass(frozen=True)
class Preprocessing:
    """From a picture of any size to `height` x `width` pixels.

    The picture is resized so that its shortest side is as long as that of the window ("shortest"),
    or its longest ("longest"), or so that both are ("squash"); then the middle is kept. Windows are
    first made larger by 1 / `crop_pct`, and what lies outside of the picture has the colour `fill`.
    """

    height: int
    width: int
    mean: tuple[float, ...] = CLIP_MEAN  # of the channels, of pixels in [0, 1]
    std: tuple[float, ...] = CLIP_STD
    interpolation: str = FILTERS[0]
    fit: str = FITS[0]
    crop_pct: float = 1.0
    fill: tuple[int, ...] = (0, 0, 0)

    def __post_init__(self) -> None:
        for value, known in ((self.interpolation, FILTERS), (self.fit, FITS)):
            if value not in known:
                raise UserError(
                    f"the model's pictures are made by '{value}' resizing, and the suite knows "
                    f"{' and '.join(known)} only; take another model"
                )

    @property
    def resized_box(self) -> tuple[int, int]:
        """Height and width that the picture is fitted to before its middle is kept."""
        return math.floor(self.height / self.crop_pct), math.floor(self.width / self.crop_pct)

    @property
    def is_plain(self) -> bool:
        """Whether it is CLIP's but for the channel statistics: bicubic, shortest side, square."""
        ours = (self.height, self.width, self.interpolation, self.fit, self.crop_pct)
        return ours == (self.height, self.height, FILTERS[0], FITS[0], 1.0)

    @property
    def has_clips_statistics(self) -> bool:
        return (self.mean, self.std) == (CLIP_MEAN, CLIP_STD)

    def label(self) -> str:
        """'squash-bilinear-1a2b3c': for people, and six digits of a digest over all fields."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        crop = [f"crop{self.crop_pct:g}"] if self.crop_pct != 1 else []
        return "-".join([self.fit, self.interpolation, *crop, digest[:6]])


def square(
    image_px: int, mean: tuple[float, ...] = CLIP_MEAN, std: tuple[float, ...] = CLIP_STD
) -> Preprocessing:
    """CLIP's own, for a window of `image_px` pixels each way."""
    return Preprocessing(image_px, image_px, mean, std)


def label_of(name: str) -> str:
    """What the preprocessing of a backbone adds to the version of the image pipeline.

    Nothing where it is CLIP's own; nor are the channel statistics of a named tag told, which never
    change. A configuration of the hub can.
    """
    if name in weights.NAMED:
        return ""
    own, source = of_backbone(name), weights.locate(name)
    named = not source.arch.startswith((HUB, TIMM)) and source.tag != weights.FILE
    return "" if own.is_plain and (named or own.has_clips_statistics) else own.label()


def of_backbone(name: str) -> Preprocessing:
    """The preprocessing of a backbone by its name; weights are looked up and not loaded."""
    source = weights.locate(name)
    if source.arch.startswith(TIMM):
        return _of_timm_name(source.arch.removeprefix(TIMM))
    if source.arch.startswith(HUB):
        return _of_config(weights.config_file(source))
    import open_clip

    known = open_clip.get_model_config(source.arch)
    if known is None:
        raise UserError(f"open_clip knows no architecture '{source.arch}'; check its name")
    return from_open_clip(of_tag(source), known["vision_cfg"].get("image_size", 224))


def _of_config(file: Path) -> Preprocessing:
    try:
        described = json.loads(file.read_bytes())
        size = described["model_cfg"]["vision_cfg"].get("image_size", 224)
        return from_open_clip(described.get("preprocess_cfg") or {}, size)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file} is no configuration of a model ({error}); fetch it again", exit_code=MISSING
        ) from error


def of_tag(source: weights.Source) -> dict[str, Any]:
    """What open_clip says of a tag.

    Of a checkpoint given as a file it says nothing. Then what all tags of the architecture share is
    taken, and CLIP's own where they differ.
    """
    distinct = _said(source)
    return distinct[0] if distinct and all(each == distinct[0] for each in distinct) else {}


def guessed(name: str) -> str:
    """How a checkpoint given as a file is read where nothing in it says how; '' for other names."""
    if name.startswith((HUB, TIMM)) or not weights.is_file(name):
        return ""
    import open_clip

    arch, _, file = name.partition("/")
    known = open_clip.get_model_config(arch)
    if known is None:
        return ""  # said when it is loaded
    told = [f"weights of a file are read as {arch}, with {_activation(known)}"]
    if not known.get("quick_gelu") and open_clip.get_model_config(f"{arch}-quickgelu"):
        told.append(f"those trained with QuickGELU, as OpenAI's, need {arch}-quickgelu")
    said = _said(weights.Source(arch, weights.FILE, Path(file)))
    if any(each != said[0] for each in said):
        told.append("tags of this architecture differ in preprocessing; CLIP's own is taken")
    return "; ".join(told)


def _activation(config: Mapping[str, Any]) -> str:
    return "QuickGELU" if config.get("quick_gelu") else "GELU"


def _said(source: weights.Source) -> list[dict[str, Any]]:
    """What open_clip says of the preprocessing of a tag; of a file, of each tag there is."""
    import open_clip
    from open_clip.transform import _PREPROCESS_KEYS as PARTS

    tags = [source.tag]
    if source.tag == weights.FILE:
        tags = open_clip.list_pretrained_tags_by_model(source.arch)
    said = [open_clip.get_pretrained_cfg(source.arch, tag) or {} for tag in tags]
    return [{part: each[part] for part in PARTS if part in each} for each in said]


def from_open_clip(config: Mapping[str, Any], size: int | Sequence[int]) -> Preprocessing:
    """Of open_clip's `preprocess_cfg`; `size` is that of the image tower, or height and width."""
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    fit = config.get("resize_mode") or "shortest"
    # open_clip's own code resizes for windows that are not square by its default
    bilinear = config.get("interpolation") == "bilinear" and (fit != "shortest" or height == width)
    return Preprocessing(
        int(height),
        int(width),
        _three(config.get("mean") or CLIP_MEAN),
        _three(config.get("std") or CLIP_STD),
        "bilinear" if bilinear else "bicubic",
        fit,
        fill=tuple(int(each) for each in _three(config.get("fill_color") or 0)),
    )


def _three(value: float | Sequence[float]) -> tuple[float, ...]:
    """One number per channel."""
    return tuple(value) if isinstance(value, Sequence) else (value,) * 3


def _of_timm_name(arch: str) -> Preprocessing:
    from timm.models import get_pretrained_cfg

    try:
        config = get_pretrained_cfg(arch, allow_unregistered=True)
    except RuntimeError:  # a known architecture, but no such weights
        config = None
    if config is None:
        raise UserError(f"timm knows no architecture '{arch}'; check its name")
    return from_timm(config.to_dict())


def from_timm(config: Mapping[str, Any]) -> Preprocessing:
    """Of timm's `pretrained_cfg`."""
    from timm.data.config import resolve_data_config

    known = resolve_data_config(pretrained_cfg=dict(config))
    channels, height, width = known["input_size"]
    if channels != 3:
        raise UserError(f"the model reads {channels} channels, and pictures have 3; take another")
    mean = tuple(known["mean"])
    border = known["crop_mode"] == "border"
    return Preprocessing(
        height,
        width,
        mean,
        tuple(known["std"]),
        known["interpolation"],
        {"squash": "squash", "border": "longest"}.get(known["crop_mode"], "shortest"),
        known["crop_pct"],
        tuple(round(255 * each) for each in mean) if border else (0, 0, 0),
    )
