"""Kill -9, several drivers, lost workers and nodes: what stands in the records is what one
undisturbed run would have written.

The short form of testbed/faults.py, drivers.py and cluster.py. Drivers are processes of their own,
as a user starts them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.records.store import Store
from testbed.campaign import (
    ROOT,
    RecordReader,
    differences,
    driver,
    grid,
    keys,
    under_way,
    undisturbed,
    until,
)
from testbed.drivers import run_drivers
from testbed.faults import FaultPlan, campaign
from testbed.processes import Process, alive, descendants

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="finds processes in /proc"),
]
FEW, MORE = grid(12), grid(24)  # the few are among the more


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one serial driver computes with nobody in its way; `cache`, beside it, then holds all
    features.
    """
    folder = tmp_path_factory.mktemp("faults")
    return undisturbed(MORE, folder / "undisturbed", folder / "cache")


def cache_of(reference: Path) -> Path:
    return reference.parent / "cache"


# --- the instruments


def test_what_is_wrong_with_a_folder_is_seen(reference: Path, tmp_path: Path) -> None:
    store, (first, second, third, *rest) = Store(tmp_path), list(Store(reference).records())
    for record in (first, second):
        store.put(record, Store(reference).predictions(record.key))
    assert differences(tmp_path, reference, {first.key, second.key}) == []
    assert differences(tmp_path, reference, {first.key, third.key}) == [
        f"no record {third.key}",
        f"a record that nobody asked for: {second.key}",
    ]
    store.put(first, 1 + Store(reference).predictions(first.key))
    store.put(
        second.model_copy(update={"notes": {"a": "word"}}), Store(reference).predictions(second.key)
    )
    differing = differences(tmp_path, reference, {first.key, second.key})
    assert len(differing) == 2
    assert all("another record" in each for each in differing)
    store.fail(rest[0].key, "a cell failed")
    assert len(differences(tmp_path, reference, {first.key, second.key})) == 3


def test_half_a_record_is_seen_by_who_reads_all_the_time(reference: Path, tmp_path: Path) -> None:
    store, reader, (whole, half, bare) = (
        Store(tmp_path),
        RecordReader(),
        list(Store(reference).records())[:3],
    )
    store.put(whole, Store(reference).predictions(whole.key))
    reader.read(store)
    assert reader.problems == []
    store.path(half.key).write_bytes(Store(reference).path(half.key).read_bytes()[:-20])
    # without its predictions
    store.path(bare.key).write_bytes(Store(reference).path(bare.key).read_bytes())
    reader.read(store)
    assert len(reader.problems) == 2
    store.path(whole.key).unlink()
    reader.read(store)
    assert f"the record {whole.key} vanished" in reader.problems


# --- drivers


def test_kills_at_random_moments_leave_no_trace_in_the_records(
    reference: Path, tmp_path: Path
) -> None:
    tally = campaign(MORE, reference, tmp_path, FaultPlan(kills=6, after_s=(0.1, 0.8)))
    assert tally.counts["drivers killed"] == 6
    # each grid was finished by one nobody killed
    assert tally.counts["drivers started"] == 6 + tally.counts["grids"]
    assert tally.counts["readings of the reader"] > 6
    assert tally.complaints == []
    assert tally.left["parts in results"] == 0


def test_three_drivers_on_one_folder_share_the_work(reference: Path, tmp_path: Path) -> None:
    share = run_drivers(FEW, reference, tmp_path, [(), (), ()])
    assert share.complaints == ()
    assert sum(share.computed) == share.cells == 12


# --- Ray


@pytest.fixture
def ray_() -> None:
    pytest.importorskip("ray", reason="needs the extra ray")


def busy(pid: int, results: Path) -> list[Process]:
    """Workers of a driver that are at work on a cell."""
    return [process for process in descendants(pid) if under_way(results, {process[0]})]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_")
def test_a_cell_whose_worker_is_killed_is_tried_again(reference: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    with driver(FEW, results, cache_of(reference), "--executor", "ray") as started:
        assert until(lambda: busy(started.process.pid, results), 120)
        victim = busy(started.process.pid, results)[0]
        lost = under_way(results, {victim[0]})
        os.kill(victim[0], signal.SIGKILL)
        assert until(lambda: not alive(victim), 30)
        assert started.wait() == 0
    assert lost
    assert {outcome["key"] for outcome in started.outcomes()} == keys(FEW)
    assert len(started.outcomes()) == 12  # each is told of once
    assert differences(results, reference, keys(FEW)) == []


@pytest.mark.ray
@pytest.mark.usefixtures("ray_")
def test_a_grid_outlives_the_loss_of_a_node(reference: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "testbed.cluster",
        "--only",
        "removal",
        "--cells",
        "12",
        "--reference",
        str(reference),
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one node was removed with 0 cells under way" not in done.stdout
    # it belongs to results, whatever Ray has to say
    assert " 0 lines on stdout that are no outcomes" in done.stdout
    assert "complaints: none" in done.stdout


@pytest.mark.ray
@pytest.mark.usefixtures("ray_")
def test_what_no_node_can_run_is_refused_in_a_sentence(reference: Path, tmp_path: Path) -> None:
    with driver(
        FEW,
        tmp_path / "results",
        cache_of(reference),
        "--executor",
        "ray",
        "--gpus-per-cell",
        "1000",
    ) as started:
        assert started.process.wait(120) == 2
    (sentence,) = started.stderr.read_text().strip().splitlines()
    assert "a cell asks for 1000 GPUs" in sentence
    assert started.outcomes() == []
    assert Store(tmp_path / "results").keys() == set()
