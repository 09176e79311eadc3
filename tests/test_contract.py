"""Every rule of the contract, checked on every adapter. A new file in adapters/ is tested here
without a line of test code.
"""

from __future__ import annotations

import ast
import dataclasses
import json
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark import methods
from benchmark.api import (
    Adapter,
    Batchable,
    Episode,
    ImageSet,
    Labelled,
    Predictor,
    Pretrainable,
    State,
    UserError,
)
from benchmark.backbones import clip
from benchmark.conformance import toy
from tests import cheating

ADAPTERS = Path(import_module("adapters").__file__ or "").parent
NAMES = sorted(path.stem for path in ADAPTERS.glob("*.py") if not path.stem.startswith("_"))
SCALARS = (str, int, float, bool)
# What the defaults spend more time on than a test needs.
QUICK = {"pretrain_steps": 30, "max_iterations": 100, "steps_per_shot": 50}
# Share of the scale by which logits of one image may differ between batches of different size: the
# order of float32 sums.
TIES = 1e-4


def adapter(name: str, **changes: Any) -> Any:
    """The method with its own defaults, pretraining cut short."""
    known = methods.card(name).parameters
    quick = {key: value for key, value in QUICK.items() if key in known}
    return methods.load(name, quick | changes)


@cache
def prior(name: str, shots: int) -> State | None:
    """What the method's pretraining leaves behind after two small source problems; None where it
    has none.
    """
    method = adapter(name)
    sources = [toy.episode(shots, 2, val=False, seed=3), toy.episode(shots, 4, val=False, seed=3)]
    return method.pretrain(sources) if isinstance(method, Pretrainable) else None


def episode(
    name: str,
    shots: int = 4,
    classes: int = 3,
    *,
    val: bool = True,
    seed: int = 1,
    primed: bool = True,
) -> Episode:
    """An episode as the harness would hand it to this method."""
    if adapter(name).few_shot:
        return toy.episode(
            shots, classes, val=val, seed=seed, prior=prior(name, shots) if primed else None
        )
    empty = Labelled(
        toy.image_set(torch.zeros(0, 3, toy.IMAGE_PX, toy.IMAGE_PX)),
        torch.zeros(0, dtype=torch.int64),
    )
    return dataclasses.replace(toy.episode(1, classes, val=False, seed=seed), support=empty)


def logits(predict: Predictor, images: ImageSet) -> Tensor:
    return predict(images)


def feature_only(name: str) -> bool:
    """Whether a method works on plain features; it may say no, by the sentence that a person would
    read.
    """
    try:
        adapter(name).fit(toy.feature_episode())
    except UserError as error:
        return "built from features" not in str(error)
    return True


every = pytest.mark.parametrize("name", NAMES)
few_shot = pytest.mark.parametrize("name", [name for name in NAMES if methods.card(name).few_shot])
pretrained = pytest.mark.parametrize(
    "name", [name for name in NAMES if methods.card(name).pretrains]
)
batchable = pytest.mark.parametrize(
    "name", [name for name in NAMES if isinstance(adapter(name), Batchable)]
)
promising = pytest.mark.parametrize(
    "name", [name for name in NAMES if hasattr(adapter(name), "zero_shot_at")]
)


# --- plain data


@every
def test_hyper_parameters_are_json_scalars_of_a_frozen_dataclass(name: str) -> None:
    method = adapter(name)
    assert isinstance(method, Adapter)
    assert type(method).__dataclass_params__.frozen
    assert type(method).__bases__ == (object,), "no inheritance between our own classes"
    defaults = methods.card(name).defaults
    assert all(value is None or type(value) in SCALARS for value in defaults.values())
    assert json.loads(json.dumps(dataclasses.asdict(method))) == dataclasses.asdict(method)


@every
def test_what_the_source_says_is_what_the_class_has(name: str) -> None:
    card, kind = methods.card(name), import_module(f"adapters.{name}").Adapter
    assert card == methods._described(name, kind)
    assert card.defaults == flat(dataclasses.asdict(kind()))
    assert (card.title, card.paper, card.version, card.few_shot) == (
        kind.title,
        kind.paper,
        kind.version,
        kind.few_shot,
    )
    assert card.pretrains == isinstance(kind(), Pretrainable)
    if card.pretrains:
        assert (card.sources, card.source_shots) == (kind.sources, kind.source_shots)
        assert kind.sources in {"others", "all"}
        assert kind.source_shots in {0, -1}


def flat(params: dict[str, Any]) -> dict[str, Any]:
    """Fields of groups beside all others."""
    values: dict[str, Any] = {}
    for name, value in params.items():
        values |= flat(value) if isinstance(value, dict) else {name: value}
    return values


@every
def test_the_head_tells_equation_deviations_expectation_and_source(name: str) -> None:
    head = import_module(f"adapters.{name}").__doc__
    for word in ("Deviations", "Expected:", "Source:"):
        assert word in head, f"the head of {name}.py lacks '{word}'"


@pytest.mark.parametrize("path", sorted(ADAPTERS.glob("*.py")), ids=lambda path: path.stem)
def test_adapters_import_the_contract_and_each_others_private_parts_only(path: Path) -> None:
    for module in _imports(path):
        top = module.split(".")[0]
        if top == "benchmark":
            allowed = ("benchmark.api", "benchmark.errors", "benchmark.training")
            assert module.startswith(allowed), f"{path.name} imports {module}"
        if top == "adapters":
            assert module.split(".")[1].startswith("_"), f"{path.name} imports {module}"
        assert top not in {"tests", "random", "time", "datetime", "secrets", "uuid"}, (
            f"{path.name} imports {module}"
        )


def _imports(path: Path) -> list[str]:
    modules = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            modules += inner if node.module == "adapters" else [node.module or ""]
    return modules


# --- what a fit returns

CASES: dict[str, dict[str, Any]] = {
    "as usual": {},
    "one shot": {"shots": 1},
    "two classes": {"classes": 2},
    "no val": {"val": False},
    "no prior": {"primed": False},
    "nothing to spare": {"shots": 1, "classes": 2, "val": False, "primed": False},
}


@every
@pytest.mark.parametrize("case", CASES)
def test_logits_are_finite_and_without_gradient(name: str, case: str) -> None:
    given = episode(name, **CASES[case])
    exam = toy.held_out(len(given.class_names))
    logits_QK = adapter(name).fit(given)(exam.images)
    assert logits_QK.shape == (len(exam), len(given.class_names))
    assert logits_QK.dtype == given.backbone.dtype
    assert not logits_QK.requires_grad
    assert logits_QK.isfinite().all()
    assert all(type(note) in SCALARS for note in given.notes.values()), given.notes


@every
def test_a_second_run_is_identical_bit_by_bit(name: str) -> None:
    torch.manual_seed(1)
    first_QK = adapter(name).fit(episode(name))(toy.held_out().images)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second_QK = adapter(name).fit(episode(name))(toy.held_out().images)
    assert torch.equal(first_QK, second_QK), "the numbers depend on something else than the episode"
    assert torch.equal(before, torch.get_rng_state()), "randomness comes from episode.rng()"


@every
def test_the_backbone_is_left_as_it_was(name: str) -> None:
    model = toy.backbone().model
    before = clip.state_digest(model)
    predict = adapter(name).fit(episode(name))
    predict(toy.held_out().images)
    assert clip.state_digest(model) == before
    assert not any(module.training for module in model.modules())
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.parameters())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert not any(getattr(module, kind) for module in model.modules() for kind in hooks)


@every
def test_what_the_episode_holds_is_left_as_it_was(name: str) -> None:
    """Features come from a store that other methods read as well, so nobody may write into them."""
    if not feature_only(name):
        return
    given = toy.feature_episode()
    parts = [given.support.images.features(), given.support.labels_N, given.text_features()]
    before = [part.clone() for part in parts]
    adapter(name).fit(given)(given.support.images)
    assert all(torch.equal(part, old) for part, old in zip(parts, before, strict=True))


@every
def test_images_are_predicted_one_by_one(name: str) -> None:
    predict = adapter(name).fit(episode(name))
    a, b = toy.labelled(3, 3, 5).images, toy.labelled(5, 3, 6).images
    apart_QK, together_QK = torch.cat([predict(a), predict(b)]), predict(toy.join(a, b))
    torch.testing.assert_close(
        together_QK, apart_QK, rtol=TIES, atol=TIES * float(apart_QK.abs().max())
    )


@every
def test_a_predictor_is_used_again_with_the_same_answer(name: str) -> None:
    predict, images = adapter(name).fit(episode(name)), toy.held_out().images
    assert torch.equal(predict(images), predict(images))


# --- what is learned


@promising
@pytest.mark.parametrize("val", [True, False])
def test_with_nothing_learned_it_is_zero_shot(name: str, val: bool) -> None:
    given, images = episode(name, val=val, primed=False), toy.held_out().images
    logits_QK = adapter(name, **adapter(name).zero_shot_at).fit(given)(images)
    zero_QK = given.backbone.logit_scale * images.features() @ given.text_features().T
    torch.testing.assert_close(logits_QK, zero_QK, rtol=1e-4, atol=1e-3)


@few_shot
def test_separable_classes_are_learned(name: str) -> None:
    given, exam = episode(name, shots=8, classes=4), toy.held_out(4)
    zero = toy.accuracy(
        given.backbone.logit_scale * exam.images.features() @ given.text_features().T, exam.labels_N
    )
    learned = toy.accuracy(adapter(name).fit(given)(exam.images), exam.labels_N)
    assert zero < 0.7, "the toy problem is meant to leave something to learn"
    assert learned > zero + 0.05, (
        "methods that hold on to the zero-shot classifier gain less here, but they gain"
    )


@few_shot
def test_plain_features_are_enough_or_the_method_says_why_not(name: str) -> None:
    if feature_only(name):
        given, exam = toy.feature_episode(shots=8), toy.feature_episode(shots=8, seed=2).support
        assert toy.accuracy(adapter(name).fit(given)(exam.images), exam.labels_N) > 0.8
    else:
        with pytest.raises(UserError, match="built from features"):
            adapter(name).fit(toy.feature_episode())


@pretrained
def test_a_prior_is_plain_tensors_and_the_same_again(name: str) -> None:
    first, again = (
        prior(name, 2),
        adapter(name).pretrain(
            [toy.episode(2, 2, val=False, seed=3), toy.episode(2, 4, val=False, seed=3)]
        ),
    )
    assert first is not None
    assert all(isinstance(tensor, Tensor) and not tensor.requires_grad for tensor in first.values())
    assert all(torch.equal(tensor, again[key]) for key, tensor in first.items())
    assert json.dumps(dict(adapter(name).pretraining()))


@pretrained
def test_a_prior_changes_the_outcome(name: str) -> None:
    images = toy.held_out().images
    with_QK, without_QK = (
        adapter(name).fit(episode(name, primed=primed))(images) for primed in (True, False)
    )
    assert not torch.equal(with_QK, without_QK)


@batchable
def test_batched_runs_are_the_runs_trained_alone(name: str) -> None:
    """Runs of different length and batch size: what one run does must not be seen in another.

    At a tenth of the learning rate, because the toy's random towers turn the last bit of a float
    into percents at the full one.
    """
    method = adapter(name, lr=methods.card(name).defaults["lr"] / 10)
    given = [
        episode(name, shots=shots, seed=seed) for shots, seed in [(1, 1), (4, 2), (2, 1), (4, 1)]
    ]
    images = toy.held_out().images
    batched = method.fit_batch(given)
    for predict, each in zip(batched, given, strict=True):
        fresh = dataclasses.replace(each, notes={})
        alone_QK = method.fit(fresh)(images)
        torch.testing.assert_close(
            predict(images), alone_QK, rtol=1e-4, atol=1e-4 * each.backbone.logit_scale
        )
        assert each.notes.keys() == fresh.notes.keys()


# --- test labels


def test_a_cheat_finds_no_labels_in_what_it_is_given() -> None:
    given, exam = toy.episode(), toy.held_out()
    logits_QK = cheating.Adapter().fit(given)(exam.images)
    honest_QK = given.backbone.logit_scale * exam.images.features() @ given.text_features().T
    assert torch.equal(logits_QK, honest_QK)


@dataclass(frozen=True)
class Careless:
    """A harness that keeps the answers within reach."""

    answers: tuple[int, ...] | tuple[str, ...]

    def open(self, index_N: Tensor, *_: object) -> Tensor:
        return torch.zeros(len(index_N), 3, toy.IMAGE_PX, toy.IMAGE_PX)


def test_the_cheat_would_find_them_if_they_were_there() -> None:
    given, exam = toy.episode(), toy.held_out()
    labels = tuple(exam.labels_N.tolist())
    leaking = [
        # in the cell of a closure
        dataclasses.replace(exam.images, encode=lambda views: exam.images.encode(views)),
        # in the object that a method is bound to
        dataclasses.replace(exam.images, decode=Careless(labels).open),
        # in paths
        dataclasses.replace(
            exam.images,
            decode=Careless(tuple(f"test/{given.class_names[k]}/7.jpg" for k in labels)).open,
        ),
    ]
    for images in leaking:
        assert toy.accuracy(cheating.Adapter().fit(given)(images), exam.labels_N) == 1.0
