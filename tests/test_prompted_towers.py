"""Rows in both towers: against naive towers, their closed forms, and the losses of the methods."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _blocks, _optimisers, _rows, maple, promptsrc
from benchmark import methods
from benchmark.api import Crop, Episode, UserError, unit
from benchmark.backbones.clip import OpenClip, from_model
from benchmark.backbones.towers import OpenClipTextTower
from benchmark.conformance import toy
from benchmark.training.averaging import averaged
from testbed import naive_clip
from testbed.toy_on import Place

TEXTS = ["a photo of a cat.", "a photo of a very old tree.", "x"]
PLACE = Place("cpu")  # the toy in float64


def adapter(name: str, **params: object) -> Any:
    return methods.load(name, params)


@pytest.fixture(scope="module")
def model() -> OpenClip:
    return from_model(naive_clip.small_clip(layers=4).double(), "small", precision="float64")


def noise(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64)


# --- rows among tokens


@pytest.mark.parametrize(("first", "sets"), [(0, 4), (2, 2)])
def test_rows_in_texts_are_those_of_whole_texts(model: OpenClip, first: int, sets: int) -> None:
    set_JTE, texts = noise(sets, 2, 32).requires_grad_(), _rows.Texts.of(model, TEXTS)
    ours_ND = texts.features(_rows.Rows(set_JTE, first))
    naive_ND = torch.stack(
        [naive_clip.rows_in_text(model.model, text, set_JTE, first) for text in TEXTS]
    )
    torch.testing.assert_close(ours_ND, naive_ND, rtol=0, atol=1e-9)
    weight_ND = noise(*ours_ND.shape, seed=1)
    ours, naive = (
        torch.autograd.grad((each * weight_ND).sum(), set_JTE)[0] for each in (ours_ND, naive_ND)
    )
    torch.testing.assert_close(ours, naive, rtol=0, atol=1e-9)


def test_texts_in_chunks_keep_less_for_the_same_gradient(model: OpenClip) -> None:
    """As a cell has them that is tried again because memory ran out."""
    set_JTE, weight_ND = noise(4, 2, 32).requires_grad_(), noise(24, 24, seed=1)
    features, gradients, kept_mb = [], [], []
    for share in (1.0, 0.25):
        texts = _rows.Texts.of(dataclasses.replace(model, memory_share=share), 8 * TEXTS)

        def encode(texts: _rows.Texts = texts) -> Tensor:
            return texts.features(_rows.Rows(set_JTE))

        features.append(encode())
        gradients += torch.autograd.grad((features[-1] * weight_ND).sum(), set_JTE)
        kept_mb.append(naive_clip.saved_mb(encode, model.model))
    torch.testing.assert_close(features[1], features[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-12)
    assert kept_mb[1] < 0.1 * kept_mb[0]


@pytest.mark.parametrize("sets", [1, 2])
def test_rows_behind_the_class_token_are_rows_at_the_end(sets: int) -> None:
    backbone, set_JTE = PLACE.backbone(), noise(sets, 3, 32)
    pixels = toy.patterns(3).double()
    x_NLE = backbone.vision.start(pixels)
    ours_ND = _blocks.image_features(backbone.vision, 0, x_NLE, _rows.Rows(set_JTE).changes())
    tokens = [naive_clip.rows_in_image(backbone.model, each, set_JTE)[0] for each in pixels]
    naive_ND = unit(torch.stack(tokens) @ backbone.model.visual.proj)
    torch.testing.assert_close(ours_ND, naive_ND, rtol=0, atol=1e-9)


def test_rows_that_nobody_sees_leave_clip_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    given, images = PLACE.episode(), PLACE.held_out()
    fused = adapter("mmrl", layers=1, epochs="0")
    other = dataclasses.replace(given.target, dataset="other")
    state = fused.learn(given)
    run_block = _blocks.run_block

    def hidden(
        block: Any, layer: int, x_NLE: Tensor, changes: _blocks.Changes, **named: Any
    ) -> Tensor:
        if layer == 0:
            return run_block(block, layer, x_NLE, changes, **named)
        length = x_NLE.shape[1] + fused.n_tokens
        mask_LL = named.pop("mask_LL", None)
        mask_LL = x_NLE.new_zeros(length, length) if mask_LL is None else mask_LL.clone()
        mask_LL[:, 1 : 1 + fused.n_tokens] = float("-inf")
        mask_LL = mask_LL[: named.get("rows") or length]
        return run_block(block, layer, x_NLE, changes, mask_LL=mask_LL, **named)

    seen_QK = fused.predictor(state, other)(images)
    monkeypatch.setattr(_blocks, "run_block", hidden)
    hidden_QK = fused.predictor(state, other)(images)
    zero_QK = given.backbone.logit_scale * images.features() @ given.text_features().T
    torch.testing.assert_close(hidden_QK, zero_QK, rtol=0, atol=1e-9)
    assert (seen_QK - zero_QK).abs().max() > 0.1


# --- what is trained


@pytest.mark.parametrize(
    ("name", "count"),
    [("ivlp", 46_080), ("promptsrc", 46_080), ("maple", 3_555_072), ("mmrl", 4_992_256)],
)
def test_vit_b_16_gets_as_many_parameters_as_published(
    name: str, count: int, base_16: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = naive_clip.TOKENIZER.encode  # the tower's own tokens would lie on the meta device
    monkeypatch.setattr(
        OpenClipTextTower, "own_tokens", lambda tower, texts: (1, [encode(text) for text in texts])
    )
    given = SimpleNamespace(backbone=base_16, rng=lambda: torch.Generator().manual_seed(1))
    parts = adapter(name)._start(given)
    assert sum(part.numel() for part in parts.values()) == count


def test_a_start_of_too_few_words_is_said() -> None:
    with pytest.raises(UserError, match="is 4 tokens, but 5 are to be learned"):
        adapter("ivlp", n_text=5).fit(toy.episode(1))


def test_image_rows_of_maple_are_maps_of_its_text_rows() -> None:
    parts = {"text_JTE": noise(3, 2, 4), "weight_JUE": noise(3, 5, 4), "bias_JU": noise(3, 5)}
    text_JTE, image_JTU = maple.coupled(parts)
    assert text_JTE is parts["text_JTE"]
    for j in range(3):
        for t in range(2):
            expected_U = parts["weight_JUE"][j] @ text_JTE[j, t] + parts["bias_JU"][j]
            torch.testing.assert_close(image_JTU[j, t], expected_U)


# --- losses


def twin(method: Any, given: Episode, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Features of naive towers with the rows of these parts and of CLIP, and the labels."""
    model, count = given.backbone.model, len(given.support)
    pixels = given.support.images.crops(
        torch.arange(count), range(count), Crop(method.crops.min_scale)
    )
    in_place, names = "space_TE" not in parts, [n.replace("_", " ") for n in given.class_names]
    texts = [
        naive_clip.rows_in_text(
            model, f"a photo of a {name}.", naive_rows(parts, "text"), in_place=in_place
        )
        for name in names
    ]
    image_JTU = naive_rows(parts, "image")
    tokens = torch.stack([naive_clip.rows_in_image(model, each, image_JTU) for each in pixels])
    projection = parts.get("projection_UD", model.visual.proj)
    return {
        "t": torch.stack(texts),
        "f": unit(tokens[:, 0] @ model.visual.proj),
        "r": unit(tokens[:, 1:].mean(1) @ projection),
        "t0": given.text_features(),
        "f0": given.backbone.encode_pixels(pixels),
        "y": given.support.labels_N,
    }


def naive_rows(parts: dict[str, Tensor], tower: str) -> Tensor:
    """set_JTE of a tower: of MMRL R A' + a, of MaPLe's images P W' + b, else what is trained."""
    if "space_TE" in parts:
        maps = zip(parts[f"{tower}/weight_JUE"], parts[f"{tower}/bias_JU"], strict=True)
        return torch.stack([parts["space_TE"] @ weight_UE.T + bias_U for weight_UE, bias_U in maps])
    if tower == "image" and "weight_JUE" in parts:
        triples = zip(parts["text_JTE"], parts["weight_JUE"], parts["bias_JU"], strict=True)
        return torch.stack([row_TE @ weight_UE.T + bias_U for row_TE, weight_UE, bias_U in triples])
    return parts["text_JTE" if tower == "text" else "image_JTU"]


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def first_loss(name: str, **params: object) -> tuple[float, dict[str, np.ndarray], float]:
    """The loss of one step over the whole support set, and its twin's features and scale."""
    given = PLACE.episode(shots=2)
    method = adapter(name, epochs="1", views=1, batch_size=6, **params)
    seen = twin(method, given, method._start(given))
    method.fit(given)
    arrays = {name: each.detach().numpy() for name, each in seen.items()}
    return given.notes["final_loss"], arrays, given.backbone.logit_scale


def fit_of(features: np.ndarray, seen: dict[str, np.ndarray], scale: float) -> float:
    logs = log_softmax(scale * features @ seen["t"].T)
    return float(-np.mean([logs[n, label] for n, label in enumerate(seen["y"])]))


def test_promptsrc_has_the_loss_of_its_twin() -> None:
    loss, seen, scale = first_loss("promptsrc")
    p, p0 = (log_softmax(scale * seen[f] @ seen[t].T) for f, t in (("f", "t"), ("f0", "t0")))
    expected = fit_of(seen["f"], seen, scale)
    expected += 25 * np.abs(seen["t"] - seen["t0"]).mean()
    expected += 10 * np.abs(seen["f"] - seen["f0"]).mean()
    expected += float((np.exp(p0) * (p0 - p)).sum()) / p.size
    assert loss == pytest.approx(expected, rel=1e-9)


def test_mmrl_has_the_loss_of_its_twin() -> None:
    loss, seen, scale = first_loss("mmrl", closeness=3.0)
    expected = 0.7 * fit_of(seen["f"], seen, scale) + 0.3 * fit_of(seen["r"], seen, scale)
    for ours, frozen in (("f", "f0"), ("t", "t0")):
        expected += 3 * (1 - (seen[ours] * seen[frozen]).sum(1).mean())
    assert loss == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["ivlp", "maple"])
def test_a_step_is_that_of_the_twin(name: str) -> None:
    """Cross-entropy alone: its value, and SGD on its gradient in all that is trained."""
    given = PLACE.episode(shots=2)
    method = adapter(name, epochs="1", views=1, batch_size=6, warmup_lr=0.1, weight_decay=0.5)
    parts = {each: part.requires_grad_() for each, part in method._start(given).items()}
    seen = twin(method, given, parts)
    logits_BK = given.backbone.logit_scale * seen["f"] @ seen["t"].T
    loss = F.cross_entropy(logits_BK, seen["y"])
    loss.backward()
    state = method.learn(given)
    assert given.notes["final_loss"] == pytest.approx(loss.item(), rel=1e-9)
    for each, part in parts.items():
        assert part.grad is not None
        assert part.grad.abs().max() > 1e-3
        expected = (part - 0.1 * (part.grad + 0.5 * part)).detach()
        torch.testing.assert_close(state[each], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["promptsrc", "mmrl"])
def test_clips_own_features_of_kept_views_are_computed_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of views that do not fit they are computed at every step, and as much is learned."""
    given, images = PLACE.episode(shots=2), []
    frozen_features = _blocks.frozen_features

    def counted(tower: Any, first: int, x_NLE: Tensor) -> Tensor:
        images.append(len(x_NLE))
        return frozen_features(tower, first, x_NLE)

    monkeypatch.setattr(_blocks, "frozen_features", counted)
    settings = {"epochs": "4", "views": 2, "batch_size": 3}
    kept, anew = (adapter(name, **settings, keep_mb=mb).learn(given) for mb in (64, 0))
    assert images == [2 * len(given.support)] + 4 * (len(given.support) // 3) * [3]
    for each, learned in kept.items():
        torch.testing.assert_close(anew[each], learned, rtol=0, atol=1e-9)


def test_promptsrc_without_its_terms_is_ivlp() -> None:
    given = toy.episode(2)
    short = {"epochs": "4", "views": 2}
    none = {"text_weight": 0.0, "image_weight": 0.0, "logit_weight": 0.0, "mean_width": 0.0}
    ivlp = adapter("ivlp", **short).learn(given)
    ours = adapter("promptsrc", **short, **none).learn(given)
    assert all(torch.equal(ours[name], ivlp[name]) for name in ivlp)
    mean = adapter("promptsrc", **short, **(none | {"mean_width": 0.6})).learn(given)
    assert not torch.equal(mean["image_JTU"], ivlp["image_JTU"])


@pytest.mark.parametrize(
    "name", ["maple", "mmrl", "mma", "clip_svd", "skip_tuning", "plot_plus_plus"]
)
def test_training_with_less_memory_for_texts_learns_the_same(name: str) -> None:
    given, short = PLACE.episode(), {"steps_per_shot": 1} if name == "clip_svd" else {"epochs": "2"}
    scarce = dataclasses.replace(given.backbone, memory_share=0.25)
    method = adapter(name, views=1, **short)
    whole, parts = (
        method.learn(each) for each in (given, dataclasses.replace(given, backbone=scarce))
    )
    for each, learned in whole.items():
        torch.testing.assert_close(parts[each], learned, rtol=0, atol=1e-9)


def test_the_more_closeness_counts_the_nearer_features_stay_to_clip() -> None:
    given, images = PLACE.episode(), PLACE.held_out()
    other = dataclasses.replace(given.target, dataset="other")
    zero_QK = given.backbone.logit_scale * images.features() @ given.text_features().T
    apart = []
    for closeness in (0.0, 1e4):
        method = adapter("mmrl", epochs="30", views=2, lr=0.01, closeness=closeness)
        apart.append((method.predictor(method.learn(given), other)(images) - zero_QK).abs().mean())
    assert apart[1] < 0.2 * apart[0]


def test_mmrl_hears_the_rows_only_on_the_classes_it_has_learned() -> None:
    given, images = toy.episode(2), toy.held_out().images
    method = adapter("mmrl", epochs="2", views=1)
    state = method.learn(given)
    other = dataclasses.replace(given.target, dataset="other")
    class_token = adapter("mmrl", class_share=1.0)
    alone_QK = class_token.predictor(state, given.target)(images)
    assert torch.equal(method.predictor(state, other)(images), alone_QK)
    known_QK = method.predictor(state, given.target)(images)
    assert (known_QK - alone_QK).abs().max() > 0.1
    turned = dataclasses.replace(given.target, class_names=given.class_names[::-1])
    turned_QK = method.predictor(state, turned)(images).flip(1)
    torch.testing.assert_close(turned_QK, known_QK, rtol=0, atol=1e-4)
    fewer = dataclasses.replace(given.target, class_names=given.class_names[1:])
    few_QK = method.predictor(state, fewer)(images)
    assert torch.equal(few_QK, class_token.predictor(state, fewer)(images))


# --- the mean of the prompts


def test_shares_of_the_epochs_are_a_gaussian_and_sum_to_one() -> None:
    share_E = promptsrc.gaussian_shares(50, 30.0, 5.0).numpy()
    assert share_E.sum() == pytest.approx(1, abs=1e-12)
    assert share_E.argmax() == 29
    assert share_E[34] / share_E[29] == pytest.approx(np.exp(-0.5))


def test_promptsrc_learns_the_mean_of_what_every_epoch_ends_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    after: list[Tensor] = []
    sgd = _optimisers.sgd

    def watched(settings: Any) -> Any:
        def optimiser(flat_RX: Tensor, parts: Any) -> Any:
            update = sgd(settings)(flat_RX, parts)

            def move(weights: Tensor, gradient: Tensor, rate_R: Tensor) -> None:
                update(weights, gradient, rate_R)
                after.append(weights[0].clone())

            return move

        return optimiser

    monkeypatch.setattr(_optimisers, "sgd", watched)
    given, steps = PLACE.episode(shots=4), 2
    method = adapter(
        "promptsrc", epochs="3", batch_size=len(given.support) // steps, views=1, lr=0.1
    )
    state = method.learn(given)
    assert len(after) == 3 * steps
    bell = [np.exp(-((epoch - 1.8) ** 2) / (2 * 1.8**2)) for epoch in (1, 2, 3)]  # m = d = 0.6 * 3
    mean_X = sum(g / sum(bell) * after[steps * e + steps - 1] for e, g in enumerate(bell))
    learned_X = torch.cat([part.flatten() for part in state.values()])
    torch.testing.assert_close(learned_X, mean_X, rtol=0, atol=1e-12)
    assert (after[0] - after[1]).abs().max() > 1e-6  # the steps of an epoch differ


def test_a_mean_of_weights_holds_each_step_by_its_share() -> None:
    """Two runs that move by 1 a step, of which the second is over after one."""
    weights = torch.tensor([[0.0], [10.0]], dtype=torch.float64)
    share_TR = torch.tensor([[0.25, 0.5], [0.75, 0.0]])
    update, mean = averaged(lambda w, g, r: w.add_(1), weights, share_TR)
    for live in (2, 1):
        update(weights[:live], weights[:live], torch.ones(live))
    assert mean.flatten().tolist() == [0.25 * 1 + 0.75 * 2, 0.5 * 10 + 0.5 * 11]
