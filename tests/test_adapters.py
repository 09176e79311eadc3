"""Numbers of the adapters against independent references: double loops, closed forms, direct calls,
float64 twins.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import (
    _cache,
    _checks,
    _multitask,
    _prompts,
    kgcoop,
    prograd,
)
from adapters._settings import CacheModel, Context, Crops, KeyTuning, PromptTraining
from benchmark import methods
from benchmark.api import Crop, Episode, Labelled, UserError, unit
from benchmark.conformance import toy
from benchmark.training import batches, loop, optimisers
from testbed.toy_on import Place


def adapter(name: str, **params: object) -> Any:
    """The method with these hyper-parameters, by their flat names."""
    return methods.load(name, params)


# --- the cache model


def cache_of(given: Episode, **changes: object) -> _cache.Cache:
    return _cache.build(given, given.text_features(), CacheModel(**changes))  # type: ignore[arg-type]


def looped_logits(given: Episode, image_ND: Tensor, alpha: float, beta: float) -> Tensor:
    """Tip-Adapter image by image and key by key."""
    keys = unit(given.support.images.views(10, 0, Crop(0.5)).mean(0))
    out = given.backbone.logit_scale * image_ND @ given.text_features().T
    for n, image_D in enumerate(image_ND):
        for key_D, label in zip(keys, given.support.labels_N.tolist(), strict=True):
            out[n, label] += alpha * math.exp(-beta * (1 - float(image_D @ key_D)))
    return out


@pytest.mark.parametrize("make_episode", [toy.episode, toy.feature_episode])
def test_cache_logits_are_the_sum_over_keys(make_episode) -> None:
    given = make_episode(3, 4)
    image_ND = make_episode(5, 4, seed=8).support.images.features()
    logits_NK = _cache.logits(cache_of(given), image_ND, 1.7, 2.5)
    torch.testing.assert_close(
        logits_NK, looped_logits(given, image_ND, 1.7, 2.5), rtol=1e-5, atol=1e-4
    )


def test_keys_of_unequal_classes_in_any_order_are_padded_without_effect() -> None:
    given = toy.feature_episode(4, 3)
    kept_N = torch.tensor([11, 0, 5, 4, 2, 7, 1])  # 3, 3 and 1 images of the classes, mixed
    support_ND, labels_N = given.support.images.features()[kept_N], given.support.labels_N[kept_N]
    mixed = Episode.from_features(
        class_names=given.class_names,
        text_KD=given.text_features(),
        support_ND=support_ND,
        support_labels_N=labels_N,
    )
    image_ND = toy.feature_episode(5, 3, seed=8).support.images.features()
    cache = cache_of(mixed)
    assert cache.keys == 7
    torch.testing.assert_close(
        _cache.logits(cache, image_ND, 1.0, 3.0),
        looped_logits(mixed, image_ND, 1.0, 3.0),
        rtol=1e-5,
        atol=1e-4,
    )


def test_a_class_without_a_key_keeps_its_text() -> None:
    given = toy.feature_episode(4, 3)
    two = Episode.from_features(
        class_names=given.class_names,
        text_KD=given.text_features(),
        support_ND=given.support.images.features()[:8],
        support_labels_N=given.support.labels_N[:8],
    )
    images = given.support.images
    logits_NK = _cache.logits(cache_of(two), images.features(), 2.0, 1.0)
    torch.testing.assert_close(logits_NK[:, 2], 100 * images.features() @ given.text_features()[2])


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("seed", range(4))
def test_the_search_in_one_pass_counts_what_a_double_loop_counts(classes: int, seed: int) -> None:
    given = toy.feature_episode(3, classes, seed=seed, spread=0.5, text_error=1.0)
    val = toy.feature_episode(40, classes, seed=seed + 50, spread=0.5).support
    # so that text and keys are worth about the same
    cache = dataclasses.replace(cache_of(given), scale=5.0)
    alphas, betas = (
        (0.0, *(0.13 * i for i in range(1, 20))),
        tuple(0.3 + 0.71 * i for i in range(25)),
    )
    looped_AB = torch.zeros(len(alphas), len(betas), dtype=torch.int64)
    for a, alpha in enumerate(alphas):
        for b, beta in enumerate(betas):
            looped_AB[a, b] = (
                _cache.logits(cache, val.images.features(), alpha, beta).argmax(1) == val.labels_N
            ).sum()
    correct_AB = _cache.correct(cache, val, alphas, betas)
    assert (correct_AB - looped_AB).abs().max() <= 1
    assert (correct_AB != looped_AB).float().mean() <= 0.005, "near-ties are rare"
    assert looped_AB.unique().numel() > 3, "a search that can find nothing tests nothing"
    a, b = divmod(int(looped_AB.flatten().argmax()), len(betas))
    model = CacheModel(alpha_grid=",".join(map(str, alphas)), beta_grid=",".join(map(str, betas)))
    episode = dataclasses.replace(given, val=val)
    assert _cache.choose(cache, episode, model) == (alphas[a], betas[b])
    assert episode.notes["val_correct"] == correct_AB.max()


def test_classes_of_one_name_tie_and_the_earlier_is_taken_as_argmax_takes_it() -> None:
    given = toy.feature_episode(2, 3)
    twice = dataclasses.replace(given, text_KD=given.text_features()[[0, 0, 2]])
    val = toy.feature_episode(6, 3, seed=4).support
    expected = (
        _cache.logits(cache_of(twice), val.images.features(), 0.0, 1.0).argmax(1) == val.labels_N
    ).sum()
    assert _cache.correct(cache_of(twice), val, [0.0], [1.0]).item() == expected
    assert expected >= 6, "the earlier of the two is right on its own images"


def test_a_tie_goes_to_the_smaller_alpha_then_to_the_smaller_beta() -> None:
    given = toy.feature_episode(text_error=0.0)
    assert given.val is not None
    model = CacheModel(alpha_grid="2,1", beta_grid="4,1")
    correct_AB = _cache.correct(cache_of(given), given.val, model.alphas, model.betas)
    assert correct_AB.unique().numel() == 1
    assert _cache.choose(cache_of(given), given, model) == (1.0, 1.0)


def test_sharp_and_strong_the_cache_is_nearest_neighbour() -> None:
    given, exam = (
        toy.feature_episode(5, 4, spread=0.6, val=False),
        toy.feature_episode(20, 4, spread=0.6, seed=3).support,
    )
    predict = adapter("tip_adapter", alpha=1e30, beta=80.0).fit(given)
    near_QS = exam.images.features() @ given.support.images.features().T
    near_QK = torch.stack([near_QS[:, given.support.labels_N == k].amax(1) for k in range(4)], 1)
    first_Q, second_Q = near_QK.topk(2).values.T
    # beyond this, five keys of another class cannot outweigh the nearest one
    clear_Q = first_Q - second_Q > math.log(5) / 80
    assert clear_Q.sum() > 60
    assert torch.equal(predict(exam.images).argmax(1)[clear_Q], near_QK.argmax(1)[clear_Q])


def test_the_choice_is_on_record_and_says_how_it_was_made() -> None:
    with_val, without = toy.feature_episode(), toy.feature_episode(val=False)
    adapter("tip_adapter").fit(with_val)
    adapter("tip_adapter", alpha=0.7, beta=3.0).fit(without)
    assert with_val.notes["selection"] == "val"
    assert with_val.notes["alpha"] in CacheModel().alphas
    assert without.notes == {"alpha": 0.7, "beta": 3.0, "selection": "fixed"}


def test_fine_tuned_keys_are_those_of_torch_in_double_precision() -> None:
    """The same batches through torch's AdamW and scheduler, in float64, keys in sampling order."""
    given = toy.episode(8, 4)
    model, tuning = CacheModel(), KeyTuning(tune_epochs=15, tune_min_steps=0, tune_batch_size=10)
    start = _cache.build(given, given.text_features(), model)
    (tuned,) = _cache.tune([start], [given], model, tuning)

    bank_VND = given.support.images.views(10, 1, Crop(0.5)).double()
    labels_N, text_KD = given.support.labels_N, given.text_features().double()
    keys = torch.nn.Parameter(unit(given.support.images.views(10, 0, Crop(0.5)).mean(0)).double())
    optimiser = torch.optim.AdamW([keys], lr=0.001, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 15 * 3)
    rng = given.rng()
    for epoch in range(15):
        for index_B, label_B in given.support.batches(10, rng):
            image_BD = bank_VND[epoch % 10, index_B]
            affinity_BS = image_BD @ keys.T
            logits_BK = given.backbone.logit_scale * image_BD @ text_KD.T
            logits_BK = (
                logits_BK + 1.17 * torch.exp(-(1 - affinity_BS)) @ F.one_hot(labels_N).double()
            )
            optimiser.zero_grad()
            F.cross_entropy(logits_BK, label_B).backward()
            optimiser.step()
            schedule.step()
    moved = (tuned.key_KJD - start.key_KJD).abs().max()
    assert moved > 0.01
    torch.testing.assert_close(
        tuned.key_KJD.flatten(0, 1).double(), keys.detach(), rtol=0, atol=2e-6
    )


def test_few_images_are_tuned_for_a_hundred_steps_and_many_for_twenty_epochs() -> None:
    tuning = KeyTuning()
    assert tuning.epochs_for(160) == 100  # EuroSAT at 16 shots: the released code's exception
    assert tuning.epochs_for(752) == 50
    assert tuning.epochs_for(16000) == 20
    assert KeyTuning(tune_epochs=0).epochs_for(160) == 0


def test_without_tuning_the_fine_tuned_forms_are_the_plain_ones() -> None:
    images = toy.held_out().images
    for plain, tuned, few in (
        ("tip_adapter", "tip_adapter_f", {}),
        ("prompt_adapter", "prompt_adapter_f", {"epochs": "10"}),
    ):
        expected_QK = adapter(plain, **few).fit(toy.episode())(images)
        tuned_QK = adapter(tuned, tune_epochs=0, **few).fit(toy.episode())(images)
        assert torch.equal(tuned_QK, expected_QK)


# --- the linear probe


@pytest.mark.parametrize("classes", [2, 4])
def test_the_probe_is_scikit_learns(classes: int) -> None:
    from sklearn.linear_model import LogisticRegression

    given, exam = (
        toy.feature_episode(6, classes, val=False),
        toy.feature_episode(9, classes, seed=2).support,
    )
    logits_QK = adapter("linear_probe", c_without_val=3.0).fit(given)(exam.images)
    model = LogisticRegression(C=3.0, max_iter=1000).fit(
        given.support.images.features().double().numpy(), given.support.labels_N.numpy()
    )
    expected_QK = torch.from_numpy(
        model.predict_proba(exam.images.features().double().numpy())
    ).float()
    torch.testing.assert_close(logits_QK.softmax(1), expected_QK, rtol=1e-4, atol=1e-5)
    assert given.notes["C"] == 3.0


def test_the_probe_searches_as_lpclip_does() -> None:
    """The rule on made-up accuracies: peak of the grid, then halvings that end within 2 % of the
    optimum in log10.
    """
    method = adapter("linear_probe")
    best = method._choose(lambda cs: [-round(100 * abs(math.log10(c) - 2.3)) for c in cs])
    assert abs(math.log10(best) - 2.3) < 0.02
    assert method._choose(lambda cs: [5 for _ in cs]) == pytest.approx(1e5), (
        "ties: the larger C in the grid, then always the smaller end"
    )


def test_the_probe_never_names_a_class_it_has_not_seen() -> None:
    given = toy.feature_episode(4, 4)
    part_of = Episode.from_features(
        class_names=given.class_names,
        text_KD=given.text_features(),
        support_ND=given.support.images.features()[:12],
        support_labels_N=given.support.labels_N[:12],
    )
    logits_QK = adapter("linear_probe").fit(part_of)(given.support.images)
    assert logits_QK.isfinite().all()
    assert not (logits_QK.argmax(1) == 3).any()


def test_fits_in_several_threads_give_the_bits_of_fits_in_one() -> None:
    results = []
    for threads in (4, 1):
        given, before = toy.feature_episode(8, classes=5), torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            logits_QK = adapter("linear_probe").fit(given)(given.support.images)
        finally:
            torch.set_num_threads(before)
        results.append((given.notes, logits_QK))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_keys_tuned_in_a_batch_are_those_tuned_alone() -> None:
    """Runs differ in shots, and so in keys per class, in steps and in the size of a batch."""
    model, tuning = CacheModel(), KeyTuning(tune_epochs=4, tune_min_steps=0, tune_batch_size=10)
    place = Place("cpu", "float64")
    episodes = [place.episode(seed=seed, shots=shots) for shots, seed in ((1, 1), (8, 2), (4, 3))]
    starts = [_cache.build(each, each.text_features(), model) for each in episodes]
    batched = _cache.tune(starts, episodes, model, tuning)
    for ours, start, episode in zip(batched, starts, episodes, strict=True):
        notes = dict(episode.notes)
        episode.notes.clear()
        (alone,) = _cache.tune([start], [episode], model, tuning)
        torch.testing.assert_close(ours.key_KJD, alone.key_KJD, rtol=0, atol=1e-12)
        assert (ours.key_KJD - start.key_KJD).abs().max() > 1e-3
        assert notes == pytest.approx(episode.notes, rel=1e-9)


def test_a_linear_probe_on_one_image_per_class_warns_of_nothing() -> None:
    """scikit-learn warns from 20 images on; a warning fails a test here."""
    given = toy.feature_episode(shots=1, classes=24, dim=16)
    adapter("linear_probe").fit(given)


# --- the loop


def test_the_schedule_is_coops_in_closed_form() -> None:
    epochs = 50
    rate_T = optimisers.warmup_cosine(0.002, 1e-5, 1, torch.arange(epochs), epochs)
    assert rate_T[0] == 1e-5
    for epoch in range(1, epochs):
        assert float(rate_T[epoch]) == pytest.approx(
            0.5 * 0.002 * (1 + math.cos(math.pi * (epoch - 1) / epochs)), abs=1e-15
        )
    assert rate_T.min() > 0


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_each_run_moves_as_torchs_optimiser_moves_it_alone(kind: str) -> None:
    """Three runs of different length and rate in one tensor, against three separate optimisers."""
    rng = torch.Generator().manual_seed(0)
    start_RPE, target_RPE = (
        torch.randn(3, 4, 5, generator=rng).double(),
        torch.randn(3, 4, 5, generator=rng).double(),
    )
    lengths, peaks = (30, 30, 12), (0.1, 0.02, 0.05)
    rate_TR = torch.zeros(30, 3, dtype=torch.float64)
    for r, (length, peak) in enumerate(zip(lengths, peaks, strict=True)):
        rate_TR[:length, r] = optimisers.cosine(peak, torch.arange(length), length)
    weights = start_RPE.clone()
    update = (
        optimisers.sgd(weights, 0.9, 5e-4)
        if kind == "sgd"
        else optimisers.adamw(weights, 0.01, 1e-4, 0.9, 0.999)
    )
    loop.train(
        weights,
        lambda w, step: ((w - target_RPE[: len(w)]) ** 2).sum((1, 2))[None],
        rate_TR,
        update,
    )
    for r, length in enumerate(lengths):
        alone = torch.nn.Parameter(start_RPE[r].clone())
        optimiser = (
            torch.optim.SGD([alone], lr=1, momentum=0.9, weight_decay=5e-4)
            if kind == "sgd"
            else torch.optim.AdamW([alone], lr=1, weight_decay=0.01, eps=1e-4)
        )
        for step in range(length):
            optimiser.param_groups[0]["lr"] = float(rate_TR[step, r])
            optimiser.zero_grad()
            ((alone - target_RPE[r]) ** 2).sum().backward()
            optimiser.step()
        torch.testing.assert_close(weights[r], alone.detach(), rtol=1e-9, atol=1e-12)


def test_a_loss_that_is_no_number_names_step_and_rate() -> None:
    weights = torch.ones(1, 2)

    def loss_of(w: Tensor, step: Tensor) -> Tensor:
        return (w * torch.where(step == 7, torch.nan, 1.0)).sum().view(1, 1)

    with pytest.raises(
        UserError, match=r"loss is nan at step 7 with learning rate 0\.25"
    ) as caught:
        loop.train(weights, loss_of, torch.full((20, 1), 0.25), optimisers.sgd(weights, 0.9, 0.0))
    assert caught.value.exit_code == 1


def test_coop_that_diverges_fails_and_gives_no_number() -> None:
    with pytest.raises(UserError, match="training diverged"):
        adapter("coop", lr=1e38, warmup_epochs=0).fit(toy.episode())


def test_batches_are_full_or_the_only_one_and_views_take_turns() -> None:
    given = toy.feature_episode(4, 3)
    rows_TB, epoch_T = batches.draw(given.support, epochs=5, batch_size=5, views=2, rng=given.rng())
    assert rows_TB.shape == (10, 5)
    assert epoch_T.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert torch.equal(rows_TB // 12, (epoch_T % 2)[:, None].expand(10, 5)), (
        "epoch e sees view e mod 2"
    )
    assert all(len(set(rows_TB[t : t + 2].flatten().tolist())) == 10 for t in range(0, 10, 2)), (
        "no image twice in an epoch"
    )
    assert batches.draw(given.support, 3, 32, 2, given.rng())[0].shape == (3, 12)


# --- prompts


def reference_coop(given: Episode, method: Any, epochs: int) -> Tensor:
    """CoOp as a plain loop with torch's optimiser and loss: text_KD after training."""
    context, lr, views = method.context, method.training.lr, method.crops.views
    prompts = given.backbone.class_prompts(
        given.class_names, context.n_ctx, context.position, class_specific=method.class_specific
    )
    rng = given.rng()
    shape = (context.n_ctx, given.backbone.text.width)
    shape = (len(given.class_names), *shape) if method.class_specific else shape
    ctx = torch.nn.Parameter(0.02 * torch.randn(shape, generator=rng, dtype=torch.float64).float())
    optimiser = torch.optim.SGD([ctx], lr=1, momentum=0.9, weight_decay=5e-4)
    view_VND = given.support.images.views(views, 0, Crop(0.08))
    for epoch in range(epochs):
        falling = 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))
        rate = 1e-5 if epoch == 0 else lr * falling
        optimiser.param_groups[0]["lr"] = rate
        for index_B, label_B in given.support.batches(method.training.batch_size, rng):
            logits_BK = (
                given.backbone.logit_scale
                * view_VND[epoch % views, index_B]
                @ prompts.encode(ctx).T
            )
            optimiser.zero_grad()
            F.cross_entropy(logits_BK, label_B).backward()
            optimiser.step()
    return prompts.encode(ctx).detach()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"position": "middle"},
        {"position": "front"},
        {"class_specific": True},
        {"batch_size": 5},
    ],
)
def test_coop_is_the_plain_loop(changes: dict) -> None:
    method = adapter("coop", epochs="12", lr=2e-4, n_ctx=4, **changes)
    recipe = _prompts.PromptRecipe(method.context, method.training, method.sgd, method.crops)
    start = _prompts.noise_per_class if method.class_specific else _prompts.from_words
    (state,) = _prompts.learn(
        [toy.episode()], recipe, start=start, class_specific=method.class_specific
    )
    text_KD = _prompts.text_features(
        state["ctx_PE"],
        toy.episode().target,
        method.context,
        class_specific=method.class_specific,
    )
    torch.testing.assert_close(
        text_KD, reference_coop(toy.episode(), method, 12), rtol=0, atol=1e-5
    )


def test_epochs_go_by_shots_and_a_thousand_classes_always_get_fifty() -> None:
    training = PromptTraining()
    epochs = [training.epochs_for(shots, classes=3) for shots in (1, 2, 4, 8, 16, 32)]
    assert epochs == [50, 100, 100, 200, 200, 200]
    assert training.epochs_for(16, classes=1000) == 50


def test_shots_are_the_mean_over_classes_where_they_differ() -> None:
    sizes: list[toy.PerClass] = [4, (1, 4, 2), (4, 0, 2), (0, 1, 0), (30, 0, 0)]
    assert [toy.episode(shots).shots for shots in sizes] == [4, 2, 2, 1, 10]


@pytest.mark.parametrize("shots", [(4, 0, 2), (4, 2, 0)])
def test_the_cache_leaves_a_class_without_images_to_its_name(shots: tuple[int, ...]) -> None:
    given, images = toy.episode(shots), toy.held_out().images
    zero_QK = given.backbone.logit_scale * images.features() @ given.text_features().T
    logits_QK = methods.load("tip_adapter").fit(given)(images)
    absent = shots.index(0)
    torch.testing.assert_close(logits_QK[:, absent], zero_QK[:, absent])
    present = [k for k in range(3) if k != absent]
    assert (logits_QK[:, present] > zero_QK[:, present]).all()


def test_a_linear_probe_never_predicts_a_class_without_images() -> None:
    images = toy.held_out().images
    logits_QK = methods.load("linear_probe").fit(toy.episode((4, 0, 2)))(images)
    assert not (logits_QK.argmax(1) == 1).any()
    with pytest.raises(UserError, match="two classes or more"):
        methods.load("linear_probe").fit(toy.episode((0, 3, 0)))


def test_fresh_crops_are_drawn_for_every_epoch_from_the_episodes_own_stream() -> None:
    given = toy.episode()
    bank = _prompts.bank_of(given, Crops(views=0), 6, given.rng())
    again = _prompts.bank_of(given, Crops(views=0), 6, given.rng())
    assert torch.equal(bank.image_MD, again.image_MD)
    assert len(bank.image_MD.unique(dim=0)) == 6 * len(given.support)
    adapter("coop", views=0, epochs="6").fit(given)
    assert given.notes["steps"] == 6


def test_contexts_may_have_any_dimensions_before_them() -> None:
    given = toy.episode()
    prompts, context = given.backbone.class_prompts(given.class_names, 4), Context(n_ctx=4)
    ctx_NPE = _prompts.several(6, given, context, given.rng())
    each = torch.stack([prompts.encode(ctx_PE) for ctx_PE in ctx_NPE])
    for leading in ((), (6,), (2, 3), (3, 1, 2)):
        ctx = ctx_NPE.reshape(*leading, *ctx_NPE.shape[1:]) if leading else ctx_NPE[0]
        text = _prompts.encoded(prompts, ctx)
        expected = each.reshape(*leading, *each.shape[1:]) if leading else each[0]
        torch.testing.assert_close(text, expected)


def test_words_are_the_embeddings_of_their_tokens() -> None:
    given, context = toy.episode(), Context(n_ctx=4, ctx_init="a photo of a")
    ctx_PE = _prompts.from_words(given, context, given.rng())
    ids_L = given.backbone.text.tokenize(["a photo of a"])[0]
    assert torch.equal(ctx_PE, given.backbone.text.embed(ids_L[1:5]))
    with pytest.raises(UserError, match="set n_ctx=4"):
        adapter("coop", ctx_init="a photo of a").fit(toy.episode())


def batch(text_RKD: Tensor) -> _prompts.Batch:
    """Two runs, the second with a smaller batch."""
    rng = torch.Generator().manual_seed(0)
    image_RBD = unit(torch.randn(2, 4, 16, generator=rng))
    labels_RB = torch.randint(0, text_RKD.shape[1], (2, 4), generator=rng)
    return _prompts.Batch(
        image_RBD, labels_RB, torch.tensor([[0.25] * 4, [0.5, 0.5, 0, 0]]), text_RKD, 20.0
    )


def test_cross_entropy_is_the_mean_over_each_runs_own_images() -> None:
    given = batch(unit(torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(1))))
    for run, size in ((0, 4), (1, 2)):
        logits_BK = 20.0 * given.image_RBD[run, :size] @ given.text_RKD[run].T
        expected = F.cross_entropy(logits_BK, given.labels_RB[run, :size])
        torch.testing.assert_close(_prompts.cross_entropy(given)[run], expected)


def test_kgcoops_penalty_is_one_minus_the_mean_cosine() -> None:
    rng = torch.Generator().manual_seed(2)
    text_RKD, hand_KD = torch.randn(2, 5, 8, generator=rng), torch.randn(5, 8, generator=rng)
    expected_R = torch.stack(
        [1 - F.cosine_similarity(text_KD, hand_KD).mean() for text_KD in text_RKD]
    )
    torch.testing.assert_close(kgcoop.distance(unit(text_RKD), unit(hand_KD)), expected_R)
    assert kgcoop.distance(unit(hand_KD)[None], unit(hand_KD)).abs() < 1e-6


def test_prograds_teacher_is_the_zero_shot_distribution() -> None:
    rng = torch.Generator().manual_seed(3)
    text_RKD, hand_KD = (
        unit(torch.randn(2, 5, 16, generator=rng)),
        unit(torch.randn(5, 16, generator=rng)),
    )
    given = batch(text_RKD)
    student_BK, teacher_BK = (
        20.0 * given.image_RBD[1, :2] @ text_KD.T for text_KD in (text_RKD[1], hand_KD)
    )
    expected = F.kl_div(student_BK.log_softmax(1), teacher_BK.softmax(1), reduction="batchmean")
    torch.testing.assert_close(prograd.divergence(given, hand_KD)[1], expected)


def test_prograds_step_is_projected_run_by_run_where_it_contradicts() -> None:
    own_RPE = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 2.0]]])
    # agrees with the first run only
    general_RPE = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[-1.0, 1.0], [3.0, -2.0]]])
    weights = torch.zeros(2, 2, 2, requires_grad=True)
    terms_AR = torch.stack([(weights * own_RPE).sum((1, 2)), (weights * general_RPE).sum((1, 2))])
    half_RPE = prograd.aligned(terms_AR, weights, 0.5)
    assert torch.equal(half_RPE[0], own_RPE[0])
    along = (own_RPE[1] * general_RPE[1]).sum() / general_RPE[1].square().sum()
    torch.testing.assert_close(half_RPE[1], own_RPE[1] - 0.5 * along * general_RPE[1])
    terms_AR = torch.stack([(weights * own_RPE).sum((1, 2)), (weights * general_RPE).sum((1, 2))])
    full_RPE = prograd.aligned(terms_AR, weights, 1.0)
    assert abs(float((full_RPE[1] * general_RPE[1]).sum())) < 1e-6, (
        "nothing is left against the teacher"
    )


def test_prograd_without_strength_is_coop_from_the_same_start() -> None:
    words = {"n_ctx": 4, "ctx_init": "a photo of a", "epochs": "5"}
    images = toy.held_out().images
    expected_QK = adapter("coop", **words).fit(toy.episode())(images)
    torch.testing.assert_close(
        adapter("prograd", strength=0.0, **words).fit(toy.episode())(images),
        expected_QK,
        rtol=1e-4,
        atol=1e-3,
    )


def test_prograd_starts_with_the_words_at_the_end() -> None:
    context = Context(ctx_init="a photo of a")
    ctx_PE = prograd.padded_words(toy.episode(), context, torch.Generator())
    assert ctx_PE.shape == (16, 32)
    assert not ctx_PE[:12].any()
    assert torch.equal(ctx_PE[12:], toy.backbone().text.words("a photo of a"))


# --- multitask pretraining


def sources() -> list[Episode]:
    return [toy.episode(2, 2, val=False, seed=3), toy.episode(4, 4, val=False, seed=3)]


def recipe(**changes: object) -> _multitask.SourceRecipe:
    return adapter("prompt_adapter", **changes)._source_recipe()


def test_a_batch_of_one_task_has_the_loss_of_the_pooled_softmax_with_other_tasks_masked() -> None:
    """All classes of all tasks in one softmax, the others at -inf: same loss, same gradient, and
    exactly 0 for the others' logits.
    """
    tasks, context = sources(), recipe(n_ctx=4).context
    ctx_PE = torch.randn(4, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    text_KD = torch.cat(
        [_prompts.prompts_for(task.target, context).encode(ctx_PE) for task in tasks]
    )
    first, image_ND, labels_N = 2, tasks[1].support.images.features(), tasks[1].support.labels_N
    logits_NK = 20.0 * image_ND @ text_KD.T
    logits_NK.retain_grad()
    masked_NK = logits_NK.masked_fill(torch.arange(6) < first, -torch.inf)
    pooled = F.cross_entropy(masked_NK, labels_N + first)
    pooled.backward()
    assert logits_NK.grad is not None
    assert not logits_NK.grad[:, :first].any()
    pooled_gradient, ctx_PE.grad = ctx_PE.grad, None
    own = F.cross_entropy(
        20.0 * image_ND @ _prompts.prompts_for(tasks[1].target, context).encode(ctx_PE).T, labels_N
    )
    own.backward()
    torch.testing.assert_close(own, pooled)
    torch.testing.assert_close(ctx_PE.grad, pooled_gradient, rtol=1e-4, atol=1e-6)


def test_pretraining_is_the_plain_loop_over_task_batches() -> None:
    settings = recipe(
        pretrain_steps=9,
        pretrain_batch_size=4,
        pretrain_warmup_steps=2,
        pretrain_lr=2e-4,
        n_ctx=4,
        views=2,
    )
    state = _multitask.pretrain(sources(), settings)

    tasks = sources()
    rng = tasks[0].rng()
    ctx = torch.nn.Parameter(0.02 * torch.randn(4, 32, generator=rng, dtype=torch.float64).float())
    optimiser = torch.optim.SGD([ctx], lr=1, momentum=0.9, weight_decay=5e-4)
    # 1 and 4 batches an epoch: 9 steps are 2 epochs
    plans = [batches.draw(task.support, 2, 4, 2, rng)[0] for task in tasks]
    order = [
        step
        for epoch in range(2)
        for step in shuffled([(0, epoch), *((1, 4 * epoch + i) for i in range(4))], rng)
    ]
    for step, (task, t) in enumerate(order[:9]):
        optimiser.param_groups[0]["lr"] = (
            1e-5 if step < 2 else 0.5 * 2e-4 * (1 + math.cos(math.pi * (step - 2) / 7))
        )
        rows_B, size = plans[task][t], len(tasks[task].support)
        image_BD = tasks[task].support.images.views(2, 0, Crop(0.08)).flatten(0, 1)[rows_B]
        text_KD = (
            tasks[task].backbone.class_prompts(tasks[task].class_names, 4, "middle").encode(ctx)
        )
        optimiser.zero_grad()
        logits_BK = tasks[task].backbone.logit_scale * image_BD @ text_KD.T
        F.cross_entropy(logits_BK, tasks[task].support.labels_N[rows_B % size]).backward()
        optimiser.step()
    torch.testing.assert_close(state["ctx_PE"], ctx.detach(), rtol=0, atol=1e-6)


def shuffled(pool: list[tuple[int, int]], rng: torch.Generator) -> list[tuple[int, int]]:
    return [pool[i] for i in torch.randperm(len(pool), generator=rng).tolist()]


def test_every_epoch_shows_every_task_all_its_batches() -> None:
    order = _multitask.pooled_order([1, 3], 4, torch.Generator().manual_seed(0))
    for epoch in range(4):
        assert sorted(order[4 * epoch : 4 * epoch + 4]) == [
            (0, epoch),
            (1, 3 * epoch),
            (1, 3 * epoch + 1),
            (1, 3 * epoch + 2),
        ]


def test_a_prior_from_elsewhere_is_refused() -> None:
    prior = dict(_multitask.pretrain(sources(), recipe(pretrain_steps=1)))
    foreign = {**prior, "backbone": torch.tensor(list(b"ViT-B-16/openai"), dtype=torch.uint8)}
    wide = {**prior, "ctx_PE": torch.zeros(16, 512)}
    for wrong, message in (
        (foreign, "another backbone"),
        (wide, r"shape \(16, 512\)"),
        ({}, "holds no context"),
    ):
        with pytest.raises(UserError, match=message):
            adapter("prompt_adapter").fit(toy.episode(prior=wrong))


def test_without_a_step_the_transfer_keeps_the_prior() -> None:
    prior = _multitask.pretrain(sources(), recipe(pretrain_steps=5))
    images = toy.held_out().images
    kept_QK = adapter("prompt_adapter", epochs="0").fit(toy.episode(prior=prior))(images)
    direct = adapter("prompt_adapter", transfer=False).fit(toy.episode(prior=prior))
    assert torch.equal(kept_QK, direct(images))


def test_without_prior_and_transfer_it_is_tip_adapter() -> None:
    images = toy.held_out().images
    expected_QK = adapter("tip_adapter").fit(toy.episode())(images)
    assert torch.equal(
        adapter("prompt_adapter", transfer=False).fit(toy.episode())(images), expected_QK
    )


def test_priors_depend_on_what_pretraining_reads_and_on_nothing_else() -> None:
    expected = adapter("prompt_adapter").pretraining()
    assert adapter("prompt_adapter_f").pretraining() == expected
    for changes in ({"epochs": "7"}, {"alpha": 2.0}, {"transfer": False}, {"lr": 0.1}):
        assert adapter("prompt_adapter", **changes).pretraining() == expected, changes
    for changes in ({"pretrain_steps": 7}, {"n_ctx": 4}, {"momentum": 0.5}, {"min_scale": 0.5}):
        assert adapter("prompt_adapter", **changes).pretraining() != expected, changes


# --- bad parameters


WRONG: list[tuple[str, dict[str, object], str]] = [
    ("tip_adapter", {"key_views": 0}, "key_views=0 is out of range"),
    ("tip_adapter", {"alpha_grid": "0,ten"}, "alpha_grid='0,ten' is not a list of numbers"),
    ("tip_adapter", {"alpha_grid": "-1,1"}, "alpha_grid=-1"),
    ("tip_adapter", {"beta_grid": "0,1"}, "beta_grid=0"),
    ("tip_adapter", {"beta": 0.0}, "greater than 0"),
    ("tip_adapter", {"key_min_scale": 1.5}, "it is a share"),
    ("tip_adapter_f", {"tune_lr": -1.0}, "tune_lr"),
    ("tip_adapter_f", {"adam_beta1": 1.0}, "less than 1"),
    ("coop", {"position": "begin"}, "takes end, middle or front"),
    ("coop", {"epochs": "many"}, "cannot be read"),
    ("coop", {"epochs": "1:-5"}, "epochs=-5"),
    ("coop", {"n_ctx": 0}, "n_ctx=0"),
    ("coop", {"precision": "half"}, "takes float32 or bfloat16"),
    ("coop", {"class_specific": True, "ctx_init": "a photo of a"}, "leave one of them out"),
    ("coop", {"lr": float("nan")}, "lr takes a finite number"),
    ("kgcoop", {"regularisation": -1.0}, "regularisation=-1.0"),
    ("prograd", {"strength": -0.1}, "strength=-0.1"),
    ("prompt_adapter", {"pretrain_steps": -1}, "pretrain_steps=-1"),
    ("linear_probe", {"grid": ""}, "grid='' is not a list of numbers"),
    ("linear_probe", {"grid": "0,1"}, "grid=0"),
]


@pytest.mark.parametrize(("name", "changes", "message"), WRONG, ids=lambda value: str(value)[:30])
def test_a_wrong_parameter_is_refused_with_what_and_why(
    name: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        methods.load(name, changes)


def test_a_group_checks_itself_in_python_as_well() -> None:
    with pytest.raises(UserError, match="take one of end, middle, front"):
        Context(position="begin")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="lr=nan"):
        PromptTraining(lr=float("nan"))


def test_a_table_by_shots_reads_a_number_or_pairs() -> None:
    assert _checks.by_shots("epochs", "200") == ((math.inf, 200),)
    assert _checks.by_shots("epochs", "16:200,1:50") == ((1, 50), (16, 200))


def test_a_context_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="n_ctx=40"):
        adapter("coop", n_ctx=40).fit(toy.episode())
    with pytest.raises(UserError, match="more than n_ctx=2"):
        adapter("prograd", n_ctx=2).fit(toy.episode())
    given = toy.feature_episode(2, 2)
    half = dataclasses.replace(
        given, support=Labelled(given.support.images, torch.zeros(4, dtype=torch.int64))
    )
    with pytest.raises(UserError, match="two classes"):
        adapter("linear_probe").fit(half)


def test_bfloat16_is_another_run_close_to_the_float32_one() -> None:
    """An opt-in that the record's hyper-parameters name; close, but not the same numbers."""
    exam = toy.held_out()
    plain, half = (
        adapter("coop", epochs="5", precision=precision).fit(toy.episode())(exam.images)
        for precision in ("float32", "bfloat16")
    )
    assert half.dtype == torch.float32
    assert not torch.equal(plain, half)
    # five epochs move the largest logit by 7 to 24 %, as the seed will have it
    assert float((plain - half).abs().max()) < 0.4 * float(plain.abs().max())
