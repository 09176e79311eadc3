"""Results as a frame: a row per record, dtypes that do not depend on the records, stable order."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import benchmark
from benchmark.errors import UserError
from benchmark.records.record import Costs, Identity, Record
from benchmark.report.frames import load_results
from testbed.synthetic import TINY, grid, identity, record, scored, write

BEFORE = ["key", "title"]
COUNTS = ["correct", "total", "accuracy", "class_accuracy"]


def with_notes(seed: int, **notes: str | float | bool | None) -> Record:
    return record(identity(seed=seed), [1, 2], [4, 4], notes=dict(notes))


def test_a_row_per_record_with_identity_accuracy_costs_and_notes(tmp_path: Path) -> None:
    prior = identity("prompt_adapter", sources={"tiny_shapes": "d"}, params={"lr": 0.1, "a": 1})
    stored = write(tmp_path, [record(prior, [3, 1], [4, 4], fit_s=7.0, notes={"alpha": 1.5})])
    frame = load_results(tmp_path)
    expected = [*BEFORE, *Identity.model_fields, *COUNTS, *Costs.model_fields, "note_alpha"]
    assert list(frame.columns) == expected
    (row,) = frame.to_dict("records")
    assert (row["key"], row["method"], row["shots"]) == (stored[0].key, "prompt_adapter", 4)
    assert (row["correct"], row["total"], row["accuracy"]) == (4, 8, 0.5)
    assert (row["fit_s"], row["peak_mb"], row["note_alpha"]) == (7.0, 410.0, 1.5)
    assert row["params"] == '{"a": 1, "lr": 0.1}'
    assert row["sources"] == '{"tiny_shapes": "d"}'


def test_dtypes_are_those_of_the_fields_whatever_is_missing(tmp_path: Path) -> None:
    without, with_all = scored(identity(seed=1), 0.5), scored(identity(seed=2), 0.5)
    costs = with_all.costs.model_copy(update={"added_macs": 7, "images_per_s": 2.0})
    frames = []
    for name, records in (
        ("without", [without]),
        ("with", [with_all.model_copy(update={"costs": costs})]),
        ("both", [without, with_all.model_copy(update={"costs": costs})]),
    ):
        write(tmp_path / name, records)
        frames.append(load_results(tmp_path / name))
    assert frames[0].dtypes.equals(frames[1].dtypes)
    assert frames[0].dtypes.equals(frames[2].dtypes)
    dtypes = frames[0].dtypes
    assert dtypes["added_macs"] == pd.Int64Dtype()
    assert (dtypes["shots"], dtypes["images_per_s"]) == ("int64", "float64")
    assert dtypes["method"] == dtypes["params"] == pd.StringDtype()


def test_notes_have_one_dtype_each(tmp_path: Path) -> None:
    write(tmp_path, [with_notes(1, alpha=1, won=True, word="x"), with_notes(2, alpha=0.5, mix="a")])
    write(tmp_path, [with_notes(3, mix=2)])
    frame = load_results(tmp_path)
    notes = frame[[name for name in frame.columns if name.startswith("note_")]]
    assert list(notes.columns) == ["note_alpha", "note_mix", "note_won", "note_word"]
    assert [str(dtype) for dtype in notes.dtypes] == ["float64", "string", "boolean", "string"]
    assert notes["note_alpha"].tolist()[:2] == [1.0, 0.5]
    assert pd.isna(notes["note_alpha"][2])
    assert notes["note_mix"].tolist()[1:] == ["a", "2"]


def test_the_order_is_that_of_the_grid_and_not_of_the_files(tmp_path: Path) -> None:
    write(tmp_path, grid(["linear_probe", "coop"], shots=(4, 1), seeds=(2, 1)))
    frame = load_results(tmp_path)
    order = [tuple(row) for row in frame[["method", "dataset", "shots", "seed"]].to_numpy()]
    assert order == sorted(order)
    assert len(order) == 2 * len(TINY) * 2 * 2
    assert list(frame.index) == list(range(len(frame)))


def test_means_are_a_groupby(tmp_path: Path) -> None:
    write(tmp_path, [scored(identity(seed=seed), 0.25 * seed) for seed in (1, 2, 3)])
    means = benchmark.load_results(tmp_path).groupby(["method", "shots"])["accuracy"].mean()
    assert means.to_dict() == {("coop", 4): pytest.approx(0.5)}


def test_a_file_that_is_no_record_is_a_warning_and_an_empty_folder_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no records in"):
        load_results(tmp_path)
    write(tmp_path, [scored(identity(), 0.5)])
    (tmp_path / "records" / "shopping.json").write_text('{"milk": 2}')
    with pytest.warns(UserWarning, match="shopping.json"):
        assert len(load_results(str(tmp_path))) == 1
