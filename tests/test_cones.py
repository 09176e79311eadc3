"""Concept search: certified optima, batched runs, regularisation, counts.

Its relatives are held against plain loops with torch's own optimisers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _concepts, cones_tokens
from benchmark import methods
from benchmark.api import Episode, ImageSet, unit
from benchmark.conformance import toy


def adapter(name: str, **params: object) -> Any:
    """The method with these hyper-parameters, by their flat names."""
    return methods.load(name, params)


def clip_like(
    seed: int = 1, *, classes: int = 196, shots: int = 4, dim: int = 512, val: bool = True
) -> tuple[Episode, Tensor, Tensor]:
    """An episode with the looks of real CLIP features, and a test set.

    Two narrow cones, one for images and one for texts, their gap common to all classes (cosines
    near 0.25); classes differ by little, images of a class scatter more than classes do, and text
    features know most of the truth.
    """
    rng = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng) / dim**0.5

    common_image_D, common_text_D, class_KD = (
        unit(noise(1, dim)),
        unit(noise(1, dim)),
        noise(classes, dim),
    )
    text_KD = common_text_D + 0.45 * common_image_D + 0.35 * (class_KD + 2.0 * noise(classes, dim))

    def images(per_class: int) -> tuple[Tensor, Tensor]:
        labels_N = torch.arange(classes).repeat_interleave(per_class)
        return common_image_D + 0.4 * class_KD[labels_N] + 1.2 * noise(len(labels_N), dim), labels_N

    (support_ND, support_labels_N), (val_ND, val_labels_N), (test_ND, test_labels_N) = (
        images(shots),
        images(2),
        images(5),
    )
    episode = Episode.from_features(
        class_names=[f"car {k}" for k in range(classes)],
        text_KD=text_KD,
        support_ND=support_ND,
        support_labels_N=support_labels_N,
        val_ND=val_ND if val else None,
        val_labels_N=val_labels_N if val else None,
        seed=seed,
    )
    return episode, test_ND, test_labels_N


# --- the search finds what there is to find


def test_on_separable_data_the_search_reaches_the_optimum() -> None:
    """Over the unit balls |e_k| <= 1 the plain search is convex, and on separable data its optimum
    has |e_k| = 1, where ours looks.

    For a convex loss over these balls, loss(e) - optimum <= sum over k of (g_k e_k + |g_k|), g the
    gradient (the Frank-Wolfe gap): a certificate that needs no second optimiser.
    """
    given = toy.feature_episode(shots=8, classes=5, dim=16, spread=0.2)
    searched = adapter("cones", regularisation_grid="0", epochs="3000", lr=0.05, views=1)
    (found_KD,) = _concepts_of(searched, given)
    concept_KD = unit(found_KD.double()).requires_grad_()
    image_ND, labels_N = given.support.images.features().double(), given.support.labels_N
    loss = F.cross_entropy(10 * image_ND @ concept_KD.T, labels_N)
    (slope_KD,) = torch.autograd.grad(loss, concept_KD)
    gap = float(((slope_KD * concept_KD.detach()).sum(1) + slope_KD.norm(dim=1)).sum())
    start = float(F.cross_entropy(10 * image_ND @ given.text_features().double().T, labels_N))
    assert -1e-9 <= gap < 1e-3 * (start - float(loss.detach()))


def _concepts_of(method: Any, given: Episode) -> list[Tensor]:
    """The concepts themselves, at a scale of 10 so that the loss does not vanish."""
    from dataclasses import replace

    gentle = replace(given, backbone=replace(given.backbone, logit_scale=10.0))  # type: ignore[type-var]
    form = _concepts.per_class(method.init)
    recipe = _concepts.ConceptRecipe(method.training, method.crops)
    return _concepts.search([gentle], form, recipe, method.adam, method.regularisation)


@pytest.mark.parametrize(
    "method",
    [
        adapter("cones", epochs="40"),
        adapter("cones_shared", epochs="40"),
        adapter("cones_tip_adapter", epochs="40"),
        adapter("taskres"),
        adapter("clap", epochs="100"),
    ],
    ids=lambda method: method.title,
)
def test_196_classes_of_clip_like_features_are_improved_on(method: Any) -> None:
    given, test_ND, labels_N = clip_like()
    images = ImageSet.from_features(test_ND)
    zero = toy.accuracy(images.features() @ given.text_features().T, labels_N)
    learned = toy.accuracy(method.fit(given)(images), labels_N)
    assert 0.4 < zero < 0.8
    assert learned > zero + 0.02


def test_from_noise_it_learns_from_the_images_alone() -> None:
    given, exam = toy.feature_episode(shots=8), toy.feature_episode(shots=8, seed=2).support
    noisy = adapter("cones", init="random", regularisation_grid="0")
    before = toy.accuracy(
        adapter("cones", init="random", epochs="0").fit(given)(exam.images), exam.labels_N
    )
    assert toy.accuracy(noisy.fit(given)(exam.images), exam.labels_N) > max(0.9, before)


def test_strong_regularisation_keeps_the_words() -> None:
    given = toy.feature_episode(shots=4, val=False)
    images = given.support.images
    zero_QK = given.backbone.logit_scale * images.features() @ given.text_features().T
    moved = [
        float((adapter("cones", regularisation=weight).fit(given)(images) - zero_QK).abs().max())
        for weight in (0.0, 100.0, 1e6)
    ]
    assert moved[0] > moved[1] > moved[2]
    assert moved[2] < 0.05 * moved[0]


def test_the_regularisation_is_chosen_on_the_validation_set_and_noted() -> None:
    given = toy.feature_episode()
    adapter("cones", regularisation_grid="0,3").fit(given)
    assert given.notes["selection"] == "val"
    assert given.notes["regularisation"] in (0.0, 3.0)
    alone = toy.feature_episode(val=False)
    adapter("cones", regularisation_grid="0,3", regularisation=2.0).fit(alone)
    assert (alone.notes["selection"], alone.notes["regularisation"]) == ("fixed", 2.0)


def test_a_tie_goes_to_the_stronger_regularisation() -> None:
    given = toy.feature_episode()
    form = _concepts.per_class("text")
    same_AKD = given.text_features().expand(3, -1, -1)
    assert _concepts.choose(given, same_AKD, form, (0.0, 1.0, 2.0)) == 2


@pytest.mark.parametrize(
    ("method", "count"),
    [
        (adapter("cones"), 3 * 16),
        (adapter("cones_tokens", concepts=2), 2 * 3 * 16),
        (adapter("cones_shared", rank=0), 16),
        (adapter("cones_shared", rank=2), 16 + 2 * (3 + 16)),
        (adapter("taskres"), 3 * 16),
        (adapter("clap"), 3 * 16),
        # norms, attention, network, concepts
        (
            adapter("cones_finetune", tune_epochs="1"),
            4 * 32 + 4 * 32 * 32 + 4 * 32 + 8 * 32 * 32 + 5 * 32 + 3 * 16,
        ),
    ],
    ids=lambda value: getattr(value, "title", ""),
)
def test_parameters_are_counted(method: Any, count: int) -> None:
    given = toy.episode(2)
    method.fit(given)
    assert given.notes["trainable_params"] == count


def test_further_concepts_start_at_class_names_as_the_cell_reads_them() -> None:
    given = toy.episode(1, names=("old_car", "cat", "dog"))
    for underscores, text in ((False, "a old car."), (True, "a old_car.")):
        form = cones_tokens.several(["a {}."], tau=10.0)
        start_MKD = form.start(replace(given, underscores=underscores), given.rng())
        expected_D = given.backbone.encode_texts([text])[0] * given.backbone.dim**0.5
        torch.testing.assert_close(start_MKD[1, 0], expected_D)


def test_a_sharp_soft_maximum_is_the_nearest_concept() -> None:
    form = cones_tokens.several(["{}"], tau=1e4)
    rng = torch.Generator().manual_seed(0)
    image_BD, concept_AMKD = (
        unit(torch.randn(5, 16, generator=rng)),
        torch.randn(1, 2, 3, 16, generator=rng),
    )
    nearest_BK = (image_BD @ unit(concept_AMKD[0]).flatten(0, 1).T).view(5, 2, 3).amax(1)
    torch.testing.assert_close(
        form.cosines(image_BD, concept_AMKD, image_BD)[:, 0], nearest_BK, rtol=0, atol=1e-4
    )


# --- the relatives, as plain loops


def coop_rates(peak: float, warm: float, epochs: int) -> list[float]:
    """One epoch at `warm`, then half a cosine counted from there."""
    import math

    return [warm] + [
        peak * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs)) for epoch in range(1, epochs)
    ]


def plain_loop(
    given: Episode,
    weight: Tensor,
    rates: list[float],
    optimiser: torch.optim.Optimizer,
    loss_of: object,
) -> Tensor:
    for rate in rates:
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss_of().backward()  # type: ignore[operator]
        optimiser.step()
    return weight.detach()


def test_taskres_is_its_plain_loop() -> None:
    given = toy.feature_episode(shots=4)
    image_ND, labels_N, length = given.support.images.features(), given.support.labels_N, 0.44 * 4
    x_KD = torch.zeros(3, 16, requires_grad=True)
    base_KD = length * given.text_features()

    def logits(image_ND: Tensor) -> Tensor:
        return 100 * image_ND @ F.normalize(base_KD + 0.5 * x_KD, dim=1).T

    adam = torch.optim.Adam([x_KD], lr=1.0, weight_decay=5e-4)
    plain_loop(
        given,
        x_KD,
        coop_rates(0.002, 1e-5, 30),
        adam,
        lambda: F.cross_entropy(logits(image_ND), labels_N),
    )
    ours_QK = adapter("taskres", epochs="30").fit(given)(given.support.images)
    torch.testing.assert_close(ours_QK, logits(image_ND).detach(), rtol=1e-4, atol=1e-3)


def test_clap_is_its_plain_loop() -> None:
    given = toy.feature_episode(shots=4)
    image_ND, labels_N, length = given.support.images.features(), given.support.labels_N, 0.44 * 4
    start_KD = length * given.text_features()
    w_KD = start_KD.clone().requires_grad_()
    zero_NK = (100 * image_ND @ given.text_features().T).softmax(1)
    lambda_K = torch.stack([zero_NK[labels_N == k, k].mean() for k in range(3)])

    def logits(image_ND: Tensor) -> Tensor:
        return 100 * image_ND @ F.normalize(w_KD, dim=1).T

    def loss() -> Tensor:
        return (
            F.cross_entropy(logits(image_ND), labels_N)
            + (lambda_K * (w_KD - start_KD).square().sum(1)).mean()
        )

    plain_loop(
        given, w_KD, coop_rates(0.1, 1e-5, 30), torch.optim.SGD([w_KD], lr=1.0, momentum=0.9), loss
    )
    ours_QK = adapter("clap", epochs="30").fit(given)(given.support.images)
    torch.testing.assert_close(ours_QK, logits(image_ND).detach(), rtol=1e-3, atol=2e-2)


def test_zs_lp_is_clap_without_its_penalty() -> None:
    given = toy.feature_episode(shots=4)
    zero_QK = given.backbone.logit_scale * given.support.images.features() @ given.text_features().T
    moved = [
        float((adapter("clap", constraint=c).fit(given)(given.support.images) - zero_QK).norm())
        for c in (0.0, 1.0, 10.0)
    ]
    assert moved[0] > 1.5 * max(moved[1:])


# --- concepts as a place to start from


def test_without_a_cache_it_is_the_concepts_themselves() -> None:
    given, images = toy.feature_episode(), toy.feature_episode(seed=2).support.images
    bare = adapter("cones_tip_adapter", alpha=0.0, alpha_grid="0").fit(given)(images)
    torch.testing.assert_close(bare, adapter("cones").fit(given)(images), rtol=1e-5, atol=1e-4)


def test_without_tuning_it_is_the_concepts_and_from_words_it_is_zero_shot() -> None:
    given, images = toy.episode(4), toy.held_out().images
    untuned_QK = adapter("cones_finetune", tune_epochs="0").fit(given)(images)
    torch.testing.assert_close(
        untuned_QK, adapter("cones").fit(given)(images), rtol=1e-4, atol=1e-3
    )
    words_QK = adapter("cones_finetune", start="words", tune_epochs="0").fit(given)(images)
    zero_QK = given.backbone.logit_scale * images.features() @ given.text_features().T
    torch.testing.assert_close(words_QK, zero_QK, rtol=1e-4, atol=1e-3)
