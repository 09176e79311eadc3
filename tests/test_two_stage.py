"""2SFS: both stages against torch's AdamW, known and unknown classes, and its predictor."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _in_the_loop, _views, _weights, two_stage
from adapters._class_texts import ClassTexts
from benchmark.api import unit
from benchmark.backbones.clip import OpenClip
from benchmark.conformance import toy
from tests.toy64 import adapter, noise, with_pixels


@pytest.mark.parametrize(("split", "first"), [(0.0, 0), (0.5, 4)])
def test_two_stage_is_torchs_adamw_on_norms_then_on_rows(split: float, first: int) -> None:
    """Of 8 steps; with none in the first stage it is a cosine probe that starts from the text."""
    given = with_pixels()
    method = adapter("two_stage", split=split, steps_per_shot=4, lr=0.01, weight_decay=0.1)
    (state,) = method._learn([given])
    plan = _in_the_loop.by_steps(given, method.training, method.crops)
    read = _views.inputs(given, given.backbone.vision, 0, method.crops, plan.rows_TB, 64)
    tuned = given.backbone.copy()
    texts = ClassTexts.of(replace(given.target, backbone=tuned))
    norm = {
        f"{side}/{layer}/{name}": block.get_parameter(name).requires_grad_()
        for side, tower in (("vision", tuned.vision), ("text", tuned.text))
        for layer, block in enumerate(tower.blocks)
        for name in ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias")
    }

    def train(trained: list[Tensor], rows_TB: Tensor, classifier: Any) -> None:
        optimiser = torch.optim.AdamW(trained, lr=1, weight_decay=0.1)
        for t, rows_B in enumerate(rows_TB):
            image_BD = _weights.image_features(tuned.vision, 0, read(rows_B), {})
            logits_BK = given.backbone.logit_scale * image_BD @ classifier().T
            labels_B = given.support.labels_N[rows_B % len(given.support)]
            optimiser.zero_grad()
            F.cross_entropy(logits_BK, labels_B).backward()
            cosine = 0.5 * (1 + math.cos(math.pi * t / len(rows_TB)))
            optimiser.param_groups[0]["lr"] = 1e-6 + (0.01 - 1e-6) * cosine
            optimiser.step()

    train(list(norm.values()), plan.rows_TB[:first], lambda: _weights.text_features(texts, {}))
    row_KD = _weights.text_features(texts, {}).detach().requires_grad_()
    train([row_KD], plan.rows_TB[first:], lambda: F.normalize(row_KD))
    for name, weight in norm.items():
        torch.testing.assert_close(state[name], weight.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(state["row_KD"], F.normalize(row_KD.detach()), rtol=0, atol=1e-9)
    moved = (norm["vision/0/ln_1.weight"] - given.backbone.vision.blocks[0].ln_1.weight).abs()
    assert (moved.max() > 1e-3) == (first > 0)


def test_known_classes_keep_their_row_beside_unknown_ones() -> None:
    """Of two learned classes of one name each has its own; a third of that name is unknown."""
    names = ("cat", "cat", "dog")
    given = replace(toy.episode(2, names=names), val=None)
    (state,) = adapter("two_stage", steps_per_shot=4, lr=0.05, most_epochs=0)._learn([given])
    wider = replace(given.target, class_names=("boat", "cat", "cat", "cat", "dog"))
    images = toy.held_out().images
    learned_QK = adapter("two_stage").predictor(state, given.target)(images)
    wider_QK = adapter("two_stage").predictor(state, wider)(images)
    torch.testing.assert_close(wider_QK[:, [1, 2, 4]], learned_QK)
    rows = {"row_KD", "name_KB"}
    tuned = {name: part for name, part in state.items() if name not in rows}
    text_KD = _weights.classifier(_weights.merged(given.backbone, tuned), wider)
    nobody = {"row_KD": state["row_KD"][:0], "name_KB": state["name_KB"][:0]}
    text_QK = adapter("two_stage").predictor({**tuned, **nobody}, wider)(images)
    torch.testing.assert_close(wider_QK[:, [0, 3]], text_QK[:, [0, 3]])
    assert (unit(text_KD)[4] - state["row_KD"][2]).abs().max() > 1e-3


def test_two_stage_predicts_without_a_copy_of_the_backbone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, images = with_pixels(), toy.held_out().images
    start = two_stage.norms(given.backbone.vision, given.backbone.text)
    parts = {name: part + noise(part, i) for i, (name, part) in enumerate(start.items())}
    tuned = _weights.merged(given.backbone, parts)
    merged_QK = _weights.predictor(tuned, given.target)(images)
    nobody = {"row_KD": torch.empty(0, 16), "name_KB": two_stage.names([]).view(0, 32)}
    monkeypatch.setattr(OpenClip, "copy", None)
    ours_QK = adapter("two_stage").predictor({**parts, **nobody}, given.target)(images)
    torch.testing.assert_close(ours_QK, merged_QK, rtol=0, atol=1e-9)
