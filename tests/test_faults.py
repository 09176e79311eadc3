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
    Sight,
    differences,
    driver,
    grid,
    keys,
    under_way,
    undisturbed,
    until,
)
from testbed.drivers import together
from testbed.faults import Malice, campaign
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
    found = differences(tmp_path, reference, {first.key, second.key})
    assert len(found) == 2
    assert all("another record" in each for each in found)
    store.fail(rest[0].key, "a cell failed")
    assert len(differences(tmp_path, reference, {first.key, second.key})) == 3


def test_half_a_record_is_seen_by_who_reads_all_the_time(reference: Path, tmp_path: Path) -> None:
    store, sight, (whole, half, bare) = (
        Store(tmp_path),
        Sight(),
        list(Store(reference).records())[:3],
    )
    store.put(whole, Store(reference).predictions(whole.key))
    sight.look(store)
    assert sight.problems == []
    store.path(half.key).write_bytes(Store(reference).path(half.key).read_bytes()[:-20])
    # without its predictions
    store.path(bare.key).write_bytes(Store(reference).path(bare.key).read_bytes())
    sight.look(store)
    assert len(sight.problems) == 2
    store.path(whole.key).unlink()
    sight.look(store)
    assert f"the record {whole.key} vanished" in sight.problems


# --- drivers


def test_kills_at_random_moments_leave_no_trace_in_the_records(
    reference: Path, tmp_path: Path
) -> None:
    toll = campaign(MORE, reference, tmp_path, Malice(kills=6, after_s=(0.1, 0.8)))
    assert toll.counts["drivers killed"] == 6
    # each grid was finished by one nobody killed
    assert toll.counts["drivers started"] == 6 + toll.counts["grids"]
    assert toll.counts["looks of the reader"] > 6
    assert toll.complaints == []
    assert toll.left["parts in results"] == 0


def test_three_drivers_on_one_folder_share_the_work(reference: Path, tmp_path: Path) -> None:
    share = together(FEW, reference, tmp_path, [(), (), ()])
    assert share.complaints == ()
    assert sum(share.computed) == share.cells == 12


# --- Ray


@pytest.fixture
def ray_() -> None:
    pytest.importorskip("ray", reason="needs the extra ray")


def busy(pid: int, results: Path) -> list[Process]:
    """Workers of a driver that are at work on a cell."""
    return [one for one in descendants(pid) if under_way(results, {one[0]})]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_")
def test_a_cell_whose_worker_is_killed_is_tried_again(reference: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    with driver(FEW, results, cache_of(reference), "--executor", "ray") as one:
        assert until(lambda: busy(one.process.pid, results), 120)
        victim = busy(one.process.pid, results)[0]
        lost = under_way(results, {victim[0]})
        os.kill(victim[0], signal.SIGKILL)
        assert until(lambda: not alive(victim), 30)
        assert one.wait() == 0
    assert lost
    assert {outcome["key"] for outcome in one.outcomes()} == keys(FEW)
    assert len(one.outcomes()) == 12  # each is told of once
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
    ) as one:
        assert one.process.wait(120) == 2
    (sentence,) = one.complained.read_text().strip().splitlines()
    assert "a cell asks for 1000 GPUs" in sentence
    assert one.outcomes() == []
    assert Store(tmp_path / "results").keys() == set()
