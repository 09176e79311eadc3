"""Energy and use of a GPU, asked of a made-up NVML that has the functions, the units and the
refusals of the real one.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from benchmark.compute import power
from benchmark.compute.runner import run
from benchmark.grid import Cell
from benchmark.records.record import Costs, Record
from benchmark.records.store import Store
from benchmark.report import rendering
from benchmark.report.cost_tables import cost_tables
from benchmark.report.grouping import group_records
from testbed.synthetic import TINY, identity, scored

UUIDS = ["11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"]


class NVMLError(Exception):
    """As pynvml's: one class for whatever the library refuses."""


@dataclass
class Machine:
    """GPUs as NVML counts them, their counters, and what is refused."""

    millijoules: list[int] = field(default_factory=lambda: [5_000_000, 70_000])
    percent: list[int] = field(default_factory=lambda: [10, 60])
    refused: set[str] = field(default_factory=set)
    opened: int = 0

    def module(self) -> ModuleType:
        module = ModuleType("pynvml")
        module.__dict__.update(
            NVMLError=NVMLError,
            nvmlInit=self._guarded("nvmlInit", self._open),
            nvmlShutdown=self._guarded("nvmlShutdown", self._close),
            nvmlDeviceGetHandleByUUID=self._guarded("nvmlDeviceGetHandleByUUID", self._handle),
            nvmlDeviceGetTotalEnergyConsumption=self._guarded(
                "nvmlDeviceGetTotalEnergyConsumption", lambda handle: self.millijoules[handle]
            ),
            nvmlDeviceGetUtilizationRates=self._guarded(
                "nvmlDeviceGetUtilizationRates",
                lambda handle: SimpleNamespace(gpu=self.percent[handle], memory=1),
            ),
        )
        return module

    def _guarded(self, name, answer):  # type: ignore[no-untyped-def]
        def call(*arguments: object) -> object:
            if name in self.refused:
                raise NVMLError(name)
            return answer(*arguments)

        return call

    def _open(self) -> None:
        self.opened += 1

    def _close(self) -> None:
        self.opened -= 1

    def _handle(self, uuid: str) -> int:
        names = [f"GPU-{known}" for known in UUIDS]
        if uuid not in names:
            raise NVMLError("Not Found")
        return names.index(uuid)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Two GPUs of which CUDA_VISIBLE_DEVICES=1,0 shows the second one first."""
    machine = Machine()
    monkeypatch.setitem(sys.modules, "pynvml", machine.module())
    seen = {"cuda": UUIDS[1], "cuda:0": UUIDS[1], "cuda:1": UUIDS[0]}
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=seen[device])
    )
    return machine


def test_joules_and_use_are_those_of_the_gpu_that_torch_means(machine: Machine) -> None:
    with power.metered("cuda:0") as used:
        machine.millijoules = [9_000_000, 72_500]
    assert used() == power.EnergyUse(energy_j=2.5, gpu_use=0.6)
    with power.metered("cuda:1") as used:
        machine.millijoules[0] += 1_000
    assert used() == power.EnergyUse(energy_j=1.0, gpu_use=0.1)
    assert machine.opened == 0


def test_use_is_the_mean_of_what_is_seen_on_the_way(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "SAMPLE_S", 1e-3)
    board, answers = power._Board(sys.modules["pynvml"], 1), iter([0.2, 0.4])
    used: list[float] = []
    monkeypatch.setattr(power._Board, "use", lambda self: next(answers, None))
    with power._sampled(board, used):
        while len(used) < 2:
            pass
    assert used == [0.2, 0.4]


@pytest.mark.parametrize(
    ("refused", "left"),
    [
        ("nvmlInit", power.EnergyUse()),
        ("nvmlDeviceGetHandleByUUID", power.EnergyUse()),
        ("nvmlDeviceGetTotalEnergyConsumption", power.EnergyUse(gpu_use=0.6)),
        ("nvmlDeviceGetUtilizationRates", power.EnergyUse(energy_j=1.0)),
        ("nvmlShutdown", power.EnergyUse(energy_j=1.0, gpu_use=0.6)),
    ],
)
def test_what_is_refused_is_none_and_stops_nobody(
    machine: Machine, refused: str, left: power.EnergyUse
) -> None:
    machine.refused = {refused}
    with power.metered("cuda") as used:
        machine.millijoules[1] += 1_000
    assert used() == left


def test_a_counter_that_began_anew_tells_nothing(machine: Machine) -> None:
    with power.metered("cuda") as used:
        machine.millijoules[1] = 3
    assert used().energy_j is None


def test_without_the_library_and_without_a_gpu_there_is_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with power.metered("cpu") as used:
        pass
    assert used() == power.EnergyUse()
    monkeypatch.setitem(sys.modules, "pynvml", None)  # an import of it fails
    with power.metered("cuda") as used:
        pass
    assert used() == power.EnergyUse()


def test_an_error_in_the_block_passes_and_the_library_is_closed(machine: Machine) -> None:
    with pytest.raises(ZeroDivisionError), power.metered("cuda"):
        _ = 1 / 0
    assert machine.opened == 0


def test_batched_cells_share_the_energy_and_not_the_use() -> None:
    assert power.EnergyUse(6.0, 0.5).share(0.25) == power.EnergyUse(1.5, 0.5)
    assert power.EnergyUse().share(0.25) == power.EnergyUse()


def cells(method: str) -> list[Cell]:
    return [
        Cell(method=method, dataset="tiny_digits", shots=1, seed=seed, backbone="tiny")
        for seed in (1, 2)
    ]


def test_records_say_what_was_drawn(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On the CPU, with a meter that believes in a GPU."""
    real = power.metered
    monkeypatch.setattr(power, "metered", lambda device: real("cuda"))
    counter = machine.module().nvmlDeviceGetTotalEnergyConsumption

    def counting(handle: int) -> int:
        machine.millijoules[handle] += 1_000
        return int(counter(handle))

    monkeypatch.setattr(sys.modules["pynvml"], "nvmlDeviceGetTotalEnergyConsumption", counting)
    costs = [
        outcome.record.costs for outcome in run(cells("coop"), Store(tmp_path)) if outcome.record
    ]
    assert [cost.energy_j for cost in costs] == [1.0 / cost.batched_runs for cost in costs]
    assert [cost.gpu_use for cost in costs] == [0.6, 0.6]
    assert len(costs) == 2


def test_records_of_a_processor_say_nothing_and_old_ones_are_read(tmp_path: Path) -> None:
    (outcome,) = run(
        [Cell(method="zero_shot", dataset="tiny_digits", shots=0, seed=1, backbone="tiny")],
        Store(tmp_path),
    )
    assert outcome.record
    assert (outcome.record.costs.energy_j, outcome.record.costs.gpu_use) == (None, None)
    old = outcome.record.costs.model_dump(exclude={"energy_j", "gpu_use"})
    assert Costs.model_validate(old).energy_j is None


# Beside the other costs


def suite_records(method: str, **costs: object) -> list[Record]:
    records = [scored(identity(method, dataset, 4), 0.5) for dataset in TINY]
    return [
        record.model_copy(update={"costs": record.costs.model_copy(update=costs)})
        for record in records
    ]


def test_costs_show_energy_only_where_a_record_has_it() -> None:
    (without,) = cost_tables(group_records(suite_records("coop")))
    assert "energy" not in rendering.markdown([without])
    (table,) = cost_tables(
        group_records(suite_records("coop", energy_j=4321.0, gpu_use=0.87) + suite_records("cones"))
    )
    assert table.columns[-2:] == ("energy J", "GPU %")
    assert sorted(row.values[-2:] for row in table.rows) == [("-", "-"), ("4.32k", "87")]
    assert "other programs included" in rendering.markdown([table])
