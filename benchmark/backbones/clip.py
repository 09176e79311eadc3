"""open_clip models as backbones: frozen, with both towers open between their blocks.

Everything that touches open_clip's model objects is in this file; the rest of the suite sees
`api.Backbone`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.api import UserError, unit
from benchmark.backbones import image_only, weights
from benchmark.backbones.checkpoints import check_unpacked
from benchmark.backbones.hub import HUB, TIMM, offline
from benchmark.backbones.image_only import ImageOnly
from benchmark.backbones.local_features import local_features
from benchmark.backbones.misfit import require_shapes, stored_shapes, unloadable
from benchmark.backbones.precision import resolved, tower_dtype
from benchmark.backbones.preprocessing import (
    Preprocessing,
    from_open_clip,
    of_tag,
)
from benchmark.backbones.projection import projection, without_projection
from benchmark.backbones.prompting import OpenClipPrompts
from benchmark.backbones.prompting.plans import default_budget_mb
from benchmark.backbones.tokenizers import (
    Tokenizer,
    default_tokenizer,
    own_length,
    require_fit,
    tokenized,
)
from benchmark.backbones.towers import OpenClipTextTower, OpenClipVisionTower, through

# those of open_clip that run nothing
TOKENIZER_OPTIONS = {"clean", "strip_sep_token", "language", "context_length"}
# of a tower; of any other number in a configuration, sizes of vocabularies among them
MOST_LAYERS, LARGEST = (500, 2_000_000)
TEXT_CHUNK = 256  # texts encoded at once without gradient: bounds memory, changes no number


@dataclass(frozen=True, eq=False)
class OpenClip:
    """A frozen open_clip model as the suite's Backbone."""

    name: str
    model: Any  # open_clip's CLIP or CustomTextCLIP
    tokenizer: Tokenizer
    # exp() already taken; a number, since a look at a tensor's value would stop a GPU
    logit_scale: float
    # of what prompts may usually take; less after memory ran out: other time, other order of sums
    memory_share: float = 1.0

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device

    @property
    def dtype(self) -> torch.dtype:
        return torch.promote_types(weights_dtype(self.model), torch.float32)

    @property
    def dim(self) -> int:
        return self.encode_texts(["a"]).shape[-1]

    @property
    def preprocessing(self) -> Preprocessing:
        """How the model was shown its pictures: what it says of itself, else CLIP's own way."""
        visual = self.model.visual
        return from_open_clip(getattr(visual, "preprocess_cfg", {}), visual.image_size)

    @property
    def vision(self) -> OpenClipVisionTower:
        visual = self.model.visual
        if not hasattr(visual, "_embeds") or not hasattr(visual, "transformer"):
            kind = type(getattr(visual, "trunk", visual)).__name__
            library = "timm's" if hasattr(visual, "trunk") else "a"
            raise UserError(
                f"the image tower of {self.name} is {library} {kind}, which has no transformer "
                "blocks that can be opened here; take a ViT of open_clip's own, as ViT-B-16, or a "
                "method that leaves the image tower alone"
            )
        return OpenClipVisionTower(visual)

    @property
    def text(self) -> OpenClipTextTower:
        module = getattr(self.model, "text", self.model)
        if not self._text_is_open:
            raise UserError(
                f"the text tower of {self.name} is not an open_clip transformer, so prompts "
                "cannot be learned in it; take another backbone"
            )
        pool = getattr(self.model, "text_pool_type", None) or module.pool_type
        return OpenClipTextTower(
            module,
            self.tokenizer,
            pool,
            int(getattr(self.model, "text_eos_id", None) or module.eos_id),
        )

    @property
    def _text_is_open(self) -> bool:
        module = getattr(self.model, "text", self.model)
        return hasattr(getattr(module, "transformer", None), "resblocks")

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return unit(self.raw_texts(texts))

    @torch.no_grad()
    def raw_texts(self, texts: Sequence[str]) -> Tensor:
        length = self.text.context_length if self._text_is_open else own_length(self.tokenizer)
        ids_NL = tokenized(self.tokenizer, texts, length).to(self.device)
        chunks = ids_NL.split(TEXT_CHUNK)
        return torch.cat([self._encode_ids(chunk_NL) for chunk_NL in chunks]).to(self.dtype)

    def _encode_ids(self, ids_NL: Tensor) -> Tensor:
        if not self._text_is_open or not self.text.read_at_eot:
            return self.model.encode_text(ids_NL)
        tower = self.text
        ids_NL = ids_NL[:, : int(tower.eot(ids_NL).max()) + 1]
        return tower.finish(through(tower.blocks, tower.start(ids_NL), tower.mask), ids_NL)

    def encode_pixels(self, pixels_NCHW: Tensor) -> Tensor:
        return unit(self.model.encode_image(pixels_NCHW.to(weights_dtype(self.model))))

    @property
    def projection(self) -> tuple[Tensor, Tensor | None]:
        weight_WD, bias_D = projection(self.model.visual, self.name)
        return weight_WD.to(self.dtype), None if bias_D is None else bias_D.to(self.dtype)

    def encode_unprojected(self, pixels_NCHW: Tensor) -> Tensor:
        tower = without_projection(self.model.visual, self.name)
        out = tower(pixels_NCHW.to(weights_dtype(self.model)))
        return (out[0] if isinstance(out, tuple) else out).to(self.dtype)

    def encode_local(self, pixels_NCHW: Tensor) -> Tensor:
        pixels_NCHW = pixels_NCHW.to(weights_dtype(self.model))
        return unit(local_features(self.model.visual, self.name, pixels_NCHW))

    def class_prompts(
        self,
        class_names: Sequence[str],
        n_ctx: int,
        position: str = "end",
        *,
        class_specific: bool = False,
        precision: str = "float32",
    ) -> OpenClipPrompts:
        return OpenClipPrompts.build(
            self.text,
            class_names,
            n_ctx,
            position,
            class_specific=class_specific,
            precision=precision,
            budget_mb=self._budget_mb(),
        )

    def whole_prompts(
        self, texts: Sequence[str], n_ctx: int = 0, *, class_specific: bool = False
    ) -> OpenClipPrompts:
        return OpenClipPrompts.from_texts(
            self.text, texts, n_ctx, class_specific=class_specific, budget_mb=self._budget_mb()
        )

    def _budget_mb(self) -> float:
        return self.memory_share * default_budget_mb(self.device)

    def copy(self) -> OpenClip:
        return replace(self, model=copy.deepcopy(self.model))


Loaded = OpenClip | ImageOnly  # what `load` gives


def weights_dtype(model: Any) -> torch.dtype:
    """What the towers compute in; the dtype of what leaves them is the backbone's own."""
    return next(iter(model.visual.parameters())).dtype


def from_model(
    model: nn.Module,
    name: str,
    tokenizer: Tokenizer | None = None,
    *,
    precision: str | None = None,
) -> OpenClip:
    """Any open_clip model object as a Backbone; it is frozen and put in eval mode.

    The default tokenizer is CLIP's own BPE; UserError where that has another vocabulary than the
    model. With a `precision` the model's weights are brought to it in place; without one they stay
    as they are, but for a model of several, which is brought to that of its image tower.
    """
    tokenizer = tokenizer or default_tokenizer(model, name)
    require_fit(tokenizer, model, name)
    parameter: Any = model.logit_scale
    exact = parameter.detach().clone()
    if precision or len({weight.dtype for weight in model.parameters()}) > 1:
        model = model.to(tower_dtype(precision) if precision else weights_dtype(model))
        parameter.data = exact  # CLIP's release leaves it in float32 as well
    model = model.eval().requires_grad_(False)
    # Not by torch's exp, whose last digit in float32 depends on the processor.
    scale = math.exp(float(exact))
    return OpenClip(name, model, tokenizer, scale)


def load(name: str, device: str = "cpu", precision: str = "auto") -> Loaded:
    """The backbone `name` from weights on this machine; nothing is downloaded or unpickled.

    `precision` is what its towers compute in (benchmark/backbones/precision.py). Raises UserError
    for weights that are missing or do not fit, and for a precision that is not known.
    """
    precision = resolved(precision, name)
    source = weights.locate(name)
    check_unpacked(source.file)
    if source.arch.startswith(TIMM):
        return image_only.load(name, source, device, tower_dtype(precision))
    if name == weights.TINY:
        from benchmark.tiny.model import build

        return from_model(build().to(device), name, precision=precision)
    import open_clip

    arch, options = _recipe(source)
    try:
        with offline():
            model = open_clip.create_model(
                arch, device=device, weights_only=True, require_pretrained=True, **options
            )
            tokenizer = open_clip.get_tokenizer(arch)
            shapes = stored_shapes(source.file)
    except Exception as error:  # of weights, architecture, or a tokenizer that is not here
        raise unloadable(name, source.file, arch, error) from error
    _require_quick_gelu(model, source)
    built = {key: tuple(each.shape) for key, each in model.state_dict().items()}
    require_shapes(name, source.file, shapes, built)
    return from_model(model, name, tokenizer, precision=precision)


def _recipe(source: weights.Source) -> tuple[str, dict[str, Any]]:
    """Name and options for open_clip; weights given as a file would lose the preprocessing that
    their tag knows.
    """
    if source.arch.startswith(HUB):
        _check_config(weights.config_file(source))
        return f"local-dir:{source.file.parent}", {}
    return source.arch, {"pretrained": str(source.file), "force_preprocess_cfg": of_tag(source)}


def _check_config(config: Path) -> None:
    """A stranger's repository may ask for a tokenizer that is Python code of its own, or for layers
    without end.
    """
    try:
        described = json.loads(config.read_bytes())["model_cfg"]
        odd = [
            name
            for name, number in _numbers(described)
            if number > (MOST_LAYERS if name == "layers" else LARGEST)
        ]
        odd += sorted(set(described["text_cfg"].get("tokenizer_kwargs") or {}) - TOKENIZER_OPTIONS)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return  # open_clip says what is wrong with it
    if odd:
        raise UserError(
            f"{config} asks for '{odd[0]}' beyond what is safe: foreign code, or memory without "
            "end; take another model"
        )


def _numbers(part: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a configuration with the key it stands under."""
    if isinstance(part, (int, float)):
        yield name, part
    for key, value in (
        part.items()
        if isinstance(part, dict)
        else enumerate(part)
        if isinstance(part, list)
        else ()
    ):
        yield from _numbers(value, key if isinstance(key, str) else name)


def _require_quick_gelu(model: nn.Module, source: weights.Source) -> None:
    kinds = {type(module).__name__ for module in model.modules()}
    if source.tag == "openai" and "QuickGELU" not in kinds:
        raise UserError(
            f"OpenAI weights need QuickGELU but {source.arch} was built without it; "
            "take the '-quickgelu' architecture"
        )


def state_digest(model: nn.Module) -> str:
    """sha256 over all weights: what identifies a model that did not come from a file."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
