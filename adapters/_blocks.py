"""Residual attention blocks run from their own parts, open where a method reaches in.

    h = ln_1(x);   x <- x + ls_1(side(h, attn(h)));   x <- x + ls_2(mlp(ln_2(x)))

`enter` may change what a block reads (deep prompts), `side` what its attention gives (approximated
prompts), `attend` may take the attention's place (low-rank updates of its weights). Nothing is
patched and no hook is left. Where a tower reads its first token alone, the last block computes that
row and no other, which is exact, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.api import Episode, ImageSet, Predictor, SideTerm, UserError, VisionTower, unit

PREDICT_BATCH = 64  # images encoded at once; moves no number
PARTS = ("ln_1", "attn", "ls_1", "ln_2", "mlp", "ls_2")

Enter = Callable[[int, Tensor], Tensor]  # layer, x_NLE -> x_NLE
Attend = Callable[
    [int, Tensor, Tensor], Tensor
]  # layer, rows that ask, rows that are asked -> rows for those that ask


@dataclass(frozen=True)
class Reach:
    """What a method does inside the blocks; layers are counted from the bottom of the tower."""

    enter: Enter | None = None
    side: SideTerm | None = None
    attend: Attend | None = None


def run_block(
    block: nn.Module,
    layer: int,
    x_NLE: Tensor,
    reach: Reach,
    *,
    rows: int | None = None,
    mask_LL: Tensor | None = None,
) -> Tensor:
    """One block; with `rows` only the first so many rows are computed, from the keys of all."""
    parts: Any = block
    if reach.enter is not None:
        x_NLE = reach.enter(layer, x_NLE)
    h_NLE = parts.ln_1(x_NLE)
    ask_NLE, x_NLE = (h_NLE, x_NLE) if rows is None else (h_NLE[:, :rows], x_NLE[:, :rows])
    if reach.attend is not None:
        attn_NLE = reach.attend(layer, ask_NLE, h_NLE)
    else:
        attn_NLE = parts.attn(ask_NLE, h_NLE, h_NLE, need_weights=False, attn_mask=mask_LL)[0]
    if reach.side is not None:
        attn_NLE = reach.side(layer, ask_NLE, attn_NLE)
    x_NLE = x_NLE + parts.ls_1(attn_NLE)
    return x_NLE + parts.ls_2(parts.mlp(parts.ln_2(x_NLE)))


def image_features(tower: VisionTower, first: int, x_NLE: Tensor, reach: Reach) -> Tensor:
    """image_ND, unit length, of what block `first` reads."""
    blocks = tower.blocks
    for layer in range(first, len(blocks)):
        alone = layer == len(blocks) - 1 and tower.reads_first
        x_NLE = run_block(blocks[layer], layer, x_NLE, reach, rows=1 if alone else None)
    return unit(tower.finish(x_NLE))


@torch.no_grad()
def below(tower: VisionTower, first: int, pixels_NCHW: Tensor) -> Tensor:
    """What block `first` reads, from the frozen blocks below it."""
    x_NLE = tower.start(pixels_NCHW)
    for block in tower.blocks[:first]:
        x_NLE = block(x_NLE)
    return x_NLE


def vision(episode: Episode, method: str, way_out: str) -> VisionTower:
    """The image tower, its blocks open; a UserError that names the method and the way out where
    there are none.
    """
    try:
        tower = episode.backbone.vision
    except UserError as error:
        raise UserError(f"{method} works inside the image tower: {error}; {way_out}") from None
    if not all(hasattr(block, part) for block in tower.blocks for part in PARTS):
        raise UserError(
            f"{method} needs CLIP's own residual attention blocks, which {episode.backbone.name} lacks; {way_out}"
        )
    return tower


def first_of(layers: int, depth: int) -> int:
    """The first of the last `layers` blocks of a tower; 0 means all of them."""
    if layers > depth:
        raise UserError(
            f"layers={layers} but a tower of this backbone has {depth} blocks; take at most {depth}, or 0 for all of them"
        )
    return depth - layers if layers else 0


def predictor(
    tower: VisionTower, first: int, reach: Reach, text_KD: Tensor, scale: float
) -> Predictor:
    """Cosine logits of images that pass through the changed tower."""

    def logits(pixels_NCHW: Tensor) -> Tensor:
        return (
            scale
            * image_features(tower, first, below(tower, first, pixels_NCHW), reach)
            @ text_KD.T
        )

    return lambda images: in_batches(images, text_KD.device, logits)


@torch.no_grad()
def in_batches(
    images: ImageSet, device: torch.device, logits: Callable[[Tensor], Tensor]
) -> Tensor:
    """logits_QK of images that must be seen as pixels."""
    return torch.cat(
        [logits(pixels_NCHW.to(device)) for pixels_NCHW in images.pixels(PREDICT_BATCH)]
    )
