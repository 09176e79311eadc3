"""What was learnt is kept, loaded, and says the same; what was tampered with is told so."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import benchmark
from benchmark import Cell, Store, data, methods, text_sets
from benchmark.api import Target
from benchmark.cli import execute
from benchmark.compute import runner
from benchmark.compute.classifier_matrix import classifier_matrix
from benchmark.data.rgb import ORIENTATION
from benchmark.errors import UserError
from benchmark.records.kept_adapters import is_kept, json_file, tensor_file

FEW = (("epochs", "1"), ("views", 1))
PAIR = (("alpha_grid", "1"), ("beta_grid", "1"))
METHODS = {"tip_adapter": PAIR, "gda": (), "nearest_mean": (), "coop": FEW, "apt": FEW}
EVERY = 16  # test pictures that are written as files: those at these steps


def cell(method: str) -> Cell:
    return Cell(
        method=method,
        dataset="tiny_digits",
        shots=1,
        seed=1,
        backbone="tiny",
        params=METHODS.get(method, ()),
        texts=text_sets.reference("hand+tiny") if method == "apt" else "",
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which what every one of METHODS has learnt is kept."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FSBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "fsbench-cache"))
        outcomes = list(runner.run([cell(each) for each in METHODS], Store(folder), keep=True))
    assert [outcome.error for outcome in outcomes] == [None] * len(METHODS)
    return folder


@pytest.fixture(scope="module")
def keys(results: Path) -> dict[str, str]:
    """Method -> key."""
    return {record.identity.method: record.key for record in Store(results).records()}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the test pictures as files, and one that is no picture."""
    folder, test = tmp_path_factory.mktemp("pictures"), data.load("tiny_digits").test
    for i in range(0, len(test), EVERY):
        test.open(i).save(folder / f"{i:05}.png")
    (folder / "99999.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture by its name")
    return folder


def test_all_of_our_methods_can_be_kept() -> None:
    assert [name for name in methods.own() if not methods.card(name).keeps] == []


@pytest.mark.parametrize("method", METHODS)
def test_predictions_are_those_of_the_record(
    method: str,
    results: Path,
    keys: dict[str, str],
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = keys[method]
    assert Store(results).get(key).provenance["adapter_sha256"]  # type: ignore[union-attr]
    assert execute(["predict", key[:6], str(pictures), "--results", str(results)]) == 1
    said, warned = capsys.readouterr()
    assert "99999.jpg cannot be decoded" in warned
    assert "1 file whose name is not of a picture passed over" in warned
    rows = list(csv.DictReader(said.splitlines()))
    assert [Path(row["path"]).stem for row in rows] == sorted(
        path.stem for path in pictures.glob("*.png")
    )
    store = Store(results)
    assert [int(row["label"]) for row in rows] == store.predictions(key)[::EVERY].tolist()
    confidences = store.confidences(key)
    assert confidences is not None
    given = np.array([float(row["probability"]) for row in rows])
    assert np.allclose(given, confidences.confidence_Q[::EVERY], atol=1e-3)


def test_top_classes_features_and_lists(
    results: Path, keys: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    first, second = sorted(pictures.glob("*.png"))[:2]
    listing = tmp_path / "list.csv"
    listing.write_text(f"name,path\na,{second}\nb,{first}\n")
    out, words = tmp_path / "out.csv", ["predict", keys["gda"], str(listing)]
    words += ["--results", str(results), "--out", str(out), "--top", "99"]
    read = {}
    for kind in ("safetensors", "npz", "parquet"):
        assert execute([*words, "--features", str(tmp_path / f"f.{kind}")]) == 0
    read["safetensors"] = load_file(tmp_path / "f.safetensors")["feature_ND"].numpy()
    read["npz"] = np.load(tmp_path / "f.npz")["feature_ND"]
    from pandas import read_parquet

    read["parquet"] = np.stack(read_parquet(tmp_path / "f.parquet")["feature"])
    for feature_ND in read.values():
        assert np.array_equal(feature_ND, read["npz"])
        assert np.allclose(np.linalg.norm(feature_ND, axis=1), 1)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["path"] for row in rows] == [str(second), str(first)]
    chances = [float(v) for k, v in rows[0].items() if k.startswith("probability")]
    assert len(chances) == 10
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) == pytest.approx(1, abs=1e-4)
    assert execute([*words, "--features", str(tmp_path / "f.csv")]) == 2


@pytest.mark.parametrize("kind", ["safetensors", "npz", "parquet"])
def test_a_name_that_is_not_in_unicode_is_predicted_too(
    kind: str,
    results: Path,
    keys: dict[str, str],
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    odd = tmp_path / "odd\udcff.png"
    shutil.copy(next(iter(pictures.glob("*.png"))), odd)
    words = ["predict", keys["gda"].upper(), str(odd), "--results", str(results)]
    file = tmp_path / f"f.{kind}"
    assert execute([*words, "--features", str(file)]) == 0
    assert r"odd\xff.png," in capsys.readouterr().out
    assert file.exists()


def test_one_file_for_predictions_and_features_is_refused(
    results: Path,
    keys: dict[str, str],
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["predict", keys["gda"], str(pictures), "--results", str(results)]
    same = ["--features", f"{tmp_path}/f.npz", "--output", f"{tmp_path}/./f.npz"]
    assert execute([*words, *same]) == 2
    assert "both name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert execute([*words[:2], "/no/such.png", *words[3:]]) == 4
    assert "image /no/such.png cannot be read (No such file or directory); see that" in (
        capsys.readouterr().err
    )
    assert execute([*words[:2], f"{tmp_path}/nofolder", *words[3:]]) == 4
    assert f"there is no folder or file {tmp_path}/nofolder; name" in capsys.readouterr().err


def test_pictures_are_turned_as_those_of_the_run(
    results: Path, keys: dict[str, str], tmp_path: Path
) -> None:
    upright, turned = tmp_path / "upright.png", tmp_path / "turned.png"
    picture = data.load("tiny_digits").test.open(0)
    picture.save(upright)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    adapter = benchmark.load_adapter(keys["gda"], results)
    paths = [str(upright), str(turned)]
    features = {}
    for kind in ("ignore", "apply"):
        kept = adapter.kept.model_copy(update={"exif": kind})
        said = replace(adapter, kept=kept).predict(paths, with_features=True)
        features[kind] = said.feature_ND
        assert features[kind] is not None
    assert torch.equal(*features["apply"])
    assert not torch.equal(*features["ignore"])


SLOW = """
import time
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Slow"
    paper: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False

    def learn(self, episode):
        episode.notes["learnt"] = True
        return {"text_KD": episode.text_features()}

    def predictor(self, state, target):
        time.sleep(0.3)
        target.notes["made"] = True

        def predict(images):
            target.notes["seen"] = True
            return images.features() @ state["text_KD"].T

        return predict

    def fit(self, episode):
        return self.predictor(self.learn(episode), episode.target)
"""


@pytest.mark.parametrize("keep", [False, True])
def test_a_predictor_is_timed_and_its_notes_are_on_record(
    keep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(methods.FILES, "")
    monkeypatch.setattr("sys.path", [*sys.path])
    file = tmp_path / "made_slowly.py"
    file.write_text(SLOW)
    method = methods.card(str(file)).name
    (outcome,) = runner.run([cell(method)], Store(tmp_path), keep=keep)
    assert outcome.record is not None, outcome.error
    assert outcome.record.costs.fit_s >= 0.3
    assert outcome.record.notes == {"learnt": True, "made": True, "seen": True}


def test_what_is_found_in_the_test_images_is_noted_also_where_it_is_kept(tmp_path: Path) -> None:
    notes = []
    for keep in (False, True):
        (outcome,) = runner.run([cell("transclip")], Store(tmp_path / str(keep)), keep=keep)
        assert outcome.record is not None, outcome.error
        notes.append(outcome.record.notes)
    assert notes[0] == notes[1]
    assert {"support_weight", "selection", "val_correct"} <= notes[0].keys()


def test_a_cell_on_record_is_run_again_where_its_adapter_is_missing(tmp_path: Path) -> None:
    store, cells = Store(tmp_path), [cell("nearest_mean")]
    (before,) = runner.run(cells, store)
    assert not is_kept(store, before.key)
    (kept,) = runner.run(cells, store, keep=True)
    assert not kept.cached
    assert is_kept(store, before.key)
    assert kept.record is not None
    assert before.record is not None
    assert kept.record.counts == before.record.counts
    (again,) = runner.run(cells, store, keep=True)
    assert again.cached


def test_what_serves_other_classes_is_kept_with_each_test_set(tmp_path: Path) -> None:
    cells = [
        replace(cell("coop"), evaluation="base-to-new", classes=half) for half in ("base", "new")
    ]
    outcomes = list(runner.run(cells, Store(tmp_path), keep=True))
    names = [benchmark.load_adapter(each.key, tmp_path).class_names for each in outcomes]
    every = data.load("tiny_digits").class_names
    of = {each.cell.classes: kept for each, kept in zip(outcomes, names, strict=True)}
    assert of == {"base": every[:5], "new": every[5:]}


def test_a_plan_knows_what_is_missing(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--method", "nearest_mean", "--dataset", "tiny_digits", "--shots", "1", "--seed", "1"]
    words += ["--json", "--dry-run", "--keep", "--results"]
    shutil.copytree(results / "records", tmp_path / "records")
    for folder, missing in ((results, 0), (tmp_path, 1)):
        assert execute(["run", *words, str(folder)]) == 0
        assert json.loads(capsys.readouterr().out)["missing"] == missing


def test_a_merge_takes_adapters_that_are_what_records_note(
    results: Path, keys: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for name in ("records", "adapters"):
        shutil.copytree(results / name, theirs / name)
    other_numbers(theirs, keys["gda"])
    secret = tmp_path / "secret"
    secret.write_text("of another user")
    tensor_file(Store(theirs), keys["coop"]).unlink()
    tensor_file(Store(theirs), keys["coop"]).symlink_to(secret)
    assert execute(["merge", str(theirs), "--results", str(ours)]) == 0
    warned = capsys.readouterr().err
    here = {method: is_kept(Store(ours), key) for method, key in keys.items()}
    assert here == {method: method not in ("gda", "coop") for method in METHODS}
    assert warned.count("the record is taken without its adapter") == 2


# --- the classifier matrix


def test_a_matrix_is_that_of_the_state(results: Path, keys: dict[str, str]) -> None:
    adapter = benchmark.load_adapter(keys["gda"], results)
    matrix = classifier_matrix(adapter)
    state = load_file(tensor_file(Store(results), keys["gda"]))
    torch.testing.assert_close(matrix.weight_KD, state["state/weight_KD"], rtol=0, atol=1e-9)
    torch.testing.assert_close(matrix.bias_K, state["state/bias_K"], rtol=0, atol=1e-9)
    mean = classifier_matrix(benchmark.load_adapter(keys["nearest_mean"], results))
    state = load_file(tensor_file(Store(results), keys["nearest_mean"]))
    torch.testing.assert_close(mean.weight_KD / mean.scale, state["state/mean_KD"])


@pytest.mark.parametrize("kind", ["csv", "safetensors", "npz"])
def test_a_matrix_as_a_file(kind: str, results: Path, keys: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / f"matrix.{kind}"
    words = ["export", "--adapter", keys["coop"], "--results", str(results)]
    assert execute([*words, "--out", str(file)]) == 0
    wanted = classifier_matrix(benchmark.load_adapter(keys["coop"], results))
    names, weight_KD = read_matrix(file)
    assert names == list(wanted.class_names)
    np.testing.assert_array_equal(weight_KD, wanted.weight_KD.numpy())


def test_a_matrix_is_made_with_the_weights_that_are_named(
    results: Path, keys: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "--adapter", keys["coop"], "--results", str(results)]
    assert execute([*words, "--backbone", "ViT-B-32/nowhere.safetensors"]) == 4
    assert "weights file nowhere.safetensors is not there" in capsys.readouterr().err


def read_matrix(file: Path) -> tuple[list[str], object]:
    if file.suffix == ".npz":
        arrays = np.load(file)
        return arrays["class_names"].tolist(), arrays["weight_KD"]
    if file.suffix == ".csv":
        rows = list(csv.reader(file.read_text().splitlines()))[1:]
        return [row[0] for row in rows], np.array([row[2:] for row in rows], dtype=np.float64)
    from safetensors import safe_open

    with safe_open(file, "np") as opened:
        return json.loads(opened.metadata()["class_names"]), opened.get_tensor("weight_KD")


@pytest.mark.parametrize(
    ("method", "sentence"),
    [("tip_adapter", "is not linear in the image feature"), ("apt", "so it has no pixels")],
)
def test_a_method_that_is_no_matrix_says_why(
    method: str,
    sentence: str,
    results: Path,
    keys: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["export", "--adapter", keys[method], "--results", str(results)]) == 2
    assert sentence in capsys.readouterr().err


# --- other people's files


def other_numbers(folder: Path, key: str) -> None:
    file = tensor_file(Store(folder), key)
    tensors = load_file(file)
    tensors["state/bias_K"][0] += 1
    save_file(tensors, file)


def other_tensors(folder: Path, key: str) -> None:
    save_file({"state/bias_K": torch.zeros(10)}, tensor_file(Store(folder), key))


def no_tensors(folder: Path, key: str) -> None:
    tensor_file(Store(folder), key).write_bytes(b"\x80\x04K\x01.")


def other_shape(folder: Path, key: str) -> None:
    """A whole adapter whose tensors agree with its description, but not with the method."""
    from benchmark.compute.kept_adapters import keep

    adapter = benchmark.load_adapter(key, folder)
    target = Target("x", adapter.class_names, ("a {}.",), adapter.resources.backbone("tiny"), 1)
    state = {"weight_KD": torch.zeros(10, 3).double(), "bias_K": torch.zeros(10).double()}
    keep(Store(folder), adapter.kept.identity, target, state, "ignore")


def other_words(folder: Path, key: str) -> None:
    """Two classes exchanged in the description alone."""
    file = json_file(Store(folder), key)
    facts = json.loads(file.read_text())
    facts["class_names"].reverse()
    file.write_text(json.dumps(facts))


def other_pair(folder: Path, key: str) -> None:
    """A whole adapter under the record of another one."""
    from benchmark.compute.kept_adapters import keep

    adapter = benchmark.load_adapter(key, folder)
    names = adapter.class_names[::-1]
    target = Target("x", names, ("a {}.",), adapter.resources.backbone("tiny"), 1)
    state = load_file(tensor_file(Store(folder), key))
    state = {name.removeprefix("state/"): part for name, part in state.items()}
    keep(Store(folder), adapter.kept.identity, target, state, "ignore")


def nowhere(folder: Path, key: str) -> None:
    file = json_file(Store(folder), key)
    file.unlink()
    file.symlink_to(folder / "nothing")


def edited(**changes: object) -> Callable[[Path, str], None]:
    """The description with other facts, under the key that these facts hash to."""

    def change(folder: Path, key: str) -> None:
        from benchmark.records.record import Identity
        from benchmark.records.record import key as key_of

        store = Store(folder)
        facts = json.loads(json_file(store, key).read_text())
        facts["identity"] |= changes
        name = key_of(Identity(**facts["identity"]))
        facts["key"] = name
        json_file(store, name).write_text(json.dumps(facts))
        shutil.copy(tensor_file(store, key), tensor_file(store, name))
        json_file(store, key).unlink()

    return change


def renamed_identity(folder: Path, key: str) -> None:
    file = json_file(Store(folder), key)
    file.write_text(file.read_text().replace('"seed": 1', '"seed": 2'))


def loaded(key: str, folder: Path) -> torch.Tensor:
    """Loads an adapter and asks it."""
    adapter = benchmark.load_adapter(key, folder, device="cpu")
    dim = adapter.resources.backbone("tiny").dim
    return adapter.logits(benchmark.ImageSet.from_features(torch.ones(1, dim).double()))


@pytest.mark.parametrize(
    ("tamper", "sentence"),
    [
        (other_numbers, "'state/bias_K' has other numbers"),
        (other_tensors, "it holds other tensors"),
        (no_tensors, "is not what"),
        (other_shape, "are not what gda leaves"),
        (other_words, "written beside other class names"),
        (other_pair, "is not what record"),
        (nowhere, "cannot be read"),
        (renamed_identity, "was changed or renamed"),
        (edited(adapter_version=99), "learnt by version 99 of gda"),
        (edited(code="0123456789ab"), "the code of gda is not that"),
        (edited(weights_digest="0" * 64), "learnt on the weights 000000000000 of tiny"),
        (edited(method="os"), "add --method os"),
        (edited(precision="float16"), "needs a GPU"),
        (edited(params={"alpha_grid": "__import__('os')"}), "alpha_grid"),
    ],
)  # fmt: skip
def test_a_foreign_adapter_is_answered_in_a_sentence(
    tamper: Callable[[Path, str], None],
    sentence: str,
    results: Path,
    keys: dict[str, str],
    tmp_path: Path,
) -> None:
    key = keys["gda"]
    for file in (json_file(Store(results), key), tensor_file(Store(results), key)):
        (tmp_path / "adapters").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "adapters" / file.name)
    if tamper is other_pair:
        shutil.copytree(results / "records", tmp_path / "records")
    tamper(tmp_path, key)
    (now,) = (file.stem for file in (tmp_path / "adapters").glob("*.json"))
    with pytest.raises(UserError, match=sentence):
        loaded(now, tmp_path)


def test_wrong_keys_are_answered_in_a_sentence(
    results: Path, keys: dict[str, str], tmp_path: Path
) -> None:
    for key, folder, sentence in [
        ("../../etc", results, "is no key of a record"),
        ("zzzz", results, "no kept adapter zzzz"),
        ("abcd", tmp_path, "give the command of a run again with --keep"),
    ]:
        with pytest.raises(UserError, match=sentence):
            benchmark.load_adapter(key, folder)


def test_a_method_without_a_state_cannot_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--keep", "--method", "tests.plugins.rows", "--dataset", "tiny_digits"]
    words += ["--shots", "1", "--seed", "1", "--results", str(tmp_path)]
    assert execute(words) == 2
    assert "cannot be kept: it gives no state" in capsys.readouterr().err
    words = ["run", "--keep", "--method", "tip_adapter", "--protocol", "domain", "--plain"]
    assert execute([*words, "--learn-from", "tiny_shapes", "--results", str(tmp_path)]) == 2
    assert "can be kept under --protocol few-shot only" in capsys.readouterr().err


OWN = """
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Own"
    paper: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False

    def learn(self, episode):
        return {"text_KD": episode.text_features() + episode.support.images.features().mean(0)}

    def predictor(self, state, target):
        return lambda images: images.features() @ state["text_KD"].T

    def fit(self, episode):
        return self.predictor(self.learn(episode), episode.target)
"""


def test_a_method_of_ones_own_runs_only_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(methods.FILES, "")
    monkeypatch.setattr("sys.path", [*sys.path])
    file = tmp_path / "kept_by_hand.py"
    file.write_text(OWN)
    words = ["run", "--keep", "--method", str(file), "--dataset", "tiny_digits", "--plain"]
    words += ["--shots", "1", "--seed", "1", "--results", str(tmp_path)]
    assert execute(words) == 0
    (record,) = Store(tmp_path).records()
    with pytest.raises(UserError, match="add --method kept_by_hand"):
        benchmark.load_adapter(record.key, tmp_path)
    adapter = benchmark.load_adapter(record.key, tmp_path, trusted=[str(file)])
    matrix = classifier_matrix(adapter)
    assert matrix.weight_KD.shape[0] == 10
