"""TCP: a plain loop in float64, CoOp where it has no rows, less memory for the same gradient."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _in_the_loop, _views
from benchmark.conformance import toy
from testbed import naive_clip
from tests.toy64 import adapter, noise, with_features


def test_tcp_is_a_plain_loop_in_float64() -> None:
    given = with_features()
    method = adapter("tcp", epochs="3", batch_size=4, warmup_epochs=1)
    model: Any = given.backbone
    model = model.model
    (state,) = method._learn([given])
    parts = {n: p.clone().requires_grad_() for n, p in method._start(given).items()}
    optimiser = torch.optim.Adam(list(parts.values()), lr=1, eps=1e-3, weight_decay=5e-4)
    hand_KD, plan = (
        given.text_features(),
        _in_the_loop.by_epochs(given, method.training, method.crops, 1e-5),
    )
    read = _views.stored_features(given, method.crops, plan.rows_TB)
    ids_KL = given.backbone.text.tokenize(
        [f"X X X X {n.replace('_', ' ')}." for n in toy.NAMES[:3]]
    )

    def text_features() -> Tensor:
        hidden_KM = hand_KD @ parts["down.weight"].T + parts["down.bias"]
        hidden_KM = hidden_KM * torch.sigmoid(1.702 * hidden_KM)
        rows_KPE = (hidden_KM @ parts["up.weight"].T + parts["up.bias"]).view(3, 4, -1)
        token_KLE = model.token_embedding(ids_KL)
        token_KLE = torch.cat(
            [token_KLE[:, :1], parts["ctx_PE"].expand(3, -1, -1), token_KLE[:, 5:]], dim=1
        )
        x_KLE = token_KLE + model.positional_embedding
        for layer, block in enumerate(model.transformer.resblocks):
            if layer == 1:  # of two: the first of the last third
                x_KLE = torch.cat([x_KLE[:, :1], rows_KPE, x_KLE[:, 5:]], dim=1)
            x_KLE = block(x_KLE, attn_mask=model.attn_mask)
        read_out = model.ln_final(x_KLE[torch.arange(3), ids_KL.argmax(1)])
        return F.normalize(read_out @ model.text_projection, dim=1)

    for rows_B, rate in zip(plan.rows_TB, plan.rate_T.tolist(), strict=True):
        text_KD = text_features()
        logits_BK = given.backbone.logit_scale * read(rows_B) @ text_KD.T
        loss = F.cross_entropy(logits_BK, given.support.labels_N[rows_B % len(given.support)])
        loss = loss + 8 * (1 - F.cosine_similarity(text_KD, hand_KD).mean())
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    for name, part in parts.items():
        torch.testing.assert_close(state[name], part.detach(), rtol=0, atol=1e-9)
    assert (state["ctx_PE"] - method._start(given)["ctx_PE"]).abs().max() > 1e-3


def test_tcp_without_rows_of_the_class_is_coop() -> None:
    given = with_features()
    method, ctx_PE = adapter("tcp"), noise(torch.zeros(4, 32), size=0.5)
    prompts = method._prompts(given.target)
    ctx_KPE = ctx_PE.expand(3, -1, -1)
    coop_KD = given.backbone.class_prompts(given.class_names, 4).encode(ctx_PE)
    torch.testing.assert_close(prompts.encode(ctx_KPE), coop_KD, rtol=0, atol=1e-12)
    later = {1: noise(torch.zeros(3, 4, 32))}
    moved_KD = prompts.encode(ctx_KPE, later=later)
    assert (moved_KD - coop_KD).abs().max() > 0.01


def test_tcp_with_less_memory_keeps_less_for_the_same_gradient() -> None:
    """As a cell that is tried again because memory ran out."""
    given, method = with_features(), adapter("tcp")
    backbone: Any = given.backbone
    parts = {name: part.requires_grad_() for name, part in method._start(given).items()}
    gradients, kept_mb = [], []
    for share in (1.0, 1e-4):
        scarce = replace(backbone, memory_share=share)
        hand_KD, names = given.text_features().repeat(8, 1), 8 * given.class_names
        target = replace(given.target, backbone=scarce, class_names=names, text_KD=hand_KD)
        encode = method._encoder(target)
        gradients.append(torch.autograd.grad(encode(parts).pow(3).sum(), list(parts.values())))
        kept_mb.append(naive_clip.saved_mb(partial(encode, parts), backbone.model))
    for few, all_ in zip(*gradients, strict=True):
        torch.testing.assert_close(few, all_, rtol=0, atol=1e-12)
    assert kept_mb[1] < 0.2 * kept_mb[0]
