"""`reproduce`: everything is said before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import methods
from benchmark.commands import published_grid
from benchmark.commands.published_grid import BACKBONES, GridRequest
from benchmark.grid import Cell
from benchmark.records.store import Store
from benchmark.report.published_table import read_published
from testbed.synthetic import CLASSIC, grid
from tests.conftest import Invoke


@pytest.fixture(autouse=True)
def _nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No dataset, no weights, no GPU, and nobody who could be asked."""
    for name in ("FSBENCH_DATA", "HF_HOME", "HF_HUB_CACHE", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr("benchmark.compute.devices.gpus", tuple)
    monkeypatch.chdir(tmp_path)


def test_the_grid_is_what_is_published_of_our_methods() -> None:
    rows = [row for row in read_published() if row.classes == "all"]
    expected = {
        (row.method, row.backbone)
        for row in rows
        if row.evaluation == "few-shot" and row.method in methods.own()
        if row.backbone in BACKBONES
    }
    cells = published_grid.cells(GridRequest())
    assert {(cell.method, cell.backbone) for cell in cells} == expected
    assert {cell.dataset for cell in cells} == set(CLASSIC)
    trained = sum(methods.card(name).few_shot for name, _ in expected)
    assert len(cells) == 11 * (15 * trained + len(expected) - trained)
    released = published_grid.cells(GridRequest(preset="released", methods=["coop"], seeds=[1]))
    assert {(cell.preset, cell.seed) for cell in released} == {("released", 1)}


def test_what_is_missing_is_said_with_the_command_that_gets_it(invoke: Invoke) -> None:
    options = ["--method", "tip_adapter,zero_shot", "--dataset", "dtd,eurosat", "--shots", "1,16"]
    result = invoke("reproduce", *options, "--backbone", "RN50", "--yes")
    assert result.code == 4
    assert result.out.splitlines() == [
        "the published grid: 14 cells",
        "  RN50/openai: 14 cells of tip_adapter, zero_shot",
        "time: not known before the first records; on one H200 the 165 cells of CoOp at ViT-B/16 "
        "would take 23 minutes by its measured steps (docs/gpu.md)",
        "device: no GPU here; on a processor methods that train through the towers take days to "
        "weeks",
        "missing: data dtd (5,640 images, licence: research use)",
        "  python -m benchmark prepare dtd --accept-licence dtd",
        "missing: data eurosat (27,000 images, licence: MIT, with the Copernicus notice)",
        "  python -m benchmark prepare eurosat --accept-licence eurosat",
        "missing: weights RN50/openai",
        "  python -m benchmark prepare --backbone RN50/openai",
    ]
    assert "3 parts are missing" in result.err
    assert not Path("results").exists()


def test_a_part_that_is_not_of_the_grid_is_refused(invoke: Invoke) -> None:
    assert "did you mean 'tip_adapter'?" in invoke("reproduce", "--method", "tip_adaptr").err
    assert "has no dataset 'tiny_digits'" in invoke("reproduce", "--dataset", "tiny_digits").err
    assert (
        "has no preset 'nosuch'; known are released"
        in invoke("reproduce", "--preset", "nosuch").err
    )
    shots = invoke("reproduce", "--shots", "99")
    assert (shots.code, "has no number of shots '99'; known are 1, 2" in shots.err) == (2, True)
    alone = invoke("reproduce", "--method", "timo", "--backbone", "ViT-B/16")
    assert (alone.code, "no value of these methods is published" in alone.err) == (2, True)


def test_time_is_what_records_here_tell() -> None:
    records = list(grid(["coop"], ["dtd"], backbones=("RN50/openai",)))
    cells = published_grid.cells(GridRequest(datasets=["dtd"], backbones=["RN50"]))
    others = len(cells) - 15
    rest = f"by 3 records each; nothing is known of {others} more"
    text = published_grid.forecast(cells, set(), [], records, "auto")
    assert f"time: about 34 s for 15 cells, {rest}" in text
    coop = [cell for cell in cells if cell.method == "coop"]
    text = published_grid.forecast(cells, set(coop[5:]), [], records, "auto")
    assert f"the published grid: {len(cells)} cells, 10 of them on record" in text
    assert f"time: about 11 s for 5 cells, {rest}" in text
    assert "time: none" in published_grid.forecast(coop, set(coop), [], records, "auto")


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("auto", "device: 2 GPUs here"),
        ("cpu", "device: the processor, as --device says; on a processor methods that train"),
        ("cuda:1", "device: cuda:1, as --device says"),
    ],
)
def test_the_device_is_the_one_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, device: str, said: str
) -> None:
    monkeypatch.setattr("benchmark.compute.devices.gpus", lambda: ((9, 0), (9, 0)))
    cells = published_grid.cells(GridRequest(methods=["zero_shot"], datasets=["dtd"]))
    assert said in published_grid.forecast(cells, set(), [], [], device)


def test_with_everything_here_it_asks_and_runs(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(method="zero_shot", dataset="tiny_digits", shots=0, seed=0, backbone="tiny")
    monkeypatch.setattr(published_grid, "cells", lambda request: [cell])
    asked = invoke("reproduce")
    assert asked.code == 2
    assert "add --yes to run this grid" in asked.err
    assert not Path("results").exists()
    ran = invoke("reproduce", "--yes", "--results", "mine")
    assert ran.code == 0, ran.err
    assert "check --against published --results mine" in ran.out
    assert len(Store(Path("mine")).keys()) == 1
    again = invoke("reproduce", "--results", "mine")
    assert (again.code, again.out.splitlines()[0]) == (
        0,
        "the published grid: 1 cell, 1 of them on record",
    )
    assert "time: none" in again.out
    no_gpu = invoke("reproduce", "--device", "cuda", "--yes")
    assert (no_gpu.code, "--device cuda: torch and the driver offer no GPU here" in no_gpu.err) == (
        2,
        True,
    )
    assert invoke("reproduce", "--device", "gpu").code == 2
