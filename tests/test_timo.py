"""TIMO against its description in numpy, in float64, and where it becomes another method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from adapters import _checks, _samples, timo
from adapters._settings import StoredCrops
from benchmark.api import Episode, unit
from tests import features64
from tests.test_closed_forms import Array, naive_gda, predicted, query, samples, zero_shot

CROPS = StoredCrops(views=10, min_scale=0.5)


def worded(
    counts: tuple[int, ...] = (4, 1, 6), sentences: tuple[int, ...] = (4, 3, 5), **other: object
) -> Episode:
    """An episode whose classes have several sentences, each near the class's text feature."""
    given = features64.episode(counts, **other)  # type: ignore[arg-type]
    rng = torch.Generator().manual_seed(11)
    text_KTD = tuple(
        unit(text_D + 0.3 * torch.randn(count, 16, generator=rng, dtype=torch.float64))
        for text_D, count in zip(given.text_features(), sentences, strict=True)
    )
    means_KD = torch.stack([unit(text_TD.mean(0)) for text_TD in text_KTD])
    return replace(given, text_KTD=text_KTD, text_KD=means_KD)


def naive_timo(given: Episode, gamma: float, alpha: float, joined: int) -> Array:
    """Class by class and sentence by sentence; three sentences is what the shortest class has."""
    x, y = samples(given)
    rows, extra, labels = [], [], []
    for k, text_TD in enumerate(given.sentence_features()):
        sentences = text_TD.numpy()[:3]
        image = x[y == k].mean(0)
        near = sentences @ (image / np.linalg.norm(image))
        weights = np.exp(gamma * near / np.linalg.norm(near))
        row = (weights[:, None] / weights.sum() * sentences).sum(0)
        rows.append(row / np.linalg.norm(row))
        best_first = np.argsort(-near, kind="stable")
        for at in range(joined):
            chosen = best_first[at % 3]
            extra.append(near[chosen] * sentences[chosen])
            labels.append(k)
    x, y = np.concatenate([x, extra]), np.concatenate([y, labels])
    means = [x[y == k].mean(0) for k in range(len(rows))]
    centred = np.stack([row - means[label] for row, label in zip(x, y, strict=True)])
    scatter = centred.T @ centred
    shrunk = scatter + np.trace(scatter) / (len(x) - 1) * np.eye(len(scatter))
    precision = len(scatter) * np.linalg.pinv(shrunk)
    scores = [query() @ precision @ mean - mean @ precision @ mean / 2 for mean in means]
    return features64.SCALE * query() @ np.stack(rows).T + alpha * np.stack(scores, 1)


def test_a_point_of_a_range_joins_as_many_sentences_as_its_share_says() -> None:
    """The third of 0.2:2.2:10 is 0.6000000000000001, and 3 of 5 sentences."""
    given = features64.episode(val=False)
    text_KD = given.text_features()
    sentence_KTD, near_KT = text_KD[:, None].repeat(1, 5, 1), torch.ones(len(text_KD), 5).double()
    bank = _samples.centres(given)
    matched = timo.Matched(bank, text_KD, sentence_KTD, near_KT)
    third = _checks.numbers("joined_grid", "0.2:2.2:10", 0)[2]
    assert third > 0.6
    assert all(map(torch.equal, matched.samples(third), matched.samples(0.6)))


@pytest.mark.parametrize(("share", "joined"), [("1", 3), ("0.4", 2), ("1.9", 6)])
def test_timo_is_its_naive_twin(share: str, joined: int) -> None:
    given = worded()
    ours = predicted("timo", given, gamma_grid="20", alpha_grid="0.5", joined_grid=share)
    np.testing.assert_allclose(ours, naive_timo(given, 20, 0.5, joined), rtol=1e-9, atol=1e-9)


def test_settings_are_those_with_most_validation_images_right() -> None:
    given = worded((2, 2, 2))
    grid = {"alpha_grid": "0,1,100", "gamma_grid": "0,50", "joined_grid": "0,1,2"}
    predicted("timo", given, **grid)
    assert given.val is not None
    image_ND, labels_N = given.val.images.features(), given.val.labels_N
    matched = timo.match(given, CROPS)
    right = {}
    for joined in (0.0, 1.0, 2.0):
        weight_KD, bias_K = matched.samples(joined)
        for gamma in (0.0, 50.0):
            for alpha in (0.0, 1.0, 100.0):
                text_KD = features64.SCALE * matched.texts(gamma)
                logits_NK = image_ND @ (text_KD + alpha * weight_KD).T + alpha * bias_K
                right[joined, gamma, alpha] = int((logits_NK.argmax(1) == labels_N).sum())
    best = max(right, key=lambda setting: right[setting])  # the first of equals
    assert tuple(given.notes[name] for name in ("joined", "gamma", "alpha")) == best
    assert given.notes["val_correct"] == right[best]
    assert len(set(right.values())) > 1


def test_gamma_0_is_the_plain_mean_of_as_many_sentences() -> None:
    given = worded(sentences=(3, 3, 3))
    matched = timo.match(given, CROPS)
    torch.testing.assert_close(matched.texts(0.0), given.text_features())
    assert not torch.allclose(matched.texts(50.0), given.text_features())
    assert (matched.near_KT.diff(dim=1) <= 0).all()


def test_one_sentence_is_the_text_feature_and_none_among_the_samples_is_gda() -> None:
    given = features64.episode((4, 1, 6))
    ours = predicted("timo", given, alpha_grid="0.5", joined_grid="0")
    np.testing.assert_allclose(ours, naive_gda(given, 0.5), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(predicted("timo", given, alpha_grid="0"), zero_shot(given))


def test_a_class_without_images_is_matched_with_its_text() -> None:
    given = worded((4, 0, 2))
    assert np.isfinite(predicted("timo", given)).all()
    near_T = timo.match(given, CROPS).near_KT[1]
    expected_T = given.sentence_features()[1][:3] @ given.text_features()[1]
    torch.testing.assert_close(near_T, expected_T.sort(descending=True).values)
