"""Methods without a training step, against independent references: numpy and loops in float64,
scikit-learn's solvers, limits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_ridge import KernelRidge
from torch import Tensor

from adapters import _ape, _cache, _samples, proker
from adapters._settings import CacheModel, Refinement, StoredCrops
from benchmark import methods
from benchmark.api import Crop, Episode, Labelled, unit
from benchmark.conformance import toy
from benchmark.training.batches import Bank
from benchmark.training.choose import correct
from tests import features64

Array = NDArray[np.float64]
CROPS = StoredCrops(views=10, min_scale=0.5)
UNEVEN = (4, 1, 6)


def predicted(name: str, given: Episode, **params: object) -> Array:
    predict = methods.load(name, params).fit(given)
    return predict(features64.queries(len(given.class_names))).numpy()


def query() -> Array:
    return features64.queries().features().numpy()


def zero_shot(given: Episode) -> Array:
    return features64.SCALE * query() @ given.text_features().numpy().T


def samples(given: Episode) -> tuple[Array, NDArray[np.int64]]:
    """All ten views of every support image, and their labels."""
    view_VND = given.support.images.views(10, 0, Crop(0.5))
    return view_VND.flatten(0, 1).numpy(), np.tile(given.support.labels_N.numpy(), 10)


def shuffled(given: Episode) -> Episode:
    """The same support images in another order; only centre crops are kept."""
    order_N = torch.randperm(len(given.support), generator=torch.Generator().manual_seed(5))
    images = features64.image_set(given.support.images.features()[order_N])
    return replace(given, support=Labelled(images, given.support.labels_N[order_N]))


# --- gda


def naive_gda(given: Episode, alpha: float) -> Array:
    x, y = samples(given)
    means = [x[y == k].mean(0) for k in range(len(given.class_names))]
    scatter = np.zeros((x.shape[1], x.shape[1]))
    for row, label in zip(x, y, strict=True):
        centred = row - means[label]
        scatter += np.outer(centred, centred)
    shrunk = scatter + np.trace(scatter) / (len(x) - 1) * np.eye(len(scatter))
    precision = len(scatter) * np.linalg.pinv(shrunk)
    scores = [query() @ precision @ mean - mean @ precision @ mean / 2 for mean in means]
    return zero_shot(given) + alpha * np.stack(scores, 1)


@pytest.mark.parametrize("counts", [(4, 4, 4), UNEVEN])
def test_gda_is_its_naive_twin(counts: tuple[int, ...]) -> None:
    given = features64.episode(counts)
    ours = predicted("gda", given, alpha_grid="0.5")
    np.testing.assert_allclose(ours, naive_gda(given, 0.5), rtol=1e-9, atol=1e-9)


def test_gda_of_two_classes_is_fishers_discriminant_with_shrinkage() -> None:
    """scikit-learn shrinks by a share of the mean variance: n tr / (n - 1) against tr / d."""
    given = features64.episode((6, 6))
    x, y = samples(given)
    ratio = x.shape[1] / (len(x) - 1)
    fisher = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=ratio / (1 + ratio)).fit(x, y)
    weight_KD, bias_K = _samples.discriminant(_samples.views(given, CROPS), given.text_features())
    lead = (query() @ weight_KD.numpy().T + bias_K.numpy()) @ np.array([-1.0, 1.0])
    scale = (1 + ratio) * len(x) / x.shape[1]
    np.testing.assert_allclose(lead * scale, fisher.decision_function(query()), rtol=1e-8)


@pytest.mark.parametrize("alpha", [0.01, 100.0])
def test_gda_of_one_image_per_class_without_scatter_is_zero_shot(alpha: float) -> None:
    """Equal views in float32: the scatter is rounding, and its inverse would be noise."""
    given = toy.feature_episode(shots=1, val=False)
    bank = _samples.views(given, CROPS)
    weight_KD, bias_K = _samples.discriminant(bank, given.text_features())
    assert not weight_KD.any()
    assert not bias_K.any()
    images = toy.feature_episode(seed=2).support.images
    logits_QK = methods.load("gda", {"alpha_grid": str(alpha)}).fit(given)(images)
    expected_QK = given.backbone.logit_scale * images.features() @ given.text_features().T
    torch.testing.assert_close(logits_QK, expected_QK)


def test_gda_without_validation_trusts_one_image_per_class_with_nothing() -> None:
    one, four = features64.episode((1, 1, 1), val=False), features64.episode(val=False)
    np.testing.assert_allclose(predicted("gda", one), zero_shot(one))
    predicted("gda", four, trust=0.5)
    assert four.notes["alpha"] == 0.5 * 10 * (12 - 3) / 16


@pytest.mark.parametrize("name", ["gda", "proker", "ss_text", "ape", "tip_adapter_vote", "timo"])
def test_the_order_of_the_support_set_is_irrelevant(name: str) -> None:
    given = features64.episode((4, 4, 4))
    one_view = {} if name == "ss_text" else {"key_views": 1, "key_min_scale": 1.0}
    if name in {"gda", "proker", "timo"}:
        one_view = {"views": 1, "min_scale": 1.0}
    np.testing.assert_allclose(
        predicted(name, given, **one_view),
        predicted(name, shuffled(given), **one_view),
        rtol=1e-9,
        atol=1e-9,
    )


# --- proker


def naive_proker(given: Episode, beta: float, lam: float) -> Array:
    x, y = samples(given)
    text = given.text_features().numpy()
    residual = np.eye(len(text))[y] - x @ text.T
    gram = np.exp(-beta * (1 - x @ x.T))
    dual = np.linalg.solve(gram / lam + np.eye(len(x)), residual)
    return features64.SCALE * (query() @ text.T + np.exp(-beta * (1 - query() @ x.T)) @ dual)


@pytest.mark.parametrize("counts", [(4, 4, 4), UNEVEN])
@pytest.mark.parametrize(("beta", "lam"), [(2.0, 0.1), (8.0, 1.0)])
def test_proker_is_its_naive_twin(counts: tuple[int, ...], beta: float, lam: float) -> None:
    given = features64.episode(counts, val=False)
    ours = predicted("proker", given, beta=beta, lam=lam)
    np.testing.assert_allclose(ours, naive_proker(given, beta, lam), rtol=1e-8, atol=1e-8)


def test_proker_is_lambda_times_kernel_ridge_regression() -> None:
    given, beta, lam = features64.episode(val=False), 2.0, 0.1
    x, y = samples(given)
    text = given.text_features().numpy()
    ridge = KernelRidge(alpha=lam, kernel="precomputed")
    ridge.fit(np.exp(-beta * (1 - x @ x.T)), np.eye(len(text))[y] - x @ text.T)
    learned = ridge.predict(np.exp(-beta * (1 - query() @ x.T)))
    ours = predicted("proker", given, beta=beta, lam=lam)
    expected = zero_shot(given) + features64.SCALE * lam * learned
    np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-8)


def test_proker_tends_to_a_cache_of_residuals() -> None:
    given, beta = features64.episode(val=False), 2.0
    x, y = samples(given)
    text = given.text_features().numpy()
    cache = np.exp(-beta * (1 - query() @ x.T)) @ (np.eye(len(text))[y] - x @ text.T)
    ours = predicted("proker", given, beta=beta, lam=1e9)
    np.testing.assert_allclose(
        ours, zero_shot(given) + features64.SCALE * cache, rtol=1e-6, atol=1e-4
    )


def test_proker_at_its_own_keys_far_apart_corrects_by_a_share_of_the_residual() -> None:
    """K = I: the score at key i is its zero-shot score and lam / (1 + lam) of what is missing."""
    key_ND, lam = torch.eye(4, 8, dtype=torch.float64), 0.5
    residual_NK = torch.arange(12.0, dtype=torch.float64).view(4, 3)
    dual_NK = proker.duals(key_ND, residual_NK, beta=1e3, lam=lam)
    score_NK = proker.kernel(key_ND, key_ND, 1e3) @ dual_NK
    torch.testing.assert_close(score_NK, lam / (1 + lam) * residual_NK)


def test_one_sample_per_image_stands_for_equal_views() -> None:
    given = features64.episode(val=False)
    image_ND, text_KD = given.support.images.features(), given.text_features()
    one = Bank.of(image_ND[None], given.support.labels_N, image_ND.device)
    ten = Bank.of(image_ND.expand(10, -1, -1), given.support.labels_N, image_ND.device)

    def score(bank: Bank, times: int) -> Tensor:
        residual_MK = (
            _samples.one_hot(bank.labels_M, len(text_KD), text_KD.dtype) - bank.image_MD @ text_KD.T
        )
        dual_MK = proker.duals(bank.image_MD, residual_MK, 2.0, 0.1, times)
        return proker.kernel(features64.queries().features(), bank.image_MD, 2.0) @ dual_MK

    torch.testing.assert_close(score(one, 10), score(ten, 1))


def test_proker_in_float32_is_proker_in_float64() -> None:
    """600 samples: rounding in the kernel stays far below lambda."""
    rng = torch.Generator().manual_seed(0)
    image_ND = unit(torch.randn(600, 64, generator=rng, dtype=torch.float64) + 1)
    residual_NK = torch.randn(600, 5, generator=rng, dtype=torch.float64)
    exact_NK = proker.kernel(image_ND, image_ND, 2.0) @ proker.duals(
        image_ND, residual_NK, 2.0, 0.01
    )
    single_ND, single_NK = image_ND.float(), residual_NK.float()
    ours_NK = proker.kernel(single_ND, single_ND, 2.0) @ proker.duals(
        single_ND, single_NK, 2.0, 0.01
    )
    assert float((ours_NK - exact_NK).norm() / exact_NK.norm()) < 1e-3


# --- ss_text


def naive_ss_text(given: Episode, repel: bool) -> Array:
    image, labels = given.support.images.features().numpy(), given.support.labels_N.numpy()
    rows, n = [], len(labels)
    for k, text in enumerate(given.text_features().numpy()):
        own = image[labels == k]
        lam = max(1 / len(own), 1e-3) if repel and len(own) else max(1 / n, 1e-3)
        rows.append(text + features64.SCALE / (n * lam) * own.sum(0))
    w = np.stack(rows)
    if repel:
        away = 2 * w - w.mean(0)
        w = w - away / np.linalg.norm(away, axis=1, keepdims=True)
    return features64.SCALE * query() @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T


@pytest.mark.parametrize("repel", [False, True])
def test_ss_text_is_its_naive_twin(repel: bool) -> None:
    given = features64.episode(UNEVEN)
    np.testing.assert_allclose(
        predicted("ss_text", given, repel=repel), naive_ss_text(given, repel), rtol=1e-9, atol=1e-9
    )


def test_ss_text_keeps_the_text_of_a_class_without_images() -> None:
    given = features64.episode((4, 0, 4))
    np.testing.assert_allclose(predicted("ss_text", given)[:, 1], zero_shot(given)[:, 1])


# --- ape


def test_the_likeness_of_a_channel_is_the_mean_over_pairs_of_different_classes() -> None:
    given = features64.episode(UNEVEN)
    cache = _cache.build(given, given.text_features(), CacheModel())
    rows = [(k, text_D) for k, text_D in enumerate(given.text_features())]
    keys_SD = unit(given.support.images.views(10, 0, Crop(0.5)).mean(0))
    rows += list(zip(given.support.labels_N.tolist(), keys_SD, strict=True))
    products = [x * y for k, x in rows for j, y in rows if k != j]
    torch.testing.assert_close(_ape.likeness(cache), torch.stack(products).mean(0))


def test_the_bits_of_a_key_are_its_divergence_from_zero_shot() -> None:
    given = features64.episode(UNEVEN)
    refined = _ape.build(given, CacheModel(), Refinement(channels=0.5))
    text_KQ = unit(given.text_features()[:, refined.channel_Q])
    assert len(refined.channel_Q) == 8
    for k, count in enumerate(UNEVEN):
        for j in range(max(UNEVEN)):
            probability_K = (text_KQ @ refined.cache.key_KJD[k, j]).softmax(0)
            expected = -probability_K[k].log2() if j < count else 0.0
            assert float(refined.bits_KJ[k, j]) == pytest.approx(float(expected), abs=1e-12)


def test_ape_with_all_channels_and_no_weights_is_tip_adapter() -> None:
    given = features64.episode(UNEVEN)
    whole = {"channels": 1.0, "gamma_grid": "0"}
    np.testing.assert_allclose(
        predicted("ape", given, **whole), predicted("tip_adapter", given), rtol=1e-9, atol=1e-9
    )


def test_apes_choice_counts_what_its_predictors_get_right() -> None:
    given = features64.episode(UNEVEN)
    refined = _ape.build(given, CacheModel(), Refinement())
    grid = ((0.0, 1.0, 30.0), (0.5, 4.0), (0.0, 0.3))
    assert given.val is not None
    counts_ABG = _ape.correct(refined, given.val, *grid)
    for a, alpha in enumerate(grid[0]):
        for b, beta in enumerate(grid[1]):
            for g, gamma in enumerate(grid[2]):
                state = _ape.scored(refined, alpha, beta, gamma)
                predict = _ape.predictor(state, given.backbone.logit_scale)
                assert int(counts_ABG[a, b, g]) == correct(predict, given.val)


# --- vote


def test_the_vote_is_the_mean_probability_over_the_grid() -> None:
    given = features64.episode()
    grid = {"alpha_grid": "0,3", "beta_grid": "1,8"}
    voters = [
        predicted("tip_adapter", given, alpha_grid=str(alpha), beta_grid=str(beta))
        for alpha in (0, 3)
        for beta in (1, 8)
    ]
    mean = np.mean([np.exp(each) / np.exp(each).sum(1, keepdims=True) for each in voters], axis=0)
    np.testing.assert_allclose(np.exp(predicted("tip_adapter_vote", given, **grid)), mean)
    assert given.notes["voters"] == 4


# --- all of them


NAMES = ("gda", "proker", "ss_text", "ape", "tip_adapter_vote")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("val", [True, False])
def test_a_class_without_images_leaves_finite_logits(name: str, val: bool) -> None:
    logits: Any = predicted(name, features64.episode((4, 0, 2), val=val))
    assert np.isfinite(logits).all()
    assert logits.dtype == np.float64
