"""Class prompts equal the naive whole-prompt tower, features and gradients, in every arrangement;
and their refusals.
"""

from __future__ import annotations

from functools import cache

import open_clip
import pytest
import torch

from benchmark.api import UserError
from benchmark.backbones.clip import from_model
from benchmark.backbones.prompting import OpenClipPrompts, shared_prefix
from benchmark.backbones.prompting.tiles import tiling
from benchmark.backbones.prompting.tree import PromptTree
from benchmark.data import read_spec
from testbed import naive_clip
from testbed.dispatch import Watched

# Equal names, equal after the underscore is read, beginnings shared by several, one to a dozen
# tokens, and endings such as ")." that are one token where the name alone has ")".
NAMES = (
    "cat",
    "golden retriever",
    "a (very) odd thing (odd)",
    "cat",
    "golden_retriever",
    "golden retriever puppy",
    "Airbus A340-300",
    "x-ray",
    "2012 Hyundai Genesis Sedan",
    "2012 Hyundai Genesis Coupe",
    "2012 Honda Odyssey Minivan with a very long name indeed",
    "e.g.",
    "golden eagle",
)
BOTH = [False, True]
POSITIONS = ["end", "middle", "front"]


@cache
def small(quick_gelu=True, dtype=torch.float32, **text):
    return naive_clip.small_clip(quick_gelu=quick_gelu, **text).to(dtype)


def tower(model=None):
    return from_model(model or small(), "small").text


def context(*shape, seed=1, dtype=torch.float32):
    return (
        (
            0.3
            * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        )
        .to(dtype)
        .requires_grad_()
    )


def slope(text, *leaves):
    """Gradients of a fixed random projection of the features."""
    weights = torch.randn(
        text.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    ).to(text)
    return torch.autograd.grad((text * weights).sum(), leaves)


def gap(a, b):
    """Largest difference relative to the largest number."""
    return float((a - b).detach().abs().max() / b.detach().abs().max())


def assert_equal(ours, truth, *leaves, tolerance=1e-5):
    assert ours.shape == truth.shape
    assert gap(ours, truth) < tolerance
    for mine, right in zip(slope(ours, *leaves), slope(truth, *leaves), strict=True):
        assert gap(mine, right) < tolerance


@pytest.mark.parametrize("quick_gelu", BOTH)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("class_specific", BOTH)
@pytest.mark.parametrize("position", POSITIONS)
def test_features_and_gradients_equal_the_naive_tower(
    position, class_specific, dtype, tolerance, quick_gelu
):
    model = small(quick_gelu, dtype)
    prompts = OpenClipPrompts.build(tower(model), NAMES, 5, position, class_specific=class_specific)
    ctx = context(*prompts.ctx_shape, dtype=dtype)
    assert_equal(
        prompts.encode(ctx),
        naive_clip.text_features(model, NAMES, ctx, position),
        ctx,
        tolerance=tolerance,
    )


@pytest.mark.parametrize(
    ("names", "n_ctx", "position"),
    [
        (("cat",), 1, "end"),
        (("cat",), 3, "front"),
        (("cat", "cat"), 1, "middle"),
        (NAMES, 60, "end"),  # the longest prompt fills the tower to its last position
        (
            [
                f"{a} {b}"
                for a in ("red", "blue", "very large", "x")
                for b in ("cat", "dog", "old house")
            ]
            * 2,
            16,
            "middle",
        ),
    ],
)
def test_equality_holds_at_the_edges(names, n_ctx, position):
    prompts = OpenClipPrompts.build(tower(), names, n_ctx, position)
    ctx = context(*prompts.ctx_shape)
    assert_equal(prompts.encode(ctx), naive_clip.text_features(small(), names, ctx, position), ctx)


def test_layer_scale_is_kept():
    model = small(ls_init_value=0.7)
    prompts = OpenClipPrompts.build(tower(model), NAMES, 4)
    assert prompts.encoder.layers
    ctx = context(*prompts.ctx_shape)
    assert_equal(prompts.encode(ctx), naive_clip.text_features(model, NAMES, ctx), ctx)


@pytest.mark.parametrize("class_specific", BOTH)
@pytest.mark.parametrize("position", POSITIONS)
def test_batched_runs_equal_runs_one_by_one(position, class_specific):
    prompts = OpenClipPrompts.build(tower(), NAMES, 4, position, class_specific=class_specific)
    ctx = context(3, *prompts.ctx_shape)
    assert_equal(prompts.encode(ctx), torch.stack([prompts.encode(each) for each in ctx]), ctx)


def descend(encode, ctx, image_BD, labels_B, steps=100):
    """SGD with momentum on CoOp's loss, by hand, so that runs cannot touch each other through an
    optimiser.
    """
    ctx, speed = ctx.detach().clone(), torch.zeros_like(ctx)
    for _ in range(steps):
        ctx.requires_grad_()
        logits = 20 * image_BD @ encode(ctx).transpose(-1, -2)
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, -2), labels_B.repeat(logits.shape[:-2].numel()), reduction="sum"
        )
        with torch.no_grad():
            speed = 0.9 * speed + torch.autograd.grad(loss, ctx)[0] / len(labels_B)
            ctx = ctx - 0.01 * speed
    return ctx


def test_a_hundred_steps_agree_batched_one_by_one_and_naively():
    model = small(context=32)
    prompts = OpenClipPrompts.build(tower(model), NAMES, 4)
    start = context(3, *prompts.ctx_shape)
    rng = torch.Generator().manual_seed(5)
    image_BD, labels_B = (
        torch.randn(8, 24, generator=rng),
        torch.randint(len(NAMES), (8,), generator=rng),
    )
    image_BD /= image_BD.norm(dim=1, keepdim=True)
    batched = descend(prompts.encode, start, image_BD, labels_B)
    assert gap(batched, start) > 0.1, "the contexts should have moved"
    assert (
        gap(
            batched,
            torch.stack([descend(prompts.encode, each, image_BD, labels_B) for each in start]),
        )
        < 1e-4
    )
    naive = descend(
        lambda ctx: naive_clip.text_features(model, NAMES, ctx), start[0], image_BD, labels_B
    )
    assert gap(batched[0], naive) < 1e-4


@pytest.mark.parametrize("keep_fixed", BOTH)
@pytest.mark.parametrize("size", [None, 16, 24, 96])
def test_every_row_sees_its_own_path_and_nothing_else(size, keep_fixed, monkeypatch):
    if size:
        monkeypatch.setattr("benchmark.backbones.prompting.tiles.TILE_SIZES", (size,))
        monkeypatch.setattr("benchmark.backbones.prompting.tiles.EVEN_TILES", 0)
    tree = PromptTree.grow(
        sorted(
            {
                (0, -1, -2, *map(ord, name), 999) if k % 3 else (0, *map(ord, name), -1, 999)
                for k, name in enumerate(NAMES)
            }
        )
    )
    path_of = {path[depth]: path[: depth + 1] for path in tree.paths for depth in range(len(path))}
    tiles = tiling(tree, range(len(tree.paths)), keep_fixed)
    own_NB = tiles.node_T.view(-1, tiles.tile)
    trunk = tiles.node_T[: tiles.trunk].tolist()
    for t, rows in enumerate(own_NB.tolist()):
        columns = tiles.fixed_NA[t].tolist() + trunk + rows
        for position, node in enumerate(rows):
            seen = [columns[s] for s in tiles.mask_NBS[t, position].nonzero().flatten().tolist()]
            assert sorted(seen) == sorted(path_of[node] if node >= 0 else [-1])
    assert [tiles.node_T[row] for row in tiles.read_K.tolist()] == [path[-1] for path in tree.paths]


def test_equal_prompts_are_computed_once_and_nothing_stands_after_the_end():
    once, thrice = (OpenClipPrompts.build(tower(), ["cat", "dog"] * times, 4) for times in (1, 3))
    rows = [
        sum(len(chunk.tokens_TE) for chunk in prompts.encoder.plan(1, True).chunks)
        for prompts in (once, thrice)
    ]
    assert rows == [10, 10]  # 4 context vectors, 2 x (name, ".", end); the start token is kept


@pytest.mark.parametrize(
    ("dataset", "position", "at_least"),
    [
        ("eurosat", "end", 12),
        ("caltech101", "end", 20),
        ("stanford_cars", "end", 12),  # 7 without sharing the beginnings of names
        ("sun397", "end", 19),
        ("caltech101", "middle", 6),
        ("caltech101", "front", 4),
    ],
)
def test_real_names_need_few_rows(dataset, position, at_least):
    names = read_spec(dataset).class_names
    plan = OpenClipPrompts.build(tower(), names, 16, position).encoder.plan(1, keep_fixed=True)
    assert 77 * len(names) / sum(len(chunk.tokens_TE) for chunk in plan.chunks) > at_least


def operations(encode, ctx):
    """How many operations that compute are dispatched: what a GPU's launches cost."""
    computed = []
    with Watched(lambda operation, arguments: computed.append(not operation.is_view)):
        slope(encode(ctx), ctx)
    return sum(computed)


def test_a_step_dispatches_fewer_operations_than_the_naive_one():
    ctx = context(4, 32)
    ours = operations(OpenClipPrompts.build(tower(), NAMES, 4).encode, ctx)
    assert ours < operations(lambda c: naive_clip.text_features(small(), NAMES, c), ctx)


def test_what_follows_the_end_is_never_read():
    prompts = OpenClipPrompts.build(tower(), NAMES, 4, "front")
    ctx = context(*prompts.ctx_shape)
    before = prompts.encode(ctx), naive_clip.text_features(small(), NAMES, ctx, "front")
    padded = naive_clip.small_clip()
    padded.token_embedding.weight.data[0] = 50.0
    after = (
        OpenClipPrompts.build(tower(padded), NAMES, 4, "front").encode(ctx),
        naive_clip.text_features(padded, NAMES, ctx, "front"),
    )
    assert torch.equal(before[0], after[0])
    assert gap(before[1], after[1]) < 1e-5


def test_a_vector_moves_only_what_comes_after_it():
    prompts = OpenClipPrompts.build(tower(), NAMES, 4, class_specific=True)
    ctx = context(*prompts.ctx_shape)
    moved = ctx.detach().clone()
    moved[3] += 1.0
    changed_K = (prompts.encode(ctx) != prompts.encode(moved)).any(1)
    # "cat" again, but with a context of its own
    assert changed_K.nonzero().flatten().tolist() == [3]


def test_words_give_the_zero_shot_prompt():
    backbone = from_model(small(), "small")
    prompts = OpenClipPrompts.build(backbone.text, NAMES, 4)
    zero_shot = backbone.encode_texts([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
    assert gap(prompts.encode(backbone.text.words("a_photo of a")), zero_shot) < 1e-5
    with pytest.raises(UserError, match="shape"):
        prompts.encode(backbone.text.words("a photo of"))


def side_term(terms):
    """A low-rank term per token and layer, as APT adds one."""
    return lambda layer, x, attn: (attn + torch.relu(x @ terms[layer].T) @ terms[layer]) * 1.1


@pytest.mark.parametrize("position", POSITIONS)
def test_side_terms_run_through_shared_tokens(position):
    prompts = OpenClipPrompts.build(tower(), NAMES, 4, position)
    ctx, terms = context(*prompts.ctx_shape, seed=2), context(3, 6, 32)
    naive = naive_clip.text_features(small(), NAMES, ctx, position, side_term(terms))
    assert_equal(prompts.encode(ctx, side=side_term(terms)), naive, ctx, terms)
    assert gap(prompts.encode(ctx), naive) > 1e-2, "without the term it is another tower"


@pytest.mark.parametrize("budget_mb", [None, 1.0])
def test_whole_texts_need_no_context(budget_mb):
    texts = [
        template.format(name)
        for template in ("a photo of a {}.", "{} texture.", "itap of the {}, a type of thing.")
        for name in NAMES
    ]
    prompts = OpenClipPrompts.from_texts(tower(), texts, budget_mb=budget_mb)
    terms = context(3, 6, 32)
    ids_KL = naive_clip.TOKENIZER(texts, context_length=77)
    naive = naive_clip.read_out(small(), small().token_embedding(ids_KL), ids_KL, side_term(terms))
    assert_equal(prompts.encode(side=side_term(terms)), naive, terms)
    assert gap(prompts.encode(), from_model(small(), "small").encode_texts(texts)) < 1e-5


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("position", POSITIONS)
def test_a_memory_budget_is_kept_and_changes_nothing_but_time(position, runs):
    model = small(width=128, heads=2, layers=8, context=40)
    whole, tight = (
        OpenClipPrompts.build(tower(model), NAMES, 4, position, budget_mb=budget_mb)
        for budget_mb in (None, 2.0)
    )
    ctx = context(runs, *whole.ctx_shape)
    assert_equal(tight.encode(ctx), whole.encode(ctx), ctx)
    plan = tight.encoder.plan(runs, keep_fixed=True)
    assert len(plan.chunks) > 1 or plan.at_once < runs
    for chunk in plan.chunks:
        part = ctx[: plan.at_once]
        assert (
            naive_clip.saved_mb(
                lambda c=chunk, x=part: shared_prefix.run(tight.encoder.layers, c, x), model
            )
            < 2.0
        )
    assert naive_clip.saved_mb(lambda: tight.encode(ctx), model) < 0.3
    assert naive_clip.saved_mb(lambda: whole.encode(ctx), model) > 2.0


def test_the_estimate_of_memory_is_near_the_truth():
    model = small(width=128, heads=2, layers=8, context=40)
    for precision in ("float32", "bfloat16"):
        prompts = OpenClipPrompts.build(
            tower(model), NAMES, 16, class_specific=True, precision=precision
        )
        ctx = context(*prompts.ctx_shape)
        measured = naive_clip.saved_mb(lambda p=prompts, x=ctx: p.encode(x), model)
        tiles = tiling(prompts.encoder.tree, range(len(NAMES)), keep_fixed=True)
        estimate = shared_prefix.footprint_mb(prompts.encoder.layers, tiles, 128)
        assert 0.5 * estimate < measured < estimate


def test_bfloat16_is_near_and_its_gradient_is_float32():
    exact, coarse = (
        OpenClipPrompts.build(tower(), NAMES, 4, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    ctx = context(*exact.ctx_shape)
    text, rough = exact.encode(ctx), coarse.encode(ctx)
    (right,), (mine,) = slope(text, ctx), slope(rough, ctx)
    assert rough.dtype == mine.dtype == torch.float32
    assert (text * rough).sum(1).min() > 0.999
    assert torch.cosine_similarity(right.flatten(), mine.flatten(), dim=0) > 0.99


def test_encoding_is_repeatable_and_leaves_the_tower_alone():
    prompts = OpenClipPrompts.build(tower(), NAMES, 4, "middle")
    ctx = context(*prompts.ctx_shape)
    before = [weight.clone() for weight in small().parameters()]
    first, second = slope(prompts.encode(ctx), ctx), slope(prompts.encode(ctx), ctx)
    assert torch.equal(first[0], second[0])
    assert all(weight.grad is None for weight in small().parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, small().parameters(), strict=True))


# Towers that cannot share take the plain path behind the same interface.


@pytest.mark.parametrize("position", POSITIONS)
def test_foreign_blocks_take_the_plain_path(position):
    model = small(scale_attn=True, context=24)
    prompts = OpenClipPrompts.build(
        tower(model), ["cat", "old dog"], 4, position, class_specific=True, budget_mb=4
    )
    ctx = context(2, *prompts.ctx_shape)
    naive = torch.stack(
        [naive_clip.text_features(model, ["cat", "old dog"], each, position) for each in ctx]
    )
    assert_equal(prompts.encode(ctx), naive, ctx)
    with pytest.raises(UserError, match="side terms"):
        prompts.encode(ctx, side=side_term(context(3, 6, 32)))
    with pytest.raises(UserError, match="bfloat16"):
        OpenClipPrompts.build(tower(model), NAMES[:1], 4, precision="bfloat16")


def words_only(texts, context_length):
    """A tokenizer unlike CLIP's: one token per word, no start, no end, padded with ones."""
    ids_NL = torch.ones(len(texts), context_length, dtype=torch.int64)
    for row_L, text in zip(ids_NL, texts, strict=True):
        ids = [2 + sum(map(ord, word)) % 90 for word in text.replace(".", " .").split()][
            :context_length
        ]
        row_L[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
    return ids_NL


def test_a_tower_without_a_causal_mask_takes_the_plain_path():
    torch.manual_seed(0)
    text_cfg = {
        "context_length": 16,
        "vocab_size": 100,
        "width": 32,
        "heads": 4,
        "layers": 2,
        "no_causal_mask": True,
        "pool_type": "last",
        "proj_bias": True,
    }
    vision_cfg = {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}
    backbone = from_model(
        open_clip.CustomTextCLIP(24, vision_cfg, text_cfg), "siglip-like", words_only
    )
    prompts = OpenClipPrompts.build(backbone.text, ["cat", "old dog"], 4)
    truth = backbone.encode_texts(["this is a big cat.", "this is a big old dog."])
    ctx = backbone.text.words("this is a big").requires_grad_()
    assert gap(prompts.encode(ctx), truth) < 1e-5
    assert slope(prompts.encode(ctx), ctx)[0].abs().min() > 0


def test_a_tower_with_a_class_token_is_refused():
    text_cfg = {
        "context_length": 16,
        "vocab_size": 49408,
        "width": 32,
        "heads": 4,
        "layers": 1,
        "embed_cls": True,
    }
    vision_cfg = {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}
    backbone = from_model(open_clip.CustomTextCLIP(24, vision_cfg, text_cfg), "coca-like")
    with pytest.raises(UserError, match="adds tokens"):
        OpenClipPrompts.build(backbone.text, ["cat"], 4)


def test_weights_that_are_trained_get_their_gradient():
    model = naive_clip.small_clip(context=16)
    weight = model.transformer.resblocks[1].mlp.c_fc.weight.requires_grad_()
    prompts = OpenClipPrompts.build(from_model(model, "small").text, ["cat", "dog"], 4)
    weight.requires_grad_()  # from_model freezes
    prompts = OpenClipPrompts.build(prompts.tower, ["cat", "dog"], 4)
    ctx = context(*prompts.ctx_shape)
    assert_equal(
        prompts.encode(ctx), naive_clip.text_features(model, ["cat", "dog"], ctx), ctx, weight
    )


# Refusals: one sentence that says what, why and what instead.


@pytest.mark.parametrize(
    ("names", "n_ctx", "options", "message"),
    [
        ([], 4, {}, "no class names"),
        (["cat", " _ "], 4, {}, "class name 1 is empty"),
        (["cat", "very " * 70], 16, {}, "has 70 tokens but 16 context vectors leave room for 58"),
        (["very " * 80], 1, {}, "77 tokens"),
        (["cat"], 74, {}, "n_ctx=74 does not fit"),
        (["cat"], 0, {}, "n_ctx=0 does not fit"),
        (
            ["cat"],
            4,
            {"position": "begin"},
            "unknown class position 'begin'; take one of end, middle, front",
        ),
        (["cat"], 4, {"precision": "float16"}, "unknown precision"),
        (["cat"], 4, {"budget_mb": 0.01}, "a single class needs 1 MiB"),
    ],
)
def test_bad_requests_are_refused_with_a_reason(names, n_ctx, options, message):
    with pytest.raises(UserError, match=message):
        OpenClipPrompts.build(tower(), names, n_ctx, **options)


@pytest.mark.parametrize("shape", [(3, 32), (4, 48), (5, 4, 4, 32), (32,)])
def test_a_context_of_another_backbone_or_length_is_refused(shape):
    with pytest.raises(UserError, match="these prompts need \\(4, 32\\)"):
        OpenClipPrompts.build(tower(), NAMES, 4).encode(torch.zeros(shape))


def test_whole_texts_and_contexts_are_not_mixed_up():
    with pytest.raises(UserError, match="has shape None"):
        OpenClipPrompts.build(tower(), NAMES, 4).encode()
    with pytest.raises(UserError, match="these prompts need"):
        OpenClipPrompts.from_texts(tower(), ["a cat"]).encode(torch.zeros(4, 32))


# --- contexts that change from block to block


@pytest.mark.parametrize("budget_mb", [None, 0.5])
@pytest.mark.parametrize("class_specific", BOTH)
@pytest.mark.parametrize("shared", BOTH)
def test_later_contexts_take_the_place_of_the_states_of_the_first(
    shared, class_specific, budget_mb
):
    """In towers of shared tokens and of whole texts, at once and in chunks."""
    model = small(dtype=torch.float64, scale_attn=not shared, context=20)
    texts = [f"a photo of {name}." for name in NAMES if len(name) < 24]
    prompts = OpenClipPrompts.from_texts(
        tower(model), texts, 3, class_specific=class_specific, budget_mb=budget_mb
    )
    sets = context(3, 2, *prompts.ctx_shape, dtype=torch.float64)  # layers, runs
    ours = prompts.encode(sets[0], later={1: sets[1], 2: sets[2]})
    naive = torch.stack(
        [
            torch.stack(
                [
                    naive_clip.rows_in_text(
                        model, text, of_run[:, k] if class_specific else of_run, in_place=True
                    )
                    for k, text in enumerate(texts)
                ]
            )
            for of_run in sets.unbind(1)
        ]
    )
    assert_equal(ours, naive, sets, tolerance=1e-9)
    assert gap(prompts.encode(sets[0]), naive) > 1e-2, "without them it is another tower"


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        (3, (3, 32), "a context for block 3, but this text tower has 3 blocks"),
        (-1, (3, 32), "a context for block -1, but"),
        (1, (2, 3, 32), r"block 1 has shape \(2, 3, 32\) but the first one \(3, 32\)"),
        (1, (4, 32), r"block 1 has shape \(4, 32\)"),
    ],
)
@pytest.mark.parametrize("shared", BOTH)
def test_a_later_context_of_no_block_or_of_other_runs_is_refused(shared, layer, shape, said):
    prompts = OpenClipPrompts.from_texts(
        tower(small(scale_attn=not shared)), ["a photo of a cat."], 3
    )
    with pytest.raises(UserError, match=said):
        prompts.encode(torch.zeros(3, 32), later={layer: torch.zeros(shape)})


def test_a_later_context_of_one_run_does_not_stand_beside_two():
    prompts = OpenClipPrompts.from_texts(tower(), ["a photo of a cat."], 3)
    for shape in ((1, 3, 32), (3, 32)):
        with pytest.raises(UserError, match="give all of them the same runs"):
            prompts.encode(torch.zeros(2, 3, 32), later={1: torch.zeros(shape)})


def test_tokens_that_differ_cannot_give_way_to_a_context():
    for texts in (["a photo of a cat", "a cat"], ["a cat"]):
        with pytest.raises(UserError, match="the first 3 tokens are not the same in all texts"):
            OpenClipPrompts.from_texts(tower(), texts, 3)
