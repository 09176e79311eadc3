"""PLOT against loops in numpy, its limits, and CoOp, which it is with one prompt and one place."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from adapters import _prompts, _transport, plot
from adapters._settings import Transport
from benchmark import methods, presets
from benchmark.api import Crop, Episode, ImageSet, Labelled, UserError, unit
from benchmark.conformance import toy
from benchmark.training import batches, optimisers

Array = NDArray[np.float64]
SCALE = 20.0
IMAGES, PLACES, PROMPTS, CLASSES, DIM = 5, 6, 3, 4, 8


def adapter(**params: Any) -> plot.Adapter:
    return methods.load("plot", params)


def random(*shape: int, seed: int = 1) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return unit(torch.randn(*shape, generator=rng, dtype=torch.float64))


def given(runs: int = 1) -> tuple[Tensor, Tensor]:
    """image_RBPD and text_RNKD; the prompts of a class are alike, as learned ones are."""
    text_RNKD = unit(
        random(runs, 1, CLASSES, DIM, seed=2) + 0.7 * random(runs, PROMPTS, CLASSES, DIM)
    )
    return random(runs, IMAGES, PLACES, DIM, seed=3), text_RNKD


def sinkhorn(sim_PN: Array, epsilon: float, iterations: int, stop: float = 0.0) -> Array:
    """The plan of one image and one class, number by number, from row and column factors of 1;
    `stop` is the mean change of the row factors below which it ends.
    """
    places, prompts = sim_PN.shape
    kernel = [[np.exp(-(1 - sim) / epsilon) for sim in row] for row in sim_PN]
    r, c = [1.0] * places, [1.0] * prompts
    for _ in range(iterations):
        before = list(r)
        for p in range(places):
            r[p] = (1 / places) / sum(kernel[p][n] * c[n] for n in range(prompts))
        for n in range(prompts):
            c[n] = (1 / prompts) / sum(kernel[p][n] * r[p] for p in range(places))
        if np.mean([abs(new - old) for new, old in zip(r, before, strict=True)]) < stop:
            break
    return np.array([[r[p] * kernel[p][n] * c[n] for n in range(prompts)] for p in range(places)])


def twin(image_BPD: Array, text_NKD: Array, epsilon: float = 0.1, **how: Any) -> Array:
    """similarity_BK, image by image and class by class."""
    out_BK = np.zeros((len(image_BPD), text_NKD.shape[1]))
    for b, image_PD in enumerate(image_BPD):
        for k in range(text_NKD.shape[1]):
            sim_PN = image_PD @ text_NKD[:, k].T
            out_BK[b, k] = (sinkhorn(sim_PN, epsilon, **how) * sim_PN).sum()
    return out_BK


# --- the plan and what it weighs


def test_a_plan_gives_every_prompt_and_every_place_its_share() -> None:
    image_RBPD, text_RNKD = given()
    sim_RBPNK = torch.einsum("rbpd,rnkd->rbpnk", image_RBPD, text_RNKD)
    share_RBPNK = _transport.plan(sim_RBPNK, Transport(iterations=100))
    place_RBPK, prompt_RBNK = share_RBPNK.sum(3), share_RBPNK.sum(2)
    torch.testing.assert_close(place_RBPK, torch.full_like(place_RBPK, 1 / PLACES))
    torch.testing.assert_close(prompt_RBNK, torch.full_like(prompt_RBNK, 1 / PROMPTS))
    short_RBPNK = _transport.plan(sim_RBPNK, Transport())
    assert float((short_RBPNK - share_RBPNK).abs().max()) < 1e-3  # of shares around 1 / 18


def test_similarities_are_those_of_numpys_loops() -> None:
    image_RBPD, text_RNKD = given()
    expected_BK = twin(image_RBPD[0].numpy(), text_RNKD[0].numpy(), iterations=7)
    ours_RBK = _transport.matched(image_RBPD, text_RNKD, Transport(iterations=7))
    np.testing.assert_allclose(ours_RBK[0], expected_BK, rtol=1e-12)


def test_what_the_release_stops_at_is_near_to_what_twenty_iterations_give() -> None:
    image_RBPD, text_RNKD = given()
    released_BK = twin(image_RBPD[0].numpy(), text_RNKD[0].numpy(), iterations=100, stop=0.01)
    ours_BK = _transport.matched(image_RBPD, text_RNKD, Transport())[0]
    np.testing.assert_allclose(ours_BK, released_BK, atol=1e-3)


def test_with_much_entropy_it_is_the_mean_similarity() -> None:
    image_RBPD, text_RNKD = given()
    mean_RBK = image_RBPD.mean(2) @ text_RNKD.mean(1).mT
    even_RBK = _transport.matched(image_RBPD, text_RNKD, Transport(epsilon=1e9))
    torch.testing.assert_close(even_RBK, mean_RBK)
    default_RBK = _transport.matched(image_RBPD, text_RNKD, Transport())
    assert (default_RBK > mean_RBK + 1e-3).all()  # places go to the prompts that are like them


def test_one_prompt_takes_all_places_and_one_place_all_prompts() -> None:
    image_RBPD, text_RNKD = given()
    one_RBK = _transport.matched(image_RBPD, text_RNKD[:, :1], Transport())
    torch.testing.assert_close(one_RBK, image_RBPD.mean(2) @ text_RNKD[:, 0].mT)
    one_RBK = _transport.matched(image_RBPD[:, :, :1], text_RNKD, Transport())
    torch.testing.assert_close(one_RBK, image_RBPD[:, :, 0] @ text_RNKD.mean(1).mT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_least_entropy_stays_within_range(dtype: torch.dtype) -> None:
    sim_RBPNK = torch.tensor([[1.0, -1.0], [1.0, -1.0]], dtype=dtype).view(1, 1, 2, 2, 1)
    share_RBPNK = _transport.plan(sim_RBPNK, Transport(epsilon=0.05))
    torch.testing.assert_close(share_RBPNK, torch.full_like(share_RBPNK, 1 / 4))
    with pytest.raises(UserError, match="epsilon"):
        adapter(epsilon=0.01)


def test_a_problem_does_not_know_who_else_is_solved() -> None:
    image_RBPD, text_RNKD = given(runs=3)
    together_RBK = _transport.matched(image_RBPD, text_RNKD, Transport())
    for run in range(3):
        alone_BK = _transport.matched(
            image_RBPD[run, None, 2:3], text_RNKD[run, None, :, 1:2], Transport()
        )
        torch.testing.assert_close(alone_BK[0, 0, 0], together_RBK[run, 2, 1], rtol=1e-13, atol=0)


# --- the loss


def batch(image_RBPD: Tensor, text_RNKD: Tensor) -> _prompts.Batch:
    """The last image of every run counts for nothing, as one that fills a batch up."""
    labels_RB = (torch.arange(IMAGES) % CLASSES).expand(len(image_RBPD), -1)
    weight_RB = torch.full(labels_RB.shape, 1 / (IMAGES - 1), dtype=torch.float64)
    weight_RB[:, -1] = 0
    return _prompts.Batch(image_RBPD, labels_RB, weight_RB, text_RNKD, SCALE)


def test_the_loss_and_its_gradient_are_those_of_numpys_loops() -> None:
    """The plan is held fixed in the gradient."""
    image_RBPD, text_RNKD = given(runs=2)
    text_RNKD.requires_grad_()
    seen = batch(image_RBPD, text_RNKD)
    loss_1R = adapter(whole_image=False, iterations=9)._objective(seen)
    (gradient_RNKD,) = torch.autograd.grad(loss_1R.sum(), text_RNKD)
    for run in range(2):
        image_BPD, text_NKD = image_RBPD[run].numpy(), text_RNKD[run].detach().numpy()
        loss, slope_NKD = 0.0, np.zeros_like(text_NKD)
        for b in range(IMAGES - 1):
            plans = [sinkhorn(image_BPD[b] @ text_NKD[:, k].T, 0.1, 9) for k in range(CLASSES)]
            sims = [image_BPD[b] @ text_NKD[:, k].T for k in range(CLASSES)]
            odds = np.exp([SCALE * (plans[k] * sims[k]).sum() for k in range(CLASSES)])
            chance, label = odds / odds.sum(), b % CLASSES
            loss -= np.log(chance[label]) / (IMAGES - 1)
            for k in range(CLASSES):
                off = SCALE * (chance[k] - (k == label)) / (IMAGES - 1)
                slope_NKD[:, k] += off * plans[k].T @ image_BPD[b]
        np.testing.assert_allclose(float(loss_1R[0, run].detach()), loss, rtol=1e-12)
        np.testing.assert_allclose(gradient_RNKD[run], slope_NKD, rtol=1e-10, atol=1e-12)


def test_the_whole_image_adds_its_logits_to_those_of_the_places() -> None:
    image_RBPD, text_RNKD = given()
    whole_RBD = random(1, IMAGES, DIM, seed=9)
    places_RBK = adapter()._logits(image_RBPD, None, text_RNKD, SCALE)
    both_RBK = adapter()._logits(image_RBPD, whole_RBD, text_RNKD, SCALE)
    mean_RKD = text_RNKD.mean(1)
    pooled_RBK = SCALE * whole_RBD @ (mean_RKD / mean_RKD.norm(dim=-1, keepdim=True)).mT
    torch.testing.assert_close(both_RBK, places_RBK + pooled_RBK)


def test_the_release_adds_the_whole_image_on_imagenet_alone_and_has_two_sizes_of_batches() -> None:
    settings = {
        dataset: presets.changes("released", "plot", {"dataset": dataset, "shots": 16}).set
        for dataset in ("dtd", "stanford_cars", "imagenet")
    }
    read = [(each["whole_image"], each["batch_size"], each["epochs"]) for each in settings.values()]
    by_shots = "1:50,4:100,16:200"
    assert read == [(False, 128, by_shots), (False, 32, by_shots), (True, 128, "50")]


# --- the whole method, on the toy


def one_place(images: ImageSet) -> ImageSet:
    """Images whose only place is the whole of them."""

    def local(views: tuple[int, int, Crop] | None) -> Tensor:
        return images.encode(views).unsqueeze(-2)

    return replace(images, encode_local=local)


def one_place_episode() -> Episode:
    whole = toy.episode()
    return replace(whole, support=Labelled(one_place(whole.support.images), whole.support.labels_N))


def test_with_one_prompt_and_one_place_it_is_coop() -> None:
    shared: dict[str, Any] = {"epochs": "8", "n_ctx": 4, "views": 3}
    images = toy.held_out().images
    coop_QK = methods.load("coop", shared).fit(toy.episode())(images)
    ours = adapter(prompts=1, whole_image=False, **shared).fit(one_place_episode())
    torch.testing.assert_close(ours(one_place(images)), coop_QK, rtol=1e-4, atol=1e-4)
    start: dict[str, Any] = {"epochs": "0", "n_ctx": 4, "ctx_init": "a photo of a"}
    coop_QK = methods.load("coop", start).fit(toy.episode())(images)
    ours = adapter(prompts=1, whole_image=False, **start).fit(one_place_episode())
    torch.testing.assert_close(ours(one_place(images)), coop_QK, rtol=1e-4, atol=1e-4)


def as_stored(images: ImageSet) -> ImageSet:
    """Features of places in float16, as the store hands them out; those of whole images are not."""
    return replace(images, encode_local=lambda views: images.encode_local(views).half())


def logits_of_a_loop(places_BPD: Tensor, whole_BD: Tensor | None, text_NKD: Tensor) -> Tensor:
    """logits_BK / scale, prompt by prompt; the plan of Sinkhorn's algorithm has no gradient."""
    sims = [places_BPD @ text_KD.T for text_KD in text_NKD]  # BPK of every prompt
    kernels = [torch.exp((sim.detach() - 1) / 0.1) for sim in sims]
    columns = [torch.ones_like(kernel[:, :1]) for kernel in kernels]
    for _ in range(20):
        row = 1 / sum(k * c for k, c in zip(kernels, columns, strict=True)) / places_BPD.shape[1]
        columns = [1 / (k * row).sum(1, keepdim=True) / len(sims) for k in kernels]
    plans = [row * k * c for k, c in zip(kernels, columns, strict=True)]
    logits_BK = sum((plan * sim).sum(1) for plan, sim in zip(plans, sims, strict=True))
    return logits_BK if whole_BD is None else logits_BK + whole_BD @ unit(text_NKD.mean(0)).T


@pytest.mark.parametrize("whole_image", [True, False])
def test_training_is_a_plain_loop(whole_image: bool) -> None:
    """Pooled and local features of the same crops in training, of the centres in prediction, and no
    pooled feature is rounded as the local ones are.
    """
    toys, images = toy.episode(), as_stored(toy.held_out().images)
    given = replace(toys, support=replace(toys.support, images=as_stored(toys.support.images)))
    method = adapter(epochs="3", n_ctx=4, views=2, batch_size=4, whole_image=whole_image)
    rng, scale = given.rng(), given.backbone.logit_scale
    ctx_NPE = method._start(given, method.context, rng).clone().requires_grad_()
    rows_TB, epoch_T = batches.draw(given.support, 3, 4, 2, rng)
    crop, labels_M = Crop(method.crops.min_scale), given.support.labels_N.repeat(2)
    places_MPD = given.support.images.local_views(2, 0, crop).flatten(0, 1).float()
    whole_MD = given.support.images.views(2, 0, crop).flatten(0, 1)
    rate_T = optimisers.warmup_cosine(0.002, 1e-5, 1, epoch_T, 3)
    prompts = given.backbone.class_prompts(given.class_names, 4)
    optimiser = torch.optim.SGD([ctx_NPE], lr=1, momentum=0.9, weight_decay=5e-4)
    for rows_B, rate in zip(rows_TB, rate_T.tolist(), strict=True):
        text_NKD = torch.stack([prompts.encode(ctx_PE) for ctx_PE in ctx_NPE])
        whole_BD = whole_MD[rows_B] if whole_image else None
        logits_BK = scale * logits_of_a_loop(places_MPD[rows_B], whole_BD, text_NKD)
        optimiser.zero_grad()
        F.cross_entropy(logits_BK, labels_M[rows_B]).backward()
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    state = method.learn(given)
    torch.testing.assert_close(state["ctx_NPE"], ctx_NPE.detach(), rtol=0, atol=5e-6)
    with torch.no_grad():
        text_NKD = torch.stack([prompts.encode(ctx_PE) for ctx_PE in state["ctx_NPE"]])
        whole_QD = images.features() if whole_image else None
        logits_QK = scale * logits_of_a_loop(images.local().float(), whole_QD, text_NKD)
    ours_QK = method.predictor(state, given.target)(images)
    torch.testing.assert_close(ours_QK, logits_QK, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shots", [(2,), (2, 4)])
def test_in_training_every_bank_lies_in_memory_once(shots: tuple[int, ...]) -> None:
    """One run reads its own bank; those of several are gone once they are joined."""
    made: list[weakref.ref[Tensor]] = []
    left = set()
    method = adapter(epochs="1", n_ctx=4)

    def bank(*given: Any) -> batches.Bank:
        own = method._bank(*given)
        assert own.whole_MD is not None
        made.extend((weakref.ref(own.image_MD), weakref.ref(own.whole_MD)))
        return own

    def objective(batch: _prompts.Batch) -> Tensor:
        left.add(sum(each() is not None for each in made))
        return method._objective(batch)

    recipe = _prompts.PromptRecipe(method.context, method.training, method.sgd, method.crops)
    episodes = [toy.episode(count) for count in shots]
    _prompts.learn(episodes, recipe, objective, start=method._start, bank=bank)
    assert left == {2 if len(shots) == 1 else 0}


@pytest.mark.parametrize("whole_image", [False, True])
def test_images_in_small_parts_have_the_same_logits(
    whole_image: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, images = toy.episode(), toy.held_out().images
    method = adapter(epochs="2", n_ctx=4, whole_image=whole_image)
    state = method.learn(given)
    at_once = method.predictor(state, given.target)(images)
    monkeypatch.setattr(plot, "CPU_NUMBERS", 150)
    torch.testing.assert_close(method.predictor(state, given.target)(images), at_once)


def test_a_gpu_predicts_many_images_at_once_and_no_device_fewer_than_one() -> None:
    imagenet = 4 * 1000 * 196  # similarities of an image: ViT-B/16, four prompts
    assert plot.images_at_once(torch.device("cuda"), imagenet) > 100
    assert plot.images_at_once(torch.device("cpu"), imagenet) == 2
    assert plot.images_at_once(torch.device("cpu"), 10**9) == 1


def test_every_prompt_learns_something_of_its_own() -> None:
    given = toy.episode()
    ctx_NPE = adapter(epochs="3", n_ctx=4).learn(given)["ctx_NPE"]
    assert ctx_NPE.shape == (4, 4, given.backbone.text.width)
    assert given.notes["trainable_params"] == ctx_NPE.numel()
    apart = torch.pdist(ctx_NPE.flatten(1))
    assert float(apart.min()) > 0.1 * float(apart.max())


def test_prompts_that_would_stay_alike_are_refused() -> None:
    with pytest.raises(UserError, match="stay the same"):
        adapter(ctx_init="a photo of a", n_ctx=4)
    with pytest.raises(UserError, match="built from features"):
        adapter().fit(toy.feature_episode())
