"""How cells are grouped, shared out and guarded changes when and where a record is made, never what
it says.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark import methods
from benchmark.backbones.weights import TINY
from benchmark.cli import execute
from benchmark.compute.executors import cell_logs, limits, ray_executor
from benchmark.compute.executors.ray_executor import JobNeeds, Ray
from benchmark.compute.executors.scheduling import Job, RunOptions, Task, batches, jobs, shard
from benchmark.compute.executors.serial import Serial
from benchmark.compute.history import History
from benchmark.compute.runner import Outcome, batch_of, plan, run
from benchmark.grid import Cell
from benchmark.records.record import Record
from benchmark.records.store import Store
from testbed.synthetic import identity, scored
from tests.short_training import parameters

ROOT = Path(__file__).resolve().parent.parent
IN_THE_LOOP = {  # slow, so trained shortly here
    "apt",
    "clip_lora",
    "cones_finetune",
    "ivlp",
    "maple",
    "mmrl",
    "promptsrc",
    "vpt",
}
# trained by the same code as those, slow to predict: test_contract.py alone tries their batches
LIKE_THEM = {"clip_svd", "cocoop", "mma", "plot_plus_plus", "skip_tuning", "two_stage"}
BATCHABLE = [
    name for name in methods.names() if methods.card(name).batchable and name not in LIKE_THEM
]


def frail(seed: int, fault: str = "none", **params: Any) -> Cell:
    changed = {"fault": fault, **params} if fault != "none" else params
    return Cell(
        method="tests.plugins.frail",
        dataset="tiny_digits",
        shots=1,
        seed=seed,
        backbone=TINY,
        params=tuple(sorted(changed.items())),
    )


def without_costs(record: Record | None) -> dict[str, Any]:
    assert record is not None
    return record.model_dump(exclude={"costs"})


def assert_same_numbers(first_record: Record | None, second_record: Record | None) -> None:
    """Equal but for costs and the last digits of losses, whose sums may come in another order."""
    first, second = without_costs(first_record), without_costs(second_record)
    losses = [each["notes"].pop("final_loss", None) for each in (first, second)]
    if losses != [None, None]:  # methods without training leave none
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert first == second


def by_seed(outcomes: list[Outcome]) -> dict[int, Outcome]:
    return {outcome.cell.seed: outcome for outcome in outcomes}


def task(cell: Cell, expected_s: float | None = 1.0, failed_at: float = 0.0) -> Task:
    ((_, identity),) = plan([cell])
    return Task(cell, identity, str(cell), expected_s, failed_at=failed_at)


# --- grouping


def grid(
    datasets: int = 3, shots: tuple[int, ...] = (1, 2, 4, 8, 16), seeds: int = 3
) -> list[Cell]:
    return [
        Cell(method=method, dataset=f"set{d}", shots=k, seed=seed, backbone=TINY)
        for d in range(datasets)
        for method in ("coop", "cones", "tip_adapter")
        for k in shots
        for seed in range(1, seeds + 1)
    ]


@given(st.integers(1, 40), st.integers(0, 200))
def test_shards_are_a_partition_of_the_grid(count: int, size: int) -> None:
    cells = [
        Cell(method="coop", dataset="set", shots=1, seed=seed, backbone=TINY)
        for seed in range(size)
    ]
    parts = [shard(cells, number, count) for number in range(1, count + 1)]
    assert sorted(cell.seed for part in parts for cell in part) == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 2


@pytest.mark.parametrize("count", [3, 5, 15])
def test_no_shard_gets_all_the_long_cells(count: int) -> None:
    """15 parts of a grid that repeats every 15 cells."""
    long = [
        sum(cell.shots == 16 for cell in shard(grid(5), number, count))
        for number in range(1, count + 1)
    ]
    assert max(long) - min(long) <= 1


def seeds_of(cell: Cell) -> Cell:
    return replace(cell, seed=0)


def alone(cell: Cell) -> None:
    return None


def test_cells_of_one_batch_stand_side_by_side() -> None:
    cells = [
        Cell(method="coop", dataset="tiny_digits", shots=k, seed=seed, backbone=TINY)
        for k in (1, 2)
        for seed in (1, 2, 3)
    ]
    batched = batches([task(cell) for cell in cells], seeds_of)
    assert [[each.cell.seed for each in batch] for batch in batched] == [[1, 2, 3], [1, 2, 3]]
    assert [len(batch) for batch in batches([task(cell) for cell in cells], alone)] == [1] * 6


def test_what_failed_before_stands_alone_and_comes_last_the_latest_failure_at_the_end() -> None:
    tasks = [
        task(frail(1), failed_at=9.0),
        task(frail(2)),
        task(frail(3)),
        task(frail(4), failed_at=7.0),
    ]
    planned = jobs(tasks, seeds_of, slots=1)
    assert [[[each.cell.seed for each in batch] for batch in job.batches] for job in planned] == [
        [[2, 3]],
        [[4]],
        [[1]],
    ]


def test_the_longest_jobs_come_first_and_none_is_longer_than_its_share() -> None:
    cells = [
        Cell(method="zero_shot", dataset=name, shots=0, seed=0, backbone=TINY, val="none")
        for name in ("tiny_digits", "tiny_shapes", "tiny_textures")
    ]
    tasks = [task(cell, seconds) for cell, seconds in zip(cells, (1.0, 9.0, 5.0), strict=True)]
    planned = jobs(tasks, alone, slots=2)
    assert [job.weight_s for job in planned] == [9.0, 5.0, 1.0]
    many = [
        task(Cell(method="tip_adapter", dataset="tiny_digits", shots=1, seed=seed, backbone=TINY))
        for seed in range(80)
    ]
    # a quarter of half of 80 s each
    assert {len(job.batches) for job in jobs(many, alone, slots=2)} == {10}
    assert len(jobs(many, alone, slots=1)) == 1


def test_a_job_goes_on_without_what_was_reported_and_takes_apart_what_had_started() -> None:
    a, b, c, d = (task(frail(seed)) for seed in (1, 2, 3, 4))
    (job,) = jobs([a, b, c, d], seeds_of, slots=1)
    rest = job.rest(reported={a.key}, started={a.key, b.key, c.key, d.key})
    assert rest is not None
    assert [[each.key for each in batch] for batch in rest.batches] == [[b.key], [c.key], [d.key]]
    assert job.rest(reported={each.key for each in job.tasks}, started=set()) is None


# --- together


@pytest.mark.parametrize("method", BATCHABLE)
def test_records_of_batched_runs_are_those_of_runs_alone(method: str, tmp_path: Path) -> None:
    cells = [
        Cell(
            method=method,
            dataset="tiny_digits",
            shots=1,
            seed=seed,
            backbone=TINY,
            params=tuple(sorted(parameters(method, 8).items())) if method in IN_THE_LOOP else (),
        )
        for seed in (1, 2, 3)
    ]
    batched = by_seed(list(run(cells, Store(tmp_path / "batched"))))
    for cell in cells:
        (alone,) = run([cell], Store(tmp_path / "alone"))
        assert_same_numbers(batched[cell.seed].record, alone.record)
        assert alone.record is not None
        assert alone.record.costs.batched_runs == 1
        predicted = [
            Store(tmp_path / name).predictions(alone.key).tolist() for name in ("batched", "alone")
        ]
        assert predicted[0] == predicted[1]
    assert {
        outcome.record.costs.batched_runs for outcome in batched.values() if outcome.record
    } == {3}


def test_one_run_that_breaks_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    outcomes = by_seed(
        list(run([frail(seed, "raise", diary=str(diary)) for seed in (1, 2, 3)], Store(tmp_path)))
    )
    assert outcomes[2].error == "ValueError: too frail for this seed"
    assert [outcomes[seed].error for seed in (1, 3)] == [None, None]
    assert diary.read_text().splitlines() == ["1 2 3", "1", "2", "3"]


def test_a_cell_with_a_time_limit_of_its_own_is_trained_on_its_own(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    list(
        run(
            [frail(seed, diary=str(diary)) for seed in (1, 2, 3)],
            Store(tmp_path),
            limit_s=300,
            batch=True,
        )
    )
    assert diary.read_text().splitlines() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("device", "backbone", "batch", "expected"),
    [
        ("cpu", TINY, None, "seeds"),
        ("cpu", TINY, False, "alone"),
        ("cpu", TINY, True, "shots and seeds"),
        ("cpu", "ViT-B-16-quickgelu/openai", None, "alone"),
        ("cuda", "ViT-B-16-quickgelu/openai", None, "shots and seeds"),
        ("cuda", "ViT-B-16-quickgelu/openai", False, "alone"),
    ],
)
def test_a_gpu_trains_shots_and_seeds_in_one_batch(
    device: str, backbone: str, batch: bool | None, expected: str, tmp_path: Path
) -> None:
    options = RunOptions(tmp_path, device=device)
    cell = Cell(method="coop", dataset="dtd", shots=2, seed=1, backbone=backbone)
    other_seed, other_shots = replace(cell, seed=3), replace(cell, shots=16)
    mine, seed, shots = (batch_of(options, batch, each) for each in (cell, other_seed, other_shots))
    assert (mine is None) == (expected == "alone")
    assert (mine == shots) == (expected in {"alone", "shots and seeds"})
    assert mine == seed
    assert mine != batch_of(options, batch, replace(cell, dataset="eurosat")) or mine is None
    timed = replace(options, limit_s=60.0)
    unbatchable = replace(cell, method="tip_adapter")
    assert batch_of(timed, batch, cell) is None
    assert batch_of(options, batch, unbatchable) is None


# --- what cells need


def on_gpu(record: Record, peak_mb: float, gpu_mb: object = 80_000) -> Record:
    return record.model_copy(
        update={
            "costs": record.costs.model_copy(update={"peak_mb": peak_mb}),
            "provenance": record.provenance | {"gpu_mb": gpu_mb},
        }
    )


def test_time_and_gpu_share_are_learned_from_the_nearest_records(tmp_path: Path) -> None:
    (outcome,) = run([frail(1)], Store(tmp_path))
    assert outcome.record is not None
    history = History.of([on_gpu(outcome.record, 8_000), on_gpu(outcome.record, 16_000)])
    assert history.expected_gpu_share(frail(7)) == 0.2  # the most that any of them took
    assert history.expected_gpu_share(replace(frail(7), dataset="tiny_shapes", shots=16)) == 0.2
    assert history.expected_gpu_share(replace(frail(7), method="coop")) is None
    costs = outcome.record.costs
    assert history.expected_s(frail(7)) == costs.pretrain_s + costs.fit_s + costs.predict_s
    assert History.of([outcome.record]).expected_gpu_share(frail(7)) is None  # it ran on a CPU
    assert history.expected_s(replace(frail(7), backbone="ViT-B-16-quickgelu/openai")) is None


@pytest.mark.parametrize("gpu_mb", ["big", [1], {}, True, None, 0, -1, nan, inf, 10**400])
def test_a_gpu_of_no_size_tells_nothing_of_the_share_that_was_taken(gpu_mb: object) -> None:
    known = scored(identity("coop"), 0.5)
    cell = Cell(method="coop", dataset="tiny_digits", shots=4, seed=1, backbone="tiny")
    history = History.of([on_gpu(known, 8_000, gpu_mb)])
    assert history.expected_gpu_share(cell) is None
    history = History.of([on_gpu(known, 8_000, gpu_mb), on_gpu(known, 8_000)])
    assert history.expected_gpu_share(cell) == 0.1


@pytest.mark.parametrize(
    ("learned", "gpus"), [(None, 1.0), (0.01, 0.125), (0.2, 0.25), (0.21, 0.375), (0.9, 1.0)]
)
def test_a_job_on_a_gpu_asks_for_what_its_cells_took_and_some_headroom(
    learned: float | None, gpus: float, tmp_path: Path
) -> None:
    job = Job(
        ((replace(task(frail(1)), gpu_share=learned),), (replace(task(frail(2)), gpu_share=0.01),))
    )
    assert Ray().need(job, RunOptions(tmp_path, device="cuda")) == JobNeeds(cpus=1, gpus=gpus)
    assert Ray(gpus_per_cell=0.5).need(job, RunOptions(tmp_path, device="cuda")) == JobNeeds(
        cpus=1, gpus=0.5
    )


@pytest.mark.parametrize(
    ("device", "per_cell", "slots"), [("cuda", None, 2), ("cuda", 0.25, 8), ("cpu", None, 16)]
)
def test_work_is_dealt_to_as_many_as_there_are_gpus_where_gpus_are_wanted(
    device: str,
    per_cell: float | None,
    slots: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = SimpleNamespace(
        is_initialized=lambda: True, cluster_resources=lambda: {"CPU": 16.0, "GPU": 2.0}
    )
    monkeypatch.setattr(ray_executor, "_ray", lambda: cluster)
    options = RunOptions(tmp_path, device=device)
    assert Ray(gpus_per_cell=per_cell).slots([task(frail(1)), task(frail(2))], options) == slots


def test_a_job_on_a_cpu_takes_the_threads_that_a_serial_run_takes(tmp_path: Path) -> None:
    small = Job(((task(frail(1)),),))
    large = Job(
        ((replace(task(frail(1)), cell=replace(frail(1), backbone="ViT-B-16-quickgelu/openai")),),)
    )
    assert Ray(cpus=8).need(small, RunOptions(tmp_path)) == JobNeeds(cpus=1, gpus=0.0)
    assert Ray(cpus=8).need(large, RunOptions(tmp_path)) == JobNeeds(cpus=8, gpus=0.0)


# --- memory


@pytest.mark.parametrize("fault", ["gpu memory", "memory"])
def test_out_of_memory_is_tried_once_more_in_smaller_chunks_and_recorded(
    fault: str, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    outcomes = by_seed(list(run([frail(1, fault), frail(2, fault)], store)))
    assert [outcome.error for outcome in outcomes.values()] == [None, None]
    kept = {seed: outcome.record.provenance for seed, outcome in outcomes.items() if outcome.record}
    assert "after_out_of_memory" not in kept[1]
    assert kept[2]["after_out_of_memory"] == "text side in chunks of 0.25 of the usual memory"
    assert "out of memory" in store.log(outcomes[2].key).read_text()


def test_a_batch_that_runs_out_of_memory_is_halved_and_says_so_on_record(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    fault = "memory for two runs"
    cells = [frail(seed, fault, diary=str(diary)) for seed in (1, 2, 3, 4, 5)]
    outcomes = by_seed(list(run(cells, Store(tmp_path))))
    assert diary.read_text().splitlines() == ["1 2 3 4 5", "1 2", "3 4", "5"]
    sizes = {seed: o.record.costs.batched_runs for seed, o in outcomes.items() if o.record}
    assert sizes == {1: 2, 2: 2, 3: 2, 4: 2, 5: 1}


def test_out_of_memory_twice_is_a_failure(tmp_path: Path) -> None:
    (outcome,) = run([frail(2, "memory for ever")], Store(tmp_path))
    assert outcome.record is None
    assert outcome.error == "MemoryError: "


def test_a_share_of_the_memory_means_smaller_chunks() -> None:
    from benchmark.conformance import toy

    backbone = toy.backbone()
    plans = [
        replace(backbone, memory_share=share).class_prompts(["cat", "dog"], 2).encoder
        for share in (1.0, 0.25)
    ]
    assert plans[1].budget_mb == plans[0].budget_mb / 4


# --- time


def test_a_cell_that_hangs_fails_at_the_time_limit_and_the_rest_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cells = [frail(2, "hang"), frail(1)]
    list(run([frail(3)], store))  # loads what all have in common, outside of the limit
    outcomes = by_seed(list(run(cells, store, limit_s=5)))
    assert (
        outcomes[2].error
        == "took longer than the time limit of 5 s; raise --time-limit or correct the method"
    )
    assert outcomes[1].error is None
    assert "Traceback" in store.failure(outcomes[2].key).read_text()
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


NATIVE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from benchmark.compute.executors import cell_logs, limits
from benchmark.grid import Cell
from benchmark.compute.history import History
from benchmark.compute.runner import run
from benchmark.records.store import Store
limits.GRACE_S = 1.0
def cells(*seeds):
    return [
        Cell(
            method="tests.plugins.frail",
            dataset="tiny_digits",
            shots=1,
            seed=seed,
            backbone="tiny",
            params=(("fault", "hang in native code"),),
        )
        for seed in seeds
    ]
list(run(cells(3), Store(Path(sys.argv[1]))))  # loads torch, outside of the limit
for outcome in run(cells(2, 1), Store(Path(sys.argv[1])), limit_s=8):
    print(outcome.cell.seed, flush=True)
"""


def test_a_hang_in_native_code_ends_the_process_names_itself_and_comes_last_the_next_time(
    tmp_path: Path,
) -> None:
    def once() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", NATIVE, str(tmp_path / "results"), str(ROOT)]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    first = once()
    assert (first.returncode, first.stdout) == (1, "")
    (failure,) = (tmp_path / "results" / "failures").glob("*.txt")
    text = failure.read_text()
    assert text.startswith("hung in native code beyond the time limit")
    assert "_break" in text  # where it hangs
    second = once()
    assert (second.returncode, second.stdout) == (1, "1\n")


def test_a_time_limit_needs_the_main_thread() -> None:
    import threading

    caught: list[str] = []

    def inside() -> None:
        try:
            with limits.time_limit(1, lambda: None):
                pass
        except Exception as error:
            caught.append(str(error))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert caught == [
        "a time limit can only be kept in the main thread of a program; "
        "run the grid from there, or without a limit"
    ]


# --- logs


def test_every_cell_has_a_log_with_its_stages_and_what_it_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    outcomes = by_seed(list(run([frail(seed, "print") for seed in (1, 2)], store)))
    texts = {seed: store.log(outcome.key).read_text() for seed, outcome in outcomes.items()}
    assert texts[1] == texts[2]
    for word in (
        "and 1 other,",
        "load",
        "fit 2 runs in one batch",
        "predict",
        "done",
        "a word to stdout from the method",
    ):
        assert word in texts[1]
    shown = capsys.readouterr()
    assert shown.out == ""  # stdout belongs to results
    assert "a word to stdout from the method" in shown.err


def test_a_failure_holds_its_sentence_and_its_log(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (outcome,) = run([frail(2, "raise")], store)
    sentence, _, log = store.failure(outcome.key).read_text().partition("\n\n")
    assert sentence == outcome.error
    assert "fit" in log
    assert "Traceback" in log


def test_a_log_that_cannot_be_written_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").write_text("where a folder should be")
    (outcome,) = run([frail(1)], Store(tmp_path))
    assert outcome.error is None
    # or the device would make way for a new file
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
    with cell_logs.opened([Path("/dev/full")]) as file:
        file.write("a word that finds no room")


# --- disk


def cells_command(results: Path, *more: str) -> list[str]:
    run_ = [
        sys.executable,
        "-m",
        "benchmark",
        "run",
        "-m",
        "tip_adapter",
        "-d",
        "tiny_digits",
        "--shots",
        "1",
    ]
    return [*run_, "--results", str(results), "--plain", *more]


def test_a_disk_that_is_full_stops_the_run_with_nothing_half_written(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: predictions still fit, the record
    does not.
    """
    store = Store(tmp_path)
    # features are stored by now
    list(
        run(
            [Cell(method="tip_adapter", dataset="tiny_digits", shots=1, seed=9, backbone=TINY)],
            store,
        )
    )

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    full = subprocess.run(
        cells_command(tmp_path),
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=small_files,
        check=False,
    )
    assert full.returncode == 2
    assert "cannot write" in full.stderr
    assert "File too large" in full.stderr
    assert "Traceback" not in full.stderr
    problems: list[str] = []
    assert len(list(store.records(problems))) == 1
    assert problems == []
    assert not list(tmp_path.rglob("*.part"))
    assert not list((tmp_path / "locks").iterdir())
    again = subprocess.run(
        cells_command(tmp_path), capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert again.returncode == 0
    assert len(list(store.records())) == 4


def test_an_interrupt_during_an_import_ends_with_its_exit_code(tmp_path: Path) -> None:
    """Python would end such a process by SIGINT, since dataclasses run text when they are made."""
    (tmp_path / "early.py").write_text(
        "import sys\nfrom benchmark import cli\n"
        "def interrupted(*_, **__):\n    exec('raise KeyboardInterrupt')\n"
        "cli.app = interrupted\ncli.main()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-m", "early"], env=environment, check=False)
    assert done.returncode == 130


def test_sigterm_is_an_interruption_that_tidies_up(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmark",
        "run",
        "-m",
        "tests.plugins.frail",
        "-d",
        "tiny_digits",
        "--shots",
        "1",
    ]
    command += ["--set", "fault=hang", "--results", str(tmp_path), "--plain"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while (
        not list(tmp_path.glob("running/*.json"))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from there" in err
    assert not list((tmp_path / "locks").iterdir())
    assert not list((tmp_path / "running").iterdir())


@pytest.mark.parametrize("damage", ["flipped", "truncated", "emptied"])
def test_a_corrupt_feature_file_is_noticed_and_made_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSBENCH_CACHE", str(tmp_path / "cache"))
    cell = Cell(method="tip_adapter", dataset="tiny_digits", shots=1, seed=1, backbone=TINY)
    (whole,) = run([cell], Store(tmp_path / "a"))
    for shard_file in (tmp_path / "cache").rglob("*.safetensors"):
        data = bytearray(shard_file.read_bytes())
        data[-5] ^= 1
        shard_file.write_bytes({"flipped": data, "truncated": data[:-7], "emptied": b""}[damage])
    (again,) = run([cell], Store(tmp_path / "b"))
    assert without_costs(again.record) == without_costs(whole.record)


# --- the same numbers


def test_order_shards_and_grouping_do_not_change_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [
        Cell(method=method, dataset="tiny_digits", shots=k, seed=seed, backbone=TINY)
        for method in ("tip_adapter", "cones")
        for k in (1, 2)
        for seed in (1, 2)
    ]
    orders: dict[str, list[list[Cell]]] = {
        "plan": [cells],
        "reversed": [cells[::-1]],
        "shards": [shard(cells, number, 3) for number in (3, 1, 2)],
        "one by one": [[cell] for cell in cells[1::2] + cells[::2]],
    }
    records_of = {}
    for order, parts in orders.items():
        # encoded anew, in another order
        monkeypatch.setenv("FSBENCH_CACHE", str(tmp_path / "cache" / order))
        store = Store(tmp_path / order)
        for part in parts:
            assert all(outcome.error is None for outcome in run(part, store, executor=Serial()))
        records_of[order] = {record.key: record for record in store.records()}
    assert len(records_of["plan"]) == 8
    for records in records_of.values():
        assert set(records) == set(records_of["plan"])
        for key, record in records.items():
            assert_same_numbers(record, records_of["plan"][key])


# --- the command line


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--executor", "dask"], "unknown executor 'dask'; take serial or ray"),
        (
            ["--gpus-per-cell", "0.5"],
            "--address and --gpus-per-cell say how Ray places cells; add --executor ray",
        ),
        (
            ["--shard", "0/3"],
            "--shard takes I/N with I from 1 to N, not '0/3'; "
            "the third of eight parts is --shard 3/8",
        ),
        (["--shard", "4/3"], "--shard takes I/N"),
        (["--shard", "a"], "--shard takes I/N"),
        (["--time-limit", "-1"], "--time-limit"),
    ],
)
def test_impossible_wishes_are_refused_in_one_sentence(
    flags: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        execute(["run", "-m", "zero_shot", "-d", "tiny_digits", "--results", str(tmp_path), *flags])
        == 2
    )
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_shards_of_a_grid_run_into_one_folder_and_make_the_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "run",
        "-m",
        "tip_adapter,zero_shot",
        "-d",
        "tiny_digits",
        "--shots",
        "1,2",
        "--results",
        str(tmp_path),
        "--json",
    ]
    seen: Counter[str] = Counter()
    for number in (1, 2, 3):
        assert execute([*command, "--shard", f"{number}/3"]) == 0
        seen.update(json.loads(line)["key"] for line in capsys.readouterr().out.splitlines())
    assert set(seen.values()) == {1}
    assert len(seen) == 7
    assert execute(command) == 0
    assert {json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()} == {
        "cached"
    }
    assert os.listdir(tmp_path / "plans") == []
