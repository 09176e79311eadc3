"""`init-dataset`: a folder becomes a dataset that `prepare` and `run` take at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow  # type: ignore[import-untyped]
import pytest
from pyarrow import parquet

from benchmark import data
from benchmark.backbones import weights
from benchmark.data import drafts, proposals
from benchmark.errors import MISSING, UserError
from tests.conftest import Invoke
from tests.test_data_own import picture

NAMES = ("cat", "dog", "sea_horse")
Make = Callable[[Path], None]


def class_folders(folder: Path, names: tuple[str, ...], count: int, first: int = 0) -> None:
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(first, first + count):
            picture(label % 3, i + label // 3).save(folder / name / f"{i}.png")


def splits(folder: Path) -> None:
    class_folders(folder / "Training", NAMES, 6)
    class_folders(folder / "test", NAMES, 2, first=10)


def like_imagenet(folder: Path) -> None:
    class_folders(folder / "images" / "train", ("n01440764", "n01443537"), 6)
    class_folders(folder / "images" / "val", ("n01440764", "n01443537"), 2, first=10)


def side_by_side(folder: Path) -> None:
    class_folders(folder, ("001.cat", "002.dog"), 6)
    class_folders(folder, ("003.emu",), 1)


def like_coop(folder: Path) -> None:
    class_folders(folder / "pictures", NAMES, 6)
    rows = [(f"{name}/{i}.png", k, name) for k, name in enumerate(NAMES) for i in range(6)]
    lists = {"train": rows[::3], "val": rows[1::3], "test": rows[2::3]}
    (folder / "split_me.json").write_text(json.dumps(lists))


def tables(folder: Path) -> None:
    names = ["01-cat", "02-dog", "03-sea_horse"]
    label = {"names": names, "_type": "ClassLabel"}
    facts = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    (folder / "data").mkdir(parents=True)
    for split, count, first in (("train", 6, 0), ("validation", 2, 10)):
        rows = [(k, i) for k in range(3) for i in range(first, first + count)]
        cells = [{"bytes": png(k, i, folder), "path": None} for k, i in rows]
        table = pyarrow.table({"image": cells, "label": [k for k, _ in rows]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(facts)})
        parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")


def png(label: int, number: int, folder: Path) -> bytes:
    file = folder / "picture.png"
    picture(label, number).save(file)
    content = file.read_bytes()
    file.unlink()
    return content


@pytest.mark.parametrize(
    ("make", "names", "sizes", "said"),
    [
        (splits, NAMES, (12, 6, 6), "'sea_horse' as 'sea horse'"),
        (like_imagenet, ("tench", "goldfish"), (8, 4, 4), "so images/val is what is tested"),
        (side_by_side, ("cat", "dog"), (6, 2, 4), "since they have one picture each: 003.emu"),
        (like_coop, NAMES, (6, 6, 6), "pictures listed in split_me.json"),
        (tables, ("cat", "dog", "sea_horse"), (12, 6, 6), "the validation split is what is tested"),
    ],
)  # fmt: skip
def test_a_folder_is_a_dataset_at_once(
    make: Make,
    names: tuple[str, ...],
    sizes: tuple[int, int, int],
    said: str,
    tmp_path: Path,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "seem_here", lambda name: name == weights.TINY)
    folder, toml = tmp_path / "pets", tmp_path / "pets.toml"
    folder.mkdir()
    make(folder)
    made = invoke("init-dataset", folder)
    assert made.code == 0, made.err
    assert said in made.out
    assert 'perhaps better for pets: templates = ["a photo of a {}, a type of pet."]' in (
        toml.read_text()
    )
    dataset = data.load(str(toml))
    assert dataset.class_names == names
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == sizes
    assert dataset.remarks == ()
    assert invoke("prepare", toml, "--data-root", tmp_path / "root").code == 0
    words = ["run", "--dataset", toml, "--method", "nearest_mean", "--backbone", "tiny"]
    ran = invoke(*words, "--shots", 1, "--seed", 1, "--results", tmp_path / "results", "--plain")
    assert ran.code == 0, ran.err
    _, _, command = made.out.splitlines()[-1].partition("benchmark ")
    planned = invoke(*command.split(), "--results", tmp_path / "printed", "--seed", 1)
    assert planned.code == 0, planned.err


def test_what_is_doubtful_is_said(tmp_path: Path, invoke: Invoke) -> None:
    folder = tmp_path / "my flowers"
    class_folders(folder / "train", ("daisy", "RedRose", "x1"), 3)
    class_folders(folder / "test", ("daisy", "RedRose", "x1", "tulip"), 1, first=10)
    shutil.copy(folder / "train" / "daisy" / "0.png", folder / "test" / "daisy" / "same.png")
    shutil.copy(folder / "test" / "x1" / "10.png", folder / "test" / "x1" / "again.png")
    (folder / "train" / "daisy" / "broken.jpg").write_bytes(b"no picture")
    (folder / "train" / "daisy" / "notes.txt").write_text("no picture by its name")
    made = invoke("init-dataset", folder)
    assert made.code == 0, made.err
    for sentence in (
        "class folders in train, test",
        "left out, since another split lacks them, of test: tulip",
        "what a text encoder can read: x1",
        "in class_names put spaces: RedRose",
        "the fewest pictures to learn from are 2, of RedRose, x1: take --shots up to 2",
        "1 of 5 test images are in train or val as well",
        "pictures of test that are there once more, byte for byte: 1",
        "1 of 15 images cannot be read: train/daisy/broken.jpg",
        "1 files that are no images by their names: .txt",
        "1 folders that no class names, with 1 images: tulip",
        "  all 3 classes        7        3        5\n",
    ):
        assert sentence in made.out
    assert "a type of flower" in (tmp_path / "my_flowers.toml").read_text()


def test_a_file_is_never_written_over(tmp_path: Path, invoke: Invoke) -> None:
    splits(tmp_path / "pets")
    toml = tmp_path / "pets.toml"
    toml.write_text("mine")
    assert "is not written over" in invoke("init-dataset", tmp_path / "pets").err
    with pytest.raises(UserError, match="is not written over"):
        drafts.write_new(toml, "theirs")  # that came to be in between
    assert toml.read_text() == "mine"
    other = tmp_path / "other" / "pets.toml"
    other.parent.mkdir()
    made = invoke("init-dataset", tmp_path / "pets", "--out", other, "--domain", "birds")
    assert made.code == 0, made.err
    assert data.read_spec(str(other)).templates == ("a photo of a {}, a type of bird.",)
    assert len(data.load(str(other)).train) == 12


def flat(folder: Path) -> None:
    folder.mkdir()
    picture(0, 0).save(folder / "0.png")


def saved_to_disk(folder: Path) -> None:
    folder.mkdir()
    (folder / "dataset_dict.json").write_text("{}")


def one_split(folder: Path) -> None:
    tables(folder)
    (folder / "data" / "validation-00000-of-00001.parquet").unlink()


def numbers_without_names(folder: Path) -> None:
    tables(folder)
    for file in (folder / "data").iterdir():
        parquet.write_table(parquet.read_table(file).replace_schema_metadata({}), file)


def wrong_split_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "split_x.json").write_text('{"train": [["a", 1, "b"]]}')


def strangers(folder: Path) -> None:
    class_folders(folder / "train", ("cat", "dog"), 2)
    class_folders(folder / "test", ("Cat", "Dog"), 2)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (flat, "it holds 1 pictures in no class folder"),
        (saved_to_disk, "was written by save_to_disk"),
        (one_split, "need a train and a test split, and there is train"),
        (numbers_without_names, "has numbers for labels and does not say what they mean"),
        (wrong_split_file, "looks like a split file of CoOp and is none"),
        (strangers, "have no class in common"),
        (lambda folder: None, "is no folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_in_a_sentence(
    make: Make, sentence: str, tmp_path: Path, invoke: Invoke
) -> None:
    make(tmp_path / "mine")
    said = invoke("init-dataset", tmp_path / "mine")
    assert said.code == MISSING
    assert sentence in said.err
    assert not list(tmp_path.glob("*.toml"))


def unreadable(folder: Path) -> None:
    class_folders(folder, ("cat", "dog"), 3)
    for file in folder.rglob("*.png"):
        file.write_bytes(b"no picture " + bytes(file.parent.name + file.name, "ascii"))


def not_in_unicode(folder: Path) -> None:
    class_folders(folder, ("cat", "dog\udcff"), 3)


@pytest.mark.parametrize(
    ("make", "options", "code", "sentence"),
    [
        (unreadable, [], MISSING, "6 of 6 images cannot be read"),
        (not_in_unicode, [], 2, 'which a TOML is: class_names = ["cat", "dog\\xff"]'),
        (side_by_side, ["--output", "no/such/pets.toml"], 2, "there is no folder no/such"),
    ],
)  # fmt: skip
def test_nothing_is_written_where_nothing_can_come_of_it(
    make: Make, options: list[str], code: int, sentence: str, tmp_path: Path, invoke: Invoke
) -> None:
    make(tmp_path / "mine")
    said = invoke("init-dataset", tmp_path / "mine", *options)
    assert (said.code, sentence in said.err) == (code, True), said.err
    assert not list(tmp_path.rglob("*.toml"))


def test_a_folder_that_is_not_in_unicode_and_one_without_a_name(
    tmp_path: Path, invoke: Invoke
) -> None:
    side_by_side(tmp_path / "pets\udcff")
    said = invoke("init-dataset", tmp_path / "pets\udcff")
    assert (said.code, 'title = "pets\\xff"' in said.err) == (2, True), said.err
    assert "a path is empty" in invoke("init-dataset", "").err


def test_printed_commands_can_be_pasted(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    side_by_side(tmp_path / "mine")
    shutil.copy(tmp_path / "mine" / "001.cat" / "0.png", tmp_path / "mine" / "002.dog" / "9.png")
    made = invoke("init-dataset", "mine", "--output", "my pets.toml")
    assert "run --dataset 'my pets.toml'" in made.out
    assert "1 image stands under two labels" in made.out


def test_a_name_on_the_hub_asks_no_network(invoke: Invoke) -> None:
    for name in ("hf-hub:org/pets", "org/pets"):
        said = invoke("init-dataset", name)
        assert said.code == MISSING
        assert "asks no network for org/pets" in said.err


def test_held_out_leaves_something_to_learn_from() -> None:
    for fewest in range(2, 200):
        taken = proposals.held_out(fewest, test=True, val=True)
        assert taken["test"] >= 1
        assert fewest - sum(taken.values()) >= 1
    assert proposals.held_out(2, test=True, val=True) == {"test": 1}
    assert proposals.held_out(800, test=False, val=True) == {"val": 4}
