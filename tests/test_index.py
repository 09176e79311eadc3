"""The index beside the records: what is read with it is what is read without it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmark import paths
from benchmark.compute import runner
from benchmark.compute.history import History
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.records import index
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.report import tables
from benchmark.report.frames import load_results
from testbed.synthetic import grid, identity, record, write
from tests.conftest import Invoke

REAL = Path(__file__).resolve().parent.parent / "results" / "real"
READ = [*Record.model_fields.keys() - {"schema_version"}, "accuracy", "class_accuracy"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Records of several kinds, of which an index is made at once."""
    monkeypatch.setattr(index, "FEWEST", 1)
    monkeypatch.setattr(paths, "SETTLED_S", -1)
    folder = tmp_path / "results"
    shutil.copytree(REAL / "records", folder / "records")
    write(folder, grid(["coop", "zero_shot"], shots=(1, 4), seeds=(1, 2)))
    prior = identity("prompt_adapter", sources={"tiny_shapes": "d"}, params={"lr": 0.1, "a": None})
    whole = record(prior, [3, 1], [4, 40], notes={"alpha": 1.5, "won": True, "count": 10**30})
    costs = whole.costs.model_copy(update={"added_macs": 2**60 + 1, "fit_s": 0.1 + 0.2})
    write(folder, [whole.model_copy(update={"costs": costs})])
    return Store(folder)


def read(store: Store) -> list[Record]:
    problems: list[str] = []
    records = index.read_records(store, problems)
    assert problems == []
    return records


def files_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the records that are opened, of which none is missing in the end."""
    names, real = [], index.read

    def watched(path: Path) -> Record:
        names.append(path.stem)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(index, "read", watched)
        records = read(store)
    assert [each.key for each in records] == sorted(store.keys())
    return names


def test_every_field_is_the_one_of_the_record(store: Store) -> None:
    for records in (read(store), read(store)):  # written, then read
        for mine, true in zip(records, store.records(), strict=True):
            assert not isinstance(mine, Record)
            for name in READ:
                assert getattr(mine, name) == getattr(true, name), name
            assert (mine.right, mine.tested) == (sum(true.counts.correct), sum(true.counts.total))


def test_reports_are_those_of_the_records_alone(
    store: Store, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = [
        *(["report", "--table", kind] for kind in tables.KINDS),
        *(["report", option] for option in ("--cost", "--calibration")),
        ["report", "--metric", "per-class", "--format", "csv"],
        ["report", "--html", store.root.parent / "page", "--no-images"],
        *(["export", *kind] for kind in ([], ["--records"], ["--per-class"])),
        ["compare", "coop", "zero_shot"],
    ]
    page = store.root.parent / "page"

    def outputs() -> tuple[list[Any], dict[Path, bytes], pd.DataFrame]:
        printed = [invoke(*each, "--results", store.root) for each in reports]
        files = {path: path.read_bytes() for path in page.rglob("*") if path.is_file()}
        return printed, files, load_results(store.root)

    *with_index, frame = outputs()
    monkeypatch.setattr(index, "FEWEST", 10**9)
    *without, plain = outputs()
    assert with_index == without
    pd.testing.assert_frame_equal(frame, plain)
    assert all(each.code == 0 for each in without[0])


def test_only_what_changed_is_read_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = sorted(store.keys())
    assert files_read(store, monkeypatch) == everything
    assert files_read(store, monkeypatch) == []
    first, second, third = everything[:3]
    changed = store.path(first).read_text().replace('"fit_s": ', '"fit_s": 1')
    store.path(first).write_text(changed)
    store.path(second).unlink()
    (new,) = write(store.root, [record(identity(seed=9), [1], [2])])
    os.utime(store.path(third), ns=(0, 0))
    assert files_read(store, monkeypatch) == sorted([first, third, new.key])
    assert read(store)[0].costs == next(store.records()).costs
    assert files_read(store, monkeypatch) == []


def test_a_record_that_is_no_longer_one_is_named_at_every_look(store: Store) -> None:
    read(store)
    broken = store.path(sorted(store.keys())[0])
    broken.write_text(broken.read_text().replace('"seed": ', '"seed": 1'))
    for _ in range(2):
        problems: list[str] = []
        records = index.read_records(store, problems)
        assert len(records) == len(store.keys()) - 1
        assert [str(broken) in each for each in problems] == [True]


def test_nothing_is_remembered_of_what_was_written_a_moment_ago(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "SETTLED_S", 60)
    read(store)
    assert not (store.root / index.FILE).exists()
    monkeypatch.setattr(paths, "SETTLED_S", -1)
    read(store)
    monkeypatch.setattr(paths, "SETTLED_S", 60)
    (new,) = write(store.root, [record(identity(seed=9), [1], [2])])
    for _ in range(2):
        assert files_read(store, monkeypatch) == [new.key]


def test_counts_by_class_are_never_those_of_another_state_of_the_file(store: Store) -> None:
    mine, true = read(store)[0], next(store.records())
    other = true.counts.model_copy(update={"correct": [0] * len(true.counts.correct)})
    write(store.root, [true.model_copy(update={"counts": other})])
    with pytest.raises(UserError, match="was changed a moment ago; give the command again"):
        _ = mine.counts


def rewritten(change: Callable[[Any], object]) -> Callable[[bytes], bytes]:
    """An index whose content was changed by one who knows how its checksum is made."""

    def forge(whole: bytes) -> bytes:
        content = json.loads(whole.partition(b"\n")[2])
        change(content)
        text = json.dumps(content).encode()
        return index._checksum(text) + b"\n" + text

    return forge


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda whole: whole[:-9],
    "empty": lambda whole: b"",
    "one digit": lambda whole: whole.replace(b'"seed":1', b'"seed":2', 1),
    "another version": rewritten(lambda content: content["fields"].pop()),
    "no such family": rewritten(lambda content: content["families"].clear()),
    "no such provenance": rewritten(lambda content: content["provenances"].clear()),
    "costs too few": rewritten(lambda content: content["rows"][0][8].pop()),
    "the version before notes had bounds": rewritten(
        lambda content: content["fields"].__setitem__(0, "version 1")
    ),
    "a note without bounds": rewritten(
        lambda content: content["rows"][0].__setitem__(9, {"alpha": 10**400})
    ),
    "a title that cannot be printed": rewritten(
        lambda content: content["families"][0].update(title="\x1b[2J")
    ),
    "not a number": rewritten(lambda content: content["rows"][0].__setitem__(5, -1)),
    "nested": lambda whole: index._checksum(b"[" * 10**5) + b"\n" + b"[" * 10**5,
    "of other files": rewritten(
        lambda content: [row.__setitem__(1, "1-1-1-1") for row in content["rows"]]
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_forged_index_is_made_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    read(store)
    file = store.root / index.FILE
    whole = file.read_bytes()
    file.write_bytes(DAMAGE[damage](whole))
    assert files_read(store, monkeypatch) == sorted(store.keys())
    assert file.read_bytes() == whole


def test_an_index_that_has_no_end_or_came_along_with_a_copy_is_not_taken(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(store)
    copy = Store(Path(shutil.copytree(store.root, store.root.parent / "copy")))
    assert (copy.root / index.FILE).is_file()
    assert files_read(copy, monkeypatch) == sorted(copy.keys())
    (store.root / index.FILE).unlink()
    os.mkfifo(store.root / index.FILE)
    assert files_read(store, monkeypatch) == sorted(store.keys())


def test_of_a_folder_that_may_only_be_read_the_index_lies_in_the_cache_folder(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != store.root)
    before = sorted(store.root.iterdir())
    assert files_read(store, monkeypatch) == sorted(store.keys())
    assert files_read(store, monkeypatch) == []
    assert sorted(store.root.iterdir()) == before
    monkeypatch.setenv("FSBENCH_CACHE", "/proc/nowhere")
    assert len(read(store)) == len(store.keys())


def test_processes_at_once_leave_one_whole_index(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: [each.key for each in read(store)], range(8)))
    assert found == [sorted(store.keys())] * 8
    assert sorted(path.name for path in store.root.iterdir()) == ["records", index.FILE]
    assert files_read(store, monkeypatch) == []


def test_what_cells_would_cost_is_told_without_opening_a_record(
    store: Store, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(store)
    opened: list[Path] = []
    for module in ("store", "index"):
        monkeypatch.setattr(f"benchmark.records.{module}.read", opened.append)
    shown = invoke("plan", "--method", "coop", "--dataset", "tiny_digits", "--results", store.root)
    assert "to go: about 34 s for 15 cells, by 2 to 12 records each" in shown.out, shown.err
    few = ("--method", "coop", "--backbone", "RN50", "--dataset", "dtd")
    assert "missing" in invoke("reproduce", *few, "--results", store.root).out
    cell = Cell(method="coop", dataset="tiny_digits", shots=4, seed=9, backbone="tiny")
    expected_s: list[float | None] = []

    def stop(cells: Sequence[Cell], history: History) -> None:
        expected_s.extend(history.expected_s(each) for each in cells)
        raise UserError("the forecast is all that is wanted")

    with pytest.raises(UserError, match="forecast is all"):
        list(runner.run([cell], store, on_missing=stop))
    assert expected_s == [pytest.approx(2.25)]
    # the cell's own record is looked for, in vain
    assert [path for path in opened if path.exists()] == []


def test_a_small_folder_gets_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FEWEST", 1000)
    assert all(isinstance(each, Record) for each in read(store))
    assert not (store.root / index.FILE).exists()
