"""Devices and precisions: the driver's answers, what auto stands for, what is refused early."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmark.compute import devices
from benchmark.compute.executors.scheduling import Job, RunOptions, Task, TaskReport
from benchmark.compute.runner import plan, run
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.records.record import key
from benchmark.records.store import Store

STANDARD, TINY = "ViT-B-16-quickgelu/openai", "tiny"
OLD, NEW = (7, 5), (9, 0)


class Driver:
    """A CUDA driver with cards of these capabilities; `error` is what its first call returns."""

    def __init__(self, cards: Sequence[tuple[int, int]], error: int = 0) -> None:
        self.cards, self.error = cards, error

    def cuInit(self, flags: int) -> int:
        return self.error

    def cuDeviceGetCount(self, count: object) -> int:
        count._obj.value = len(self.cards)  # type: ignore[attr-defined]
        return 0

    def cuDeviceGet(self, device: object, ordinal: int) -> int:
        device._obj.value = ordinal  # type: ignore[attr-defined]
        return 0

    def cuDeviceGetAttribute(self, value: object, attribute: int, device: ctypes.c_int) -> int:
        minor = attribute == 76
        value._obj.value = self.cards[device.value][minor]  # type: ignore[attr-defined]
        return 0


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test asks its own driver; the build of torch that runs the tests does not matter."""
    devices.gpus.cache_clear()
    monkeypatch.setattr(devices, "version", lambda package: "2.8.0")


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> object:
    def set_cards(*cards: tuple[int, int], error: int = 0) -> None:
        monkeypatch.setattr(devices, "_driver", lambda: Driver(cards, error))

    return set_cards


def test_every_card_is_listed_with_its_capability(offer) -> None:  # type: ignore[no-untyped-def]
    offer(OLD, NEW)
    assert devices.gpus() == (OLD, NEW)


def test_a_driver_that_does_not_start_or_a_torch_for_cpus_has_no_card(
    offer,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer(NEW, error=100)
    assert devices.gpus() == ()
    devices.gpus.cache_clear()
    offer(NEW)
    monkeypatch.setattr(devices, "version", lambda package: "2.8.0+cpu")
    assert devices.gpus() == ()


def test_without_a_driver_there_is_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "DRIVER", "libno_such_driver.so.1")
    assert devices.gpus() == ()


@pytest.mark.parametrize(
    ("cards", "backbone", "wanted", "device", "precision"),
    [
        ([], TINY, "auto", "cpu", "float64"),
        ([], STANDARD, "auto", "cpu", "float32"),
        ([NEW], TINY, "auto", "cpu", "float64"),
        ([NEW], TINY, "cuda", "cuda", "float64"),
        ([NEW], STANDARD, "auto", "cuda", "float16"),
        ([NEW], STANDARD, "cpu", "cpu", "float32"),
        ([], STANDARD, "cuda:1", "cuda:1", "float16"),
    ],
)
def test_auto_stands_for(  # type: ignore[no-untyped-def]
    offer, cards: list[tuple[int, int]], backbone: str, wanted: str, device: str, precision: str
) -> None:
    offer(*cards)
    assert devices.device_for(backbone, wanted) == device
    assert devices.precision_for(backbone, wanted, "auto") == precision
    assert devices.precision_for(backbone, wanted, "tf32") == "tf32"


@pytest.mark.parametrize(
    ("cards", "device", "precision", "message"),
    [
        ([], "cuda", "float32", "no GPU here"),
        ([NEW], "cuda:1", "float32", "1 GPU here"),
        ([OLD], "cuda", "bfloat16", "needs a GPU of compute capability 8.0, and cuda has 7.5"),
        ([OLD], "cuda", "tf32", "compute capability 8.0"),
        ([NEW], "cpu", "float16", "needs a GPU, and these cells run on the CPU"),
        ([], "auto", "tf32", "needs a GPU, and these cells run on the CPU"),
        ([OLD], "cuda", "float16", None),
        ([NEW], "cuda", "tf32", None),
        ([], "cpu", "bfloat16", None),
        ([], "cpu", "float64", None),
    ],
)
def test_a_device_that_is_missing_or_cannot_do_it_is_named(  # type: ignore[no-untyped-def]
    offer, cards: list[tuple[int, int]], device: str, precision: str, message: str | None
) -> None:
    offer(*cards)
    if message is None:
        devices.require(STANDARD, device, precision)
        return
    with pytest.raises(UserError, match=message) as refused:
        devices.require(STANDARD, device, precision)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("word", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_an_unknown_word_for_a_device_is_one_sentence(word: str) -> None:
    with pytest.raises(UserError, match="--device takes auto, cpu, cuda or cuda:N, not"):
        devices.check_name(word)


def test_a_card_that_is_missing_is_named_before_any_cell_runs_unless_all_are_on_record(
    offer,  # type: ignore[no-untyped-def]
    tmp_path: Path,
) -> None:
    offer()
    cell = Cell(
        method="zero_shot", dataset="tiny_digits", shots=0, seed=0, backbone=TINY, val="none"
    )
    with pytest.raises(UserError, match="no GPU here"):
        list(run([cell], Store(tmp_path), device="cuda"))
    assert not list(tmp_path.rglob("*.txt"))
    (computed,) = run([cell], Store(tmp_path), device="cpu")
    assert computed.record is not None
    assert computed.record.identity.precision == "float64"
    ((_, of_card),) = plan([cell], device="cuda")
    assert of_card == computed.record.identity.model_copy(update={"transform": of_card.transform})
    record = computed.record.model_copy(update={"identity": of_card, "key": key(of_card)})
    Store(tmp_path).put(record, Store(tmp_path).predictions(computed.key))
    (cached,) = run([cell], Store(tmp_path), device="cuda")
    assert (computed.cached, cached.cached) == (False, True)
    assert cached.record == record


class Listens:
    """An executor that computes nothing and keeps what it was told."""

    on_this_machine = False

    def slots(self, tasks: Sequence[Task], options: RunOptions) -> int:
        return 1

    def __init__(self) -> None:
        self.told: list[RunOptions] = []

    def run(self, jobs: Sequence[Job], options: RunOptions) -> Iterator[TaskReport]:
        self.told.append(options)
        for job in jobs:
            yield from (TaskReport(task.key, "failed", "never ran") for task in job.tasks)


@pytest.mark.parametrize(
    ("cards", "wanted", "sent"),
    [([], "auto", "cpu"), ([NEW], "auto", "auto"), ([], "cuda", "cuda"), ([NEW], "cpu", "cpu")],
)
def test_workers_compute_where_the_names_of_the_results_say(  # type: ignore[no-untyped-def]
    offer, cards: list[tuple[int, int]], wanted: str, sent: str, tmp_path: Path
) -> None:
    """A head without a GPU names float32 and the host's pixels, which a worker's GPU must not
    change."""
    offer(*cards)
    cell = Cell(method="zero_shot", dataset="tiny_digits", shots=0, seed=0, backbone=TINY)
    executor = Listens()
    list(run([cell], Store(tmp_path), device=wanted, executor=executor))
    assert [options.device for options in executor.told] == [sent]


def test_the_tiny_suite_leaves_a_gpu_alone(offer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """`auto` computes it on the CPU, in float64, and touches no CUDA."""
    import torch

    offer(NEW)
    cell = Cell(method="zero_shot", dataset="tiny_digits", shots=0, seed=0, backbone=TINY)
    (outcome,) = run([cell], Store(tmp_path), device="auto")
    assert outcome.record is not None
    assert outcome.record.identity.precision == "float64"
    assert outcome.record.identity.transform.startswith("host")
    assert not torch.cuda.is_initialized()


def test_asking_for_devices_imports_no_torch() -> None:
    code = "from benchmark.compute import devices; devices.gpus(); import sys; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "torch" not in printed.stdout.split()
