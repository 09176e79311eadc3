"""The two transformers of an open_clip model, each open between its blocks (api.Tower)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.backbones.tokenizers import Tokenizer, tokenized


@dataclass(frozen=True, eq=False)
class OpenClipVisionTower:
    """An open_clip VisionTransformer, open between its blocks."""

    module: Any  # nn.Module would hide its attributes from the type checker

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.module.transformer.resblocks)

    @property
    def mask(self) -> None:
        return None

    @property
    def reads_first(self) -> bool:
        return bool(self.module.attn_pool is None and self.module.pool_type == "tok")

    @property
    def dtype(self) -> torch.dtype:
        return self.module.conv1.weight.dtype

    def start(self, pixels_NCHW: Tensor) -> Tensor:
        return self.module._embeds(pixels_NCHW.to(self.dtype))

    def pool(self, x_NLE: Tensor) -> Tensor:
        pooled_NE, _ = self.module._pool(x_NLE)
        return pooled_NE

    @property
    def end(self) -> nn.Module:
        names = ("attn_pool", "attn_pool_contrastive", "ln_post")
        return End(self.module, names, "proj", lambda x_NLE, _: self.pool(x_NLE))

    def finish(self, x_NLE: Tensor, ids_NL: Tensor | None = None) -> Tensor:
        return projected(self.pool(x_NLE), self.module.proj)


@dataclass(frozen=True, eq=False)
class OpenClipTextTower:
    """An open_clip text transformer: its parts lie in the CLIP object itself or in `.text`."""

    module: Any
    tokenizer: Tokenizer
    pool: str  # how open_clip reads a text out: 'argmax' is CLIP's "at the EOT token"
    eos_id: int

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.module.transformer.resblocks)

    @property
    def mask(self) -> Tensor | None:
        return self.module.attn_mask

    @property
    def dtype(self) -> torch.dtype:
        return self.position_LE.dtype

    @property
    def width(self) -> int:
        return int(self.module.token_embedding.weight.shape[1])

    @property
    def context_length(self) -> int:
        # a tower that appends a token of its own has a position more than it reads tokens
        appended = getattr(self.module, "cls_emb", None) is not None
        return int(self.position_LE.shape[0]) - appended

    @property
    def position_LE(self) -> Tensor:
        return self.module.positional_embedding

    @property
    def read_at_eot(self) -> bool:
        """True where states never see later tokens and the text is read at EOT, so whatever follows
        EOT is void.
        """
        return self.is_whole and self.mask is not None and self.pool in {"argmax", "eos"}

    @property
    def is_whole(self) -> bool:
        """True where start, blocks, mask and finish are all there is: no class token appended, no
        mask that depends on the text.
        """
        return getattr(self.module, "cls_emb", None) is None and not getattr(
            self.module, "use_pad_mask", False
        )

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        ids_NL = tokenized(self.tokenizer, texts, self.context_length)
        return ids_NL.to(self.position_LE.device)

    def embed(self, ids_NL: Tensor) -> Tensor:
        return self.module.token_embedding(ids_NL)

    def words(self, text: str) -> Tensor:
        (ids,) = self.own_tokens([text.replace("_", " ")])[1]
        ids_W = torch.tensor(ids, dtype=torch.int64, device=self.position_LE.device)
        ctx_WE = self.embed(ids_W).detach()
        return ctx_WE.to(torch.promote_types(ctx_WE.dtype, torch.float32), copy=True)

    def own_tokens(self, texts: Sequence[str]) -> tuple[int, list[list[int]]]:
        """How many tokens the tokenizer puts before a text, and each text's own tokens.

        They are what differs from the empty text, so it holds for CLIP's start and end tokens as
        for tokenizers that only pad.
        """
        *rows, empty = self.tokenize([*texts, ""]).tolist()
        start = min(
            next((i for i, (a, b) in enumerate(zip(row, empty, strict=True)) if a != b), len(row))
            for row in rows
        )
        lengths = [
            next(n for n in range(len(row) + 1) if row[start + n :] == empty[start : len(row) - n])
            for row in rows
        ]
        pairs = zip(rows, lengths, strict=True)
        return start, [row[start : start + length] for row, length in pairs]

    def eot(self, ids_NL: Tensor) -> Tensor:
        """Position of the token a text is read at, per text."""
        return (
            ids_NL.argmax(1) if self.pool == "argmax" else (ids_NL == self.eos_id).int().argmax(1)
        )

    def start(self, ids_NL: Tensor) -> Tensor:
        return self.embed(ids_NL) + self.position_LE[: ids_NL.shape[1]]

    def project(self, x_NE: Tensor) -> Tensor:
        return projected(self.module.ln_final(x_NE), self.module.text_projection)

    @property
    def end(self) -> nn.Module:
        def read(x_NLE: Tensor, ids_NL: Tensor | None) -> Tensor:
            return self.module.ln_final(self._read_out(x_NLE, ids_NL))

        return End(self.module, ("ln_final",), "text_projection", read)

    def finish(self, x_NLE: Tensor, ids_NL: Tensor | None = None) -> Tensor:
        return self.project(self._read_out(x_NLE, ids_NL))

    def _read_out(self, x_NLE: Tensor, ids_NL: Tensor | None) -> Tensor:
        """The row of every text that stands for it."""
        if self.pool in {"first", "last"}:
            return x_NLE[:, 0 if self.pool == "first" else -1]
        assert ids_NL is not None, "a text read at EOT needs its token ids"
        return x_NLE[torch.arange(len(x_NLE), device=x_NLE.device), self.eot(ids_NL)]


class End(nn.Module):
    """What follows the blocks of a tower, with the tower's own parts under their names there: given
    others for a call, it computes with those.
    """

    def __init__(
        self,
        module: Any,
        names: Sequence[str],
        projection: str,
        read: Callable[[Tensor, Tensor | None], Tensor],
    ) -> None:
        super().__init__()
        self.projection, self.read = projection, read
        for name in (*names, projection):
            setattr(self, name, getattr(module, name, None))

    def forward(self, x_NLE: Tensor, ids_NL: Tensor | None = None) -> Tensor:
        return projected(self.read(x_NLE, ids_NL), getattr(self, self.projection))


def projected(x_NE: Tensor, projection: Any) -> Tensor:
    """Through a matrix or a linear map, or as they are where a tower has none."""
    if projection is None:
        return x_NE
    return projection(x_NE) if isinstance(projection, nn.Linear) else x_NE @ projection


def through(blocks: Sequence[nn.Module], x_NLE: Tensor, mask_LL: Tensor | None) -> Tensor:
    """x_NLE after all blocks, the mask cut to its length."""
    length = x_NLE.shape[1]
    for block in blocks:
        x_NLE = block(x_NLE, attn_mask=None if mask_LL is None else mask_LL[:length, :length])
    return x_NLE
