"""How far a loop has come: told at most once a second, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from benchmark import ticks
from benchmark.records.announcements import announced, note_step, read_step
from benchmark.records.progress import read_progress
from benchmark.records.store import Store
from benchmark.training import loop


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets."""
    now = [100.0]
    monkeypatch.setattr(ticks.time, "monotonic", lambda: now[0])
    return now


def trained(clock: list[float] | None = None) -> tuple[Tensor, Tensor]:
    """weights_RN and loss_TR of 8 steps, each of which takes 0.3 seconds of `clock`."""
    weights_RN = torch.tensor([[3.0, -2.0], [1.0, 4.0]])

    def loss(moving_RN: Tensor, step: Tensor) -> Tensor:
        if clock:
            clock[0] += 0.3
        return (moving_RN**2).sum(1)[None]

    rate_TR = torch.full((8, 2), 0.1)
    rate_TR[5:, 1] = 0.0  # the second run is shorter
    loss_TR = loop.train(
        weights_RN, loss, rate_TR, lambda w, gradient, rate_R: w.sub_(gradient * rate_R[:, None])
    )
    return weights_RN, loss_TR


def test_a_listener_hears_of_a_training_once_a_second_and_changes_no_number(
    clock: list[float],
) -> None:
    heard: list[ticks.Tick] = []
    with ticks.heard_by(heard.append):
        weights_RN, loss_TR = trained(clock)
    assert [(tick.done, tick.total) for tick in heard] == [(1, 8), (5, 8)]
    assert heard[1].loss == pytest.approx(float(loss_TR[4].mean()))
    assert loop._mean_loss(loss_TR, 7, 1) == float(loss_TR[7, 0]), "of runs still in training"
    assert str(heard[0]) == "step 1 of 8, loss 15"
    alone_RN, alone_TR = trained(clock)
    assert torch.equal(weights_RN, alone_RN)
    assert torch.equal(loss_TR, alone_TR)
    assert len(heard) == 2, "nobody listens any more"


def test_a_loss_is_read_only_where_somebody_hears_it(clock: list[float]) -> None:
    def read() -> float:
        read_at.append(clock[0])
        return 1.0

    read_at: list[float] = []
    ticks.tell("step", 1, 9, read)
    assert read_at == []
    with ticks.heard_by(lambda tick: None):
        for _ in range(30):
            ticks.tell("step", 1, 9, read)
            clock[0] += 0.1
    assert len(read_at) == 3


def test_status_says_how_far_a_cell_has_come(tmp_path_factory: pytest.TempPathFactory) -> None:
    store, key = Store(tmp_path_factory.mktemp("results")), "0123456789ab"

    def words() -> Iterator[str]:
        return (cell.last_words for cell in read_progress(store).running)

    store.make_ready()
    with store.claim(key), announced(store, key, "coop tiny_digits", None):
        note_step(store, key, "step 3 of 9, loss 0.5")
        assert list(words()) == ["step 3 of 9, loss 0.5"]
        note_step(store, key, "")
        assert list(words()) == [""]
        note_step(store, key, "step 4 of 9")
    assert read_step(store, key) == ""
    assert list((store.root / "running").iterdir()) == []
