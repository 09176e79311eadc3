"""The training loop: recorded steps against computed ones, and what makes it compute again."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from benchmark import methods
from benchmark.backbones.prompting.plans import default_budget_mb
from benchmark.conformance import toy
from benchmark.errors import UserError
from benchmark.training import gpu_memory, loop, optimisers
from benchmark.training.loss_scale import LossScale
from testbed.recording import HostRead, TapeRecorder, eager
from tests.short_training import parameters, trained_methods

STEPS = 60


def problem(seed: int = 0, runs: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """weights_RX to be trained, target_TX of every step, rates_TR of runs that end one by one."""
    rng = torch.Generator().manual_seed(seed)
    weights_RX = torch.randn(runs, 5, generator=rng, dtype=torch.float64)
    target_TX = torch.randn(STEPS, 5, generator=rng, dtype=torch.float64)
    rate_TR = torch.full((STEPS, runs), 0.05, dtype=torch.float64)
    for run in range(runs):
        rate_TR[STEPS - 25 * run :, run] = 0
    return weights_RX, target_TX, rate_TR


def trained(recorder: TapeRecorder | None, optimiser: str) -> tuple[Tensor, Tensor]:
    """Weights and losses."""
    weights_RX, target_TX, rate_TR = problem(runs=2)

    def loss_of(moving_RX: Tensor, step: Tensor) -> Tensor:
        return (moving_RX - target_TX.index_select(0, step)).square().sum(1)[None]

    update = {
        "sgd": lambda: optimisers.sgd(weights_RX, 0.9, 5e-4),
        "adamw": lambda: optimisers.adamw(weights_RX, 0.01, 1e-8, 0.9, 0.999),
    }[optimiser]()
    loss_TR = loop.train(weights_RX, loss_of, rate_TR, update, recorder=recorder)
    return weights_RX, loss_TR


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_replayed_steps_give_the_bits_of_computed_ones(optimiser: str) -> None:
    recorder = TapeRecorder()
    recorded, computed = trained(recorder, optimiser), trained(None, optimiser)
    assert recorder.recorded == 4  # forward and update, for two live runs and for one
    assert recorder.replayed > STEPS
    for mine, reference in zip(recorded, computed, strict=True):
        assert torch.equal(mine, reference)


def test_a_loss_that_reads_python_state_is_computed_step_by_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A recording would show the same target at every step without a word."""
    results = []
    for recorder in (TapeRecorder(), None):
        weights_RX, target_TX, rate_TR = problem(runs=1)
        targets = iter(target_TX)

        def loss_of(moving_RX: Tensor, step: Tensor, targets=targets) -> Tensor:
            return (moving_RX - next(targets)).square().sum(1)[None]

        with caplog.at_level(logging.INFO):
            loss_TR = loop.train(
                weights_RX,
                loss_of,
                rate_TR,
                optimisers.sgd(weights_RX, 0.9, 0.0),
                recorder=recorder,
            )
        results.append((weights_RX, loss_TR))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert "depends on more than its weights and the step number" in caplog.text


def test_a_loss_that_reads_a_tensor_on_the_host_is_computed_step_by_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    results = []
    for recorder in (TapeRecorder(), None):
        weights_RX, target_TX, rate_TR = problem(runs=1)

        def loss_of(moving_RX: Tensor, step: Tensor, target_TX=target_TX) -> Tensor:
            return (moving_RX - target_TX[int(step)]).square().sum(1)[None]

        with caplog.at_level(logging.INFO):
            results.append(
                loop.train(
                    weights_RX,
                    loss_of,
                    rate_TR,
                    optimisers.sgd(weights_RX, 0.9, 0.0),
                    recorder=recorder,
                )
            )
    assert torch.equal(*results)
    assert "reads a tensor on the host" in caplog.text


def test_steps_of_several_kinds_are_recorded_one_by_one() -> None:
    """Two tasks in turn, as multitask pretraining has them."""
    results = []
    for recorder in (TapeRecorder(), None):
        weights_RX, target_TX, _ = problem(runs=1)
        rate_TR = torch.full((4 * STEPS, 1), 0.01, dtype=torch.float64)
        choice_T = [(7 * t) % 5 % 2 for t in range(4 * STEPS)]
        row_T = torch.arange(4 * STEPS) % STEPS

        def task(sign: float, target_TX=target_TX, row_T=row_T):
            def loss_of(moving_RX: Tensor, step: Tensor) -> Tensor:
                row = row_T.index_select(0, step)
                return (moving_RX - sign * target_TX.index_select(0, row)).square().sum(1)[None]

            return loss_of

        loss_TR = loop.train(
            weights_RX,
            [task(1.0), task(-1.0)],
            rate_TR,
            optimisers.sgd(weights_RX, 0.9, 0.0),
            choice_T=choice_T,
            recorder=recorder,
        )
        results.append((weights_RX, loss_TR))
        if recorder:
            assert recorder.recorded == 4
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_the_guard_sees_a_host_read() -> None:
    with pytest.raises(HostRead, match="_local_scalar_dense"):
        eager(lambda: float(torch.ones(1).sum()))
    assert torch.equal(eager(lambda: torch.ones(2) + 1), torch.full((2,), 2.0))


# --- every trained method


def predicted(name: str) -> Tensor:
    given, images = toy.episode(4), toy.held_out().images
    return methods.load(name, parameters(name)).fit(given)(images)


@pytest.mark.parametrize("name", trained_methods())
def test_recorded_training_of_every_method_gives_its_numbers(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a GPU replays, on a CPU; a step that reads a tensor on the host would be refused."""
    computed = predicted(name)
    recorder = TapeRecorder()
    monkeypatch.setattr(loop, "recorder_for", lambda device: recorder)
    with caplog.at_level(logging.INFO):
        recorded = predicted(name)
    assert "not recorded" not in caplog.text
    assert recorder.replayed > 0
    assert torch.equal(recorded, computed)


def test_multitask_pretraining_is_recorded_task_by_task(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = methods.load("prompt_adapter", {"pretrain_steps": 90, "pretrain_batch_size": 4})
    sources = [toy.episode(4, classes=3), toy.episode(4, classes=4, seed=2)]
    computed = adapter.pretrain(sources)
    recorder = TapeRecorder()
    monkeypatch.setattr(loop, "recorder_for", lambda device: recorder)
    with caplog.at_level(logging.INFO):
        recorded = adapter.pretrain(sources)
    assert "not recorded" not in caplog.text
    assert recorder.recorded == 4
    assert torch.equal(recorded["ctx_PE"], computed["ctx_PE"])


# --- float16


def test_a_gradient_that_overflows_halves_the_scale_and_moves_nothing() -> None:
    weights_RX = torch.ones(1, 4)
    scale, moved = LossScale(weights_RX.device), []

    def loss_of(moving_RX: Tensor, step: Tensor) -> Tensor:
        return (500 * moving_RX.half()).sum(1)[None]  # overflows while the scale is above 131

    def update(weights: Tensor, gradient: Tensor, rate_R: Tensor) -> None:
        moved.append((float(rate_R[0]), float(gradient[0, 0]), float(scale.value_R)))

    rate_TR = torch.full((6, 1), 0.1, dtype=torch.float64)
    loop.train(weights_RX, loss_of, rate_TR, scale.guarded(update), scale.gradient_of)
    assert [rate for rate, _, _ in moved] == [0, 0, 0, 0.1, 0.1, 0.1]
    assert [gradient for _, gradient, _ in moved] == [0, 0, 0, 500, 500, 500]
    assert [value for _, _, value in moved] == [1024, 512, 256, 128, 128, 128]


def test_every_run_has_a_scale_of_its_own() -> None:
    weights_RX = torch.ones(2, 4)
    scale = LossScale(weights_RX.device, runs=2)
    slope_R = torch.tensor([1.0, 500.0])  # the second overflows while its scale is above 131

    def loss_of(moving_RX: Tensor, step: Tensor) -> Tensor:
        return (slope_R[: len(moving_RX), None] * moving_RX.half()).sum(1)[None]

    rate_TR = torch.full((6, 2), 0.1, dtype=torch.float64)
    rate_TR[5, 1] = 0  # the second run is over
    update = scale.guarded(optimisers.sgd(weights_RX, 0.0, 0.0))
    loop.train(weights_RX, loss_of, rate_TR, update, scale.gradient_of)
    assert scale.value_R.tolist() == [1024, 128]
    assert scale.left_out_R.tolist() == [0, 3]
    torch.testing.assert_close(weights_RX[:, 0], torch.tensor([1 - 6 * 0.1, 1 - 2 * 0.1 * 500]))


def test_the_scale_grows_again_after_many_finite_steps() -> None:
    scale = LossScale(torch.device("cpu"))
    move = scale.guarded(lambda weights, gradient, rate_R: None)
    finite, infinite = torch.ones(1, 2), torch.full((1, 2), torch.inf)
    for gradient in [infinite] + [finite] * 200 + [infinite] + [finite] * 199:
        move(finite, gradient, torch.ones(1))
    assert float(scale.value_R) == 512.0
    move(finite, finite, torch.ones(1))
    assert float(scale.value_R) == 1024.0
    eager(lambda: move(finite, finite, torch.ones(1)))  # nothing is read on the host


@pytest.mark.parametrize(("share", "allowed", "left"), [(1.0, 80, 60), (0.25, 20, 15)])
def test_a_process_plans_with_its_own_share_of_a_gpu(
    share: float, allowed: int, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card of 80 bytes of which this process uses 5 and keeps 7, and others take 15."""
    answers = {
        "get_per_process_memory_fraction": share,
        "get_device_properties": SimpleNamespace(total_memory=80),
        "mem_get_info": (58, 80),
        "memory_reserved": 7,
        "memory_allocated": 5,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, answer=answer: answer, raising=False)
    device = torch.device("cuda")
    assert gpu_memory.allowed_bytes(device) == allowed
    assert gpu_memory.left_bytes(device) == left
    assert default_budget_mb(device) == allowed / 2**21
    assert default_budget_mb(torch.device("cpu")) == 4096


def test_runs_that_are_not_sorted_are_refused() -> None:
    """The loop trains the first runs; a run whose rate is 0 before another's would stand still."""
    weights_RX = torch.zeros(2, 1)
    rate_TR = torch.tensor([[0.1, 0.1], [0.0, 0.1]])
    with pytest.raises(UserError, match="sort runs longest first"):
        loop.train(
            weights_RX, lambda w, step: w.sum(1)[None], rate_TR, optimisers.sgd(weights_RX, 0, 0)
        )
