"""Specs and datasets as others use them: what they give, what is checked, what an error says."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import data
from benchmark.data.preparation import prepare_datasets
from benchmark.errors import MISSING, UserError

GOOD = """
title = "Mine"
domain = "things"
templates = ["a photo of a {}."]
class_names = ["dotted circle", "solid cross"]
licence = "mine"
counts = { train = 4, val = 2, test = 2 }

[source]
kind = "generated"
generator = "shapes"
seed = 1
per_class = { train = 2, val = 1, test = 1 }
"""


def write(folder: Path, text: str = GOOD) -> str:
    (folder / "mine.toml").write_text(text)
    return str(folder / "mine.toml")


def test_listing_imports_nothing_heavy():
    code = (
        "import sys, benchmark.data, benchmark.data.sampling;"
        "benchmark.data.names(); benchmark.data.suites();"
        "heavy = {'torch', 'numpy', 'PIL', 'pandas', 'datasets', 'pyarrow', 'huggingface_hub', "
        "'pooch', 'sklearn'};"
        "print(*heavy & set(sys.modules))"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert outcome.stdout.split() == []


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UserError, match="did you mean 'caltech101'"):
        data.read_spec("caltec101")


def test_a_toml_anywhere_on_disk_is_a_dataset(tmp_path):
    dataset = data.load(write(tmp_path))
    assert (dataset.name, len(dataset.train), len(dataset.val), len(dataset.test)) == (
        "mine",
        4,
        2,
        2,
    )
    assert dataset.train.keys[3] == "train/solid cross/1"
    assert dataset.train.labels == (0, 0, 1, 1)
    assert dataset.train.open(0).mode == "RGB"
    assert dataset.train.digest(0) != dataset.train.digest(1)


def test_taking_rows_keeps_keys_and_labels_together(tmp_path):
    train = data.load(write(tmp_path)).train.take([3, 0])
    assert train.labels == (1, 0)
    assert train.keys[1] == "train/dotted circle/0"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("domain", "domian", "unknown key 'domian'; did you mean 'domain'|key 'domain' is missing"),
        ("seed = 1", "seed = 'one'", "mine.toml: key 'source.seed'"),
        ("train = 4", "train = -4", "key 'counts.train'"),
        ("train = 4", "train = 5", "mine.toml: counts are not source.per_class times 2 classes"),
        ('"generated"', '"drawn"', "source.kind is 'drawn'"),
        ("a photo of a {}.", "a photo", "needs exactly one {}"),
        ("a photo of a {}.", "a {} and a {}", "needs exactly one {}"),
        ('["dotted circle", "solid cross"]', "[]", "class_names"),
        ('title = "Mine"', "title = ", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_toml_is_named(tmp_path, old, new, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        data.read_spec(write(tmp_path, GOOD.replace(old, new)))
    assert "\n" not in str(caught.value)


def test_an_unknown_generator_is_named(tmp_path):
    with pytest.raises(UserError, match="no generator 'shades'"):
        data.load(write(tmp_path, GOOD.replace('"shapes"', '"shades"')))


def test_the_digest_ignores_what_is_cosmetic_and_nothing_else(tmp_path):
    digest = data.read_spec(write(tmp_path)).digest
    assert (
        data.read_spec(
            write(
                tmp_path,
                GOOD.replace('"things"', '"stuff"').replace('licence = "mine"', 'licence = "CC0"'),
            )
        ).digest
        == digest
    )
    for old, new in (
        ("a photo", "an image"),
        ("seed = 1", "seed = 2"),
        ("solid cross", "solid star"),
    ):
        assert data.read_spec(write(tmp_path, GOOD.replace(old, new))).digest != digest


def test_a_dataset_that_is_not_there_says_how_to_get_it(tmp_path):
    assert not data.prepared("caltech101", tmp_path)
    with pytest.raises(UserError, match="prepare caltech101") as caught:
        data.load("caltech101", tmp_path)
    assert caught.value.exit_code == MISSING


@pytest.mark.data
def test_all_of_caltech101_is_read(data_root):
    if not data.prepared("caltech101", data_root):
        pytest.skip("the data root has no caltech-101")
    dataset = data.load("caltech101", data_root)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (4128, 1649, 2465)
    assert (
        dataset.digest
        == data.digest("caltech101", data_root)
        == data.read_spec("caltech101").digest
    )
    assert dataset.train.keys[0] == "101_ObjectCategories/Faces/image_0274.jpg"
    assert dataset.test.open(2464).mode == "RGB"


@pytest.mark.data
def test_all_of_caltech101_is_adopted_and_verified_image_by_image(data_root, tmp_path):
    if not data.prepared("caltech101", data_root):
        pytest.skip("the data root has no caltech-101")
    events = list(prepare_datasets(["caltech101"], tmp_path, adopt_from=data_root, verify=True))
    assert (events[-1].step, sum(event.step == "verify" for event in events)) == ("ready", 8242)
    assert data.load("caltech101", tmp_path).digest == data.read_spec("caltech101").digest
