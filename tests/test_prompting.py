"""Class prompts equal the naive whole-prompt tower: features and gradients, in every arrangement."""

from __future__ import annotations

import pytest
import torch

from benchmark.api import UserError
from benchmark.clip import from_model
from benchmark.prompting import ClassPrompts
from tests import naive_clip

torch.set_num_threads(1)

NAMES = ["cat", "golden retriever", "a (very) odd thing", "cat", "golden_retriever puppy", "Airbus A340-300", "x-ray", "pull_ups", "e.g."]


@pytest.fixture(scope="module")
def model():
    return naive_clip.small_clip()


def tower_of(model):
    return from_model(model, "small").text


def context(shape, seed=1, dtype=torch.float32):
    return (0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype).requires_grad_()


def gradients(text, ctx):
    weights = torch.randn(text.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(text.dtype)
    return torch.autograd.grad((text * weights).sum(), ctx)[0]


def relative(a, b):
    return float((a - b).detach().abs().max() / b.detach().abs().max())


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_features_and_gradients_equal_the_naive_tower(position, class_specific, dtype, tolerance, quick_gelu):
    model = naive_clip.small_clip(quick_gelu=quick_gelu).to(dtype)
    prompts = ClassPrompts.build(tower_of(model), NAMES, 5, position, class_specific=class_specific)
    ctx = context(prompts.ctx_shape, dtype=dtype)
    ours, naive = prompts.encode(ctx), naive_clip.text_features(model, NAMES, ctx, position)
    assert relative(ours, naive) < tolerance
    assert relative(gradients(ours, ctx), gradients(naive, ctx)) < tolerance


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_runs_in_lockstep_equal_runs_one_by_one(model, position, class_specific):
    prompts = ClassPrompts.build(tower_of(model), NAMES, 4, position, class_specific=class_specific)
    ctx = context((3, *prompts.ctx_shape))
    together = prompts.encode(ctx)
    alone = torch.stack([prompts.encode(one) for one in ctx])
    assert together.shape == (3, len(NAMES), 24)
    assert relative(together, alone) < 1e-5
    assert relative(gradients(together, ctx), gradients(alone, ctx)) < 1e-5


def test_words_give_the_zero_shot_prompt(model):
    backbone = from_model(model, "small")
    prompts = ClassPrompts.build(backbone.text, NAMES, 4)
    zero_shot = backbone.encode_texts([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
    assert relative(prompts.encode(prompts.words("a_photo of a")), zero_shot) < 1e-5
    with pytest.raises(UserError, match="3 tokens"):
        prompts.words("a photo of")


def test_side_terms_run_through_shared_tokens(model):
    def side(layer, x, attn):
        return (attn + torch.relu(x @ terms[layer].T) @ terms[layer]) * 1.1

    terms = context((3, 6, 32))
    prompts = ClassPrompts.build(tower_of(model), NAMES, 4, "front")
    ctx = context(prompts.ctx_shape, seed=2)
    ours, naive = prompts.encode(ctx, side=side), naive_clip.text_features(model, NAMES, ctx, "front", side)
    assert relative(ours, naive) < 1e-5
    for leaf in (ctx, terms):
        assert (
            relative(
                gradients(ours, leaf) if leaf is terms else torch.autograd.grad(ours.sum(), ctx, retain_graph=True)[0],
                gradients(naive, leaf) if leaf is terms else torch.autograd.grad(naive.sum(), ctx, retain_graph=True)[0],
            )
            < 1e-4
        )


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_a_small_budget_changes_nothing_but_time(model, position):
    whole = ClassPrompts.build(tower_of(model), NAMES, 4, position)
    tight = ClassPrompts.build(tower_of(model), NAMES, 4, position, budget_mb=0.25)
    ctx = context((2, *whole.ctx_shape))
    assert max(count for count, _ in tight.encoder.plans) > 1
    assert relative(tight.encode(ctx), whole.encode(ctx)) < 1e-5
    assert relative(gradients(tight.encode(ctx), ctx), gradients(whole.encode(ctx), ctx)) < 1e-5
