"""What only a GPU can show: its numbers against a CPU's, recorded steps against computed ones,
batches against single runs, and steps that never make the host wait.

Steps are compared in float64, where nothing but a fault parts two ways of computing one number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark import methods
from benchmark.compute.episode import Problem, problem
from benchmark.compute.executors import limits
from benchmark.compute.resources import Resources
from benchmark.compute.runner import run
from benchmark.features.feature_store import open_store
from benchmark.grid import Cell
from benchmark.records.store import Store
from benchmark.training import capture, loop, optimisers
from testbed.toy_on import Place, Trace, first_difference
from tests.short_training import parameters, trained_methods

DEVICE = "cuda"
# torch says some things once that are no fault
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default::UserWarning")]
OWN = methods.own()
TRAINED = trained_methods()
BATCHABLE = [name for name in TRAINED if methods.card(name).batchable]
HERE = Place(DEVICE)


def adapter(name: str) -> Any:
    return methods.load(name, parameters(name))


# --- the card against the CPU, in float64 on the embedded suite


@cache
def resources(device: str, folder: Path) -> Resources:
    """Features of its own for each device, so that both are encoded."""
    return Resources(device=device, features=open_store(folder / device.replace(":", "-")))


@pytest.fixture(scope="session")
def feature_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


def on(device: str, name: str, folder: Path) -> Problem:
    few_shot = methods.card(name).few_shot
    cell = Cell(
        method=name,
        dataset="tiny_digits",
        shots=2 if few_shot else 0,
        seed=1 if few_shot else 0,
        backbone="tiny",
        precision="float64",
        params=tuple(sorted(parameters(name).items())),
    )
    return problem(resources(device, folder), cell)


def apart(ours: Tensor, theirs: Tensor) -> float:
    assert ours.dtype == theirs.dtype == torch.float64
    return float((ours.cpu() - theirs.cpu()).abs().max())


def test_the_card_encodes_what_the_cpu_encodes_in_float64(feature_folder: Path) -> None:
    card, cpu = (on(device, "coop", feature_folder) for device in (DEVICE, "cpu"))
    pairs: dict[str, Callable[[Problem], Tensor]] = {
        "pixels": lambda made: next(made.episode.support.images.pixels(20)),
        "features": lambda made: made.episode.support.images.features(),
        "features of views": lambda made: made.episode.support.images.views(2),
        "test features": lambda made: made.query.features(),
        "text": lambda made: made.episode.text_features(),
    }
    differences = {what: apart(part(card), part(cpu)) for what, part in pairs.items()}
    print(differences)
    assert max(differences.values()) < 1e-12, differences


@pytest.mark.parametrize("name", OWN)
def test_the_card_gives_the_counts_of_the_cpu_in_float64(
    name: str, feature_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure says where the two part: in the losses, or in the logits of which images."""
    traces, logits, right = [], [], []
    for device in (DEVICE, "cpu"):
        trace, made = Trace([]), on(device, name, feature_folder)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "train", trace.watch(loop.train))
            predict = adapter(name).fit(made.episode)
        with torch.no_grad():
            logits_QK = predict(made.query).cpu()
        traces.append(trace)
        logits.append(logits_QK)
        right.append(logits_QK.argmax(1) == torch.tensor(made.answers.labels))
    top = logits[1].topk(2, dim=1).values
    moved = [
        f"image {q}: {float(top[q, 0] - top[q, 1]):.1e}"
        for q in (right[0] != right[1]).nonzero().flatten().tolist()
    ]
    story = (
        f"{first_difference(*traces, tolerance=1e-9)}; logits apart by {apart(*logits):.1e} of "
        f"{float(logits[1].abs().max()):.3g}; margins of images that moved: {moved or 'none'}"
    )
    print(story)
    assert int(right[0].sum()) == int(right[1].sum()), story
    assert apart(*logits) < 1e-5 * float(logits[1].abs().max()), story


def test_a_cell_of_the_tiny_suite_gives_the_same_record_on_the_card(tmp_path: Path) -> None:
    cell = Cell(method="zero_shot", dataset="tiny_digits", shots=0, seed=0, backbone="tiny")
    counts = []
    for device in (DEVICE, "cpu"):
        (outcome,) = run([cell], Store(tmp_path / device), device=device)
        assert outcome.error is None
        assert outcome.record is not None
        counts.append(outcome.record.counts.correct)
    assert counts[0] == counts[1]


# --- recordings


class CountedRecorder(capture.CudaRecorder):
    """CUDA's recorder, counting."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded = self.replayed = 0

    def record(self, work: Any) -> Any:
        replay, filled = super().record(work)
        self.recorded += 1

        def counted() -> None:
            self.replayed += 1
            replay()

        return counted, filled


@contextmanager
def recorded_by(
    recorder: capture.Recorder | None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "recorder_for", lambda device: recorder)
        yield


@pytest.mark.parametrize("name", TRAINED)
def test_recorded_steps_are_the_computed_ones(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = CountedRecorder()
    with caplog.at_level("INFO"), recorded_by(recorder, monkeypatch):
        recorded = HERE.predicted(adapter(name).fit(HERE.episode()))
    assert "not recorded" not in caplog.text, caplog.text
    assert recorder.recorded >= 2  # a loss and its update
    assert recorder.replayed >= 2 * capture.WORTHWHILE
    with recorded_by(None, monkeypatch):
        computed = HERE.predicted(adapter(name).fit(HERE.episode()))
    torch.testing.assert_close(recorded, computed, rtol=1e-6, atol=1e-6)


def test_a_step_that_reads_a_tensor_on_the_host_is_computed_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    target_T = torch.arange(60.0, dtype=torch.float64, device=DEVICE)
    rate_TR = torch.full((60, 1), 0.01, dtype=torch.float64)

    def trained(read: Callable[[Tensor], Any]) -> Tensor:
        weights_RX = torch.ones(1, 3, dtype=torch.float64, device=DEVICE)

        def loss_of(moving_RX: Tensor, step: Tensor) -> Tensor:
            return (moving_RX - target_T[read(step)]).square().sum(1)[None]

        loop.train(weights_RX, loss_of, rate_TR, optimisers.sgd(weights_RX, 0.9, 0.0))
        return weights_RX.cpu()

    with caplog.at_level("INFO"):
        computed = trained(int)
    assert "not recorded" in caplog.text
    assert torch.rand(2, device=DEVICE).isfinite().all()  # a recording that failed leaves no trace
    caplog.clear()
    with caplog.at_level("INFO"):
        torch.testing.assert_close(computed, trained(lambda step: step), rtol=1e-9, atol=1e-9)
    assert "not recorded" not in caplog.text


@pytest.mark.parametrize("name", BATCHABLE)
def test_a_batch_of_runs_gives_what_each_gives_alone(name: str) -> None:
    given = [HERE.episode(seed, shots) for seed, shots in ((1, 1), (2, 4), (3, 4))]
    batched = [HERE.predicted(predict) for predict in adapter(name).fit_batch(given)]
    for ours, episode in zip(batched, given, strict=True):
        alone = HERE.predicted(adapter(name).fit(episode))
        torch.testing.assert_close(ours, alone, rtol=1e-6, atol=1e-6)


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    with warnings.catch_warnings():  # torch calls this mode a prototype, once
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", TRAINED)
def test_no_step_makes_the_host_wait(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_step, steps_run = capture.Steps.run, []

    def watched(steps: capture.Steps, kind: capture.Kind) -> None:
        steps_run.append(kind)
        with waiting_is_an_error():
            run_step(steps, kind)

    with recorded_by(None, monkeypatch):  # a recording itself waits, once
        monkeypatch.setattr(capture.Steps, "run", watched)
        adapter(name).fit(HERE.episode())
    assert steps_run


# --- precision and memory


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["coop", "apt", "clip_lora"])
def test_every_precision_encodes_learns_and_is_recorded(
    name: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, recorder = Place(DEVICE, precision), CountedRecorder()
    with recorded_by(recorder, monkeypatch):
        predict = adapter(name).fit(place.episode())
    assert recorder.replayed
    assert place.predicted(predict).isfinite().all()


def test_memory_that_runs_out_is_recognised_and_given_back() -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**45, dtype=torch.uint8, device=DEVICE)
    assert limits.out_of_memory(caught.value)
    limits.free_memory()
    assert torch.ones(8, device=DEVICE).sum() == 8
