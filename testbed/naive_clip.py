"""The slow truth: CoOp's prompt learner as its description reads, K whole prompts of 77 tokens
through open_clip's own modules.

Independent of benchmark.backbones.prompting on purpose: no sharing, no truncation, no packing. Used
by tests and benches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import open_clip
import torch
from torch import Tensor, nn

TOKENIZER = open_clip.SimpleTokenizer()
SideTerm = Callable[[int, Tensor, Tensor], Tensor]


def small_clip(
    seed: int = 0,
    *,
    quick_gelu: bool = True,
    dim: int = 24,
    width: int = 32,
    layers: int = 3,
    heads: int = 4,
    context: int = 77,
    **text: object,
) -> nn.Module:
    """A randomly initialised open_clip model whose biases, gains and scales are perturbed, so that
    none of them can be forgotten.
    """
    torch.manual_seed(seed)
    vision_cfg = {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}
    text_cfg = {
        "context_length": context,
        "vocab_size": 49408,
        "width": width,
        "heads": heads,
        "layers": layers,
        **text,
    }
    model = open_clip.model.CLIP(dim, vision_cfg, text_cfg, quick_gelu=quick_gelu)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim <= 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif parameter.shape[0] != 49408:
                # sharper attention than at initialisation, so that it matters who sees whom
                parameter.mul_(2.0)
        model.token_embedding.weight.mul_(10.0)
    return model.eval().requires_grad_(False)


def prompt_tensor(
    model: nn.Module, class_names: Sequence[str], ctx: Tensor, position: str
) -> tuple[Tensor, Tensor]:
    """prompts_KLE and their token ids, put together as CoOp does; `ctx` is P E, or K P E where
    class-specific.
    """
    names = [name.replace("_", " ") for name in class_names]
    n_ctx = ctx.shape[-2]
    ids_KL = TOKENIZER(
        [" ".join(["X"] * n_ctx) + " " + name + "." for name in names],
        context_length=len(model.positional_embedding),
    )
    ids_KL = ids_KL.to(model.positional_embedding.device)
    embedded_KLE = model.token_embedding(ids_KL)
    prompts = []
    for k, name in enumerate(names):
        ctx_PE = ctx if ctx.ndim == 2 else ctx[k]
        start, suffix = embedded_KLE[k, :1], embedded_KLE[k, 1 + n_ctx :]
        length = len(TOKENIZER.encode(name))
        name_NE, rest = suffix[:length], suffix[length:]
        cut = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
        prompts.append(torch.cat([start, ctx_PE[:cut], name_NE, ctx_PE[cut:], rest]))
    return torch.stack(prompts), ids_KL


def text_features(
    model: nn.Module,
    class_names: Sequence[str],
    ctx: Tensor,
    position: str = "end",
    side: SideTerm | None = None,
) -> Tensor:
    """text_KD of unit length by the whole tower over all positions."""
    return read_out(model, *prompt_tensor(model, class_names, ctx, position), side)


def truncated_features(
    model: nn.Module, class_names: Sequence[str], ctx: Tensor, position: str = "end"
) -> Tensor:
    """The same with all prompts cut to the longest of them: the easy half of the gain, and the
    baseline a sceptic asks for.
    """
    prompts_KLE, ids_KL = prompt_tensor(model, class_names, ctx, position)
    length = int(ids_KL.argmax(dim=-1).max()) + 1
    return read_out(model, prompts_KLE[:, :length], ids_KL[:, :length])


def read_out(
    model: nn.Module, prompts_KLE: Tensor, ids_KL: Tensor, side: SideTerm | None = None
) -> Tensor:
    """text_KD of unit length from embedded prompts without positions."""
    x_KLE = through_tower(model, prompts_KLE + model.positional_embedding[: ids_KL.shape[1]], side)
    x_KLE = model.ln_final(x_KLE)
    text_KD = x_KLE[torch.arange(len(ids_KL)), ids_KL.argmax(dim=-1)] @ model.text_projection
    return text_KD / text_KD.norm(dim=-1, keepdim=True)


def through_tower(model: nn.Module, x_KLE: Tensor, side: SideTerm | None = None) -> Tensor:
    """All blocks; with `side`, the attention output is replaced by side(layer, attention input,
    attention output).
    """
    mask_LL = model.attn_mask[: x_KLE.shape[1], : x_KLE.shape[1]]
    for i, block in enumerate(model.transformer.resblocks):
        if side is None:
            x_KLE = block(x_KLE, attn_mask=mask_LL)
            continue
        read_KLE = block.ln_1(x_KLE)
        x_KLE = x_KLE + block.ls_1(side(i, read_KLE, block.attention(read_KLE, attn_mask=mask_LL)))
        x_KLE = x_KLE + block.ls_2(block.mlp(block.ln_2(x_KLE)))
    return x_KLE


def saved_mb(forward: Callable[[], Tensor], model: nn.Module) -> float:
    """MiB that autograd keeps for the backward pass of `forward`: distinct storages other than the
    model's weights.
    """
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            # the tensor too, lest its address be used again
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = forward()
    del out
    return sum(size for size, _ in kept.values()) / 2**20


def rows_in_text(
    model: nn.Module, text: str, set_JTE: Tensor, first: int = 0, *, in_place: bool = False
) -> Tensor:
    """The unit feature of one text of which block `first` + j reads the rows of set j, behind the
    start token: put between it and the rest, or at first in place of as many words.
    """
    (ids_L,) = TOKENIZER([text], context_length=len(model.positional_embedding))
    tokens = list(model.token_embedding(ids_L) + model.positional_embedding)
    rows, end = set_JTE.shape[1], int(ids_L.argmax())
    for layer, block in enumerate(model.transformer.resblocks):
        if first <= layer < first + len(set_JTE):
            own = list(set_JTE[layer - first])
            if layer == first and in_place:
                own = [row + model.positional_embedding[1 + i] for i, row in enumerate(own)]
            kept = 1 if layer == first and not in_place else 1 + rows
            tokens = [tokens[0], *own, *tokens[kept:]]
        mask_LL = torch.full((len(tokens), len(tokens)), float("-inf")).triu(1).to(tokens[0])
        tokens = list(block(torch.stack(tokens)[None], attn_mask=mask_LL)[0])
    text_E = model.ln_final(tokens[end if in_place else end + rows])
    text_D = text_E @ model.text_projection
    return text_D / text_D.norm()


def rows_in_image(model: nn.Module, pixels_CHW: Tensor, set_JTE: Tensor, first: int = 0) -> Tensor:
    """The class token of one image, then its rows, after the last norm: rows stand at the end."""
    visual = model.visual
    tokens = list(visual._embeds(pixels_CHW[None])[0])
    patches = len(tokens)
    for layer, block in enumerate(visual.transformer.resblocks):
        if first <= layer < first + len(set_JTE):
            tokens = [*tokens[:patches], *set_JTE[layer - first]]
        tokens = list(block(torch.stack(tokens)[None])[0])
    return visual.ln_post(torch.stack([tokens[0], *tokens[patches:]]))
