"""Records are whole or absent, found again by their identity, and never trusted when they are not
what their name says.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from benchmark.errors import UserError
from benchmark.paths import remove_parts, write_atomic
from benchmark.records import index
from benchmark.records.predictions import Confidences, pack
from benchmark.records.record import Costs, Counts, Record, key
from benchmark.records.store import Store
from testbed import synthetic

ROOT = Path(__file__).resolve().parent.parent


def make_record(seed: int = 1, correct: tuple[int, ...] = (3, 4)) -> Record:
    identity = synthetic.identity(seed=seed, params={"n_ctx": 16})
    costs = Costs(encode_s=0, pretrain_s=0, fit_s=1, predict_s=0, peak_mb=1, trainable_params=2)
    return Record(
        title="CoOp",
        key=key(identity),
        identity=identity,
        counts=Counts(correct=list(correct), total=[5, 5]),
        costs=costs,
        notes={},
        provenance={},
    )


def test_what_is_put_is_found(tmp_path: Path) -> None:
    store, record = Store(tmp_path), make_record()
    assert not store.has(record.key)
    store.put(record, np.array([0, 1, 1]))
    assert store.get(record.key) == record
    assert list(store.records()) == [record]
    assert store.predictions(record.key).tolist() == [0, 1, 1]
    assert record.accuracy == 0.7


@pytest.mark.parametrize("damage", ["truncate", "foreign", "edited", "empty", "binary"])
def test_a_damaged_record_is_named_skipped_and_counts_as_absent(
    tmp_path: Path, damage: str
) -> None:
    store, record = Store(tmp_path), make_record()
    store.put(record, np.array([0]))
    path = store.path(record.key)
    whole = path.read_text()
    changed = whole.replace('"seed": 1', '"seed": 2')
    assert changed != whole
    path.write_bytes(
        {
            "truncate": whole[:80].encode(),
            "foreign": b'{"accuracy": 1}',
            "edited": changed.encode(),
            "empty": b"",
            "binary": b"\xff\x00",
        }[damage]
    )
    problems: list[str] = []
    assert list(store.records(problems)) == []
    assert len(problems) == 1
    assert str(path) in problems[0]
    assert not store.has(record.key)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        *(("costs", name, 1e308) for name in ("fit_s", "predict_s", "peak_mb", "energy_j")),
        ("costs", "batched_runs", 10**400),
        ("notes", "alpha", 10**400),
        ("notes", "alpha", -(10**400)),
    ],
)
def test_numbers_too_large_to_be_added_up_make_no_record(
    tmp_path: Path, part: str, field: str, value: float
) -> None:
    store, record = Store(tmp_path), make_record()
    store.put(record, np.array([0]))
    facts = json.loads(store.path(record.key).read_text())
    facts[part][field] = value
    store.path(record.key).write_text(json.dumps(facts))
    problems: list[str] = []
    assert list(store.records(problems)) == []
    assert f"({part}.{field}" in problems[0]


def test_a_link_that_leads_nowhere_is_named_in_a_sentence(tmp_path: Path) -> None:
    store, problems = Store(tmp_path), list[str]()
    link = store.path("0" * 12)
    link.parent.mkdir()
    link.symlink_to(tmp_path / "gone")
    assert (list(store.records(problems)), index.read_records(store, problems)) == ([], [])
    sentence = f"{link} cannot be read (No such file or directory); it is passed over"
    assert problems == [sentence, sentence]


def test_a_renamed_record_is_not_another_cell(tmp_path: Path) -> None:
    store, record = Store(tmp_path), make_record()
    store.put(record, np.array([0]))
    store.path(record.key).rename(store.path("0" * 12))
    assert not store.has("0" * 12)


def test_records_come_in_order_of_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed in range(20):
        store.put(make_record(seed), np.array([0]))
    keys = [record.key for record in store.records()]
    assert keys == sorted(keys)
    assert len(keys) == 20


def test_predictions_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    store, record = Store(tmp_path), make_record()
    store.put(record, np.array([0]))
    store.path(record.key).with_suffix(".npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(UserError, match=f"predictions of record {record.key} cannot be read"):
        store.predictions(record.key)


def test_confidences_are_kept_in_half_precision_and_absent_from_old_archives(
    tmp_path: Path,
) -> None:
    store, record, old = Store(tmp_path), make_record(), make_record(2)
    right_Q = np.array([True, False, True])
    store.put(record, np.array([0, 1, 1]), Confidences(np.array([1.0, 0.9, 1 / 3]), right_Q))
    store.put(old, np.array([0, 1, 1]))
    kept = store.confidences(record.key)
    assert kept is not None
    assert kept.confidence_Q.dtype == np.float16
    np.testing.assert_allclose(kept.confidence_Q, [1.0, 0.9, 1 / 3], rtol=2**-11)
    assert kept.right_Q.tolist() == right_Q.tolist()
    assert store.predictions(record.key).tolist() == [0, 1, 1]
    assert store.confidences(old.key) is None


def test_what_is_kept_of_50000_images_is_small() -> None:
    """As many as ImageNet has, of a thousand classes, with confidences that do not compress."""
    rng = np.random.default_rng(1)
    predicted_Q, confidence_Q = rng.integers(0, 1000, 50_000), rng.random(50_000)
    kept = Confidences(confidence_Q, rng.random(50_000) < confidence_Q)
    alone, together = (len(pack(predicted_Q, each)) for each in (None, kept))
    assert together - alone < 110_000
    assert together < 250_000


def test_a_results_folder_that_is_a_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("not a folder")
    with pytest.raises(UserError, match=r"cannot write to .*; choose another folder"):
        Store(tmp_path / "results").make_ready()


def test_a_failed_write_leaves_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "record.json"
    write_atomic(target, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_claim_excludes_others_and_ends_with_its_block(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claim("abc") as mine, Store(tmp_path).claim("abc") as also:
        assert (mine, also) == (True, False)
    with store.claim("abc") as again:
        assert again


def _hold(root: Path, ready: object) -> None:
    with Store(root).claim("abc"):
        ready.set()  # type: ignore[attr-defined]
        time.sleep(60)


def test_the_claim_of_a_killed_process_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(30)
    with Store(tmp_path).claim("abc") as mine:
        assert not mine
    os.kill(holder.pid or 0, signal.SIGKILL)
    holder.join()
    with Store(tmp_path).claim("abc") as mine:
        assert mine


HOLDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from benchmark.records.store import Store
with Store(Path(sys.argv[1]), lease_s=4.0).claim("abc") as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the claim under the name of another machine, as one that shares the
    folder would.
    """
    command = [
        "unshare",
        "--uts",
        "sh",
        "-c",
        'hostname elsewhere && exec "$@"',
        "sh",
        sys.executable,
        "-c",
        HOLDER,
        str(tmp_path),
        str(ROOT),
    ]
    if subprocess.run(["unshare", "--uts", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to have a host name of its own (unshare --uts)")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


def test_the_claim_of_another_machine_is_free_once_it_has_been_silent(
    tmp_path: Path, elsewhere: subprocess.Popen[str]
) -> None:
    store = Store(tmp_path, lease_s=4.0)

    def mine() -> bool:
        with store.claim("abc") as free:
            return free

    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:  # longer than the lease: its heart beats
        assert not mine()
        time.sleep(0.3)
    elsewhere.kill()
    elsewhere.wait()
    killed = time.monotonic()
    while not mine():
        assert time.monotonic() - killed < 60
        time.sleep(0.3)
    assert time.monotonic() - killed > 2  # not at once: nobody here can know that it is dead


def test_an_empty_lock_of_a_process_that_died_as_it_made_it_is_free_after_a_while(
    tmp_path: Path,
) -> None:
    store, marker = Store(tmp_path), tmp_path / "locks" / "abc.lock"
    marker.parent.mkdir()
    marker.touch()
    with store.claim("abc") as mine:
        assert not mine  # somebody may be about to write a name into it
    os.utime(marker, (time.time() - 60,) * 2)
    with store.claim("abc", wait=True) as mine:
        assert mine


def test_programs_that_grant_different_times_are_told_so(tmp_path: Path) -> None:
    other = Store(tmp_path, lease_s=60)
    with (
        other.claim("abc"),
        pytest.raises(UserError, match="use the same version of the suite on all machines"),
        Store(tmp_path).claim("abc"),
    ):
        pass


def test_drivers_that_start_together_do_not_trip_over_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: Store(tmp_path).make_ready(), range(200)))


def test_what_was_announced_of_a_finished_cell_is_taken_back(tmp_path: Path) -> None:
    store, record = Store(tmp_path), make_record()
    store.put(record, np.array([0]))
    (tmp_path / "running").mkdir()
    for name in (record.key, "0" * 12):
        (tmp_path / "running" / f"{name}.json").write_text("{}")
    with Store(tmp_path).claim(record.key):
        store.make_ready()
        assert len(list((tmp_path / "running").iterdir())) == 2  # somebody computes it again
    store.make_ready()
    assert [path.stem for path in (tmp_path / "running").iterdir()] == ["0" * 12]


def test_the_names_of_records_are_known_without_reading_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.keys() == set()
    store.path("abc").parent.mkdir()
    store.path("abc").write_text("{")
    assert store.keys() == {"abc"}


def test_what_killed_writers_left_is_swept_once_it_is_old(tmp_path: Path) -> None:
    old, young = (tmp_path / f".record.json.{name}.part" for name in ("old", "young"))
    for part in (old, young):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    remove_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [young.name]


def test_a_record_holds_no_percentages_and_no_clock(tmp_path: Path) -> None:
    text = make_record().model_dump_json()
    assert "accuracy" not in json.loads(text)
    assert "time" not in json.loads(text)
