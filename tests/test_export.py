"""`export`: the same records as `report`, as data."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark import data, methods
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.report import sinks
from benchmark.report.class_frames import NAMING
from benchmark.report.frames import load_results
from testbed.synthetic import grid, identity, record, scored, with_predictions, write
from tests.conftest import Invoke

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "data.md").read_text()


def predicted(seed: int, store: Store, classes: str = "all", shift: int = 1) -> Record:
    """A record on tiny_digits that takes every second image for the next class."""
    tested = data.load("tiny_digits", classes=classes)
    labels_Q, count = np.array(tested.test.labels), len(tested.class_names)
    told_Q = np.where(np.arange(len(labels_Q)) % 2, labels_Q, (labels_Q + shift) % count)
    return with_predictions(identity(seed=seed, classes=classes), told_Q, store)


def read(result: object) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(result.out))  # type: ignore[attr-defined]


def test_the_page_describes_every_column(invoke: Invoke, tmp_path: Path) -> None:
    predicted(1, Store(tmp_path))
    sections = re.split(r"^## ", PAGE, flags=re.M)
    for flag, at, before in (
        ("--records", 1, ()),
        ("--per-class", 2, NAMING),
        ("--confusion", 3, NAMING),
    ):
        cells = re.findall(r"^\| (`.*?) \|", sections[at], re.M)
        described = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
        assert [*before, *described] == list(read(invoke("export", flag, "--results", tmp_path)))


def test_filters_are_those_of_report(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, grid(["coop", "linear_probe"], shots=(1, 4), seeds=(1, 2)))
    write(tmp_path, [record(identity("zero_shot", shots=0, seed=0), [1], [2])])
    options = ["--shots", "4", "--seed", "2", "--dataset", "tiny_digits", "--results", tmp_path]
    for flag in ("--records", "--per-class"):
        found = read(invoke("export", flag, *options))
        rows = set(zip(found.method, found.dataset, found.shots, found.seed, strict=True))
        assert rows == {
            *((method, "tiny_digits", 4, 2) for method in ("coop", "linear_probe")),
            ("zero_shot", "tiny_digits", 0, 0),
        }
    few = read(invoke("export", "--method", "coop", *options))
    assert few[["method", "shots", "seeds"]].to_numpy().tolist() == [["coop", 4, 2]]
    wrong = invoke("export", "--method", "cop", *options)
    assert wrong.code == 2
    assert "did you mean 'coop'?" in wrong.err


def test_parquet_is_the_frame_itself_and_csv_its_text(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, grid(["coop"], shots=(1,), seeds=(1, 2)))
    for name in ("frame.parquet", "frame.csv"):
        out = tmp_path / name
        assert invoke("export", "--records", "--output", out, "--results", tmp_path).code == 0
    frame = load_results(tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "frame.parquet"), frame)
    assert (tmp_path / "frame.csv").read_text() == frame.to_csv(index=False)
    printed = invoke("export", "--results", tmp_path).out
    best = tmp_path / "best.parquet"
    invoke("export", "--format", "parquet", "--out", best, "--results", tmp_path)
    means = pd.read_parquet(best)["mean"]
    assert [f"{mean:.6f}" in printed for mean in means] == [True] * 3
    refused = invoke("export", "--format", "parquet", "--results", tmp_path)
    assert "--format parquet writes a file; name it with --output FILE" in refused.err
    assert "takes csv, parquet, not 'xml'" in invoke("export", "--format", "xml").err


def test_the_leaderboard_is_parquet_whatever_priors_have_seen(
    invoke: Invoke, tmp_path: Path
) -> None:
    seen = {"sources": {"tiny_shapes": "0"}}
    named = [identity("prompt_adapter", **seen, source_shots=shots) for shots in (-1, 4)]
    write(tmp_path, [scored(each, 0.5) for each in named])
    out = tmp_path / "best.parquet"
    written = invoke("export", "--output", out, "--results", tmp_path)
    assert written.code == 0, written.err
    assert set(pd.read_parquet(out)["source_shots"]) == {"full", "4"}


@pytest.mark.parametrize("classes", ["all", "base", "new"])
def test_confusions_are_counted_image_by_image(
    invoke: Invoke, tmp_path: Path, classes: str
) -> None:
    stored = predicted(1, Store(tmp_path), classes)
    found = read(invoke("export", "--confusion", "--results", tmp_path))
    tested = data.load("tiny_digits", classes=classes)
    names = tested.class_names
    told_Q = Store(tmp_path).predictions(stored.key)
    expected: dict[tuple[str, str], int] = {}
    for true, told in zip(tested.test.labels, told_Q, strict=True):
        pair = (names[true], names[told])
        expected[pair] = expected.get(pair, 0) + 1
    pairs = zip(found.class_name, found.predicted_name, strict=True)
    assert dict(zip(pairs, found.images, strict=True)) == expected
    by_class = read(invoke("export", "--per-class", "--results", tmp_path))
    assert by_class.class_name.tolist() == list(names)
    right = found[found.label == found.predicted].images
    assert right.tolist() == by_class.correct.tolist() == stored.counts.correct


def test_what_has_no_confusions_is_counted_and_named(invoke: Invoke, tmp_path: Path) -> None:
    store = Store(tmp_path)
    predicted(1, store)
    without = predicted(2, store)
    store.beside(without.key).unlink()
    contradicted = predicted(3, store)
    store.put(contradicted, np.zeros(640, dtype=int))
    outside = predicted(4, store)
    store.put(outside, np.full(640, -1))
    for seed, label in ((5, 77), (6, -1)):  # wrong as before, so that all counts agree
        beyond = predicted(seed, store)
        told_Q, labels_Q = store.predictions(beyond.key), data.load("tiny_digits").test.labels
        store.put(beyond, np.where(told_Q == np.array(labels_Q), told_Q, label))
    write(tmp_path, [record(identity("coop", "unheard_of"), [1], [2])])
    result = invoke("export", "--confusion", "--results", tmp_path)
    assert read(result).seed.unique().tolist() == [1]
    assert "6 records have no confusions" in result.err
    one = invoke("export", "--records", "--confusion", "--results", tmp_path)
    assert "--records and --confusion are tables of their own" in one.err


def test_a_note_controls_no_terminal_and_is_data_elsewhere(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, [record(identity(), [1], [2], notes={"at": "\x1b[2J\u00e9"})])
    export = ("export", "--records", "--results", tmp_path)
    assert "\x1b[2Jé" in invoke(*export).out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = invoke(*export).out
    assert ("?[2Jé" in shown, "\x1b" in shown, shown.count("\n")) == (True, False, 2)


# other programs


class Writers:
    """A stand-in for both libraries, which notes what it is given."""

    class Error(Exception):
        """What wandb raises."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, str, float, int]] = []
        self.runs: list[dict[str, Any]] = []

    def Writer(self, folder: str) -> Any:
        def add_scalar(tag: str, value: float, step: int) -> None:
            self.scalars.append((Path(folder).name, tag, value, step))

        return SimpleNamespace(add_scalar=add_scalar, close=lambda: None)

    def init(self, **given: Any) -> Any:
        self.runs.append(given | {"summary": {}})
        return SimpleNamespace(summary=self.runs[-1]["summary"], finish=lambda: None)


def test_records_are_handed_over_only_where_it_is_asked_and_nothing_is_sent(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Writers()
    monkeypatch.setitem(sys.modules, "tensorboard", fake)
    monkeypatch.setitem(sys.modules, "tensorboard.summary", fake)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    stored = write(tmp_path, grid(["coop"], ["tiny_digits"], shots=(1, 4), seeds=(1,)))
    invoke("export", "--results", tmp_path)
    assert (fake.scalars, fake.runs) == ([], [])
    result = invoke("export", "--to", f"tensorboard:{tmp_path}/curves", "--results", tmp_path)
    assert result.out == f"2 records handed to tensorboard:{tmp_path}/curves\n"
    run_of = sinks.run_name(stored[0])
    assert re.fullmatch("coop tiny float64 seed 1 [0-9a-f]{6}", run_of)
    assert sorted(fake.scalars)[:2] == [
        (run_of, "few-shot/tiny_digits/all/accuracy", each.accuracy, shots)
        for shots, each in zip((1, 4), stored, strict=True)
    ]
    for more, mode in (([], "offline"), (["--online"], "online")):
        fake.runs.clear()
        assert invoke("export", "--to", "wandb:mine", *more, "--results", tmp_path).code == 0
        assert {each["mode"] for each in fake.runs} == {mode}
    by_key = {each["id"]: each for each in fake.runs}
    assert by_key.keys() == {each.key for each in stored}
    run = by_key[stored[0].key]
    assert run["config"] == stored[0].identity.model_dump(mode="json")
    assert run["summary"]["accuracy"] == stored[0].accuracy
    assert run["summary"]["fit_s"] == stored[0].costs.fit_s


def test_a_curve_is_of_one_row_of_a_table() -> None:
    """Shots, dataset and classes vary along a run; whatever else is another makes another run."""
    usual = methods.card("coop").defaults

    def run_of(**fields: Any) -> str:
        return sinks.run_name(scored(identity(**{"params": usual, **fields}), 0.5))

    for varies in ({"shots": 16}, {"dataset": "dtd", "dataset_digest": "0"}, {"classes": "base"}):
        assert run_of(**varies) == run_of()
    others = [
        run_of(**each)
        for each in (
            {}, {"seed": 2}, {"params": usual | {"lr": 0.1}}, {"params": usual | {"lr": 0.2}},
            {"val": "none"}, {"sampler": "nested"}, {"weights_digest": "1"}, {"transform": "2"},
            {"texts": "mine"}, {"learned_on": {"dtd": "0"}}, {"adapter_version": 9},
            {"sources": {"dtd": "0"}, "source_shots": 4}, {"method": "x" * 150},
            *({"params": usual | {"ctx_init": f"{each}é" * 999}} for each in "/-"),
        )
    ]  # fmt: skip
    assert len({*others}) == len(others)
    assert not any("/" in each or len(each.encode()) > 255 for each in others)
    assert "coop, lr=0.1 tiny float64" in others[2]


def test_two_datasets_of_one_name_have_charts_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Writers()
    monkeypatch.setitem(sys.modules, "tensorboard.summary", fake)
    with sinks.tensorboard(tmp_path) as sink:
        for digest in ("1" * 64, "2" * 64):
            sink(scored(identity(dataset="pets", dataset_digest=digest), 0.5))
    charts = {tag.rpartition("/")[0] for _, tag, _, _ in fake.scalars}
    assert charts == {"few-shot/pets/all", "few-shot/pets@222222/all"}


def test_what_the_program_refuses_is_said(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(error: Exception) -> Any:
        def program(*_: object, **__: object) -> None:
            raise error

        return program

    write(tmp_path, grid(["coop"], ["tiny_digits"], shots=(1,), seeds=(1,)))
    fake = SimpleNamespace(
        Writer=refuse(NotADirectoryError("x is a file")),
        init=refuse(Writers.Error("x is a file")),
        Error=Writers.Error,
    )
    for name in ("tensorboard.summary", "wandb"):
        monkeypatch.setitem(sys.modules, name, fake)
    for to in ("tensorboard:x", "wandb:a/b"):
        refused = invoke("export", "--to", to, "--results", tmp_path)
        said = f"{to.partition(':')[0]} does not take the records: x is a file"
        assert (refused.code, said in refused.err) == (2, True), refused.err


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_what_the_reader_of_records_meets_is_not_the_programs_fault(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorboard.summary", "wandb"):
        monkeypatch.setitem(sys.modules, name, Writers())
    with pytest.raises(PermissionError, match="records"), sinks.opened(f"{kind}:{tmp_path}"):
        raise PermissionError("records")


def test_a_disk_that_is_full_at_the_end_is_said_and_every_file_is_closed(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    def writer(folder: str) -> Any:
        def close() -> None:
            closed.append(folder)
            raise OSError(28, "No space left on device")

        return SimpleNamespace(add_scalar=lambda *_, **__: None, close=close)

    monkeypatch.setitem(sys.modules, "tensorboard.summary", SimpleNamespace(Writer=writer))
    stored = write(tmp_path, grid(["coop"], ["tiny_digits"], shots=(1,), seeds=(1, 2)))
    full = invoke("export", "--to", f"tensorboard:{tmp_path}/x", "--results", tmp_path)
    assert full.code == 2
    assert "tensorboard does not take the records: [Errno 28] No space left" in full.err
    assert len(closed) == len(stored) == 2


def test_a_program_that_is_unknown_or_missing_is_said(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, grid(["coop"], ["tiny_digits"], shots=(1,), seeds=(1,)))
    unknown = invoke("export", "--to", "tensorbord:x", "--results", tmp_path)
    assert "not 'tensorbord:x'; did you mean 'tensorboard'?" in unknown.err
    monkeypatch.setitem(sys.modules, "wandb", None)
    missing = invoke("export", "--to", "wandb:x", "--results", tmp_path)
    assert missing.code == 2
    assert "pip install -e '.[wandb]'" in missing.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--adapter", ""], "no adapter is kept in"),
        (["--adapter", "1a2b", "--records"], "--adapter does not go with --records"),
        (["--adapter", "1a2b", "--to", "wandb:x"], "--adapter does not go with --to"),
        (["--adapter", "1a2b", "--format", "csv"], "--adapter does not go with --format"),
        (["--adapter", "1a2b", "--dataset", "dtd"], "--adapter does not go with --dataset"),
        (["--adapter", "1a2b", "--backbone", "a/b,c/d"], "--adapter takes one --backbone"),
        (["--to", ""], "--to takes tensorboard:FOLDER or wandb:PROJECT, not ''"),
        (["--online"], "--online goes with --to"),
        (["--to", "wandb:x", "--output", "x.csv"], "--to does not go with --output"),
        (["--to", "wandb:x", "--format", "csv"], "--to does not go with --format"),
        (["--output", "x.xlsx"], "the ending '.xlsx' of --output says no format"),
    ],
)
def test_options_that_would_be_dropped_are_refused(
    invoke: Invoke, tmp_path: Path, words: list[str], sentence: str
) -> None:
    write(tmp_path, grid(["coop"], ["tiny_digits"], shots=(1,), seeds=(1,)))
    refused = invoke("export", *words, "--results", tmp_path)
    assert (refused.code, sentence in refused.err) == (2, True), refused.err
    assert not Path("x.csv").exists()
