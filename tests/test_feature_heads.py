"""Small trained heads on stored features against plain loops with torch's own modules and
optimisers, closed forms and counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters import _ape, _samples, clip_adapter, cross_modal_probe, lp_plus_plus
from adapters._settings import StoredCrops
from benchmark import methods
from benchmark.api import Crop, Episode, unit
from benchmark.conformance import toy
from testbed.dispatch import refusing_narrow
from tests import features64

EPOCHS, SCALE = 30, features64.SCALE
HEADS = ("lp_plus_plus", "clip_adapter", "linear_adapter", "cross_modal_probe", "ape_t")
CLOSED = ("gda", "proker", "ss_text", "ape", "tip_adapter_vote", "timo")


def predicted(name: str, given: Episode, **params: object) -> Tensor:
    return methods.load(name, params).fit(given)(features64.queries())


def cosine_rates(peak: float, epochs: int, warmup: float | None = None) -> list[float]:
    rates = [0.5 * peak * (1 + float(np.cos(np.pi * t / epochs))) for t in range(epochs)]
    return rates if warmup is None else [warmup, *rates[:-1]]


def plain_loop(
    given: Episode,
    optimiser: torch.optim.Optimizer,
    rates: list[float],
    logits: Callable[[Tensor], Tensor],
    penalty: Callable[[], Tensor | float],
    min_scale: float = 0.5,
) -> None:
    """Full batches, view after view, as the engine takes them where a batch holds all images."""
    view_VND = given.support.images.views(16, 0, Crop(min_scale))
    for step, rate in enumerate(rates):
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss = F.cross_entropy(logits(view_VND[step % 16]), given.support.labels_N) + penalty()
        loss.backward()
        optimiser.step()


# --- lp++


def cosines(given: Episode) -> tuple[Tensor, Tensor]:
    image_MD = given.support.images.views(1, 0, Crop(0.5))[0]
    return image_MD, image_MD @ given.text_features().T


def test_lp_plus_plus_step_sizes_are_those_of_an_eigen_solver() -> None:
    image_MD, cosine_MK = cosines(features64.episode((5, 3, 9), dim=24))
    rate, alpha_rate = lp_plus_plus.step_sizes(image_MD, cosine_MK)
    largest = np.linalg.svd(image_MD.numpy(), compute_uv=False)[0] ** 2
    assert float(rate) == pytest.approx(4 * 17 / largest, rel=1e-12)
    columns = [float(np.sum(column**2)) for column in cosine_MK.numpy().T]
    assert float(alpha_rate) == pytest.approx(17 / (4 * max(columns)), rel=1e-12)


def naive_lp_plus_plus(given: Episode, epochs: int, *, summed: bool) -> tuple[np.ndarray, int]:
    """The description in numpy: logits of the queries at the latest best step, and that step."""
    image_MD, cosine_MK = (part.numpy() for part in cosines(given))
    labels, text = given.support.labels_N.numpy(), given.text_features().numpy()
    n, classes, onehot = len(labels), len(text), np.eye(len(text))[labels]
    rate, alpha_rate = (float(r) for r in lp_plus_plus.step_sizes(*cosines(given)))
    w = np.stack([image_MD[labels == k].sum(0) for k in range(classes)])
    b, velocity_w, velocity_b = np.zeros(classes), np.zeros_like(w), np.zeros(classes)
    a = np.full(classes, 250 * np.mean([cosine_MK[labels == k, k].mean() for k in range(classes)]))
    gathered, best, kept, kept_step = np.zeros(classes), -1, np.zeros(0), 0

    def logits(x: np.ndarray) -> np.ndarray:
        return x @ w.T + b + a * (x @ text.T)

    for step in range(1, epochs + 1):
        z = logits(image_MD)
        p = np.exp(z - z.max(1, keepdims=True))
        slope = (p / p.sum(1, keepdims=True) - onehot) / n
        gradient_a = (slope * cosine_MK).sum(0)
        gathered = gathered + gradient_a if summed else gradient_a
        velocity_w = 0.9 * velocity_w + slope.T @ image_MD
        velocity_b = 0.9 * velocity_b + slope.sum(0)
        w, b = w - rate * velocity_w, b - rate * velocity_b
        if step % 10 == 0:
            a = a - alpha_rate * gathered
        right = 0
        if given.val is not None:
            guess = logits(given.val.images.features().numpy()).argmax(1)
            right = int((guess == given.val.labels_N.numpy()).sum())
        if right >= best:
            best, kept, kept_step = right, logits(features64.queries().features().numpy()), step
    return kept, kept_step


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("val", [True, False])
def test_lp_plus_plus_is_its_naive_twin(summed: bool, val: bool) -> None:
    given = features64.episode((4, 2, 5), val=val)
    expected, step = naive_lp_plus_plus(given, 45, summed=summed)
    ours = predicted("lp_plus_plus", given, epochs=45, summed=summed)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-8, atol=1e-8)
    assert given.notes["step"] == step
    assert given.notes["selection"] == ("val" if val else "fixed")


def test_lp_plus_plus_without_images_in_its_weights_is_zero_shot() -> None:
    given = features64.episode()
    head_KX = torch.zeros(3, 18, dtype=torch.float64)
    head_KX[:, -1] = 3.0
    image_ND, text_KD = features64.queries().features(), given.text_features()
    logits_NK = lp_plus_plus.logits(image_ND, head_KX, text_KD)
    torch.testing.assert_close(logits_NK, 3.0 * image_ND @ text_KD.T)


def test_lp_plus_plus_leaves_a_class_without_images_to_its_text() -> None:
    given = features64.episode((4, 0, 4))
    bank = _samples.views(given, StoredCrops(views=1, min_scale=0.5))
    start_KX = lp_plus_plus.start(bank, bank.image_MD @ given.text_features().T, 250.0)
    assert not start_KX[1, :-1].any()
    assert float(start_KX[1, -1]) == float(start_KX[0, -1]) > 0


# --- clip_adapter


@pytest.mark.parametrize(("dim", "count"), [(512, 131_072), (1024, 524_288)])
def test_clip_adapter_has_half_the_square_of_its_width(dim: int, count: int) -> None:
    given = toy.feature_episode(shots=1, classes=2, dim=dim)
    methods.load("clip_adapter", {"epochs": "1"}).fit(given)
    assert given.notes["trainable_params"] == count


def test_clip_adapter_does_not_see_the_length_of_features() -> None:
    form, given = clip_adapter.bottleneck(0.3), features64.episode()
    layers_12HD = form.start(given, given.rng())[None]
    image_ND, text_KD = features64.queries().features(), given.text_features()
    torch.testing.assert_close(
        form.cosines(7.5 * image_ND, layers_12HD, text_KD),
        form.cosines(image_ND, layers_12HD, text_KD),
    )


def test_clip_adapter_starts_as_torchs_linear_layers_do() -> None:
    given = toy.feature_episode(dim=64)
    layers_2HD = clip_adapter.bottleneck(0.2).start(given, given.rng())
    assert layers_2HD.shape == (2, 16, 64)
    for layer_HD, fan_in in zip(layers_2HD, (64, 16), strict=True):
        assert 0.9 * fan_in**-0.5 < float(layer_HD.abs().max()) <= fan_in**-0.5
        assert abs(float(layer_HD.mean())) < 0.1 * fan_in**-0.5


def test_clip_adapter_is_its_plain_loop() -> None:
    given = features64.episode()
    down, up = (nn.Linear(*sizes, bias=False).double() for sizes in ((16, 4), (4, 16)))
    with torch.no_grad():
        start_2HD = clip_adapter.bottleneck(0.2).start(given, given.rng())
        down.weight.copy_(start_2HD[0])
        up.weight.copy_(start_2HD[1].T)

    def logits(image_ND: Tensor) -> Tensor:
        adapted_ND = F.relu(up(F.relu(down(image_ND))))
        mixed_ND = F.normalize(0.2 * adapted_ND + 0.8 * image_ND, dim=1)
        return SCALE * mixed_ND @ given.text_features().T

    adam = torch.optim.Adam([down.weight, up.weight], lr=1.0)
    plain_loop(given, adam, cosine_rates(0.003, EPOCHS), logits, lambda: 0.0, min_scale=0.08)
    ours = predicted("clip_adapter", given, epochs=str(EPOCHS))
    torch.testing.assert_close(ours, logits(features64.queries().features()).detach())


# --- linear_adapter


def test_linear_adapter_is_its_plain_loop() -> None:
    given = features64.episode((4, 2, 6))
    m_DD = torch.eye(16, dtype=torch.float64, requires_grad=True)

    def logits(image_ND: Tensor) -> Tensor:
        return SCALE * F.normalize(image_ND @ m_DD, dim=1) @ given.text_features().T

    def penalty() -> Tensor:
        return (m_DD - torch.eye(16, dtype=torch.float64)).square().sum() / 4  # 4 shots

    plain_loop(given, torch.optim.Adam([m_DD], lr=1.0), cosine_rates(1e-3, EPOCHS), logits, penalty)
    ours = predicted("linear_adapter", given, epochs=str(EPOCHS))
    torch.testing.assert_close(ours, logits(features64.queries().features()).detach())


def test_a_heavy_constraint_keeps_the_linear_adapter_at_zero_shot() -> None:
    given, images = features64.episode(), features64.queries()
    zero_QK = SCALE * images.features() @ given.text_features().T
    apart = [
        float((predicted("linear_adapter", given, constraint=c) - zero_QK).norm())
        for c in (0.0, 1.0, 1e4)
    ]
    assert apart[0] > apart[1] > 10 * apart[2]


def test_linear_adapter_has_the_square_of_its_width() -> None:
    given = toy.feature_episode(shots=1, classes=2, dim=512)
    methods.load("linear_adapter", {"epochs": "1"}).fit(given)
    assert given.notes["trainable_params"] == 262_144


# --- cross_modal_probe


def cross_modal_loop(given: Episode, text_weight: float) -> Tensor:
    w_KD = given.text_features().clone().requires_grad_()

    def logits(image_ND: Tensor) -> Tensor:
        return SCALE * image_ND @ w_KD.T

    adam = torch.optim.AdamW([w_KD], lr=1.0, weight_decay=0.01)
    plain_loop(
        given,
        adam,
        cosine_rates(0.001, EPOCHS, warmup=1e-5),
        logits,
        lambda: text_weight * F.cross_entropy(logits(given.text_features()), torch.arange(3)),
    )
    return w_KD.detach()


@pytest.mark.parametrize("text_weight", [0.0, 1.0])
def test_cross_modal_probe_is_its_plain_loop(text_weight: float) -> None:
    given = features64.episode()
    w_KD = cross_modal_loop(given, text_weight)
    ours = predicted("cross_modal_probe", given, epochs=str(EPOCHS), text_weight=text_weight)
    torch.testing.assert_close(ours, SCALE * features64.queries().features() @ w_KD.T)


def test_as_many_texts_as_images_are_one_batch_of_both() -> None:
    """The two terms are twice the cross-entropy of the batch that holds images and texts."""
    given = features64.episode((1, 1, 1))
    form, text_KD, labels_N = (
        cross_modal_probe.probe(),
        given.text_features(),
        given.support.labels_N,
    )
    w_1KD = unit(text_KD + 0.1)[None]
    image_ND = given.support.images.features()
    images = F.cross_entropy(SCALE * form.cosines(image_ND, w_1KD, text_KD)[:, 0], labels_N)
    texts = form.penalty(w_1KD, form.target(given, image_ND, labels_N))[0]
    both_KK = SCALE * torch.cat([image_ND, text_KD]) @ w_1KD[0].T
    together = F.cross_entropy(both_KK, torch.cat([labels_N, torch.arange(3)]))
    torch.testing.assert_close((images + texts) / 2, together)


def test_what_is_kept_of_the_start_leads_back_to_zero_shot() -> None:
    given = features64.episode()
    all_QK, none_QK, half_QK = (
        predicted("cross_modal_probe", given, epochs="20", kept=kept) for kept in (1.0, 0.0, 0.5)
    )
    zero_QK = SCALE * features64.queries().features() @ given.text_features().T
    torch.testing.assert_close(all_QK, zero_QK)
    torch.testing.assert_close(half_QK, (zero_QK + none_QK) / 2)


# --- ape_t


def test_untrained_ape_t_is_ape_without_the_weights_of_keys() -> None:
    given = features64.episode((4, 2, 6))
    torch.testing.assert_close(
        predicted("ape_t", given, epochs="0"), predicted("ape", given, gamma_grid="0")
    )


def test_ape_t_is_its_plain_loop() -> None:
    """Image by image and key by key, with torch's AdamW."""
    given = dataclasses.replace(features64.episode((2, 1, 3)), val=None)
    text_KD, labels_N = given.text_features(), given.support.labels_N
    fitted = methods.load("ape_t", {"epochs": "12", "views": 16, "view_seed": 0})
    ours_QK = fitted.fit(given)(features64.queries())

    channel_Q = _ape.build(given, fitted.cache, fitted.refinement).channel_Q
    key_NQ = unit(unit(given.support.images.views(10, 0, Crop(0.5)).mean(0))[:, channel_Q])
    residual_KQ = torch.zeros(3, len(channel_Q), dtype=torch.float64, requires_grad=True)
    offset_N = torch.zeros(6, dtype=torch.float64, requires_grad=True)

    def logits(image_ND: Tensor) -> Tensor:
        rows = []
        for image_D in image_ND:
            reduced_Q = image_D[channel_Q] / image_D[channel_Q].norm()
            row_K = list(SCALE * (text_KD @ image_D + residual_KQ @ image_D[channel_Q]))
            for key_Q, label, offset in zip(key_NQ, labels_N.tolist(), offset_N, strict=True):
                near = reduced_Q @ (key_Q + residual_KQ[label])
                row_K[label] = row_K[label] + 1.17 * (1 + offset) * (1.0 * (near - 1)).exp()
            rows.append(torch.stack(row_K))
        return torch.stack(rows)

    adam = torch.optim.AdamW([residual_KQ, offset_N], lr=1.0, weight_decay=0.1, eps=1e-3)
    plain_loop(given, adam, cosine_rates(0.001, 12), logits, lambda: 0.0)
    torch.testing.assert_close(ours_QK, logits(features64.queries().features()).detach())
    assert given.notes["trainable_params"] == 3 * len(channel_Q) + 6


def test_ape_t_of_uneven_runs_in_a_batch_is_each_run_alone() -> None:
    adapter = methods.load("ape_t", {"epochs": "12"})
    given = [features64.episode(counts) for counts in ((1, 1, 1), (4, 0, 6), (2, 2, 2))]
    for predict, each in zip(adapter.fit_batch(given), given, strict=True):
        alone = dataclasses.replace(each, notes={})
        expected_QK = adapter.fit(alone)(features64.queries())
        torch.testing.assert_close(predict(features64.queries()), expected_QK)
        assert each.notes == pytest.approx(alone.notes)


# --- all of them


@pytest.mark.parametrize("name", [*HEADS, *CLOSED])
def test_features_in_float64_are_computed_with_in_float64(name: str) -> None:
    given = features64.episode()
    params = {"epochs": "5"} if name in HEADS else {}
    with refusing_narrow():
        logits_QK = predicted(name, given, **params)
    assert logits_QK.dtype == torch.float64


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("val", [True, False])
def test_a_class_without_images_leaves_finite_logits(name: str, val: bool) -> None:
    logits_QK = predicted(name, features64.episode((4, 0, 2), val=val), epochs="5")
    assert logits_QK.isfinite().all()
