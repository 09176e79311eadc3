"""The checks of correctness and of capability, one function per clause of the contract.

A check of correctness that fails means that the numbers of a method cannot be trusted. A check of
capability that fails means that the method learned little on a small problem.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.api import Adapter, Episode, Predictor, UserError
from benchmark.backbones import clip
from benchmark.conformance import toy, transfer_checks
from benchmark.conformance.subject import (
    NEEDS_MORE,
    Check,
    ContractViolation,
    Subject,
    close,
    few_shot,
    pretrains,
    source_episodes,
)

SCALARS = (str, int, float, bool)
BATCH_TOLERANCE = 0.02  # likewise, after a training that amplifies rounding
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
EPISODES: dict[str, dict[str, Any]] = {
    "4 shots of 3 classes": {},
    "1 shot": {"shots": 1},
    "2 classes": {"classes": 2},
    "val=None": {"val": False},
    "prior=None": {"primed": False},
    "1 shot of 2 classes, val=None, prior=None": {
        "shots": 1,
        "classes": 2,
        "val": False,
        "primed": False,
    },
    "two classes of the same name": {"names": ("cat", "cat", "dog")},
    "1, 4 and 2 images of 3 classes": {"shots": (1, 4, 2)},
}
ABSENT = ((4, 0, 2), (4, 2, 0))  # images of each class, of which one has none


def require(holds: bool | Tensor, sentence: str) -> None:
    if not holds:
        raise ContractViolation(sentence)


# --- the class


def class_variables(subject: Subject) -> None:
    subject.card()  # refuses what is missing or of another type, also outside of these checks
    adapter = subject.adapter()
    require(isinstance(adapter, Adapter), "class Adapter has no function fit(episode); add it")


def frozen(subject: Subject) -> None:
    require(
        type(subject.adapter()).__dataclass_params__.frozen,
        "class Adapter can be changed after its creation; write @dataclass(frozen=True) above it",
    )


# --- what fit returns


def logits_of(subject: Subject, case: dict[str, Any]) -> None:
    given = subject.episode(**case)
    images = toy.held_out(len(given.class_names)).images
    logits_QK = subject.fit(given)(images)
    require(
        isinstance(logits_QK, Tensor),
        f"predict returned {type(logits_QK).__name__}; return a tensor of logits",
    )
    shape, expected = tuple(logits_QK.shape), (len(images), len(given.class_names))
    require(
        shape == expected,
        f"predict returned shape {shape} instead of {expected}; return one row per image and one "
        "column per class",
    )
    require(
        logits_QK.dtype == torch.float32,
        f"predict returned {logits_QK.dtype}; return float32, as with logits.float()",
    )
    require(
        not logits_QK.requires_grad,
        "the logits carry a gradient; predict inside torch.no_grad() or detach what fit learned",
    )
    require(
        logits_QK.isfinite().all(),
        "some logits are infinite or not a number; look for a division by zero or an overflow",
    )
    notes_are_plain(given)


def notes_are_plain(given: Episode) -> None:
    for name, note in given.notes.items():
        require(
            type(note) in SCALARS,
            f"episode.notes['{name}'] is a {type(note).__name__}, which a record cannot hold; "
            "note a number, a text or a truth value",
        )


def absent_class(subject: Subject) -> None:
    """Support sets without images of one class, among them the last; a method may refuse them."""
    for shots in ABSENT:
        for val in (True, False):
            given = subject.episode(shots=shots, val=val)
            try:
                predict = subject.fit(given)
            except UserError:
                continue
            _absent_is_sensible(predict(toy.held_out().images), shots.index(0))


def _absent_is_sensible(logits_QK: Tensor, absent: int) -> None:
    require(
        logits_QK.isfinite().all(),
        "some logits are infinite or not a number where a class has no support image; take the "
        "class's text feature instead of a mean over none, or raise a UserError",
    )
    column_Q, predicted_Q = logits_QK[:, absent], logits_QK.argmax(1)
    require(
        not (predicted_Q == absent).all(),
        "every image is given the one class that has no support image; take the class's text "
        "feature as its prototype",
    )
    constant = bool(column_Q.max() == column_Q.min())
    require(
        not constant or not (predicted_Q == absent).any(),
        "a class without support images has one logit for all images, and some are given to it; "
        "take the class's text feature as its prototype",
    )


def repeatable(subject: Subject) -> None:
    """The same instance, fitted to another episode in between, under other global random states."""
    images, adapter = toy.held_out().images, subject.adapter()

    def logits(seed: int, global_seed: int) -> Tensor:
        _seed_globally(global_seed)
        return adapter.fit(subject.episode(seed=seed))(images)

    with torch.random.fork_rng():
        first_QK, _, again_QK = logits(1, 1), logits(2, 2), logits(1, 3)
    require(
        torch.equal(first_QK, again_QK),
        "a second fit of the same episode gave other logits; draw random numbers from "
        "episode.rng() alone and keep nothing between two fits",
    )


def _seed_globally(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def global_randomness(subject: Subject) -> None:
    before = torch.get_rng_state()
    subject.fit(subject.episode())(toy.held_out().images)
    require(
        torch.equal(before, torch.get_rng_state()),
        "the global random state moved, so other methods get other numbers; pass episode.rng() "
        "as `generator`",
    )


def predict_twice(subject: Subject) -> None:
    predict, images = subject.fit(subject.episode()), toy.held_out().images
    require(
        torch.equal(predict(images), predict(images)),
        "predict gave other logits the second time; it must not change what fit learned",
    )


def image_by_image(subject: Subject) -> None:
    predict = subject.fit(subject.episode())
    a, b = toy.labelled(3, 3, 5).images, toy.labelled(5, 3, 6).images
    apart_QK, joined_QK = torch.cat([predict(a), predict(b)]), predict(toy.join(a, b))
    require(
        close(joined_QK, apart_QK),
        "the logits of an image depend on the images beside it: predict(A + B) is not predict(A) "
        "followed by predict(B); treat each image on its own",
    )


def of_the_whole_set(subject: Subject) -> None:
    """A transductive method answers for a set of images: their order must not matter, and which
    images are in the set does.
    """
    predict, images = subject.fit(subject.episode()), toy.held_out().images
    pixels_NCHW, logits_QK = torch.cat(list(images.pixels(64))), predict(images)
    order_Q = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    require(
        close(predict(toy.image_set(pixels_NCHW[order_Q])), logits_QK[order_Q]),
        "the logits of an image depend on the place it has among the others; shuffled images must "
        "give shuffled logits",
    )
    half = len(images) // 2
    require(
        not close(predict(toy.image_set(pixels_NCHW[:half])), logits_QK[:half]),
        "it says transductive=True, but the logits of an image are the same whichever images are "
        "beside it; leave `transductive` out, and it is ranked with all others",
    )


# --- what is left behind


def backbone_untouched(subject: Subject) -> None:
    subject.fit(subject.episode())(toy.held_out().images)
    damage = backbone_damage()
    require(damage is None, str(damage))


def backbone_damage() -> str | None:
    """What is no longer as it was in the toy CLIP that episodes share."""
    model = toy.backbone().model
    weights, modules = list(model.parameters()), list(model.modules())
    if clip.state_digest(model) != _fresh_digest():
        return "the weights of the backbone changed; train a copy, episode.backbone.copy()"
    if any(module.training for module in modules):
        return "the backbone was left in training mode; do not call train() on it"
    if any(weight.requires_grad for weight in weights):
        return "the backbone was left requiring a gradient; train a copy, episode.backbone.copy()"
    if any(weight.grad is not None for weight in weights):
        return "weights of the backbone hold a gradient; differentiate by your own weights only"
    if any(getattr(module, kind) for module in modules for kind in HOOKS):
        return "hooks were left on the backbone; remove them before fit and predict return"
    return None


@cache
def _fresh_digest() -> str:
    return clip.state_digest(toy.build().model)


def episode_untouched(subject: Subject) -> None:
    given = toy.feature_episode()
    parts = {
        "episode.support.images.features()": given.support.images.features(),
        "episode.support.labels_N": given.support.labels_N,
        "episode.text_features()": given.text_features(),
    }
    before = {name: part.clone() for name, part in parts.items()}
    subject.fit(given)(given.support.images)
    for name, part in parts.items():
        require(
            torch.equal(part, before[name]),
            f"{name} was overwritten, which other methods read as well; work on a clone()",
        )


# --- pretraining, batches, and starting points


def prior_is_plain(subject: Subject) -> None:
    first, again = subject.prior(2), subject.adapter().pretrain(source_episodes(2))
    assert first is not None
    for name, tensor in first.items():
        require(
            isinstance(tensor, Tensor) and not tensor.requires_grad,
            f"pretrain returned '{name}' that is no tensor without gradient; detach() it",
        )
        require(
            name in again and torch.equal(tensor, again[name]),
            f"a second pretraining gave another '{name}'; draw from episodes[0].rng() alone",
        )
    json.dumps(dict(subject.adapter().pretraining()))


def prior_is_read(subject: Subject) -> None:
    images = toy.held_out().images
    with_QK, without_QK = (
        subject.fit(subject.episode(primed=primed))(images) for primed in (True, False)
    )
    require(
        not torch.equal(with_QK, without_QK),
        "fit gives the same logits with a prior and without; read episode.prior",
    )


def batched_equals_single(subject: Subject) -> None:
    """Runs of different length; one must not see what another does."""
    adapter, images = subject.adapter(), toy.held_out().images
    sizes: list[tuple[toy.PerClass, int]] = [(1, 1), (4, 2), ((4, 0, 2), 3)]
    given = [subject.episode(shots=shots, seed=seed) for shots, seed in sizes]
    predictors: list[Predictor] = adapter.fit_batch(given)
    for predict, each in zip(predictors, given, strict=True):
        alone = dataclasses.replace(each, notes={})
        require(
            close(predict(images), adapter.fit(alone)(images), BATCH_TOLERANCE),
            f"fit_batch gave other logits than fit ({len(each.support)} images, seed {each.seed}); "
            "no run may see another",
        )
        require(
            each.notes.keys() == alone.notes.keys(),
            "fit_batch leaves other notes than fit; note the same in both",
        )


def starts_at_zero_shot(subject: Subject) -> None:
    images = toy.held_out().images
    for val in (True, False):
        given = subject.episode(val=val, primed=False)
        logits_QK = subject.fit(given, **subject.adapter().zero_shot_at)(images)
        require(
            torch.allclose(logits_QK, _zero_shot(given, images), rtol=1e-4, atol=1e-3),
            "with the hyper-parameters of zero_shot_at the logits are not those of zero-shot CLIP; "
            "correct the method or the claim",
        )


def _zero_shot(given: Episode, images: Any) -> Tensor:
    return given.backbone.logit_scale * images.features() @ given.text_features().T


def refusal_says_why(subject: Subject) -> None:
    try:
        subject.fit(toy.feature_episode())
    except UserError as error:
        require(
            NEEDS_MORE in str(error),
            f"an episode of plain features is refused with '{error}'; let the episode's backbone "
            "say what is missing",
        )


# --- capability


def learns_separable_classes(subject: Subject) -> None:
    given, test = subject.episode(shots=8, classes=4), toy.held_out(4)
    zero = toy.accuracy(_zero_shot(given, test.images), test.labels_N)
    learned = toy.accuracy(subject.fit(given)(test.images), test.labels_N)
    assert zero < 0.7, "the toy problem leaves nothing to learn"
    require(
        learned > zero + 0.05,
        f"{100 * learned:.0f} % of the test images are right with 8 shots, {100 * zero:.0f} % "
        "with zero-shot CLIP",
    )


def learns_from_features(subject: Subject) -> None:
    given, test = toy.feature_episode(shots=8), toy.feature_episode(shots=8, seed=2).support
    learned = toy.accuracy(subject.fit(given)(test.images), test.labels_N)
    require(learned > 0.8, f"{100 * learned:.0f} % of well separated test clusters are right")


def _offers(name: str) -> Callable[[Subject], bool]:
    return lambda subject: hasattr(subject.adapter(), name)


CHECKS = (
    Check("title, paper, version and few_shot are given", class_variables),
    Check("the class is a frozen dataclass", frozen),
    *(
        Check(f"logits are right in shape and kind: {name}", partial(logits_of, case=case))
        for name, case in EPISODES.items()
    ),
    Check("a class without images has a sensible logit", absent_class, few_shot),
    Check("a second fit gives identical logits", repeatable),
    Check("the global random state is left alone", global_randomness),
    Check("predict can be called again", predict_twice),
    Check(
        "predict(A + B) is predict(A), then predict(B)",
        image_by_image,
        lambda subject: not subject.card().transductive,
    ),
    Check(
        "transductive: predict(A + B) is not predict(A), then predict(B); order does not matter",
        of_the_whole_set,
        lambda subject: subject.card().transductive,
    ),
    Check("the backbone is left as it was", backbone_untouched),
    Check(
        "features and labels are left as they were", episode_untouched, Subject.reads_features_only
    ),
    Check("plain features are enough, or the refusal says why not", refusal_says_why),
    Check("a prior is plain tensors, and the same again", prior_is_plain, pretrains),
    Check("a prior is read", prior_is_read, pretrains),
    Check(
        "runs in one batch give what they give alone", batched_equals_single, _offers("fit_batch")
    ),
    *transfer_checks.CHECKS,
    Check("untrained, it is zero-shot CLIP", starts_at_zero_shot, _offers("zero_shot_at")),
    Check("learns separable classes", learns_separable_classes, few_shot, capability=True),
    Check(
        "learns from plain features",
        learns_from_features,
        lambda subject: few_shot(subject) and subject.reads_features_only(),
        capability=True,
    ),
)
