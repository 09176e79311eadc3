"""APT against an independent float64 twin, its gradients, its causality, its counts; and the open
towers it shares with VPT and LoRA.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _blocks, _in_the_loop, _rows, _views, apt, clip_lora
from adapters._settings import Crops
from benchmark.api import Crop, Episode, ImageSet, Labelled, UserError
from benchmark.backbones.clip import OpenClip, from_model
from benchmark.backbones.prompting import shared_prefix
from benchmark.conformance import toy
from benchmark.training.narrow import narrowed
from testbed.toy_on import Place
from tests.toy64 import adapter, double

Parts = Mapping[str, Tensor]


def random_parts(
    touched: int, width: int, *, gated: bool, n_prompts: int = 5, seed: int = 0
) -> dict[str, Tensor]:
    """Parameters far from their start, in float64."""
    rng = torch.Generator().manual_seed(seed)
    shapes = {
        name: part.shape
        for name, part in apt.modules(
            toy.backbone(), touched, n_prompts, width, 2, 0.1, gated=gated, rng=rng
        ).items()
    }
    return {
        name: 0.4 * torch.randn(shape, generator=rng, dtype=torch.float64)
        for name, shape in shapes.items()
    }


# --- the twin: numpy, one image, one block after the other, straight from the formulas


def norm(x: np.ndarray, module: Any) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + module.eps) * array(
        module.weight
    ) + array(module.bias)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def attention(x: np.ndarray, attn: Any) -> np.ndarray:
    width = attn.embed_dim // attn.num_heads
    q, k, v = np.split(x @ array(attn.in_proj_weight).T + array(attn.in_proj_bias), 3, axis=-1)
    heads = []
    for head in range(attn.num_heads):
        part = slice(head * width, (head + 1) * width)
        score = np.exp(q[:, part] @ k[:, part].T / np.sqrt(width))
        heads.append(score / score.sum(1, keepdims=True) @ v[:, part])
    return np.concatenate(heads, 1) @ array(attn.out_proj.weight).T + array(attn.out_proj.bias)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + torch.erf(torch.from_numpy(x) / 2**0.5).numpy())


def approximated(
    x: np.ndarray, attn: np.ndarray, parts: Mapping[str, np.ndarray], j: int
) -> np.ndarray:
    """One token after the other."""
    prompts, down, up = parts["prompt_JTE"][j], parts["down_JRE"][j], parts["up_JER"][j]
    gate = parts["gate_J"][j] if "gate_J" in parts else 1.0
    out = np.empty_like(attn)
    for i, token in enumerate(x):
        weights = [max(0.0, token @ (prompt + up @ (down @ prompt))) for prompt in prompts]
        diffused = sum(weight * prompt for weight, prompt in zip(weights, prompts, strict=True))
        out[i] = (attn[i] + gate * max(weights) * diffused) * np.exp(parts["scale_J"][j])
    return out


def twin_features(model: OpenClip, pixels_CHW: Tensor, parts: Parts, first: int) -> np.ndarray:
    visual: Any = model.model.visual
    x = array(model.vision.start(pixels_CHW[None])[0])
    for layer, block in enumerate(model.vision.blocks):
        b: Any = block
        h = norm(x, b.ln_1)
        attn = attention(h, b.attn)
        if layer >= first:
            attn = approximated(
                h, attn, {name: array(part) for name, part in parts.items()}, layer - first
            )
        x = x + attn
        hidden = gelu(norm(x, b.ln_2) @ array(b.mlp.c_fc.weight).T + array(b.mlp.c_fc.bias))
        x = x + hidden @ array(b.mlp.c_proj.weight).T + array(b.mlp.c_proj.bias)
    feature = norm(x, visual.ln_post)[0] @ array(visual.proj)
    return feature / np.linalg.norm(feature)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("first", [0, 1])
def test_the_module_is_its_twin(gated: bool, first: int) -> None:
    model, pixels = double(), toy.patterns(3).double()
    parts = random_parts(2 - first, 32, gated=gated)
    with torch.no_grad():
        x_NLE = _blocks.below(model.vision, first, pixels)
        changes = _blocks.Changes(side=apt.side_term(parts, first))
        image_ND = _blocks.image_features(model.vision, first, x_NLE, changes)
    twin_ND = np.stack([twin_features(model, each, parts, first) for each in pixels])
    plain_ND = model.encode_pixels(pixels)
    # unit features come as float32
    np.testing.assert_allclose(image_ND.numpy(), twin_ND, atol=3e-7)
    assert np.abs(plain_ND.numpy() - twin_ND).max() > 0.01, (
        "the module is meant to do something here"
    )


@pytest.mark.parametrize("gated", [True, False])
def test_gradients_are_those_of_the_formula_with_its_weight_held(gated: bool) -> None:
    """The factor w passes no gradient, so it is held at its value while everything else is moved by
    a little.
    """
    parts = random_parts(1, 6, gated=gated, n_prompts=3)
    rng = torch.Generator().manual_seed(1)
    x_NLE, attn_NLE, probe_NLE = torch.randn(3, 2, 4, 6, generator=rng, dtype=torch.float64)

    def keys(parts: Parts) -> Tensor:
        return (
            parts["prompt_JTE"][0]
            + parts["prompt_JTE"][0] @ parts["down_JRE"][0].T @ parts["up_JER"][0].T
        )

    held_NL1 = (x_NLE @ keys(parts).T).relu().amax(-1, keepdim=True)

    def frozen(parts: Parts) -> Tensor:
        gate = parts["gate_J"][0] if gated else 1.0
        diffused = (x_NLE @ keys(parts).T).relu() @ parts["prompt_JTE"][0]
        return (
            (attn_NLE + gate * held_NL1 * diffused) * parts["scale_J"][0].exp() * probe_NLE
        ).sum()

    leaves = {name: part.clone().requires_grad_() for name, part in parts.items()}
    (apt.side_term(leaves, 0)(0, x_NLE, attn_NLE) * probe_NLE).sum().backward()
    for name, part in parts.items():
        for index in range(part.numel()):
            moved = [frozen(parts | {name: nudged(part, index, step)}) for step in (1e-6, -1e-6)]
            numeric = float(moved[0] - moved[1]) / 2e-6
            assert float(leaves[name].grad.flatten()[index]) == pytest.approx(
                numeric, rel=1e-5, abs=1e-7
            ), name


def nudged(part: Tensor, index: int, step: float) -> Tensor:
    moved = part.clone()
    moved.view(-1)[index] += step
    return moved


# --- the text side


def text_states(model: OpenClip, x_NLE: Tensor, parts: Parts) -> Tensor:
    """All rows after all blocks, full length; each block is the tower's but for the side term."""
    changes, mask = _blocks.Changes(side=apt.side_term(parts, 0)), model.text.mask
    for layer, block in enumerate(model.text.blocks):
        x_NLE = _blocks.run_block(block, layer, x_NLE, changes, mask_LL=mask)
    return x_NLE


@torch.no_grad()
def test_a_text_token_sees_nothing_that_follows_it() -> None:
    model, parts = double(), random_parts(2, 32, gated=True)
    x_NLE = model.text.start(model.text.tokenize(["a photo of an old car."]))
    states_LE = text_states(model, x_NLE, parts)[0]
    for row in (1, 4, 20):
        moved_NLE = x_NLE.clone()
        moved_NLE[0, row] += torch.randn(
            32, generator=torch.Generator().manual_seed(row), dtype=torch.float64
        )
        changed_L = (text_states(model, moved_NLE, parts)[0] - states_LE).abs().amax(1)
        assert changed_L[:row].max() == 0
        assert changed_L[row:].min() > 1e-9


def test_the_shared_prompts_give_what_the_full_tower_gives() -> None:
    """Forward and backward: the text engine's shared tokens stay exact under a term that mixes
    none.
    """
    model = double()
    texts = [f"a photo of a {name}." for name in ("cat", "old car", "house plant")]
    leaves = {name: part.requires_grad_() for name, part in random_parts(2, 32, gated=True).items()}
    ids_NL = model.text.tokenize(texts)
    whole_ND = model.text.finish(text_states(model, model.text.start(ids_NL), leaves), ids_NL)
    whole_ND = whole_ND / whole_ND.norm(dim=1, keepdim=True)
    shared_ND = model.whole_prompts(texts).encode(side=apt.side_term(leaves, 0))
    torch.testing.assert_close(shared_ND, whole_ND, rtol=0, atol=1e-12)
    probe_ND = torch.randn(
        whole_ND.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    wanted, got = (
        torch.autograd.grad((out * probe_ND).sum(), list(leaves.values()))
        for out in (whole_ND, shared_ND)
    )
    for name, a, b in zip(leaves, wanted, got, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11, msg=name)


# --- counts and choices


def test_the_published_size_is_the_closed_form() -> None:
    with torch.device("meta"):
        vit: Any = open_clip.model._build_vision_tower(
            512, open_clip.CLIPVisionCfg(**open_clip.get_model_config("ViT-B-16")["vision_cfg"])
        )
    depth, width = len(vit.transformer.resblocks), vit.transformer.resblocks[0].ln_1.weight.shape[0]
    parts = apt.modules(
        toy.backbone(), depth, 200, width, 4, 0.02, gated=False, rng=torch.Generator()
    )
    assert (
        sum(part.numel() for part in parts.values())
        == 12 * (200 * 768 + 2 * 4 * 768 + 1)
        == 1_916_940
    )


@pytest.mark.parametrize("side", ["vision", "text", "both"])
@pytest.mark.parametrize("layers", [0, 1])
def test_what_is_trained_is_counted(side: str, layers: int) -> None:
    given = toy.episode(1)
    adapter("apt", side=side, epochs="1", n_prompts=3, rank=2, layers=layers).fit(given)
    per_block = 3 * 32 + 2 * 2 * 32 + 2
    assert given.notes["trainable_params"] == per_block * (layers or 2) * (
        2 if side == "both" else 1
    )


def test_the_papers_start_is_not_zero_shot() -> None:
    given, images = toy.episode(1), toy.held_out().images
    zero_QK, paper_QK = (
        adapter("apt", epochs="0", init=init).fit(given)(images) for init in ("zero", "paper")
    )
    assert (zero_QK - paper_QK).abs().max() > 1e-4


@pytest.mark.parametrize(
    "method",
    [
        adapter("apt", layers=3),
        adapter("vpt", layers=3),
        adapter("cones_finetune", layers=3, epochs="0"),
    ],
)
def test_more_layers_than_there_are_is_said(method: Any) -> None:
    with pytest.raises(UserError, match="has 2 blocks"):
        method.fit(toy.episode(1))


def resnet() -> OpenClip:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vision = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}
        text = {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
        return from_model(
            open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text), "small resnet"
        )


@pytest.mark.parametrize(
    ("method", "way_out"),
    [
        (adapter("apt"), "side=text"),
        (adapter("vpt"), "coop"),
        (adapter("clip_lora"), "coop"),
        (adapter("cones_finetune"), "cones"),
    ],
)
def test_a_tower_without_blocks_is_declined_with_a_way_out(method: Any, way_out: str) -> None:
    with pytest.raises(UserError, match=way_out):
        method.fit(dataclasses.replace(toy.episode(1), backbone=resnet()))


def test_a_resnet_takes_approximated_prompts_on_its_text_side() -> None:
    given = dataclasses.replace(toy.episode(2), backbone=resnet())
    assert adapter("apt", side="text", epochs="2").fit(given)(toy.held_out().images).shape == (
        30,
        3,
    )


# --- what the methods in the loop share


def test_one_row_of_the_last_block_is_all_it_takes() -> None:
    """Features and gradients against the tower's own forward pass, which computes every row."""
    model, pixels = double(), toy.patterns(3).double()
    shift_E = torch.zeros(32, dtype=torch.float64, requires_grad=True)
    short_ND = _blocks.image_features(
        model.vision, 0, model.vision.start(pixels) + shift_E, _blocks.Changes()
    )
    x_NLE = model.vision.start(pixels) + shift_E
    for block in model.vision.blocks:
        x_NLE = block(x_NLE)
    long_ND = model.vision.finish(x_NLE)
    long_ND = long_ND / long_ND.norm(dim=1, keepdim=True)
    torch.testing.assert_close(short_ND.double(), long_ND, rtol=0, atol=1e-6)
    (short_E,), (long_E,) = (
        torch.autograd.grad(out[:, 0].sum(), shift_E) for out in (short_ND, long_ND)
    )
    torch.testing.assert_close(short_E, long_E, rtol=1e-5, atol=1e-6)


@dataclasses.dataclass
class Counter:
    decoded: int = 0

    def watch(self, given: Episode) -> Episode:
        images = given.support.images

        def decode(index_N: Tensor, crop: Crop | None, seeds: Sequence[int] | None) -> Tensor:
            self.decoded += len(index_N)
            return images.decode(index_N, crop, seeds)

        counted = ImageSet(len(images), images.encode, decode)
        return dataclasses.replace(given, support=Labelled(counted, given.support.labels_N))


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("name", ["apt", "vpt"])
def test_kept_inputs_change_no_number_and_are_computed_once(name: str, layers: int) -> None:
    outcomes = []
    for keep_mb in (0, 64):
        counter = Counter()
        predict = adapter(name, layers=layers, epochs="6", views=2, keep_mb=keep_mb).fit(
            counter.watch(toy.episode(2))
        )
        outcomes.append((counter.decoded, predict(toy.held_out().images)))
    (anew, anew_QK), (once, once_QK) = outcomes
    assert torch.equal(anew_QK, once_QK)
    extra = 1 if name == "vpt" else 0  # VPT looks at one picture for its size
    extra += 1  # one view tells how large all of them are
    assert (anew, once) == (6 * 6 + extra, 2 * 6 + extra)


def test_fresh_views_differ_from_epoch_to_epoch() -> None:
    given = toy.episode(1)
    crops = Crops(views=0, min_scale=0.5)
    read = _views.inputs(
        given, toy.backbone().vision, 0, crops, torch.arange(6)[:, None], keep_mb=64
    )
    first, second = read(torch.tensor([0])), read(torch.tensor([3]))  # image 0 in epochs 0 and 1
    assert not torch.equal(first, second)
    assert torch.equal(first, read(torch.tensor([0])))


def test_rates_rise_and_fall_and_never_rest() -> None:
    rate_T = _in_the_loop.rates(1.0, 0.1, 20)
    assert rate_T.argmax() in (1, 2)
    assert (rate_T > 0).all()
    assert rate_T[-1] == pytest.approx(1 / 18)


def test_deep_prompts_are_put_in_anew_and_shallow_ones_stay() -> None:
    x_NLE, prompt_JTE = (
        torch.zeros(2, 5, 32),
        torch.ones(2, 3, 32) * torch.tensor([1.0, 2.0])[:, None, None],
    )
    deep, shallow = _rows.Rows(prompt_JTE).enter, _rows.Rows(prompt_JTE[:1]).enter
    once = deep(0, x_NLE)
    assert [float(v) for v in once[0, :, 0]] == [0, 1, 1, 1, 0, 0, 0, 0]
    assert [float(v) for v in deep(1, once + 5)[0, :, 0]] == [5, 2, 2, 2, 5, 5, 5, 5]
    assert torch.equal(shallow(1, once), once)


def test_merged_weights_are_the_updates_beside_the_weights() -> None:
    model, rng = double(), torch.Generator().manual_seed(0)
    parts = {
        f"{name}/{key}": 0.3 * torch.randn(2, 3, *shape, generator=rng, dtype=torch.float64)
        for name in ("vision", "text")
        for key, shape in (("down_J3RE", (2, 32)), ("up_J3ER", (32, 2)))
    }
    pixels = toy.patterns(3).double()
    beside = clip_lora._Updated(model.vision, "vision", parts, 0.7, 0.0, 1, torch.zeros(1).long())
    with torch.no_grad():
        beside_ND = _blocks.image_features(
            model.vision, 0, model.vision.start(pixels), _blocks.Changes(attend=beside.attend)
        )
        within_ND = clip_lora.merged(model, parts, 0.7).encode_pixels(pixels)
    torch.testing.assert_close(beside_ND, within_ND, rtol=0, atol=1e-6)
    assert (within_ND - model.encode_pixels(pixels)).abs().max() > 0.01


def test_large_weights_do_not_overflow_in_float16() -> None:
    """Weights are squares of products of rows and keys; above 256 they leave float16's range."""
    rng = torch.Generator().manual_seed(0)
    parts = apt.modules(toy.backbone(), 1, 4, 32, 2, 0.02, gated=False, rng=rng)
    x_NLE = 2500 * torch.randn(2, 5, 32, generator=rng)
    attn_NLE = torch.randn(2, 5, 32, generator=rng)
    assert float((x_NLE @ parts["prompt_JTE"][0].mT).max()) > 300
    exact = apt.side_term(parts, 0)(0, x_NLE, attn_NLE)
    half = {name: part.half() for name, part in parts.items()}
    ours = apt.side_term(half, 0)(0, x_NLE.half(), attn_NLE.half())
    assert ours.dtype == torch.float32
    assert float((ours.float() - exact).norm() / exact.norm()) < 0.01


def test_a_state_too_long_for_float16_is_read_as_in_float32() -> None:
    rng = torch.Generator().manual_seed(0)
    x_NE = torch.randn(3, 64, generator=rng) * torch.tensor([[1.0], [1e5], [1e8]])
    x_NE.requires_grad_()
    ours = narrowed(x_NE, torch.float16)
    assert ours.isfinite().all()
    assert torch.equal(ours[0], x_NE[0].half())
    slope_NE = torch.randn(3, 64, generator=rng)
    read, exact = F.layer_norm(ours.float(), (64,)), F.layer_norm(x_NE, (64,))
    torch.testing.assert_close(read, exact, rtol=0, atol=5e-3)
    gradients = [torch.autograd.grad((each * slope_NE).sum(), x_NE)[0] for each in (read, exact)]
    lengths_N = gradients[1].norm(dim=1)
    assert ((gradients[0] - gradients[1]).norm(dim=1) / lengths_N < 5e-3).all()
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(narrowed(x_NE, dtype), x_NE.to(dtype))


def test_apt_in_float16_trains_where_its_states_leave_float16s_range(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its term grows with the cube of the prompts: at this rate it passes 65504 in both towers."""
    method, losses = adapter("apt", epochs="12", views=2, lr=0.3), []
    for precision in ("float32", "float16"):
        place = Place("cpu", precision)
        episode = place.episode()
        assert place.predicted(method.fit(episode)).isfinite().all()
        losses.append(episode.notes["final_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert episode.notes["steps_left_out"] < 3
    for module in (_blocks, shared_prefix):
        monkeypatch.setattr(module, "narrowed", lambda x, dtype: x.to(dtype))
    with pytest.raises(UserError, match="the loss is nan"):
        method.fit(place.episode())
