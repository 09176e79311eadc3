"""Tokenizers of text towers: which one, whether it fits, and texts that do not fit into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from benchmark.api import UserError

Tokenizer = Callable[..., Tensor]


def default_tokenizer(model: nn.Module, name: str) -> Tokenizer:
    """CLIP's own byte-pair encoding; UserError where the model has another vocabulary."""
    import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    rows = vocabulary(model)
    if rows != tokenizer.vocab_size:
        has = f"has a vocabulary of {rows}" if rows else "does not show its vocabulary"
        raise UserError(
            f"{name} {has}, and CLIP's tokenizer has one of {tokenizer.vocab_size}; give the "
            "model's own tokenizer, as in backbone(model, name, tokenizer=...)"
        )
    return tokenizer


def require_fit(tokenizer: Any, model: nn.Module, name: str) -> None:
    """UserError for a tokenizer with more tokens than the model has embeddings of."""
    inner = getattr(tokenizer, "tokenizer", None)
    size = getattr(tokenizer, "vocab_size", None) or getattr(inner, "vocab_size", None)
    rows = vocabulary(model)
    if isinstance(size, int) and rows and size > rows:
        raise UserError(
            f"the tokenizer of {name} has {size} tokens and the model embeddings of {rows}; "
            "give the model's own tokenizer"
        )


def vocabulary(model: Any) -> int | None:
    """Rows of the text tower's token embedding; None where the tower shows none."""
    text = getattr(model, "text", model)
    embedding = getattr(text, "token_embedding", None)
    inner: Any = getattr(text, "transformer", None)
    if embedding is None and hasattr(inner, "get_input_embeddings"):
        embedding = inner.get_input_embeddings()
    return None if embedding is None else int(embedding.weight.shape[0])


def tokenized(tokenizer: Tokenizer, texts: Sequence[str], length: int | None) -> Tensor:
    """ids_NL padded to `length` tokens; UserError for a text that does not fit. None leaves the
    length to the tokenizer.
    """
    if length is None:
        return tokenizer(list(texts))
    ids_NL = tokenizer(list(texts), context_length=length)
    wider_NL = tokenizer(list(texts), context_length=length + 1)
    empty_1L = tokenizer([""], context_length=length + 1)
    # a tokenizer without an end token cuts and changes nothing of what it leaves
    goes_on_N = wider_NL[:, length] != empty_1L[:, length]
    cut_N = (wider_NL[:, :length] != ids_NL).any(1) | goes_on_N
    if cut_N.any():
        text = list(texts)[int(cut_N.int().argmax())]
        raise UserError(
            f"the text '{text}' needs more than the {length} tokens this backbone reads; "
            "shorten the class name or template"
        )
    return ids_NL


def own_length(tokenizer: Any) -> int | None:
    """Tokens that a tokenizer pads to by itself; None where it does not say."""
    length = getattr(tokenizer, "context_length", None)
    return length if isinstance(length, int) and length > 0 else None
