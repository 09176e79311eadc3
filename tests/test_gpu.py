"""What only a card can show: its numbers against the CPU's, recorded steps against computed ones,
batches against single runs, and steps that never make the host wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark import methods
from benchmark.api import Crop, Episode, ImageSet, Labelled, Predictor
from benchmark.backbones import clip
from benchmark.backbones.clip import OpenClip
from benchmark.compute.executors import limits
from benchmark.compute.runner import run
from benchmark.conformance import toy
from benchmark.grid import Cell
from benchmark.records.store import Store
from benchmark.training import capture, loop
from tests.short_training import UNTRAINED, parameters

pytestmark = pytest.mark.gpu
OWN = methods.own()
TRAINED = sorted(set(OWN) - UNTRAINED)
BATCHABLE = [name for name in TRAINED if methods.card(name).batchable]


def counts(name: str, device: str, results: Path) -> dict[int, int]:
    """Images right per seed of a short training on the tiny suite in float64."""
    few_shot = methods.card(name).few_shot
    cells = [
        Cell(
            method=name,
            dataset="tiny_digits",
            shots=2 if few_shot else 0,
            seed=seed if few_shot else 0,
            backbone="tiny",
            params=tuple(sorted(parameters(name).items())),
        )
        for seed in ((1, 2) if few_shot else (0,))
    ]
    outcomes = list(run(cells, Store(results), device=device))
    assert [outcome.error for outcome in outcomes] == [None] * len(cells)
    return {o.cell.seed: sum(o.record.counts.correct) for o in outcomes if o.record}


@pytest.mark.parametrize("name", OWN)
def test_the_card_gives_the_counts_of_the_cpu_in_float64(name: str, tmp_path: Path) -> None:
    assert counts(name, "cuda", tmp_path / "gpu") == counts(name, "cpu", tmp_path / "cpu")


@contextmanager
def unrecorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "recorder_for", lambda device: None)
        yield


@cache
def backbone(precision: str = "float32") -> OpenClip:
    """The toy CLIP on the card."""
    model = toy.backbone().copy().model.to("cuda")
    return clip.from_model(model, "toy", precision=precision)


def on_card(images: ImageSet, model: OpenClip) -> ImageSet:
    """Pixels and features where the harness puts them."""
    whole_N = torch.arange(len(images))

    def decode(index_N: Tensor, crop: Crop | None, seeds: Sequence[int] | None) -> Tensor:
        return images.decode(index_N, crop, seeds).to(model.device)

    @torch.no_grad()
    def encode(views: tuple[int, int, Crop] | None) -> Tensor:
        if views is None:
            return model.encode_pixels(decode(whole_N, None, None))
        count, seed, crop = views
        seeds = [[1000 * seed + 10 * n + v for n in range(len(images))] for v in range(count)]
        return torch.stack([model.encode_pixels(decode(whole_N, crop, each)) for each in seeds])

    return ImageSet(len(images), encode, decode)


def episode(seed: int = 1, shots: int = 4, precision: str = "float32") -> Episode:
    """A toy episode on the card."""
    given, model = toy.episode(shots, seed=seed), backbone(precision)
    support, val = (
        Labelled(on_card(each.images, model), each.labels_N.to(model.device))
        for each in (given.support, given.val)
        if each is not None
    )
    return replace(given, support=support, val=val, backbone=model)


def predicted(predict: Predictor, precision: str = "float32") -> Tensor:
    return predict(on_card(toy.held_out().images, backbone(precision))).double().cpu()


def adapter(name: str) -> Any:
    return methods.load(name, parameters(name))


@pytest.mark.parametrize("name", TRAINED)
def test_recorded_steps_are_the_computed_ones(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        recorded = predicted(adapter(name).fit(episode()))
    assert "not recorded" not in caplog.text
    with unrecorded(monkeypatch):
        computed = predicted(adapter(name).fit(episode()))
    torch.testing.assert_close(recorded, computed, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", BATCHABLE)
def test_a_batch_of_runs_gives_what_each_gives_alone(name: str) -> None:
    given = [episode(seed, shots) for seed in (1, 2) for shots in (1, 4)]
    batched = [predicted(predict) for predict in adapter(name).fit_batch(given)]
    for ours, episode in zip(batched, given, strict=True):
        alone = predicted(adapter(name).fit(episode))
        torch.testing.assert_close(ours, alone, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", TRAINED)
def test_no_step_makes_the_host_wait(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_step = capture.Steps.run

    def watched(steps: capture.Steps, kind: capture.Kind) -> None:
        torch.cuda.set_sync_debug_mode("error")
        try:
            run_step(steps, kind)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    with unrecorded(monkeypatch):  # a recording itself waits, once
        monkeypatch.setattr(capture.Steps, "run", watched)
        adapter(name).fit(episode())


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
def test_every_precision_encodes_and_learns(precision: str) -> None:
    for name in ("coop", "apt", "clip_lora"):
        predict = adapter(name).fit(episode(precision=precision))
        assert predicted(predict, precision).isfinite().all()


def test_memory_that_runs_out_is_recognised_and_given_back() -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**45, dtype=torch.uint8, device="cuda")
    assert limits.out_of_memory(caught.value)
    limits.free_memory()
    assert torch.ones(8, device="cuda").sum() == 8
