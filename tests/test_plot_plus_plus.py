"""PLOT++ against a twin of naive towers and numpy's plans, and what it is with one prompt."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import plot_plus_plus
from benchmark import methods, presets
from benchmark.api import Crop, Episode, State, UserError
from benchmark.backbones.towers import OpenClipTextTower
from benchmark.data import names as dataset_names
from benchmark.training import batches, loop
from testbed import naive_clip
from testbed.toy_on import Place, Trace

PLACE = Place("cpu")  # the toy in float64
PHRASES = ("a photo of a", "this is a photo", "this is picture of", "one picture of a")
RATE, WARMUP_RATE, MOMENTUM, DECAY = 0.05, 0.01, 0.9, 0.1
SHORT: dict[str, Any] = {
    "views": 2, "batch_size": 4, "lr": RATE, "warmup_lr": WARMUP_RATE, "momentum": MOMENTUM,
    "weight_decay": DECAY,
}  # fmt: skip


def adapter(**params: Any) -> plot_plus_plus.Adapter:
    return methods.load("plot_plus_plus", params)


# --- the twin: every image, prompt and class by itself


def embedded(model: Any, phrase: str) -> Tensor:
    return model.token_embedding(torch.tensor(naive_clip.TOKENIZER.encode(phrase))).detach()


def image_feature(model: Any, pixels_CHW: Tensor, row_TU: Tensor) -> Tensor:
    token_U = naive_clip.rows_in_image(model, pixels_CHW, row_TU[None])[0]
    feature_D = token_U @ model.visual.proj
    return feature_D / feature_D.norm()


def plan(sim_MN: np.ndarray) -> np.ndarray:
    """20 rounds of Sinkhorn's algorithm on exp(-cost / 0.1), from factors of 1."""
    kernel, column = np.exp(-(1 - sim_MN) / 0.1), np.ones(sim_MN.shape[1])
    for _ in range(20):
        row = (1 / len(kernel)) / (kernel @ column)
        column = (1 / len(column)) / (kernel.T @ row)
    return row[:, None] * kernel * column[None]


def logits(
    given: Episode, pixels_BCHW: Tensor, parts: State, names: Any = None, *, whole: bool = False
) -> Tensor:
    """logits_BK of the naive towers; with `whole` those of the means join them."""
    model, names = given.backbone.model, names or given.class_names  # type: ignore[attr-defined]
    texts = [naive_clip.text_features(model, names, ctx_PE) for ctx_PE in parts["ctx_NPE"]]
    rows = []
    for pixels_CHW in pixels_BCHW:
        image_MD = torch.stack(
            [image_feature(model, pixels_CHW, row_TU) for row_TU in parts["image_MTU"]]
        )
        row = []
        for k in range(len(names)):
            text_ND = torch.stack([text_KD[k] for text_KD in texts])
            sim_MN = image_MD @ text_ND.T
            score = (torch.from_numpy(plan(sim_MN.detach().numpy())) * sim_MN).sum()
            if whole:
                image_D, text_D = image_MD.mean(0), text_ND.mean(0)
                score = score + image_D @ text_D / image_D.norm() / text_D.norm()
            row.append(score)
        rows.append(torch.stack(row))
    return given.backbone.logit_scale * torch.stack(rows)


def trained(given: Episode, parts: State, names: list[str], epochs: int) -> list[float]:
    """Trains the named parts in place: the losses of all steps of one stage."""
    count, whole = len(given.support), names == ["image_MTU"]
    rows_TB, epoch_T = batches.draw(given.support, epochs, 4, 2, given.rng())
    optimiser = torch.optim.SGD(
        [parts[name].requires_grad_() for name in names],
        lr=1, momentum=MOMENTUM, weight_decay=DECAY,
    )  # fmt: skip
    losses = []
    for rows_B, epoch in zip(rows_TB, epoch_T.tolist(), strict=True):
        pixels = given.support.images.crops(rows_B % count, rows_B.tolist(), Crop(0.08))
        labels_B = given.support.labels_N[rows_B % count]
        loss = F.cross_entropy(logits(given, pixels, parts, whole=whole), labels_B)
        optimiser.zero_grad()
        loss.backward()
        cosine = RATE * (1 + np.cos(np.pi * (epoch - 1) / epochs)) / 2
        optimiser.param_groups[0]["lr"] = cosine if epoch else WARMUP_RATE
        optimiser.step()
        losses.append(loss.item())
    return losses


def start_of(given: Episode, method: plot_plus_plus.Adapter) -> State:
    model = given.backbone.model  # type: ignore[attr-defined]
    ctx_NPE = torch.stack([embedded(model, phrase) for phrase in PHRASES])
    return {"ctx_NPE": ctx_NPE, "image_MTU": method._start(given)["image_MTU"].clone()}


def held_out() -> tuple[Any, Tensor]:
    images = PLACE.held_out()
    return images, torch.cat(list(images.pixels(64)))


# --- both stages


def test_both_stages_are_those_of_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of all steps, what is learned, and logits of learned and of new classes."""
    given, trace = PLACE.episode(shots=2), Trace([])
    monkeypatch.setattr(loop, "train", trace.watch(loop.train))
    method = adapter(epochs="3", **SHORT)
    state, parts = method.learn(given), start_of(given, method)
    before = {name: part.clone() for name, part in parts.items()}
    for stage, names in enumerate((["image_MTU"], ["image_MTU", "ctx_NPE"])):
        losses = trained(given, parts, names, 3)
        assert trace.losses[stage][:, 0].tolist() == pytest.approx(losses, rel=1e-8)
        moved = {name: float((parts[name].detach() - before[name]).abs().max()) for name in parts}
        assert (moved["ctx_NPE"] > 1e-3) == (stage == 1)
        assert moved["image_MTU"] > 1e-3
    for name, part in parts.items():
        torch.testing.assert_close(state[name], part.detach(), rtol=0, atol=1e-8)
    images, pixels = held_out()
    for classes in (given.class_names, ("zebra", "a very old tree")):
        target = replace(given.target, class_names=classes)
        expected_QK = logits(given, pixels, parts, classes).detach()
        ours_QK = method.predictor(state, target)(images)
        torch.testing.assert_close(ours_QK, expected_QK, rtol=0, atol=1e-6)


def test_untrained_it_has_the_logits_of_its_phrases_and_noise() -> None:
    given = PLACE.episode(shots=2)
    method = adapter(epochs="0")
    state, (images, pixels) = method.learn(given), held_out()
    expected_QK = logits(given, pixels, start_of(given, method))
    ours_QK = method.predictor(state, given.target)(images)
    torch.testing.assert_close(ours_QK, expected_QK, rtol=0, atol=1e-9)
    assert float(state["image_MTU"].std()) == pytest.approx(0.02, rel=0.2)


def test_with_one_prompt_on_each_side_it_is_their_cosine() -> None:
    given = PLACE.episode(shots=2)
    method = adapter(epochs="2", image_prompts=1, phrases="a photo of a", **SHORT)
    state, (images, pixels) = method.learn(given), held_out()
    model = given.backbone.model  # type: ignore[attr-defined]
    (ctx_PE,), (row_TU,) = state["ctx_NPE"], state["image_MTU"]
    text_KD = naive_clip.text_features(model, given.class_names, ctx_PE)
    image_QD = torch.stack([image_feature(model, each, row_TU) for each in pixels])
    ours_QK = method.predictor(state, given.target)(images)
    expected_QK = given.backbone.logit_scale * image_QD @ text_KD.T
    torch.testing.assert_close(ours_QK, expected_QK, rtol=0, atol=1e-9)


def test_runs_of_a_batch_are_trained_as_if_alone() -> None:
    """Of other lengths too; what is counted is that of the last stage, and the steps of both."""
    episodes = [PLACE.episode(seed, shots) for seed, shots in ((1, 4), (2, 2))]
    method = adapter(epochs="2", **SHORT)
    together = method._learn(episodes)
    steps = [episode.notes["steps"] for episode in episodes]
    for given, ours in zip(episodes, together, strict=True):
        alone = method.learn(replace(given, notes={}))
        for name, part in alone.items():
            torch.testing.assert_close(ours[name], part, rtol=0, atol=1e-9)
        learned = sum(part.numel() for part in ours.values())
        assert given.notes["trainable_params"] == learned
    assert steps == [2 * 2 * (len(episode.support) // 4) for episode in episodes]


# --- what is trained


def test_vit_b_16_gets_as_many_parameters_as_in_closed_form(
    base_16: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = naive_clip.TOKENIZER.encode  # the tower's own tokens would lie on the meta device
    monkeypatch.setattr(
        OpenClipTextTower, "own_tokens", lambda tower, texts: (1, [encode(text) for text in texts])
    )
    given: Any = SimpleNamespace(backbone=base_16, rng=lambda: torch.Generator().manual_seed(1))
    method = adapter()
    ctx_NPE = plot_plus_plus.word_contexts(given.backbone, method.phrases)
    count = method._start(given)["image_MTU"].numel() + ctx_NPE.numel()
    assert count == 4 * 2 * 768 + 4 * 4 * 512 == 14_336


@pytest.mark.parametrize(
    ("phrases", "said"),
    [
        ("a photo of a, a photo", "'a photo of a' has 4, 'a photo' has 2"),
        ("a photo, ", "'a photo' has 2, '' has 0"),
        ("", "'' has 0"),
    ],
)
def test_phrases_of_unequal_length_are_refused(phrases: str, said: str) -> None:
    with pytest.raises(UserError, match=f"phrases need equal numbers of tokens.*{said}"):
        adapter(phrases=phrases).fit(PLACE.episode(shots=1))


def test_the_release_has_four_phrases_of_one_length_for_every_dataset() -> None:
    lengths = {}
    for dataset in dataset_names():
        cell = {"dataset": dataset, "shots": 16, "classes": "all", "backbone": "tiny"}
        found = presets.changes("released", "plot_plus_plus", cell).set
        phrases = str(found.get("phrases", adapter().phrases))
        count, lengths[dataset], _ = plot_plus_plus.word_contexts(PLACE.backbone(), phrases).shape
        assert count == 4
        assert found["epochs"] == ("50" if dataset == "imagenet" else "1:50,4:100,16:200")
    read = [lengths[name] for name in ("imagenet", "dtd", "eurosat", "oxford_pets", "ucf101")]
    assert read == [4, 5, 5, 5, 6]
