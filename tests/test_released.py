"""Released recipes, executed again step by step on features drawn for it, against the presets."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _cache, _concepts
from adapters._settings import CacheModel, ConceptTraining, KeyTuning
from benchmark import methods, presets
from benchmark.api import Episode, Labelled, unit
from benchmark.conformance import toy
from benchmark.training import batches, optimisers

FLOWERS = {"dataset": "oxford_flowers", "shots": 16, "classes": "all"}
START, HIGHEST = (10.0, 1.0), (50, 50)  # of alpha and beta there; of beta and alpha


def released(method: str, cell: dict[str, Any] = FLOWERS, **other: object) -> Any:
    """The method as released for this cell, with some settings replaced."""
    return methods.load(method, presets.changes("released", method, cell).set | other)


# --- AdamW in half precision


def torch_half(start: Tensor, gradients: list[Tensor], rates: list[float]) -> Tensor:
    """torch's own AdamW on a half-precision parameter."""
    weights = torch.nn.Parameter(start.half())
    optimiser = torch.optim.AdamW([weights], eps=1e-4, foreach=False)
    for gradient, rate in zip(gradients, rates, strict=True):
        optimiser.param_groups[0]["lr"] = rate
        weights.grad = gradient.half()
        optimiser.step()
    return weights.detach().float()


def ours_half(start: Tensor, gradients: list[Tensor], rates: list[float]) -> Tensor:
    weights = start[None].clone()
    update = optimisers.adamw_half(weights, 0.01, 1e-4, 0.9, 0.999)
    for gradient, rate in zip(gradients, rates, strict=True):
        update(weights, gradient[None], torch.tensor([rate], dtype=torch.float64))
    return weights[0]


@pytest.mark.parametrize("size", [1e-3, 1e-1, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_half_precision_adamw_is_torchs_but_for_a_last_digit(size: float, dtype: Any) -> None:
    rng = torch.Generator().manual_seed(3)
    start = 0.05 * torch.randn(30, 64, generator=rng)
    gradients = [
        size * torch.randn(30, 64, generator=rng) * 10 ** (-2 * torch.rand(30, 64, generator=rng))
        for _ in range(60)
    ]
    rates = optimisers.cosine(1e-3, torch.arange(60), 60).tolist()
    expected = torch_half(start, gradients, rates)
    got = ours_half(start.to(dtype), gradients, rates)
    assert (got != expected).float().mean() < 1e-3
    torch.testing.assert_close(got.float(), expected, rtol=2**-10, atol=2**-14)


def test_small_gradients_leave_the_second_moment_0_and_steps_of_ten_times_momentum() -> None:
    rng = torch.Generator().manual_seed(4)
    gradients = [4e-3 * (2 * torch.rand(200, generator=rng) - 1) for _ in range(20)]
    moved = ours_half(torch.zeros(200), gradients, [1e-3] * 20)
    mean, expected = torch.zeros(200), torch.zeros(200)
    for step, gradient in enumerate(gradients, start=1):
        mean = 0.9 * mean + 0.1 * gradient
        expected -= 10 * mean / (1 - 0.9**step)
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(moved, expected, rtol=0.01, atol=1e-3)
    single = torch.nn.Parameter(torch.zeros(200))
    optimiser = torch.optim.AdamW([single], lr=1e-3, eps=1e-4)
    for gradient in gradients:
        single.grad = gradient
        optimiser.step()
    assert (single.detach() - moved).abs().max() > 0.05  # single precision is another method


def test_a_decay_of_a_hundred_thousandth_is_lost_in_half_precision() -> None:
    start = torch.full((5,), 0.3).half().float()
    still = ours_half(start, [torch.zeros(5)] * 50, [1e-3] * 50)
    assert torch.equal(still, start)


# --- Tip-Adapter


def cluster_episode(shots: int) -> tuple[Episode, Labelled]:
    """Features with a validation set of 20 per class, and a labelled test set."""
    given = toy.feature_episode(shots, 6, 32, spread=0.2, text_error=0.3)
    others = [toy.feature_episode(20, 6, 32, spread=0.2, seed=seed) for seed in (7, 8)]
    val, test = (other.support for other in others)
    return replace(given, val=val), test


def naive_logits(given: Episode, key_SD: Tensor, image_ND: Tensor, alpha: float, beta: float):
    values_SK = F.one_hot(given.support.labels_N).float()
    affinity_NS = image_ND @ key_SD.T
    cached_NK = torch.exp(-beta + beta * affinity_NS) @ values_SK
    return 100 * image_ND @ given.text_features().T + alpha * cached_NK


def right(logits_NK: Tensor, labelled: Labelled) -> int:
    return int((logits_NK.argmax(1) == labelled.labels_N).sum())


def naive_search(
    given: Episode, key_SD: Tensor, labelled: Labelled, highest: tuple[float, float]
) -> tuple[float, float]:
    """The first best pair: betas outside, alphas inside, as the release walks them."""
    best, pair = 0, (0.0, 0.0)
    for i in range(200):
        beta = 0.1 + i * (highest[0] - 0.1) / 200
        for j in range(20):
            alpha = 0.1 + j * (highest[1] - 0.1) / 20
            image_ND = labelled.images.features()
            count = right(naive_logits(given, key_SD, image_ND, alpha, beta), labelled)
            if count > best:
                best, pair = count, (alpha, beta)
    return pair


def test_tip_adapter_as_released_walks_the_released_grid() -> None:
    given, test = cluster_episode(3)
    assert given.val is not None
    predict = released("tip_adapter").fit(given)
    key_SD = given.support.images.features()
    alpha, beta = naive_search(given, key_SD, given.val, HIGHEST)
    assert (given.notes["alpha"], given.notes["beta"]) == pytest.approx((alpha, beta))
    torch.testing.assert_close(
        predict(test.images),
        naive_logits(given, key_SD, test.images.features(), alpha, beta),
        rtol=1e-4,
        atol=1e-3,
    )


def naive_tuned(given: Episode, test: Labelled, epochs: int, batch: int) -> tuple[Tensor, int]:
    """Keys of the epoch that does best on the test set, and the number of right images there.

    Half-precision keys under torch's AdamW, one short batch at the end of each epoch.
    """
    image_ND, labels_N = given.support.images.features(), given.support.labels_N
    keys = torch.nn.Parameter(image_ND.half())
    optimiser = torch.optim.AdamW([keys], lr=1e-3, eps=1e-4, foreach=False)
    steps = epochs * -(-len(labels_N) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng, best, kept = given.rng(), 0, keys.detach().float()
    for _ in range(epochs):
        for index_B in torch.randperm(len(labels_N), generator=rng).split(batch):
            moving = keys.detach().float().requires_grad_()
            logits_BK = naive_logits(given, moving, image_ND[index_B], *START)
            F.cross_entropy(logits_BK, labels_N[index_B]).backward()
            assert moving.grad is not None
            keys.grad = moving.grad.half()
            optimiser.step()
            schedule.step()
        now = keys.detach().float()
        count = right(naive_logits(given, now, test.images.features(), *START), test)
        if count > best:
            best, kept = count, now
    return kept, best


def test_tip_adapter_f_as_released_selects_on_the_test_set_and_in_half_precision() -> None:
    given, test = cluster_episode(3)
    assert given.val is not None
    given = replace(given, selection=test)
    predict = released("tip_adapter_f", tune_batch_size=7).fit(given)
    key_SD, best = naive_tuned(given, test, 20, 7)
    alpha, beta = naive_search(given, key_SD, given.val, HIGHEST)
    searched = right(naive_logits(given, key_SD, test.images.features(), alpha, beta), test)
    assert right(predict(test.images), test) == max(best, searched)
    assert given.notes["steps"] == 60  # 18 images: two batches of 7 and one of 4
    pair = (alpha, beta) if searched > best else START
    expected = naive_logits(given, key_SD, test.images.features(), *pair)
    torch.testing.assert_close(predict(test.images), expected, rtol=1e-3, atol=0.05)
    assert (key_SD - given.support.images.features()).abs().max() > 0.02  # training moved them


def test_the_keys_of_the_best_epoch_are_those_of_a_run_that_stops_there() -> None:
    given, test = cluster_episode(3)
    model = CacheModel(alpha=START[0])
    tuning = KeyTuning(tune_epochs=12, tune_min_steps=0, tune_optimiser="adamw_half")
    start = _cache.build(given, given.text_features(), model)
    selecting = replace(given, selection=test)
    (best,) = _cache.tune([start], [selecting], model, tuning)
    counts = []
    for epoch in range(1, 13):
        keys = KeysAfter(given, model, tuning, epoch)
        counts.append(int(_cache.correct(keys.cache, test, [START[0]], [START[1]])))
        if epoch == selecting.notes["best_epoch"]:
            assert torch.equal(keys.cache.key_KJD, best.key_KJD)
    assert counts.index(max(counts)) + 1 == selecting.notes["best_epoch"]


class KeysAfter:
    """The keys after so many epochs of a longer schedule, found by a selection set that grows."""

    def __init__(self, given: Episode, model: CacheModel, tuning: KeyTuning, epoch: int) -> None:
        start = _cache.build(given, given.text_features(), model)
        rows_TB, _ = batches.draw(
            given.support, tuning.tune_epochs, tuning.tune_batch_size, 10, given.rng()
        )
        view_VND = given.support.images.views(10)
        bank = batches.Bank.of(view_VND, given.support.labels_N, torch.device("cpu"))
        rate_T = optimisers.cosine(tuning.tune_lr, torch.arange(len(rows_TB)), len(rows_TB))
        weights = start.key_KJD[None].clone()
        update = optimisers.adamw_half(weights, 0.01, 1e-4, 0.9, 0.999)
        for step in range(epoch):  # an epoch is one step here
            image_BD, label_B = bank.batch(rows_TB[step])
            moving = weights[0].clone().requires_grad_()
            moved = replace(start, key_KJD=moving)
            F.cross_entropy(
                _cache.logits(moved, image_BD, model.alpha, model.beta), label_B
            ).backward()
            assert moving.grad is not None
            update(weights, moving.grad[None], rate_T[step, None])
        self.cache = replace(start, key_KJD=weights[0])


# --- short batches, and draws out of all views


def test_a_kept_short_batch_shows_every_image_once_and_counts_only_what_is_there() -> None:
    given = toy.feature_episode(4, 3)
    rows_TB, epoch_T = batches.draw(given.support, 3, 5, 2, given.rng(), keep_short=True)
    assert rows_TB.shape == (9, 5)
    for epoch in range(3):
        seen = rows_TB[epoch_T == epoch]
        there = seen[seen >= 0]
        assert sorted(there.tolist()) == [epoch % 2 * 12 + n for n in range(12)]
    bank = batches.Bank.of(
        given.support.images.views(2), given.support.labels_N, torch.device("cpu")
    )
    image_BD, labels_B = bank.batch(rows_TB[2])
    logits_BK = image_BD @ given.text_features().T
    loss = F.cross_entropy(logits_BK, labels_B, ignore_index=batches.ABSENT)
    torch.testing.assert_close(loss, F.cross_entropy(logits_BK[:2], labels_B[:2]))


@pytest.mark.parametrize(("images", "steps", "size"), [(12, 1, 60), (90, 3, 30)])
def test_clap_draws_batches_out_of_all_views(images: int, steps: int, size: int) -> None:
    training = ConceptTraining(batch_size=30 if images == 90 else 256)
    rng = torch.Generator().manual_seed(1)
    rows_TB, epoch_T = _concepts._of_all_views(images, 5, 4, training, rng)
    assert rows_TB.shape == (4 * steps, size)
    assert rows_TB.max() >= images * 3  # views beyond the first
    for epoch in range(4):
        seen = rows_TB[epoch_T == epoch].flatten()
        assert len(seen.unique()) == len(seen)


# --- TaskRes and CLAP


def own_lengths(given: Episode) -> Tensor:
    """t_k as the encoder leaves it."""
    return given.text_lengths()[:, None] * given.text_features()


def test_taskres_as_released_is_torchs_adam_on_residuals_of_unnormalised_text() -> None:
    given = toy.episode(4, 3)
    predict = released("taskres", FLOWERS, epochs="12", views=12).fit(given)
    text_KD, labels_N = own_lengths(given), given.support.labels_N
    bank_VND = given.support.images.views(12)
    residual_KD = torch.nn.Parameter(torch.zeros_like(text_KD))
    optimiser = torch.optim.Adam([residual_KD], lr=2e-3, weight_decay=5e-4)
    rng = given.rng()
    for epoch in range(12):
        (index_B,) = given.support.epoch(256, rng)
        weights_KD = unit(text_KD + 1.0 * residual_KD)  # alpha of Flowers
        logits_BK = given.backbone.logit_scale * bank_VND[epoch, index_B] @ weights_KD.T
        rate = 1e-5 if epoch == 0 else 1e-3 * (1 + math.cos(math.pi * (epoch - 1) / 12))
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        F.cross_entropy(logits_BK, labels_N[index_B]).backward()
        optimiser.step()
    image_QD = toy.held_out().images.features()
    weights_KD = unit(text_KD + residual_KD.detach())
    expected = given.backbone.logit_scale * image_QD @ weights_KD.T
    torch.testing.assert_close(predict(toy.held_out().images), expected, rtol=1e-3, atol=1e-3)
    assert residual_KD.abs().max() > 1e-3


def test_clap_as_released_draws_from_all_views_and_keeps_the_lengths() -> None:
    given = replace(toy.episode(4, 3), val=None)
    predict = released("clap", FLOWERS, epochs="10", batch_size=25).fit(given)
    text_KD, labels_N = own_lengths(given), given.support.labels_N
    image_MD = given.support.images.views(20).flatten(0, 1)
    labels_M = labels_N.repeat(20)
    scale = given.backbone.logit_scale
    right_M = (scale * image_MD @ given.text_features().T).softmax(1)[range(240), labels_M]
    lambda_K = torch.stack([right_M[labels_M == k].mean() for k in range(3)])
    weights_KD = torch.nn.Parameter(text_KD.clone())
    optimiser = torch.optim.SGD([weights_KD], lr=0.1, momentum=0.9)
    rng = given.rng()
    for epoch in range(10):
        index_B = torch.randperm(240, generator=rng)[:25]  # 12 images: one batch in an epoch
        logits_BK = scale * image_MD[index_B] @ unit(weights_KD).T
        distance_K = (weights_KD - text_KD).square().sum(1)
        loss = F.cross_entropy(logits_BK, labels_M[index_B]) + (lambda_K * distance_K).mean()
        rate = 1e-5 if epoch == 0 else 0.05 * (1 + math.cos(math.pi * (epoch - 1) / 10))
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    image_QD = toy.held_out().images.features()
    expected = scale * image_QD @ unit(weights_KD.detach()).T
    torch.testing.assert_close(predict(toy.held_out().images), expected, rtol=1e-3, atol=1e-2)
    assert (weights_KD - text_KD).abs().max() > 1e-2


# --- lengths of text features


def test_text_lengths_are_each_classs_own() -> None:
    given = toy.episode(4, 4)
    length_K = given.text_lengths()
    raw = [
        given.backbone.model.encode_text(
            given.backbone.text.tokenize([given.templates[0].format(n)])
        )
        for n in given.class_names
    ]
    torch.testing.assert_close(length_K, torch.cat(raw).norm(dim=1), rtol=1e-4, atol=1e-4)
    assert length_K.std() > 0.001
    assert torch.equal(toy.feature_episode(4, 3).text_lengths(), torch.ones(3))
