"""What a method may ask of a backbone: towers, texts, prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmark.errors import UserError

# (layer, attention input, attention output) -> new attention output, in float32 where its numbers
# need that room; it works token by token.
SideTerm = Callable[[int, Tensor, Tensor], Tensor]
# layer -> ctx_PE that takes the place of the context's states before that block
Later = Mapping[int, Tensor]


class Tower(Protocol):
    """One transformer encoder, open between its blocks: start -> blocks -> finish."""

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The real modules: x_NLE = block(x_NLE, attn_mask=tower.mask)."""

    @property
    def dtype(self) -> torch.dtype:
        """What the blocks compute in; below float32 where the backbone's precision says so."""

    @property
    def mask(self) -> Tensor | None:
        """Additive mask_LL, causal for text, None for vision."""

    def start(self, inputs: Tensor) -> Tensor:
        """pixels_NCHW or ids_NL -> x_NLE, what the first block reads."""

    def finish(self, x_NLE: Tensor, ids_NL: Tensor | None = None) -> Tensor:
        """Pool and project -> ND, not normalised."""

    @property
    def end(self) -> nn.Module:
        """`finish` as a module, whose parameters are those that it reads."""


class VisionTower(Tower, Protocol):
    """The image side; its first token is the class token where `reads_first` says so."""

    @property
    def reads_first(self) -> bool:
        """True where `finish` reads the first token only: the last block needs no other row."""

    def pool(self, x_NLE: Tensor) -> Tensor:
        """What `finish` projects, NE: what is read out, after the tower's last norm."""


class TextTower(Tower, Protocol):
    """The text side, open for learnable prompts as well."""

    @property
    def width(self) -> int:
        """E."""

    @property
    def context_length(self) -> int:
        """The most tokens a text may have."""

    @property
    def position_LE(self) -> Tensor: ...

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """ids_NL padded to the context length; a text that does not fit raises a UserError."""

    def embed(self, ids_NL: Tensor) -> Tensor:
        """token_NLE without positions."""

    def words(self, text: str) -> Tensor:
        """ctx_WE: the embeddings of the W tokens of `text` itself, in float32 at least, to start a
        context from. Underscores are read as spaces.
        """

    def project(self, x_NE: Tensor) -> Tensor:
        """Final norm and projection of the rows read out -> ND, not normalised."""


class ClassPrompts(Protocol):
    """Prompts "context + class name" of K classes with learnable context vectors."""

    def encode(
        self,
        ctx_PE: Tensor | None = None,
        side: SideTerm | None = None,
        later: Later | None = None,
    ) -> Tensor:
        """text_KD, unit length, differentiable in ctx_PE (ctx_KPE where class-specific), in `later`
        and in what `side` closes over.
        """


class Backbone(Protocol):
    """A frozen CLIP. Gradients may flow through it, never into it."""

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int:
        """D."""

    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype:
        """Of features and pixels, and of whatever is trained on them: float32, or float64 where the
        towers compute in it.
        """

    @property
    def logit_scale(self) -> float:
        """exp() already taken: 100 for the released CLIP weights."""

    @property
    def vision(self) -> VisionTower: ...
    @property
    def text(self) -> TextTower: ...
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """text_ND, unit length, no gradient."""

    def raw_texts(self, texts: Sequence[str]) -> Tensor:
        """text_ND as long as the encoder makes them, no gradient."""

    def encode_pixels(self, pixels_NCHW: Tensor) -> Tensor:
        """image_ND, unit length."""

    @property
    def projection(self) -> tuple[Tensor, Tensor | None]:
        """weight_WD and bias_D (None without one) of the image tower's last linear map."""

    def encode_unprojected(self, pixels_NCHW: Tensor) -> Tensor:
        """image_NW, what `projection` reads: unit(image_NW @ weight_WD + bias_D) is the feature."""

    def encode_local(self, pixels_NCHW: Tensor) -> Tensor:
        """image_NPD, unit length: the P places of the image tower's grid, each projected as the
        pooled feature is.
        """

    def class_prompts(
        self,
        class_names: Sequence[str],
        n_ctx: int,
        position: str = "end",
        *,
        class_specific: bool = False,
        precision: str = "float32",
    ) -> ClassPrompts:
        """Prompts around `n_ctx` learnable vectors; `precision` "bfloat16" computes in bfloat16
        under float32 parameters.
        """

    def whole_prompts(
        self, texts: Sequence[str], n_ctx: int = 0, *, class_specific: bool = False
    ) -> ClassPrompts:
        """Texts of which the first `n_ctx` tokens give way to learnable vectors; without any, for
        methods that learn inside the blocks: `encode(side=...)`.
        """

    def copy(self) -> Backbone:
        """A private twin whose weights are yours to change."""


@dataclass(frozen=True)
class FeatureBackbone:
    """The backbone of an episode built from plain features: it cannot encode anything."""

    dim: int
    logit_scale: float
    device: torch.device
    dtype: torch.dtype = torch.float32
    name: str = "features"

    @property
    def vision(self) -> VisionTower:
        return self._absent("image tower")

    @property
    def text(self) -> TextTower:
        return self._absent("text tower")

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return self._absent("text tower")

    def raw_texts(self, texts: Sequence[str]) -> Tensor:
        return self._absent("text tower")

    def encode_pixels(self, pixels_NCHW: Tensor) -> Tensor:
        return self._absent("image tower")

    @property
    def projection(self) -> tuple[Tensor, Tensor | None]:
        return self._absent("image tower")

    def encode_unprojected(self, pixels_NCHW: Tensor) -> Tensor:
        return self._absent("image tower")

    def encode_local(self, pixels_NCHW: Tensor) -> Tensor:
        return self._absent("image tower")

    def class_prompts(self, *_: object, **__: object) -> ClassPrompts:
        return self._absent("text tower")

    def whole_prompts(self, *_: object, **__: object) -> ClassPrompts:
        return self._absent("text tower")

    def copy(self) -> Backbone:
        return self

    @staticmethod
    def _absent(part: str) -> Any:
        raise UserError(
            f"this episode was built from features, so it has no {part};"
            " use a method that reads features only"
        )
