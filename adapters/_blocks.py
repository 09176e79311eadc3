"""Residual attention blocks computed from their parts, so that a method can change them inside.

    h = ln_1(x);   x <- x + ls_1(side(h, attn(h)));   x <- x + ls_2(mlp(ln_2(x)))

x: tokens, ln: layer norms, ls: layer scales. `enter` may change what a block reads (deep prompts),
`side` the output of its attention (approximated prompts), `attend` may replace the attention
(low-rank updates of its weights), and what `beside` makes of h is added to the block's output (a
branch). Nothing is patched and no hook is left behind. Where a tower reads its first token only,
the last block computes that row alone, which is exact, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import (
    Backbone,
    ImageSet,
    Predictor,
    SideTerm,
    Target,
    TextTower,
    UserError,
    VisionTower,
    unit,
)
from benchmark.training.narrow import narrowed

# Images encoded at once. The host does not wait for a GPU, but cuts the next ones meanwhile.
CPU_BATCH, GPU_BATCH = 64, 256
ADVICE = "take a ViT backbone or a text-side method such as coop"
PARTS = ("ln_1", "attn", "ls_1", "ln_2", "mlp", "ls_2")

Enter = Callable[[int, Tensor], Tensor]  # layer, x_NLE -> x_NLE
# (layer, rows of the queries, rows of keys and values) -> attention output of the queries
Attend = Callable[[int, Tensor, Tensor], Tensor]
# (layer, rows of what the attention reads) -> what is added to the block's output, token by token
Beside = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Changes:
    """What a method changes inside the blocks; layers count from the input of the tower."""

    enter: Enter | None = None
    side: SideTerm | None = None
    attend: Attend | None = None
    beside: Beside | None = None


def run_block(
    block: Any,
    layer: int,
    x_NLE: Tensor,
    changes: Changes,
    *,
    rows: int | None = None,
    mask_LL: Tensor | None = None,
) -> Tensor:
    """One block, or its parts; with `rows` only the first so many rows, from the keys and values of
    all.
    """
    if changes.enter is not None:
        x_NLE = changes.enter(layer, x_NLE)
    h_NLE = block.ln_1(x_NLE)
    query_NLE, x_NLE = (h_NLE, x_NLE) if rows is None else (h_NLE[:, :rows], x_NLE[:, :rows])
    if changes.attend is not None:
        attn_NLE = changes.attend(layer, query_NLE, h_NLE)
    else:
        attn_NLE = _attention(block.attn, query_NLE, h_NLE, mask_LL)
    if changes.side is not None:
        attn_NLE = changes.side(layer, query_NLE, attn_NLE)
    x_NLE = narrowed(x_NLE + block.ls_1(attn_NLE), x_NLE.dtype)
    x_NLE = x_NLE + block.ls_2(block.mlp(block.ln_2(x_NLE)))
    return x_NLE if changes.beside is None else x_NLE + changes.beside(layer, query_NLE)


def _attention(attn: Any, query_NLE: Tensor, x_NLE: Tensor, mask_LL: Tensor | None) -> Tensor:
    """What `attn` gives; torch's module turns its inputs first, which takes a fifth longer."""
    if type(attn) is not nn.MultiheadAttention or attn.in_proj_weight is None:
        return attn(query_NLE, x_NLE, x_NLE, need_weights=False, attn_mask=mask_LL)[0]
    query, key, value = (
        F.linear(each_NLE, weight_EE, bias_E)
        for each_NLE, weight_EE, bias_E in zip(
            (query_NLE, x_NLE, x_NLE),
            attn.in_proj_weight.chunk(3),
            attn.in_proj_bias.chunk(3),
            strict=True,
        )
    )
    return attended(attn, query, key, value, mask_LL)


def attended(
    attn: Any, query_NLE: Tensor, key_NLE: Tensor, value_NLE: Tensor, mask_LL: Tensor | None
) -> Tensor:
    """The output of an attention whose query, key and value are given."""
    query, key, value = (
        each_NLE.unflatten(2, (attn.num_heads, -1)).transpose(1, 2)
        for each_NLE in (query_NLE, key_NLE, value_NLE)
    )
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_LL)
    return attn.out_proj(out.transpose(1, 2).flatten(2))


def image_features(tower: VisionTower, first: int, x_NLE: Tensor, changes: Changes) -> Tensor:
    """image_ND, unit length, of what block `first` reads."""
    blocks = tower.blocks
    for layer in range(first, len(blocks)):
        one_row = layer == len(blocks) - 1 and tower.reads_first
        x_NLE = run_block(blocks[layer], layer, x_NLE, changes, rows=1 if one_row else None)
    return unit(tower.finish(x_NLE))


@torch.no_grad()
def frozen_features(tower: VisionTower, first: int, x_NLE: Tensor) -> Tensor:
    """image_ND of CLIP itself, unit length, of what block `first` reads."""
    return image_features(tower, first, x_NLE, Changes())


@torch.no_grad()
def below(tower: VisionTower, first: int, pixels_NCHW: Tensor) -> Tensor:
    """What block `first` reads, from the frozen blocks below it."""
    x_NLE = tower.start(pixels_NCHW)
    for block in tower.blocks[:first]:
        x_NLE = block(x_NLE)
    return x_NLE


def vision(backbone: Backbone, method: str, advice: str = ADVICE) -> VisionTower:
    """The image tower; UserError with the method's name and `advice` where it has no blocks."""
    try:
        tower = backbone.vision
    except UserError as error:
        raise UserError(f"{method} works inside the image tower: {error}; {advice}") from None
    if not all(map(_is_clips, tower.blocks)):
        raise UserError(
            f"{method} needs the residual attention blocks of CLIP,"
            f" which {backbone.name} lacks; {advice}"
        )
    return tower


def _is_clips(block: Any) -> bool:
    """Whether a block is what `run_block` computes; open_clip's custom ones (norms of queries or of
    the attention's output) have the same parts and another attention.
    """
    return all(hasattr(block, part) for part in PARTS) and isinstance(
        block.attn, nn.MultiheadAttention
    )


def first_of(layers: int, depth: int) -> int:
    """The first of the last `layers` blocks of a tower; 0 means all of them."""
    if layers > depth:
        raise UserError(
            f"layers={layers} but a tower of this backbone has {depth} blocks;"
            f" take at most {depth}, or 0 for all of them"
        )
    return depth - layers if layers else 0


def predictor(
    tower: VisionTower, first: int, changes: Changes, text_KD: Tensor, scale: float
) -> Predictor:
    """Cosine logits of images that pass through the changed tower."""

    def logits(pixels_NCHW: Tensor) -> Tensor:
        x_NLE = below(tower, first, pixels_NCHW)
        return scale * image_features(tower, first, x_NLE, changes) @ text_KD.T

    return lambda images: in_batches(images, text_KD.device, logits)


@torch.no_grad()
def in_batches(
    images: ImageSet, device: torch.device, logits: Callable[[Tensor], Tensor]
) -> Tensor:
    """logits_QK of images by their pixels."""
    batches = images.pixels(batch_size(device))
    return torch.cat([logits(pixels_NCHW.to(device)) for pixels_NCHW in batches])


def batch_size(device: torch.device) -> int:
    """How many images are encoded at once."""
    return CPU_BATCH if device.type == "cpu" else GPU_BATCH


def token_ids(tower: TextTower, texts: Sequence[str]) -> Tensor:
    """ids_NL of texts; a causal tower ignores what follows their ends, so common padding is cut."""
    ids_NL = tower.tokenize(texts)
    if tower.mask is None:
        return ids_NL
    padding = tower.tokenize([""])[0, -1]
    return ids_NL[:, : int((ids_NL != padding).any(0).nonzero().max()) + 1]


def texts_of(target: Target) -> list[str]:
    """Every sentence of every class: the templates one after the other, each with all names; of a
    text set class by class.
    """
    if target.texts:
        return [text for of_class in target.texts for text in of_class]
    return [text for of_template in zip(*target.sentences(), strict=True) for text in of_template]


def class_mean(target: Target, text_ND: Tensor) -> Tensor:
    """mean_KD over the sentences of every class, in the order of `texts_of`; differentiable."""
    if not target.texts:
        return text_ND.unflatten(0, (-1, len(target.class_names))).mean(0)
    parts = text_ND.split([len(of_class) for of_class in target.texts])
    return torch.stack([text_TD.mean(0) for text_TD in parts])
