"""Image encoders without a text side (timm) as backbones, for methods that look at images alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.api import ClassPrompts, TextTower, UserError, VisionTower, unit
from benchmark.backbones import weights
from benchmark.backbones.hub import TIMM
from benchmark.backbones.local_features import local_features
from benchmark.backbones.misfit import Shape, require_shapes, stored_shapes, unloadable
from benchmark.backbones.preprocessing import Preprocessing, from_timm
from benchmark.backbones.projection import projection, without_projection

# Of logits: that of the released CLIP weights, since an image encoder has none of its own.
SCALE = 100.0


@dataclass(frozen=True, eq=False)
class ImageOnly:
    """A frozen timm model without its classifier: pooled features of unit length."""

    name: str
    model: Any  # `model.visual` is the timm model, as in open_clip's objects

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return torch.promote_types(next(self.model.parameters()).dtype, torch.float32)

    @property
    def logit_scale(self) -> float:
        return SCALE

    @property
    def dim(self) -> int:
        return int(self.model.visual.head_hidden_size)

    @property
    def preprocessing(self) -> Preprocessing:
        return from_timm(self.model.visual.pretrained_cfg)

    def encode_pixels(self, pixels_NCHW: Tensor) -> Tensor:
        return unit(self.model.visual(pixels_NCHW.to(next(self.model.parameters()).dtype)))

    @property
    def projection(self) -> tuple[Tensor, Tensor | None]:
        return projection(self.model.visual, self.name)

    def encode_unprojected(self, pixels_NCHW: Tensor) -> Tensor:
        return without_projection(self.model.visual, self.name)(pixels_NCHW)

    def encode_local(self, pixels_NCHW: Tensor) -> Tensor:
        return unit(local_features(self.model.visual, self.name, pixels_NCHW))

    @property
    def vision(self) -> VisionTower:
        raise UserError(
            f"the image tower of {self.name} cannot be opened between its blocks; "
            "take a CLIP with a ViT, as ViT-B/16"
        )

    @property
    def text(self) -> TextTower:
        return self._no_text()

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return self._no_text()

    def raw_texts(self, texts: Sequence[str]) -> Tensor:
        return self._no_text()

    def class_prompts(self, *_: object, **__: object) -> ClassPrompts:
        return self._no_text()

    def whole_prompts(self, *_: object, **__: object) -> ClassPrompts:
        return self._no_text()

    def copy(self) -> ImageOnly:
        return ImageOnly(self.name, copy.deepcopy(self.model))

    def _no_text(self) -> Any:
        raise UserError(
            f"{self.name} has no text side; "
            "take a method that learns from images alone, as linear_probe, or a CLIP backbone"
        )


def from_model(model: nn.Module, name: str) -> ImageOnly:
    """A timm model built with num_classes=0 as a Backbone; it is frozen and put in eval mode."""
    return ImageOnly(name, nn.ModuleDict({"visual": model}).eval().requires_grad_(False))


def load(
    name: str, source: weights.Source, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> ImageOnly:
    """The timm backbone `name` from its weights file; raises UserError where the two do not fit."""
    arch = source.arch.removeprefix(TIMM)
    try:
        shapes = stored_shapes(source.file)
        model = _strictly_loaded(arch, source.file, shapes)
    except Exception as error:  # timm raises what torch, safetensors and its own registry raise
        raise unloadable(name, source.file, arch, error) from error
    built = {key: tuple(each.shape) for key, each in model.state_dict().items()}
    require_shapes(name, source.file, shapes, built)
    return from_model(model.to(device, dtype), name)


def _strictly_loaded(arch: str, file: Path, shapes: Mapping[str, Shape]) -> Any:
    """The timm model without its classifier; every other tensor must be there and have a place.

    timm lets anything lack as soon as the number of classes differs from that of its configuration,
    so the model is built with the classifier of the file, if any, which is dropped afterwards.
    """
    import timm
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(arch, allow_unregistered=True)
    heads = config.classifier if config and config.classifier else ()
    head = heads if isinstance(heads, str) else next(iter(heads), "")
    known = config.num_classes if config else 0
    sizes = [shapes.get(f"{head}.weight", (0,))[0], known]  # names of a file may be old ones
    errors: list[Exception] = []
    for classes in dict.fromkeys(sizes):
        overlay = {"file": str(file), "num_classes": classes, "label_offset": 0}
        try:
            model: Any = timm.create_model(
                arch, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes
            )
        except RuntimeError as error:
            errors.append(error)
        else:
            model.reset_classifier(0)
            return model
    raise errors[0]
