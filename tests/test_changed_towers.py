"""Methods that change CLIP's weights or put branches beside its blocks, and prompts that an image
moves: closed forms, independent twins in float64, and the counts of ViT-B/16.
"""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _in_the_loop, _views, _weights, clip_svd, cocoop, mma, two_stage
from adapters._class_texts import ClassTexts
from adapters._settings import Crops, PromptTraining, StepTraining
from benchmark.api import Episode, UserError
from benchmark.backbones.clip import from_model
from benchmark.compute import macs
from benchmark.conformance import toy
from tests.toy64 import adapter, double, noise, with_features, with_pixels

# --- counts


def counted(parts: Any) -> int:
    return sum(part.numel() for part in parts.values())


def test_trained_numbers_of_vit_b_16_are_the_closed_forms(base_16: Any) -> None:
    given = SimpleNamespace(backbone=base_16, rng=lambda: torch.Generator().manual_seed(1))
    factors = {
        f"{side}/{name}": clip_svd.Factors.of(clip_svd.own_weights(tower, name), matrices)
        for side, tower in (("vision", base_16.vision), ("text", base_16.text))
        for name, matrices in clip_svd.PARAMETERS.items()
    }
    assert sum(each.value_JME.numel() for each in factors.values()) == 12 * 6 * (768 + 512)
    norms = two_stage.norms(base_16.vision, base_16.text)
    assert counted(norms) == 24 * 2 * 768 + 24 * 2 * 512 == 61_440
    assert counted(adapter("mma")._start(given)) == 8 * (49_952 + 33_312 + 1_056) == 674_560
    assert counted(adapter("tcp")._start(given)) == 4 * 512 + 329_856 == 331_904
    random = adapter("cocoop", ctx_init="")
    assert counted(random._start(given)) == 4 * 512 + 33_312 == 35_360


# --- blocks that are not CLIP's


@pytest.mark.parametrize("option", ["qk_norm", "scale_attn"])
@pytest.mark.parametrize("name", ["clip_svd", "two_stage", "ivlp"])
def test_blocks_with_another_attention_are_refused_in_a_sentence(name: str, option: str) -> None:
    with torch.random.fork_rng():
        model = open_clip.CLIP(
            embed_dim=16,
            vision_cfg={"image_size": 16, "layers": 2, "width": 32, "patch_size": 8,
                        "head_width": 16, option: True},
            text_cfg={"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2,
                      "layers": 2},
        )  # fmt: skip
    given = replace(toy.episode(2), backbone=from_model(model, "custom"))
    with pytest.raises(UserError, match=f"{name} needs the residual attention blocks of CLIP"):
        adapter(name).fit(given)
    pixels_NCHW = torch.zeros(1, 3, 16, 16)
    assert macs.frozen_macs(given.backbone, pixels_NCHW) > 0


# --- schedules


def test_learning_rates_are_those_written_down() -> None:
    """Of 6 images: CoOp's epochs, with whose warm-up the cosine waits; steps; both stages."""
    given, crops = toy.episode(2), Crops()
    coop = PromptTraining(epochs="4", batch_size=3, lr=0.02, warmup_epochs=2)
    rate_T = _in_the_loop.by_epochs(given, coop, crops, 1e-5).rate_T
    assert rate_T.tolist() == near([1e-5] * 4 + [0.02] * 2 + [0.0170710678] * 2)
    steps = StepTraining(steps_per_shot=4, batch_size=4, lr=0.001)
    falling = [0.001, 9.61977865e-4, 8.53699837e-4, 6.91650355e-4]
    falling += [5.005e-4, 3.09349645e-4, 1.47300163e-4, 3.902217351e-5]
    for most_epochs in (0, 9):  # an epoch is a step
        rate_T = _in_the_loop.by_steps(given, steps, crops, most_epochs=most_epochs).rate_T
        assert rate_T.tolist() == near(falling)
    twice = [0.002, 1.70725323e-3, 1.0005e-3, 2.93746773e-4]  # half the steps, twice the rate
    for short_batch, most_epochs in ((False, 4), (True, 2)):
        training = replace(steps, short_batch=short_batch)
        rate_T = _in_the_loop.by_steps(given, training, crops, most_epochs=most_epochs).rate_T
        assert rate_T.tolist() == near(twice)
    two = {"steps_per_shot": 4, "batch_size": 4, "lr": 0.001, "most_epochs": 4}
    for stage in adapter("two_stage", split=0.5, **two)._stages(given):
        assert stage.rate_T.tolist() == near([0.002, 1.0005e-3])


def near(rates: list[float]) -> Any:
    return pytest.approx(rates, rel=1e-7)


# --- clip_svd


def test_factors_put_a_matrix_together_again() -> None:
    for each in clip_svd.factors_of(double()).values():
        whole_JMAB = each.left_JMAE * each.value_JME.unsqueeze(-2) @ each.right_JMEB
        for whole_MAB, own_XB in zip(whole_JMAB, each.own, strict=True):
            torch.testing.assert_close(whole_MAB.flatten(0, 1), own_XB, rtol=0, atol=1e-12)
        still = each.changed(torch.zeros_like(each.value_JME))
        assert all(map(torch.equal, still, each.own))


def test_a_batch_shares_its_factors_and_a_later_one_computes_its_own() -> None:
    """Every cell has a backbone of its own around the same weights, and a batch one method."""
    backbone, method = double(), adapter("clip_svd")
    first = method._factors(backbone)
    again = method._factors(replace(backbone, memory_share=0.5))
    later = adapter("clip_svd")._factors(backbone)
    assert all(again[name] is each for name, each in first.items())
    assert all(later[name] is not each for name, each in first.items())
    gone = weakref.ref(next(iter(first.values())))
    del method, first, again
    gc.collect()
    assert gone() is None, "the weights live on, but no memory of the factors"


def test_a_fit_takes_the_weights_apart_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    whole = clip_svd.factors_of
    monkeypatch.setattr(clip_svd, "factors_of", lambda given: taken.append(1) or whole(given))
    given = [replace(with_pixels(), seed=seed) for seed in (1, 2)]
    same = [replace(each, backbone=given[0].backbone, notes={}) for each in given]
    adapter("clip_svd", steps_per_shot=1).fit_batch(same)
    assert len(taken) == 1


def test_other_weights_in_the_same_model_are_taken_apart_anew() -> None:
    """Loaded into it, or brought to another precision in place: the blocks stay what they are."""
    backbone, method = double(), adapter("clip_svd")
    model = backbone.model
    before = method._factors(backbone)
    model.load_state_dict({name: 2 * each for name, each in model.state_dict().items()})
    loaded = method._factors(from_model(model, "again"))
    for name, each in loaded.items():
        torch.testing.assert_close(each.value_JME, 2 * before[name].value_JME)
    halved = method._factors(from_model(model, "half", precision="float16"))
    assert {each.left_JMAE.dtype for each in halved.values()} == {torch.float16}
    assert all(map(torch.equal, next(iter(halved.values())).own, _own_16(model)))


def _own_16(model: Any) -> list[Tensor]:
    return [each.attn.in_proj_weight for each in model.visual.transformer.resblocks]


def test_a_choice_of_singular_vectors_moves_no_weight() -> None:
    """Signs, and a rotation of the vectors of three equal values; two values are 0."""
    rng = torch.Generator().manual_seed(0)
    left_AE, right_BE, turn_33 = (
        torch.linalg.qr(torch.randn(size, size, generator=rng, dtype=torch.float64))[0]
        for size in (6, 6, 3)
    )
    value_E = torch.tensor([3.0, 2.0, 2.0, 2.0, 0.0, 0.0], dtype=torch.float64)
    one = clip_svd.Factors.of([left_AE * value_E @ right_BE.T], 1)
    other = replace(one, left_JMAE=one.left_JMAE.clone(), right_JMEB=one.right_JMEB.clone())
    other.left_JMAE[..., 1:4] = one.left_JMAE[..., 1:4] @ turn_33
    other.right_JMEB[:, :, 1:4] = turn_33.T @ one.right_JMEB[:, :, 1:4]
    other.left_JMAE[..., 0] *= -1
    other.right_JMEB[:, :, 0] *= -1
    other.left_JMAE[..., 4] *= -1  # of the value 0 alone
    goal_AB = noise(one.own[0])
    moved = []
    for each in (one, other):
        change = torch.full((1, 1, 6), 0.1, dtype=torch.float64, requires_grad=True)
        loss = (each.changed(change)[0] * goal_AB).sum()
        (gradient,) = torch.autograd.grad(loss, change)
        moved.append(each.changed(0.1 - gradient)[0])
    torch.testing.assert_close(moved[0], moved[1], rtol=0, atol=1e-12)
    assert (moved[0] - one.own[0]).abs().max() > 0.01


def test_a_merged_copy_gives_what_the_changed_weights_give() -> None:
    given, pixels = with_pixels(), toy.patterns(3).double()
    factors = clip_svd.factors_of(given.backbone)
    state = {name: noise(each.value_JME, i) for i, (name, each) in enumerate(factors.items())}
    weights = clip_svd.changed_weights(factors, state)
    vision = given.backbone.vision
    image_ND = _weights.image_features(vision, 0, vision.start(pixels), weights)
    text_KD = _weights.text_features(ClassTexts.of(given.target), weights)
    copy = _weights.merged(given.backbone, weights)
    torch.testing.assert_close(image_ND, copy.encode_pixels(pixels), rtol=0, atol=1e-12)
    exam_QK = adapter("clip_svd").predictor(state, given.target)(toy.held_out().images)
    alone_ND = copy.encode_pixels(next(toy.held_out().images.pixels(64)))
    scale = given.backbone.logit_scale
    torch.testing.assert_close(exam_QK, scale * alone_ND @ text_KD.T, rtol=0, atol=1e-9)
    assert (image_ND - given.backbone.encode_pixels(pixels)).abs().max() > 0.01


def test_training_the_change_is_torchs_adamw_on_singular_values() -> None:
    """The decay pulls the values themselves towards 0, which the change alone would not show."""
    given = with_pixels()
    method = adapter("clip_svd", steps_per_shot=3, lr=0.02, weight_decay=0.5, most_epochs=0)
    (state,) = method._learn([given])
    factors = clip_svd.factors_of(given.backbone)
    value = {n: each.value_JME.clone().requires_grad_() for n, each in factors.items()}
    optimiser = torch.optim.AdamW(list(value.values()), lr=1, weight_decay=0.5)
    vision, texts = given.backbone.vision, ClassTexts.of(given.target)
    plan = _in_the_loop.by_steps(given, method.training, method.crops)
    read = _views.inputs(given, vision, 0, method.crops, plan.rows_TB, 64)
    for rows_B, rate in zip(plan.rows_TB, plan.rate_T.tolist(), strict=True):
        whole = {
            name: (each.left_JMAE * value[name].unsqueeze(-2) @ each.right_JMEB).flatten(1, 2)
            for name, each in factors.items()
        }
        weights = {
            f"{name.split('/')[0]}/{layer}/{name.split('/')[1]}": weight
            for name, stacked in whole.items()
            for layer, weight in enumerate(stacked)
        }
        image_BD = _weights.image_features(vision, 0, read(rows_B), weights)
        text_KD = _weights.text_features(texts, weights)
        loss = F.cross_entropy(
            given.backbone.logit_scale * image_BD @ text_KD.T,
            given.support.labels_N[rows_B % len(given.support)],
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    for name, each in factors.items():
        ours = each.value_JME + state[name]
        torch.testing.assert_close(ours, value[name].detach(), rtol=0, atol=1e-9)


# --- mma


def test_a_branch_is_small_in_values_and_not_in_gradients() -> None:
    given = with_pixels()
    tower, parts = given.backbone.vision, adapter("mma")._start(given)
    parts = {name: noise(part, i, 0.3) for i, (name, part) in enumerate(parts.items())}

    def gradients(beside: Any) -> tuple[Tensor, Tensor, Tensor]:
        up = parts["vision/up.weight"].clone().requires_grad_()
        h_NLE = noise(torch.zeros(2, 5, 32), 9).requires_grad_()
        y_NLE = beside({**parts, "vision/up.weight": up}, h_NLE)
        loss = (y_NLE * noise(y_NLE, 5)).sum()
        return (y_NLE, *torch.autograd.grad(loss, [up, h_NLE]))

    def plain(own: Any, h_NLE: Tensor) -> Tensor:
        for name in ("vision/down", "shared"):
            h_NLE = F.relu(h_NLE @ own[f"{name}.weight"][1].T + own[f"{name}.bias"][1])
        return 0.001 * (h_NLE @ own["vision/up.weight"][1].T + own["vision/up.bias"][1])

    def ours(own: Any, h_NLE: Tensor) -> Tensor:
        return mma.Branches(tower, "vision", own, 0.001).beside(1, h_NLE)

    (y, up, h), (plain_y, plain_up, plain_h) = gradients(ours), gradients(plain)
    torch.testing.assert_close(y, plain_y, rtol=0, atol=1e-15)
    torch.testing.assert_close(up, 1000 * plain_up, rtol=1e-9, atol=0)
    torch.testing.assert_close(h, plain_h, rtol=1e-9, atol=1e-18)


def test_without_its_output_the_branch_is_not_there() -> None:
    given, images = with_pixels(), toy.held_out().images
    start = adapter("mma")._start(given)
    silent = {name: part * ("/up" not in name) for name, part in start.items()}
    with_QK, without_QK = (
        adapter("mma").predictor(state, given.target)(images) for state in (start, silent)
    )
    pixels = next(images.pixels(64))
    exact_QK = given.backbone.encode_pixels(pixels) @ given.text_features().T
    torch.testing.assert_close(
        without_QK, given.backbone.logit_scale * exact_QK, rtol=0, atol=1e-10
    )
    assert 0 < (with_QK - without_QK).abs().max() < 1


@pytest.fixture(scope="module")
def uneven() -> Episode:
    """Of towers of 4 and 2 blocks that are 32 and 24 wide, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = open_clip.CLIP(
            embed_dim=16,
            vision_cfg={
                "image_size": toy.IMAGE_PX,
                "layers": 4,
                "width": 32,
                "patch_size": 8,
                "head_width": 16,
            },
            text_cfg={
                "context_length": 16,
                "vocab_size": 49408,
                "width": 24,
                "heads": 2,
                "layers": 2,
            },
        )
    return replace(toy.episode(2), backbone=from_model(model.double(), "uneven"))


def test_branches_start_with_the_noise_of_their_output(uneven: Episode) -> None:
    start = adapter("mma", width=16)._start(uneven)
    spread = {name: float(part.std()) for name, part in start.items() if "weight" in name}
    expected = {
        "shared.weight": (2 / 16) ** 0.5,
        "vision/down.weight": (2 / 16) ** 0.5,
        "vision/up.weight": (2 / 32) ** 0.5,
        "text/down.weight": (2 / 16) ** 0.5,
        "text/up.weight": (2 / 24) ** 0.5,
    }
    assert spread == pytest.approx(expected, rel=0.08)
    assert not any(part.any() for name, part in start.items() if "bias" in name)


def test_mma_is_a_plain_loop_in_float64(uneven: Episode) -> None:
    """Branches beside 3 of 4 and 2 of 2 blocks; equally far from the output they share a map."""
    scale, given = 0.05, uneven
    method = adapter("mma", width=16, scale=scale, epochs="2", batch_size=3, lr=0.05)
    (state,) = method._learn([given])
    parts = {n: p.clone().requires_grad_() for n, p in method._start(given).items()}
    backbone: Any = given.backbone
    model, vision = backbone.model, backbone.vision
    rows_TB = _in_the_loop.by_epochs(given, method.training, method.crops, 1e-5).rows_TB
    read = _views.inputs(given, vision, 0, method.crops, rows_TB, 64)
    ids_KL = backbone.text.tokenize(["a photo of a cat.", "a photo of a dog."])
    ids_KL = torch.cat([ids_KL, backbone.text.tokenize(["a photo of a old car."])])

    def beside(side: str, from_end: int, x_NLE: Tensor) -> Tensor:
        """Values of a branch `scale` times, its gradient once, what it hands down `scale` times."""
        h_NLE = scale * x_NLE + (1 - scale) * x_NLE.detach()
        for name in (f"{side}/down", "shared"):
            weight, bias = parts[f"{name}.weight"], parts[f"{name}.bias"]
            h_NLE = F.relu(h_NLE @ weight[-from_end].T + bias[-from_end])
        weight, bias = parts[f"{side}/up.weight"], parts[f"{side}/up.bias"]
        y_NLE = h_NLE @ weight[-from_end].T + bias[-from_end]
        return y_NLE + (scale * y_NLE - y_NLE).detach()

    def image_features(x_NLE: Tensor) -> Tensor:
        for layer, block in enumerate(vision.blocks):
            extra = beside("vision", 4 - layer, block.ln_1(x_NLE)) if layer else 0.0
            x_NLE = block(x_NLE) + extra
        return F.normalize(vision.finish(x_NLE), dim=1)

    def text_features() -> Tensor:
        length = ids_KL.shape[1]
        x_KLE = model.token_embedding(ids_KL) + model.positional_embedding[:length]
        for layer, block in enumerate(model.transformer.resblocks):
            extra = beside("text", 2 - layer, block.ln_1(x_KLE))
            x_KLE = block(x_KLE, attn_mask=model.attn_mask[:length, :length]) + extra
        read_out = model.ln_final(x_KLE[torch.arange(3), ids_KL.argmax(1)])
        return F.normalize(read_out @ model.text_projection, dim=1)

    optimiser = torch.optim.SGD(list(parts.values()), lr=1, momentum=0.9, weight_decay=5e-4)
    for rows_B, rate in zip(rows_TB, [0.05, 0.05, 0.025, 0.025], strict=True):
        logits_BK = backbone.logit_scale * image_features(read(rows_B)) @ text_features().T
        optimiser.zero_grad()
        F.cross_entropy(logits_BK, given.support.labels_N[rows_B % len(given.support)]).backward()
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    start = method._start(given)
    for name, part in parts.items():
        torch.testing.assert_close(state[name], part.detach(), rtol=0, atol=1e-9)
        assert (state[name] - start[name]).abs().max() > 1e-5
    images = toy.held_out().images
    with torch.no_grad():
        image_QD = image_features(vision.start(next(images.pixels(64)).double()))
        exam_QK = backbone.logit_scale * image_QD @ text_features().T
    ours_QK = method.predictor(state, given.target)(images)
    torch.testing.assert_close(ours_QK, exam_QK, rtol=0, atol=1e-9)


# --- cocoop


def test_cocoop_plans_a_size_of_batch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[int] = []
    monkeypatch.setattr(cocoop, "_plan", lambda prompts, ctx_PE, images: planned.append(images))
    method = adapter("cocoop", epochs="1", batch_size=2)
    method.fit_batch([replace(toy.episode(2, seed=seed), notes={}) for seed in (1, 2)])
    assert planned == [2]


def test_cocoop_without_its_net_is_coop_and_with_it_each_image_has_its_own_prompts() -> None:
    given = with_features()
    parts = adapter("cocoop")._start(given)
    image_BD = given.support.images.features()
    scale, prompts = given.backbone.logit_scale, given.backbone.class_prompts(given.class_names, 4)
    silent = {name: part * (not name.startswith("up")) for name, part in parts.items()}
    silent_BK = cocoop.logits(prompts, silent, image_BD, scale)
    coop_BK = scale * image_BD @ prompts.encode(parts["ctx_PE"]).T
    torch.testing.assert_close(silent_BK, coop_BK, rtol=0, atol=1e-10)
    bias_BE = (
        torch.relu(image_BD @ parts["down.weight"].T + parts["down.bias"]) @ parts["up.weight"].T
        + parts["up.bias"]
    )
    expected_BK = torch.stack(
        [
            scale * prompts.encode(parts["ctx_PE"] + bias_E) @ image_D
            for image_D, bias_E in zip(image_BD, bias_BE, strict=True)
        ]
    )
    ours_BK = cocoop.logits(prompts, parts, image_BD, scale)
    torch.testing.assert_close(ours_BK, expected_BK, rtol=0, atol=1e-10)
    assert (ours_BK - coop_BK).abs().max() > 0.01
