"""The contract, checked on every adapter of ours: a new file in adapters/ is tested here without
a line of test code.

The checks are those of `python -m benchmark test`; beside them stand the tests that only our own
methods can be asked for.
"""

from __future__ import annotations

import ast
import dataclasses
import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark import methods
from benchmark.api import Keepable, Pretrainable
from benchmark.conformance import toy
from benchmark.conformance.checks import CHECKS
from benchmark.conformance.subject import Check, Subject
from benchmark.conformance.verify import problem
from benchmark.methods import cards
from tests import cheating

ADAPTERS = Path(import_module("adapters").__file__ or "").parent
NAMES = methods.own()
SUBJECTS = {name: Subject(name) for name in NAMES}  # a method's checks share its priors

every = pytest.mark.parametrize("name", NAMES)
batchable = pytest.mark.parametrize(
    "name", [name for name in NAMES if methods.card(name).batchable]
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.clause)
@every
def test_a_method_keeps_the_contract(name: str, check: Check) -> None:
    if not check.applies(SUBJECTS[name]):
        pytest.skip("the check is for other methods")
    assert problem(check, SUBJECTS[name]) is None


# --- the class and its file


@every
def test_a_method_inherits_nothing_and_is_json(name: str) -> None:
    method = methods.load(name)
    assert type(method).__bases__ == (object,), "no inheritance between our own classes"
    assert json.loads(json.dumps(dataclasses.asdict(method))) == dataclasses.asdict(method)


@every
def test_what_the_source_says_is_what_the_class_has(name: str) -> None:
    card, kind = methods.card(name), import_module(f"adapters.{name}").Adapter
    assert card == cards.described(name, kind)
    assert card.defaults == flat(dataclasses.asdict(kind()))
    assert (card.title, card.paper, card.version, card.few_shot) == (
        kind.title,
        kind.paper,
        kind.version,
        kind.few_shot,
    )
    assert card.pretrains == isinstance(kind(), Pretrainable)
    assert card.keeps == isinstance(kind(), Keepable)
    assert card.transfers == (card.keeps and getattr(kind, "transfers", True))
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


# --- batched runs


@batchable
def test_batched_runs_are_the_runs_trained_alone(name: str) -> None:
    """Closer than the check of the contract, which trains at the full rate, where the toy's random
    towers turn the last bit of a float into percents.
    """
    subject, images = SUBJECTS[name], toy.held_out().images
    defaults = methods.card(name).defaults
    rates = [rate for rate in ("lr", "tune_lr") if rate in defaults]  # LP++ has none to choose
    method = subject.adapter(**{rate: defaults[rate] / 10 for rate in rates[:1]})
    sizes = [(1, 1), (4, 2), (2, 1), (4, 1)]
    given = [subject.episode(shots=shots, seed=seed) for shots, seed in sizes]
    for predict, each in zip(method.fit_batch(given), given, strict=True):
        alone_QK = method.fit(dataclasses.replace(each, notes={}))(images)
        torch.testing.assert_close(
            predict(images), alone_QK, rtol=1e-4, atol=1e-4 * each.backbone.logit_scale
        )


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
