"""Skip Tuning: which classes enter a loss, a plain loop over a copied model, and the end of a tower
whose weights may be others.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _views, _weights, skip_tuning
from adapters._class_texts import ClassTexts
from benchmark import methods
from benchmark.api import Episode
from benchmark.conformance import toy
from benchmark.training.batches import ABSENT


def adapter(**params: object) -> Any:
    return methods.load("skip_tuning", params)


def episode(shots: toy.PerClass, classes: int = 6) -> Episode:
    """Of a private toy in float64."""
    copy = toy.backbone().copy()
    copy.model.double()
    return replace(toy.episode(shots, classes), backbone=copy)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the classes of a loss


def test_half_of_the_classes_enter_at_most_fifty_and_no_fewer_than_a_batch_has_images() -> None:
    expected = {2: 2, 5: 4, 7: 4, 9: 5, 47: 24, 100: 50, 1000: 50}
    for classes, count in expected.items():
        assert adapter(tail=0).ranks(classes, generator()).tolist() == list(range(count))
    everything = adapter(tail=0, top_share=1.0, most_classes=1000).ranks(1000, generator())
    assert everything.tolist() == list(range(1000))


def test_the_tail_is_drawn_by_its_density() -> None:
    share_N = skip_tuning.tail_shares(11, 0.3).tolist()
    density = [math.exp(-0.5 * i / 0.3) for i in range(11)]
    expected = [(each - density[-1]) / (density[0] - density[-1]) for each in density]
    assert share_N == pytest.approx(expected, rel=1e-12)
    assert skip_tuning.tail_shares(1, 0.3).tolist() == [0]
    assert skip_tuning.tail_shares(0, 0.3).tolist() == []
    drawn = torch.zeros(950)
    for seed in range(200):
        rank_C = adapter().ranks(1000, generator(seed))
        assert torch.equal(rank_C, rank_C.unique())
        assert rank_C[:51].tolist() == list(range(51))  # the first place of the tail always stays
        drawn[rank_C[50:] - 50] += 1 / 200
    share_N = skip_tuning.tail_shares(950, 0.3)
    assert (drawn - share_N).abs().max() < 0.15
    assert float(drawn.sum()) == pytest.approx(float(share_N.sum()), rel=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_the_loss_of_the_chosen_classes_is_that_of_a_naive_loop(seed: int) -> None:
    """Some images are absent, some share a class, and no truth is ever left out."""
    rng, classes = generator(seed), 4 + seed
    near_BK = 2 * torch.rand(4, classes, generator=rng, dtype=torch.float64) - 1
    labels = torch.randint(classes, (4,), generator=rng).tolist()
    labels[3] = ABSENT if seed % 3 == 0 else labels[3]
    logits_BK = torch.randn(4, classes, generator=rng, dtype=torch.float64)
    rank_C = adapter(tail=1.0).ranks(classes, rng)

    best = {
        k: 2.0 if k in labels else max(float(near_BK[i, k]) for i in range(4) if labels[i] >= 0)
        for k in range(classes)
    }
    order = sorted(best, key=lambda k: -best[k])
    chosen = [k for rank, k in enumerate(order) if rank in rank_C.tolist()]
    assert set(labels) - {ABSENT} <= set(chosen)
    losses = [
        math.log(sum(math.exp(float(logits_BK[i, k])) for k in chosen)) - float(logits_BK[i, label])
        for i, label in enumerate(labels)
        if label >= 0
    ]

    class_C = skip_tuning.nearest(near_BK, torch.tensor(labels), rank_C)
    assert class_C.tolist() == sorted(chosen)
    place_B = skip_tuning.places(torch.tensor(labels), class_C)
    ours = F.cross_entropy(logits_BK[:, class_C], place_B, ignore_index=ABSENT)
    assert float(ours) == pytest.approx(sum(losses) / len(losses), rel=1e-12)


def test_with_all_classes_the_loss_is_plain_cross_entropy() -> None:
    given = episode(2)
    whole = {"epochs": "1", "views": 1, "batch_size": 2, "lr": 1e-15}
    method = adapter(**whole, top_share=1.0, tail=0.0)
    method.learn(given)
    last_B = method._schedule(given).rows_TB[-1]
    crop = _views._computer(given, given.backbone.vision, 0, method.crops)
    image_BD = _weights.image_features(given.backbone.vision, 0, crop(last_B.tolist()), {})
    logits_BK = given.backbone.logit_scale * image_BD @ given.text_features().T
    plain = float(F.cross_entropy(logits_BK, given.support.labels_N[last_B]))
    assert given.notes["final_loss"] == pytest.approx(plain, rel=1e-9)
    adapter(**whole, top_share=0.2, tail=0.0).learn(given)
    assert given.notes["final_loss"] < 0.9 * plain


# --- batches


def test_batches_of_one_class_see_every_image_once_an_epoch() -> None:
    """Of 8, 5, 3 and 0 images: two batches, one whose rest is left out, and a short one."""
    given, method = episode((8, 5, 3, 0), 4), adapter(epochs="3", views=2)
    rows_TB = skip_tuning.rows_by_class(given, 3, 4, method.crops)
    images = len(given.support)
    assert rows_TB.shape == (3 * 4, 4)
    for epoch, rows_tB in enumerate(rows_TB.split(4)):
        there = rows_tB[rows_tB != ABSENT]
        assert (there // images == epoch % 2).all()
        labels = [set(given.support.labels_N[row[row >= 0] % images].tolist()) for row in rows_tB]
        assert sorted(map(tuple, labels)) == [(0,), (0,), (1,), (2,)]
        assert len(there.unique()) == len(there) == 8 + 4 + 3
    assert not torch.equal(rows_TB[:4], rows_TB[8:])


def test_from_four_shots_on_a_batch_has_one_class() -> None:
    for shots, at, alone in ((2, 4, False), (4, 4, True), (4, 0, False), (1, 1, True)):
        given = episode(shots)
        rows_TB = adapter(epochs="4", one_class_from=at)._schedule(given).rows_TB
        labels_TB = given.support.labels_N[rows_TB % len(given.support)]
        one = (labels_TB == labels_TB[:, :1]) | (rows_TB < 0)
        assert bool(one.all()) == alone


# --- training


@pytest.mark.parametrize(
    ("shots", "image_rate", "seed", "chosen_classes"), [(2, 1.0, 1, 3), (4, 0.25, 2, 4)]
)
def test_training_is_a_plain_loop_over_a_copied_model(
    shots: int, image_rate: float, seed: int, chosen_classes: int
) -> None:
    """Of the upper of two blocks and of both ends, in float64, on some of the classes, which differ
    from seed to seed.
    """
    given = replace(episode(shots), seed=seed)
    settings = {"epochs": "2", "lr": 1e-3, "tail": 1.0, "batch_size": 2, "top_share": 0.3}
    method = adapter(image_rate=image_rate, **settings)
    state = method.learn(given)
    backbone: Any = given.backbone.copy()
    model, visual = backbone.model, backbone.model.visual
    trained = [
        [*visual.transformer.resblocks[1].parameters(), *visual.ln_post.parameters(), visual.proj],
        [
            *model.transformer.resblocks[1].parameters(),
            *model.ln_final.parameters(),
            model.text_projection,
        ],
    ]
    for part in trained[0] + trained[1]:
        part.requires_grad_()
    groups = [{"params": trained[0]}, {"params": trained[1]}]
    optimiser = torch.optim.SGD(groups, lr=1, momentum=0.9, weight_decay=5e-4)
    plan, zero_KD = method._schedule(given), given.text_features()
    crop = _views._computer(given, given.backbone.vision, 0, method.crops)
    rank_C = method.ranks(6, given.rng())
    assert len(rank_C) == chosen_classes
    sentences = [f"a photo of a {name.replace('_', ' ')}." for name in given.class_names]
    for rows_B, rate in zip(plan.rows_TB, plan.rate_T.tolist(), strict=True):
        x_BLE = crop(rows_B.tolist())
        for block in visual.transformer.resblocks:
            x_BLE = block(x_BLE)
        image_BD = F.normalize(visual.ln_post(x_BLE)[:, 0] @ visual.proj, dim=1)
        labels_B = given.support.labels_N[rows_B % len(given.support)]
        best_K = (image_BD @ zero_KD.T).amax(0).index_fill(0, labels_B, 2.0)
        chosen = [best_K.argsort(descending=True).tolist()[rank] for rank in rank_C.tolist()]
        ids_CL = backbone.text.tokenize([sentences[k] for k in chosen])
        x_CLE = model.token_embedding(ids_CL) + model.positional_embedding
        for block in model.transformer.resblocks:
            x_CLE = block(x_CLE, attn_mask=model.attn_mask)
        read_CE = model.ln_final(x_CLE[torch.arange(len(chosen)), ids_CL.argmax(1)])
        text_CD = F.normalize(read_CE @ model.text_projection, dim=1)
        place_B = torch.tensor([chosen.index(label) for label in labels_B.tolist()])
        optimiser.zero_grad()
        F.cross_entropy(backbone.logit_scale * image_BD @ text_CD.T, place_B).backward()
        optimiser.param_groups[0]["lr"] = rate * image_rate
        optimiser.param_groups[1]["lr"] = rate
        optimiser.step()
    expected = {
        f"{side}/{layer}/{name}": part.detach()
        for side, tower in (("vision", backbone.vision), ("text", backbone.text))
        for layer, block in ((1, tower.blocks[1]), ("end", tower.end))
        for name, part in block.named_parameters()
    }
    assert state.keys() == expected.keys()
    own = method._tuned("vision", given.backbone.vision) | method._tuned(
        "text", given.backbone.text
    )
    for name, part in expected.items():
        torch.testing.assert_close(state[name], part, rtol=0, atol=1e-10)
        assert (state[name] - own[name]).abs().max() > 1e-7
    images = toy.held_out(6).images
    with torch.no_grad():
        pixels = next(images.pixels(64)).double()
        text_KD = backbone.encode_texts(sentences)
        exam_QK = backbone.logit_scale * backbone.encode_pixels(pixels) @ text_KD.T
    ours_QK = method.predictor(state, given.target)(images)
    torch.testing.assert_close(ours_QK, exam_QK, rtol=0, atol=1e-8)


def test_trained_numbers_of_vit_b_16_are_the_closed_form(base_16: Any) -> None:
    method = adapter()

    def block(width: int) -> int:
        return 12 * width**2 + 13 * width

    tuned = {
        side: sum(part.numel() for part in method._tuned(side, tower).values())
        for side, tower in (("vision", base_16.vision), ("text", base_16.text))
    }
    assert tuned["vision"] == 6 * block(768) + 2 * 768 + 768 * 512 == 42_921_984
    assert tuned["text"] == 6 * block(512) + 2 * 512 + 512 * 512 == 19_177_472
    assert sum(tuned.values()) == 62_099_456


def test_blocks_are_skipped_by_their_share() -> None:
    tower = toy.backbone().vision
    first = {share: adapter(skipped=share)._first(tower) for share in (0.0, 0.49, 0.5, 0.99)}
    assert first == {0.0: 0, 0.49: 0, 0.5: 1, 0.99: 1}


# --- texts, and the end of a tower


def test_texts_of_some_classes_are_those_of_all() -> None:
    """Of two templates, and of classes that have one, three and two sentences."""
    given = episode(1, 3)
    by_class = (("a cat",), ("a dog", "one dog", "a photo of a dog"), ("a car", "an old car"))
    targets = (
        replace(given.target, templates=("a photo of a {}.", "a drawing of a {}.")),
        replace(given.target, texts=by_class),
    )
    for target in targets:
        texts = skip_tuning.Texts.of(target, 1)
        class_C = torch.tensor([2, 0])
        expected_CD = target.text_features()[class_C]
        torch.testing.assert_close(texts.features(class_C, {}), expected_CD, rtol=0, atol=1e-12)


def test_the_end_of_a_tower_may_have_other_weights() -> None:
    given, pixels = episode(1, 3), toy.patterns(3).double()
    vision, text = given.backbone.vision, given.backbone.text
    weights = {
        name: part + 0.1 * torch.randn(part.shape, generator=generator(i), dtype=part.dtype)
        for i, (name, part) in enumerate(
            (_weights.own_end("vision", vision) | _weights.own_end("text", text)).items()
        )
    }
    expected = {"vision/end/proj", "vision/end/ln_post.weight", "vision/end/ln_post.bias"}
    expected |= {"text/end/text_projection", "text/end/ln_final.weight", "text/end/ln_final.bias"}
    assert weights.keys() == expected
    plain_ND, changed_ND = (
        _weights.image_features(vision, 0, vision.start(pixels), each) for each in ({}, weights)
    )
    texts = ClassTexts.of(given.target)
    copy = _weights.merged(given.backbone, weights)
    assert_same(changed_ND, copy.encode_pixels(pixels))
    assert_same(plain_ND, given.backbone.encode_pixels(pixels))
    assert_same(_weights.text_features(texts, {}), given.text_features())
    changed_KD = _weights.text_features(texts, weights)
    assert_same(changed_KD, _weights.classifier(copy, given.target))
    assert (changed_KD - given.text_features()).abs().max() > 0.01
    assert (changed_ND - plain_ND).abs().max() > 0.01


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
