"""The checks themselves: each finds the fault it is meant to find, and a sound method has none."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

import adapters
from benchmark import methods
from benchmark.cli import execute
from benchmark.conformance.subject import Subject
from benchmark.conformance.verify import verify
from benchmark.methods import cards, places

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
SOUND = '''"""Zero-shot logits, as a method with support images."""
import random
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from benchmark.api import UserError


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Sound"
    paper: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True

    scale: float = 1.0

    def fit(self, episode):
        text_KD = episode.text_features()
        return lambda images: self.scale * images.features() @ text_KD.T
'''
BOUND = "    transfers: ClassVar[bool] = False\n\n"
FIT = """    def fit(self, episode):
        text_KD = episode.text_features()
        return lambda images: self.scale * images.features() @ text_KD.T
"""
PREDICT = "self.scale * images.features() @ text_KD.T"
PRETRAINING = """
    sources: ClassVar[str] = "others"
    source_shots: ClassVar[int] = 0

    def pretraining(self):
        return {"name": "sound"}

    def pretrain(self, episodes):
        return {"bias": torch.ones(1)}
"""
TRANSFER = """
    def learn(self, episode):
        return {"shift": torch.zeros(1)}

    def predictor(self, state, target):
        text_KD = target.text_features()
        return lambda images: self.scale * images.features() @ text_KD.T + state['shift'][0]
"""
FEATURES = "text_KD = episode.text_features()"
ABSENT_IS_ZERO = """labels_S, classes = episode.support.labels_N, len(episode.class_names)
        absent_K = torch.bincount(labels_S, minlength=classes) == 0
        text_KD = episode.text_features() * ~absent_K[:, None]"""
WEIGHTS = "list(episode.backbone.model.parameters())"
# what is wrong -> the text replaced, what stands there instead, the sentence expected
FAULTS: dict[str, tuple[str, str, str]] = {
    "not frozen": ("@dataclass(frozen=True)", "@dataclass", "can be changed after its creation"),
    "no function": (FIT, "    def fit(self, episode):\n        return 3\n", "fit returned int"),
    "no tensor": (PREDICT, "[1.0]", "predict returned list"),
    "a class too few": (
        PREDICT,
        f"({PREDICT})[:, 1:]",
        "predict returned shape (30, 2) instead of",
    ),
    "double precision": (PREDICT, f"({PREDICT}).double()", "predict returned torch.float64"),
    "a gradient": (PREDICT, f"{PREDICT} * torch.ones(1, requires_grad=True)", "carry a gradient"),
    "not a number": (PREDICT, f"{PREDICT} / 0 * 0", "infinite or not a number"),
    "a note that is a tensor": (
        FEATURES,
        f"episode.notes['loss'] = torch.ones(1); {FEATURES}",
        "episode.notes['loss'] is a Tensor",
    ),
    "an exception": (FEATURES, "raise ValueError('no luck')", "raised ValueError: no luck"),
    "fails at one shot": (
        FEATURES,
        f"{FEATURES}\n        assert len(episode.support) > 3, 'too few images'",
        "raised AssertionError: too few images",
    ),
    "needs a validation set": (FEATURES, f"len(episode.val); {FEATURES}", "raised TypeError"),
    "classes by name": (
        FEATURES,
        f"{FEATURES}[[*dict(zip(episode.class_names, range(9))).values()]]",
        "predict returned shape (30, 2) instead of (30, 3)",
    ),
    "random numbers of torch": (
        FEATURES,
        f"{FEATURES} + torch.randn(1)",
        "a second fit of the same episode gave other logits",
    ),
    "random numbers of numpy": (
        FEATURES,
        f"{FEATURES} * float(np.random.rand())",
        "a second fit of the same episode gave other logits",
    ),
    "random numbers of Python": (
        FEATURES,
        f"{FEATURES} * random.random()",
        "a second fit of the same episode gave other logits",
    ),
    "a mean over no image": (
        FEATURES,
        "image_SD, labels_S = episode.support.images.features(), episode.support.labels_N\n"
        "        means = [image_SD[labels_S == k].mean(0) for k in range(len(episode.class_names))]"
        "\n        text_KD = torch.stack(means)",
        "where a class has no support image; take the class's text feature",
    ),
    "as many classes as there are labels": (
        FEATURES,
        "count_K = torch.bincount(episode.support.labels_N).clamp_min(1)\n"
        "        text_KD = episode.text_features() * (count_K > 0)[:, None]",
        "The size of tensor a (3) must match the size of tensor b (2)",
    ),
    "nothing for a class without images": (
        FEATURES,
        ABSENT_IS_ZERO,
        "every image is given the one class that has no support image",
    ),
    "a constant for a class without images": (
        FIT,
        FIT.replace(FEATURES, ABSENT_IS_ZERO).replace(PREDICT, f"{PREDICT} - 0.2 * absent_K"),
        "has one logit for all images, and some are given to it",
    ),
    "memory between fits": (
        FIT,
        f"    seen: ClassVar[list] = []\n{FIT}".replace(
            FEATURES, f"self.seen.append(1); {FEATURES} + len(self.seen)"
        ),
        "a second fit of the same episode gave other logits",
    ),
    "a global random state that moves": (
        FEATURES,
        f"torch.randn(1); {FEATURES}",
        "the global random state moved",
    ),
    "a predictor that wears out": (
        FIT,
        FIT.replace("return", "calls = []\n        return").replace(
            PREDICT, f"calls.append(1) or {PREDICT} * len(calls)"
        ),
        "predict gave other logits the second time",
    ),
    "statistics of the batch": (
        PREDICT,
        "(images.features() - images.features().mean(0)) @ text_KD.T",
        "depend on the images beside it",
    ),
    "weights that are changed": (
        FEATURES,
        f"{WEIGHTS}[0].data.add_(1) if hasattr(episode.backbone, 'model') else 0; {FEATURES}",
        "the weights of the backbone changed",
    ),
    "training mode": (
        FEATURES,
        f"{FEATURES}; hasattr(episode.backbone, 'model') and episode.backbone.model.train()",
        "left in training mode",
    ),
    "weights that want a gradient": (
        FEATURES,
        f"{FEATURES}; hasattr(episode.backbone, 'model') and {WEIGHTS}[0].requires_grad_()",
        "left requiring a gradient",
    ),
    "a gradient left behind": (
        FEATURES,
        f"{FEATURES}\n        for w in {WEIGHTS} if hasattr(episode.backbone, 'model') else []:"
        "\n            w.grad = torch.zeros_like(w)",
        "hold a gradient",
    ),
    "a hook left behind": (
        FEATURES,
        f"{FEATURES}\n        if hasattr(episode.backbone, 'model'):"
        "\n            episode.backbone.model.register_forward_hook(lambda *_: None)",
        "hooks were left",
    ),
    "features that are overwritten": (
        FEATURES,
        f"{FEATURES}; episode.support.images.features().mul_(2)",
        "episode.support.images.features() was overwritten",
    ),
    "a refusal that hides the reason": (
        FEATURES,
        f"{FEATURES}\n        if not hasattr(episode.backbone, 'model'):"
        "\n            raise UserError('not with this backbone')",
        "plain features is refused with 'not with this backbone'",
    ),
    "a prior with a gradient": (
        "    scale: float = 1.0\n",
        "    scale: float = 1.0\n" + PRETRAINING.replace("(1)}", "(1, requires_grad=True)}"),
        "pretrain returned 'bias' that is no tensor without gradient",
    ),
    "a prior that is another each time": (
        "    scale: float = 1.0\n",
        "    scale: float = 1.0\n" + PRETRAINING.replace("torch.ones", "torch.rand"),
        "a second pretraining gave another 'bias'",
    ),
    "a prior that nobody reads": (
        "    scale: float = 1.0\n",
        "    scale: float = 1.0\n" + PRETRAINING,
        "the same logits with a prior and without",
    ),
    "a batch whose runs are mixed up": (
        FIT,
        f"""{FIT.replace("text_KD = ", "text_KD = episode.seed * ")}
    def fit_batch(self, episodes):
        return [self.fit(episode) for episode in reversed(episodes)]
""",
        "fit_batch gave other logits than fit",
    ),
    "a state with a row per class": (
        FIT,
        f"{FIT}{TRANSFER}".replace("torch.zeros(1)", "episode.text_features()"),
        "learned on 2 and on 4 classes has the shapes {'shift': (2, 16)} and {'shift': (4, 16)}",
    ),
    "a state with a gradient": (
        FIT,
        f"{FIT}{TRANSFER}".replace("torch.zeros(1)", "torch.zeros(1, requires_grad=True)"),
        "learn returned 'shift' that is no tensor without gradient",
    ),
    "a predictor for the classes it has learned": (
        FIT,
        f"{FIT}{TRANSFER}".replace("target.text_features()", "self.known[0]").replace(
            "        return {",
            "        self.known[:] = [episode.text_features()]\n        return {",
        )
        + "    known: ClassVar[list] = []\n",
        "the predictor for 4 other classes returned shape (30, 3) instead of (30, 4)",
    ),
    "classes in any order": (
        FIT,
        f"{FIT}{TRANSFER}".replace("target.text_features()", "target.text_features().sort(0)[0]"),
        "the order of the target's classes makes no difference",
    ),
    "a state bound to the places of classes": (
        FIT,
        f"{FIT}{TRANSFER}".replace("torch.zeros(1)", "self._means(episode)")
        .replace(
            "text_KD = target.text_features()",
            "text_KD = target.text_features()\n"
            "        text_KD = text_KD + state['shift'][: len(text_KD)]",
        )
        .replace(" + state['shift'][0]", "")
        + """
    def _means(self, episode):
        image_SD, labels_S = episode.support.images.features(), episode.support.labels_N
        return torch.stack([image_SD[labels_S == k % 2].mean(0) for k in range(9)])
""",
        "in reverse order the logits are others, not the same in reverse",
    ),
    "a fit of its own": (
        FIT,
        f"{FIT}{TRANSFER}".replace("+ state['shift']", "+ 1 + state['shift']"),
        "fit gives other logits than predictor(learn(episode), episode.target)",
    ),
    "a state of one's own that fit does not use": (
        FIT,
        f"{BOUND}{FIT}{TRANSFER}".replace("torch.zeros(1)", "torch.ones(len(episode.class_names))"),
        "fit gives other logits than predictor(learn(episode), episode.target)",
    ),
    "a note of fit alone": (
        FIT,
        f"{BOUND}{FIT}{TRANSFER}".replace(FEATURES, f"episode.notes['ours'] = 1; {FEATURES}", 1),
        "fit leaves other notes than predictor(learn(episode), episode.target)",
    ),
    "a state with numbers that are none": (
        FIT,
        f"{BOUND}{FIT}{TRANSFER}".replace("torch.zeros(1)", "torch.zeros(1) / 0"),
        "learn returned 'shift' with numbers that are not finite",
    ),
    "a batch with other notes": (
        FIT,
        f"""{FIT}
    def fit_batch(self, episodes):
        episodes[0].notes["alone"] = False
        return [self.fit(episode) for episode in episodes]
""",
        "fit_batch leaves other notes",
    ),
    "a claim to be zero-shot": (
        "    scale: float = 1.0\n",
        "    zero_shot_at: ClassVar[dict] = {'scale': 2.0}\n\n    scale: float = 1.0\n",
        "not those of zero-shot CLIP",
    ),
}
CAPABILITIES = {"learns separable classes", "learns from plain features"}
NUMBERS = itertools.count()
PlugIn = Callable[[str], str]  # source of a method -> its module


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlugIn:
    """Writes a module of its own name and gives that name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source: str) -> str:
        name = f"plug_in_{next(NUMBERS)}"
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "method.py").write_text(source)
        return f"{name}.method"

    return write


def test_a_sound_method_keeps_everything(plug_in: PlugIn) -> None:
    results = list(verify(Subject(plug_in(SOUND))))
    assert [str(each) for each in results if each.problem and not each.capability] == []
    assert len(results) > 15


def test_a_method_that_learns_nothing_is_weak_and_not_broken(plug_in: PlugIn) -> None:
    results = {each.clause: each for each in verify(Subject(plug_in(SOUND)))}
    assert results.keys() >= CAPABILITIES
    assert results["learns separable classes"].problem
    assert "weak" in str(results["learns separable classes"])


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found_and_named(fault: str, plug_in: PlugIn) -> None:
    old, new, sentence = FAULTS[fault]
    assert old in SOUND
    results = verify(Subject(plug_in(SOUND.replace(old, new))))
    problems = (each.problem or "" for each in results if not each.capability)
    assert any(sentence in problem for problem in problems)  # stops at the first


def test_a_damaged_backbone_does_not_reach_the_next_method(plug_in: PlugIn) -> None:
    old, new, _ = FAULTS["weights that are changed"]
    list(verify(Subject(plug_in(SOUND.replace(old, new)))))
    after = list(verify(Subject(plug_in(SOUND))))
    assert not [str(each) for each in after if each.problem and not each.capability]


def test_the_command_prints_every_clause_and_exits_with_0_or_1(
    plug_in: PlugIn,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["test", plug_in(SOUND)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Sound (plug_in_")
    assert "  ok      a second fit gives identical logits" in out
    assert re.search(r"correctness: (\d+) of \1 checks hold", out)
    old, new, sentence = FAULTS["double precision"]
    assert execute(["test", plug_in(SOUND.replace(old, new))]) == 1
    assert (
        f"broken  logits are right in shape and kind: 1 shot: {sentence}" in capsys.readouterr().out
    )


def test_the_command_as_json_and_with_other_settings(
    plug_in: PlugIn,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = SOUND.replace(*FAULTS["a claim to be zero-shot"][:2]).replace(
        PREDICT, f"20 * {PREDICT}"
    )
    assert execute(["test", plug_in(source), "--set", "scale=3", "--json"]) == 1
    results = json.loads(capsys.readouterr().out)
    broken = [each["clause"] for each in results if each["problem"] and not each["capability"]]
    assert broken == ["untrained, it is zero-shot CLIP"]


def test_a_method_is_tested_with_the_settings_it_gives(
    plug_in: PlugIn, capsys: pytest.CaptureFixture[str]
) -> None:
    tested_at = "    tested_at: ClassVar[dict] = {'scale': 3.0}\n\n    scale: float = 1.0\n"
    method = plug_in(SOUND.replace("    scale: float = 1.0\n", tested_at))
    assert Subject(method).adapter().scale == 3.0
    assert Subject(method, {"scale": 2.0}).adapter().scale == 2.0
    assert execute(["test", method]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("version 1, scale=3.0")


def test_an_unknown_method_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["test", "cooop"]) == 2
    assert "did you mean 'coop'" in capsys.readouterr().err


def test_a_hyper_parameter_that_no_record_can_hold_is_one_sentence(
    plug_in: PlugIn, capsys: pytest.CaptureFixture[str]
) -> None:
    source = SOUND.replace("scale: float = 1.0", "scale: float = 1.0\n    grid: list[int] = ()")
    assert execute(["test", plug_in(source)]) == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert "hyper-parameter grid of 'plug_in_" in sentence
    assert "has the type list[int]; use str, int, float, bool" in sentence


BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)
EXAMPLE = next(block for block in BLOCKS if "class Adapter" in block)
ANNOTATIONS = {
    "as written": EXAMPLE,
    "postponed": "from __future__ import annotations\n\n" + EXAMPLE,
    "strings": re.sub(r"^(    \w+): ([\w\[\]]+) =", r'\1: "\2" =', EXAMPLE, flags=re.M),
}


@pytest.mark.parametrize("source", ANNOTATIONS.values(), ids=ANNOTATIONS)
def test_the_method_of_the_readme_keeps_everything(source: str, plug_in: PlugIn) -> None:
    results = list(verify(Subject(plug_in(source))))
    assert [str(each) for each in results if each.problem] == []


@pytest.mark.parametrize("source", ANNOTATIONS.values(), ids=ANNOTATIONS)
def test_the_method_of_the_readme_may_be_a_file(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(methods.FILES, "")
    monkeypatch.setattr("sys.path", [*sys.path])
    file = tmp_path / f"nearest_mean_{next(NUMBERS)}.py"
    file.write_text(source)
    results = list(verify(Subject(str(file))))
    assert [str(each) for each in results if each.problem] == []


@pytest.mark.parametrize("source", ANNOTATIONS.values(), ids=ANNOTATIONS)
def test_the_method_of_the_readme_may_lie_among_ours(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"nearest_mean_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setattr(places, "folder", lambda: tmp_path)
    monkeypatch.setattr(adapters, "__path__", [*adapters.__path__, str(tmp_path)])
    card = methods.card(name)
    assert card == cards.described(name, import_module(f"adapters.{name}").Adapter)
    assert card.defaults == {"text_weight": 0.5}
    results = list(verify(Subject(name)))
    assert [str(each) for each in results if each.problem] == []
