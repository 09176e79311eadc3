"""Class prompts 'context + class name + .' with learnable context vectors, encoded exactly and
cheaply.

The prompt is assembled as CoOp does (KaiyangZhou/CoOp @ ff61507): "X X X name." with
`n_ctx` dummy words is tokenised as a whole, the dummies' places are taken by the context vectors,
and for 'middle' and 'front' the name is cut off at the number of tokens it has on its own. A causal
tower read at EOT is run over shared tokens (benchmark/backbones/prompting/plans.py), any other at
full length (benchmark/backbones/prompting/whole_prompt.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Later, SideTerm, UserError, unit
from benchmark.backbones.prompting.plans import SharedPrompts, default_budget_mb, shareable
from benchmark.backbones.prompting.tree import Prompt
from benchmark.backbones.prompting.whole_prompt import WholePrompts
from benchmark.backbones.towers import OpenClipTextTower

POSITIONS = ("end", "middle", "front")
BLOCK_DTYPES = {"float32": None, "bfloat16": torch.bfloat16}  # None: as the tower's weights are

# ctx_RPE of all classes in a row, and what takes its place later -> text_RKD, not normalised
Encoder = Callable[[Tensor, SideTerm | None, Later], Tensor]


@dataclass(frozen=True, eq=False)
class OpenClipPrompts:
    """K prompts around learnable context vectors; made by `build` or `from_texts`. The tower's
    weights must not change meanwhile.
    """

    tower: OpenClipTextTower
    # (P, E), or (K, P, E) where class-specific: what initial values must look like
    ctx_shape: tuple[int, ...]
    encoder: Encoder

    @property
    def n_ctx(self) -> int:
        return self.ctx_shape[-2]

    @property
    def width(self) -> int:
        """E."""
        return self.ctx_shape[-1]

    @staticmethod
    def build(
        tower: OpenClipTextTower,
        class_names: Sequence[str],
        n_ctx: int,
        position: str = "end",
        *,
        class_specific: bool = False,
        budget_mb: float | None = None,
        precision: str = "float32",
    ) -> OpenClipPrompts:
        """Prompts for K class names (they may repeat; underscores are read as spaces) with `n_ctx`
        context vectors.

        `position` is where the name stands: after the context ('end', CoOp's default), in its
        'middle', or at the 'front'. `budget_mb` (MiB) bounds the tensors that a training step holds
        for the text side; beyond it classes are worked off in chunks that are computed again in the
        backward pass, which changes time, not results. None: 4096, or half a GPU's memory. (A
        process grows by more than its tensors, in one measurement by a third, because its allocator
        leaves gaps.)
        `precision="bfloat16"` computes in bfloat16 under float32 parameters; gradients then differ
        by 1-5 % (random weights). Raises UserError for an empty list, an empty or too long name, a
        context or budget that cannot fit.
        """
        names = [name.replace("_", " ").strip() for name in class_names]
        _check(names, position, precision)
        prompts, ids_KL = _assemble(tower, names, n_ctx, position, class_specific)
        shape = (len(names), n_ctx, tower.width) if class_specific else (n_ctx, tower.width)
        return OpenClipPrompts(tower, shape, _encoder(tower, prompts, ids_KL, budget_mb, precision))

    @staticmethod
    def from_texts(
        tower: OpenClipTextTower,
        texts: Sequence[str],
        n_ctx: int = 0,
        *,
        class_specific: bool = False,
        budget_mb: float | None = None,
        precision: str = "float32",
    ) -> OpenClipPrompts:
        """Whole texts, of which the first `n_ctx` tokens give way to context vectors; without any,
        for methods that learn inside the blocks: `encode(side=...)`.

        Raises UserError where these tokens are not the same in all texts.
        """
        _check([text.strip() for text in texts], "end", precision)
        ids_KL = tower.tokenize(texts)
        prompts = _replaced(tower, texts, ids_KL, n_ctx, class_specific)
        shape = (len(texts), n_ctx, tower.width) if class_specific else (n_ctx, tower.width)
        return OpenClipPrompts(tower, shape, _encoder(tower, prompts, ids_KL, budget_mb, precision))

    def encode(
        self,
        ctx_PE: Tensor | None = None,
        side: SideTerm | None = None,
        later: Later | None = None,
    ) -> Tensor:
        """text_KD, unit length, float32 at least; differentiable in `ctx_PE` (ctx_KPE where
        class-specific), in `later` and in what `side` closes over.

        With a leading run dimension, ctx_RPE -> text_RKD: R runs at once, each as if alone but for
        the order of sums.
        `side(layer, x_RTE, attn_RTE)` may change every layer's attention output token by token: x
        is what the attention read, the result stands in for `attn`. Rows are tokens in no fixed
        order and a token may stand for many classes, so it must treat all rows alike.
        `later` holds contexts of the same shape, each of which takes the place of the context's
        states before a block, without positions. Raises UserError where a context's shape does not
        belong to these prompts or the tower has no such block.
        """
        ctx, later = self._context(ctx_PE), later or {}
        self._require_places(later, ctx)
        flat = {layer: self._flat(each) for layer, each in later.items()}
        text_RKD = unit(self.encoder(self._flat(ctx), side, flat))
        return text_RKD if self._batched(ctx) else text_RKD[0]

    def _require_places(self, later: Later, ctx: Tensor) -> None:
        depth = len(self.tower.blocks)
        for layer, each in later.items():
            if layer not in range(depth):
                raise UserError(
                    f"a context for block {layer}, but this text tower has {depth} blocks;"
                    f" count them from 0 to {depth - 1}"
                )
            if each.shape != ctx.shape:
                raise UserError(
                    f"the context for block {layer} has shape {tuple(each.shape)} but the first one"
                    f" {tuple(ctx.shape)}; give all of them the same runs, vectors and width"
                )

    def _batched(self, ctx: Tensor) -> bool:
        return ctx.ndim > len(self.ctx_shape)

    def _flat(self, ctx: Tensor) -> Tensor:
        """ctx_RPE of all classes in a row."""
        runs = len(ctx) if self._batched(ctx) else 1
        return ctx.reshape(runs, -1, self.width).to(self.tower.position_LE.dtype)

    def _context(self, ctx: Tensor | None) -> Tensor:
        if ctx is None and not self.n_ctx:
            return self.tower.position_LE.new_zeros(self.ctx_shape)
        if (
            ctx is None
            or tuple(ctx.shape[-len(self.ctx_shape) :]) != self.ctx_shape
            or ctx.ndim > len(self.ctx_shape) + 1
        ):
            got = None if ctx is None else tuple(ctx.shape)
            raise UserError(
                f"the context has shape {got} but these prompts need {self.ctx_shape}, with or "
                "without a leading run dimension; "
                "take a context made for the same backbone, length and kind"
            )
        return ctx


def _check(names: Sequence[str], position: str, precision: str) -> None:
    if not names:
        raise UserError("there are no class names to make prompts of; give at least one")
    if "" in names:
        raise UserError(
            f"class name {names.index('')} is empty, so its prompt would say nothing; "
            "name the class"
        )
    if position not in POSITIONS:
        raise UserError(f"unknown class position '{position}'; take one of {', '.join(POSITIONS)}")
    if precision not in BLOCK_DTYPES:
        raise UserError(f"unknown precision '{precision}'; take one of {', '.join(BLOCK_DTYPES)}")


def _assemble(
    tower: OpenClipTextTower, names: list[str], n_ctx: int, position: str, class_specific: bool
) -> tuple[list[Prompt], Tensor]:
    """Symbols of every prompt with all its padding, and the ids (dummy words in them) that tell
    where it is read.
    """
    start, own = tower.own_tokens(names)
    _check_room(names, [len(tokens) for tokens in own], n_ctx, tower.context_length - start - 2)
    texts = [" ".join(["X"] * n_ctx + [name]) + "." for name in names]
    if len({token for tokens in tower.own_tokens(texts)[1] for token in tokens[:n_ctx]}) > 1:
        raise UserError(
            "this backbone's tokenizer does not keep dummy words apart, so a context has no "
            "place; take a CLIP backbone"
        )
    ids_KL = tower.tokenize(texts)
    first = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    prompts: list[Prompt] = []
    for k, (ids, tokens) in enumerate(zip(ids_KL.tolist(), own, strict=True)):
        ctx = _vectors(k if class_specific else 0, n_ctx)
        # where the name would end were it alone, although it may share a token with the "."
        cut = start + n_ctx + len(tokens)
        prompts.append(
            (*ids[:start], *ctx[:first], *ids[start + n_ctx : cut], *ctx[first:], *ids[cut:])
        )
    return prompts, ids_KL


def _replaced(
    tower: OpenClipTextTower,
    texts: Sequence[str],
    ids_KL: Tensor,
    n_ctx: int,
    class_specific: bool,
) -> list[Prompt]:
    """Symbols of every text with all its padding, context vectors for its first tokens."""
    if not n_ctx:
        return [tuple(ids) for ids in ids_KL.tolist()]
    start, own = tower.own_tokens(texts)
    if len({tuple(tokens[:n_ctx]) for tokens in own}) > 1 or len(own[0]) < n_ctx:
        raise UserError(
            f"the first {n_ctx} tokens are not the same in all texts, so a context has no place;"
            " take a CLIP backbone"
        )
    after = start + n_ctx
    return [
        (*ids[:start], *_vectors(k if class_specific else 0, n_ctx), *ids[after:])
        for k, ids in enumerate(ids_KL.tolist())
    ]


def _vectors(k: int, n_ctx: int) -> list[int]:
    """The symbols of the k-th context."""
    return [-1 - j - k * n_ctx for j in range(n_ctx)]


def _check_room(names: Sequence[str], lengths: Sequence[int], n_ctx: int, room: int) -> None:
    """`room`: the tokens left when the start, the "." and the end have theirs."""
    if not 1 <= n_ctx < room:
        raise UserError(
            f"n_ctx={n_ctx} does not fit this text tower; "
            f"take at least 1 and at most {room - 1}, usually 4 or 16"
        )
    for name, length in zip(names, lengths, strict=True):
        if not length:
            raise UserError(
                f"class name '{name}' has no token this tokenizer knows; name the class in letters"
            )
        if length + n_ctx > room:
            raise UserError(
                f"class name '{name}' has {length} tokens but {n_ctx} context vectors leave room "
                f"for {room - n_ctx}; shorten either"
            )


def _encoder(
    tower: OpenClipTextTower,
    prompts: Sequence[Sequence[int]],
    ids_KL: Tensor,
    budget_mb: float | None,
    precision: str,
) -> Encoder:
    dtype, device = BLOCK_DTYPES[precision], tower.position_LE.device
    budget_mb = default_budget_mb(device) if budget_mb is None else budget_mb
    if shareable(tower):
        ends = tower.eot(ids_KL).tolist()
        return SharedPrompts.build(
            tower,
            [tuple(p[: end + 1]) for p, end in zip(prompts, ends, strict=True)],
            budget_mb,
            dtype,
        )
    if dtype is not None:
        raise UserError(
            f"precision '{precision}' needs a frozen causal text tower read at EOT, which this "
            "one is not; use float32"
        )
    return WholePrompts.build(tower, prompts, ids_KL, budget_mb)
