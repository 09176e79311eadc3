"""A user's own pictures, which nobody has looked at before: what names them, what is refused, what
is said about them.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow  # type: ignore[import-untyped]
import pytest
from PIL import Image
from pyarrow import parquet  # type: ignore[import-untyped]

from benchmark import data, paths
from benchmark.cli import execute
from benchmark.compute import runner
from benchmark.compute.resources import Resources
from benchmark.compute.short_classes import refuse_short_classes
from benchmark.data import digests
from benchmark.data.preparation import prepare_datasets
from benchmark.data.prepare_events import PrepareEvent
from benchmark.errors import MISSING, UserError
from benchmark.features.feature_store import Stopwatch, open_store
from benchmark.features.image_sets import image_set
from benchmark.grid import Cell
from benchmark.records import class_names
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.report.image_results import ImageResults
from testbed.synthetic import identity, scored
from tests.conftest import Invoke
from tests.test_data_reading import exchange, table

NAMES = ("cat", "dog", "emu")
HEAD = """
title = "Mine"
domain = "things"
templates = ["a photo of a {}."]
licence = "mine"
"""
SOURCE = """
[source]
kind = "image_folder"
folder = "pictures"
train = "train"
test = "test"
held_out = { val = 1 }
"""
TABLE = """
[source]
kind = "table"
folder = "data"
train = "train-*.parquet"
test = "test-*.parquet"
"""


def toml(folder: Path, source: str = SOURCE, names: tuple[str, ...] = NAMES) -> str:
    file = folder / "mine.toml"
    file.write_text(f"{HEAD}class_names = {list(names)}\n{source}")
    return str(file)


def picture(label: int, number: int) -> Image.Image:
    """Noise around a colour of the class; no two are equal."""
    rng = np.random.default_rng([label, number])
    pixels_HWC = rng.integers(0, 60, (36, 36, 3))
    pixels_HWC[..., label] += 150
    return Image.fromarray(pixels_HWC.astype(np.uint8))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The folder of a dataset of three classes, three images of each to train and two to test."""
    for split, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(NAMES):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture(label, i + 10 * (split == "test")).save(folder / f"{i}.png")
    toml(tmp_path)
    return tmp_path


def swap_classes(folder: Path) -> None:
    for file in sorted((folder / "pictures" / "test" / "cat").iterdir()):
        exchange(file, folder / "pictures" / "test" / "dog" / file.name)


def prepared(folder: Path, **options: Any) -> list[PrepareEvent]:
    return list(prepare_datasets([str(folder / "mine.toml")], folder / "root", **options))


def notes(folder: Path, **options: Any) -> list[str]:
    events = prepared(folder, **options)
    assert events[-1].step == "ready", events[-1].text
    return [event.text for event in events if event.step == "note"]


def failure(folder: Path, **options: Any) -> str:
    last = prepared(folder, **options)[-1]
    assert last.error is not None
    assert last.error.exit_code == MISSING
    return last.text


def refused(name: str) -> str:
    with pytest.raises(UserError) as caught:
        data.load(name)
    return str(caught.value)


# --- content names a dataset


def test_pictures_of_two_classes_exchanged_are_another_dataset(mine: Path) -> None:
    name = str(mine / "mine.toml")
    before, features = data.load(name), data.load(name).test.digests()
    assert before.digest == data.digest(name)
    swap_classes(mine)
    after = data.load(name)
    assert after.test.keys == before.test.keys
    assert after.digest == data.digest(name) != before.digest
    assert after.test.digests() == features[2:4] + features[:2] + features[4:]
    swap_classes(mine)
    assert data.digest(name) == before.digest


def test_cells_are_computed_again_when_pictures_are_exchanged(mine: Path, invoke: Invoke) -> None:
    command = (
        "run", "--dataset", mine / "mine.toml", "--method", "linear_probe", "--shots", 2,
        "--seed", 1, "--backbone", "tiny", "--results", mine / "results", "--plain",
    )  # fmt: skip
    assert invoke(*command).code == 0
    swap_classes(mine)
    outcome = invoke(*command)
    assert (outcome.code, "on record" in outcome.err) == (0, False)
    records = list(Store(mine / "results").records())
    assert sorted(sum(record.counts.correct) for record in records) == [2, 6]


@pytest.mark.parametrize("learned", ["tested", "source"])
def test_images_that_change_after_the_plan_are_not_recorded_under_their_old_name(
    mine: Path, monkeypatch: pytest.MonkeyPatch, learned: str
) -> None:
    plan, name = runner.plan, str(mine / "mine.toml")
    cell = Cell(method="linear_probe", dataset=name, shots=2, seed=1, backbone="tiny")
    if learned == "source":
        cell = replace(cell, method="prompt_adapter", dataset="tiny_shapes", sources=(name,))

    def changed_after(*given: Any, **named: Any) -> Any:
        planned = plan(*given, **named)
        swap_classes(mine)
        return planned

    monkeypatch.setattr(runner, "plan", changed_after)
    (outcome,) = runner.run([cell], Store(mine / "results"))
    assert "the images of mine changed after this run began" in str(outcome.error)
    assert not list(Store(mine / "results").records())


def test_images_that_change_after_they_were_loaded_are_noticed_by_the_next_cell(mine: Path) -> None:
    cell = Cell(method="zero_shot", dataset=str(mine / "mine.toml"), shots=0, seed=0,
                backbone="tiny", val="none")  # fmt: skip
    cells = [cell, replace(cell, method="linear_probe", shots=2, seed=1, val="up-to-4")]
    outcomes = runner.run(cells, Store(mine / "results"))
    assert next(outcomes).error is None
    swap_classes(mine)
    assert "the images of mine changed after this run began" in str(next(outcomes).error)


def test_features_of_a_picture_that_is_edited_while_it_is_read_are_not_stored(mine: Path) -> None:
    resources = Resources(features=open_store(mine / "features"))
    rows = resources.dataset(str(mine / "mine.toml")).test
    images = image_set(rows, resources.encoder("tiny"), resources.features, Stopwatch())
    swap_classes(mine)
    with pytest.raises(UserError, match="images changed while they were read"):
        images.features()
    assert not list((mine / "features").rglob("*.safetensors"))


def test_one_changed_row_of_a_table_is_another_dataset(tmp_path: Path) -> None:
    def write(first: int) -> str:
        images = [encoded(picture(0, i)) for i in (first, 1, 2)]
        for split in ("train", "test"):
            parquet.write_table(
                pyarrow.table({"image": images, "label": [0, 1, 2]}),
                tmp_path / "data" / f"{split}-0.parquet",
            )
        return data.digest(toml(tmp_path, TABLE))

    (tmp_path / "data").mkdir()
    assert write(0) != write(5)


def encoded(image: Image.Image) -> bytes:
    import io

    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_digests_of_rows_are_remembered_until_the_table_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.data.parquet import ParquetPictures

    monkeypatch.setattr(paths, "SETTLED_S", -1)
    table(tmp_path / "data" / "a.parquet", [encoded(picture(0, i)) for i in range(3)], [0, 1, 2])
    pictures = ParquetPictures(tmp_path / "data", "image")
    first = pictures.digests(["a.parquet#0", "a.parquet#2"])
    fresh = list(map(pictures.fresh_digest, ["a.parquet#0", "a.parquet#2"]))
    assert first == fresh
    with monkeypatch.context() as patch:
        patch.setattr(ParquetPictures, "_bytes", lambda *_: pytest.fail("it was read again"))
        assert pictures.digests(["a.parquet#2", "a.parquet#0"]) == first[::-1]
    contents = [encoded(picture(1, i)) for i in range(3)]
    table(tmp_path / "data" / "a.parquet", contents, [0, 1, 2])
    digests._remembered.cache_clear()  # as another process would
    for _ in range(2):
        now = pictures.digests(["a.parquet#0", "a.parquet#2"])
        assert now == [hashlib.sha256(contents[row]).hexdigest() for row in (0, 2)]


def test_a_second_reading_reads_no_picture(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "SETTLED_S", -1)
    first = data.digest(str(mine / "mine.toml"))
    monkeypatch.setattr(digests, "hashed", lambda *_: pytest.fail("a picture was read again"))
    digests._remembered.cache_clear()  # as another process would
    assert data.digest(str(mine / "mine.toml")) == first


def test_prepare_shows_the_digest_and_says_when_it_has_changed(mine: Path) -> None:
    name = str(mine / "mine.toml")
    ready = prepared(mine)[-1].text
    assert f"6 train / 3 val / 6 test in {mine / 'pictures'}, digest " in ready
    assert f"digest {data.digest(name)[:12]};" in ready
    assert notes(mine) == []
    picture(0, 99).save(mine / "pictures" / "train" / "cat" / "99.png")
    (changed,) = notes(mine)
    assert "the images are not those of the last preparation" in changed
    assert notes(mine) == []
    assert len(data.load(name, mine / "root").train) == 7


def test_exif_and_dropping_are_part_of_the_digest_and_their_defaults_are_not(mine: Path) -> None:
    first = data.digest(toml(mine))
    assert data.digest(toml(mine, SOURCE + 'exif = "ignore"\ndrop_duplicates = false\n')) == first
    others = {
        data.digest(toml(mine, SOURCE + line))
        for line in ('exif = "apply"\n', "drop_duplicates = true\n")
    }
    assert len(others | {first}) == 3


# --- one folder is one class of one split


def test_two_names_that_lead_to_one_folder_are_refused(mine: Path) -> None:
    text = refused(toml(mine, names=("cat", "cat", "emu")))
    assert (
        "the labels 0, 1 mean the same images, 'cat'; give each class a folder of its own" in text
    )
    listed = SOURCE + 'class_folders = ["cat", "dog", "./dog"]\n'
    assert "the labels 1, 2 mean the same images, 'dog'" in refused(toml(mine, listed))


def test_a_name_of_two_classes_with_two_folders_is_read(mine: Path) -> None:
    listed = SOURCE + 'class_folders = ["cat", "dog", "emu"]\n'
    dataset = data.load(toml(mine, listed, ("missile", "missile", "emu")))
    assert (len(dataset.train), dataset.class_names[:2]) == (6, ("missile", "missile"))
    assert len(set(dataset.train.keys)) == 6
    imagenet = data.read_spec("imagenet")
    assert len(set(imagenet.class_names)) < len(set(imagenet.folders)) == 1000


def test_links_that_make_one_folder_of_two_classes_are_refused(mine: Path) -> None:
    shutil.rmtree(mine / "pictures" / "train" / "dog")
    os.symlink(mine / "pictures" / "train" / "cat", mine / "pictures" / "train" / "dog")
    assert "'train/cat' and 'train/dog' are the same folder" in refused(str(mine / "mine.toml"))


@pytest.mark.parametrize("same", ["train", "./train", "train/", "other/../train"])
def test_training_and_test_images_from_one_folder_are_refused(mine: Path, same: str) -> None:
    source = SOURCE.replace('test = "test"', f'test = "{same}"')
    text = refused(toml(mine, source))
    assert "'train' and 'test' are both" in text or "is not below the dataset's folder" in text


def test_a_link_from_the_test_folder_to_the_training_folder_is_refused(mine: Path) -> None:
    shutil.rmtree(mine / "pictures" / "test")
    os.symlink("train", mine / "pictures" / "test")
    assert "'train/cat' and 'test/cat' are the same folder" in refused(str(mine / "mine.toml"))


def test_one_table_in_two_splits_is_refused(tmp_path: Path) -> None:
    table(tmp_path / "data" / "train-0.parquet", [encoded(picture(0, 0))], [0])
    source = TABLE.replace("test-*", "train-0*")
    assert "train-0.parquet is read as train and as test" in refused(toml(tmp_path, source))
    source = TABLE.replace("test-*", "train-*")
    assert "'train' and 'test' are both" in refused(toml(tmp_path, source))


def test_labels_by_name_need_names_that_differ(tmp_path: Path) -> None:
    for split in ("train", "test"):
        images = [encoded(picture(0, i)) for i in range(3)]
        table(tmp_path / "data" / f"{split}-0.parquet", images, ["a", "b", "c"])
    name = toml(tmp_path, TABLE, ("a", "a", "c"))
    assert "stores labels by name, and a class name stands for two classes" in refused(name)
    named = TABLE + 'label_names = ["a", "b", "c"]\n'
    assert data.load(toml(tmp_path, named, ("x", "x", "c"))).test.labels == (0, 1, 2)
    named = TABLE + 'label_names = ["a", "a", "c"]\n'
    assert "'label_names' has a name twice" in refused(toml(tmp_path, named))


# --- equal pictures


def copy_across(folder: Path) -> None:
    """Three test images are training images, one of them under another label, and one held out."""
    source, target = folder / "pictures" / "train", folder / "pictures" / "test"
    shutil.copy(source / "cat" / "1.png", target / "cat" / "0.png")
    shutil.copy(source / "cat" / "2.png", target / "dog" / "0.png")
    shutil.copy(source / "emu" / "0.png", target / "emu" / "0.png")  # held out for validation


def test_equal_pictures_across_splits_are_counted_by_prepare_and_by_run(
    mine: Path, invoke: Invoke
) -> None:
    copy_across(mine)
    sentences = notes(mine)
    assert sentences[0].startswith(
        "3 of 6 test images are in train or val as well, byte for byte, for instance "
        "test/cat/0.png and train/cat/1.png"
    )
    assert "drop_duplicates = true under [source] leaves" in sentences[0]
    assert sentences[1] == "1 image stands under two labels, byte for byte"
    flags = ("--method", "zero_shot", "--backbone", "tiny", "--results", mine / "results")
    outcome = invoke("run", "--dataset", mine / "mine.toml", *flags, "--plain")
    assert outcome.code == 0
    assert "mine.toml: 3 of 6 test images are in train or val as well" in outcome.err
    (record,) = Store(mine / "results").records()
    assert record.provenance["data_remarks"] == sentences


def test_equal_pictures_can_be_dropped_from_training_and_never_from_the_test_set(
    mine: Path,
) -> None:
    copy_across(mine)
    name = toml(mine, SOURCE + "drop_duplicates = true\n")
    dataset = data.load(name)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (4, 2, 6)
    assert not {*dataset.train.digests(), *dataset.val.digests()} & {*dataset.test.digests()}
    assert dataset.remarks == ()
    assert notes(mine) == []


def test_a_validation_image_among_the_training_images_is_said_too(mine: Path) -> None:
    folder = mine / "pictures" / "train" / "cat"
    shutil.copy(folder / "0.png", folder / "2.png")
    (sentence,) = notes(mine)
    assert sentence.startswith("1 validation images are in train as well")


# --- what is not read


def test_folders_and_files_that_are_not_read_are_counted_and_named(mine: Path) -> None:
    train = mine / "pictures" / "train"
    for place in ("wolf", "cat/kittens", "Dog"):
        (train / place).mkdir()
        picture(0, 50).save(train / place / "1.png")
    picture(0, 51).save(train / "loose.png")
    for file in ("cat/a.avif", "dog/b.AVIF", "dog/notes.txt", "dog/.hidden.png", "emu/README"):
        (train / file).write_bytes(b"x")
    assert notes(mine) == [
        f"not read in {train}: 2 folders that no class names, with 2 images: Dog, wolf",
        f"not read in {train}: 1 images in no class folder: loose.png",
        f"not read in {train}: 1 folders within class folders, with 1 images: cat/kittens",
        f"not read in {train}: 4 files that are no images by their names: .avif (2), .txt, README",
    ]


def test_classes_in_folders_of_folders_leave_nothing_unsaid(mine: Path) -> None:
    """The twin lists every image and takes away those that are read."""
    pictures = mine / "pictures"
    for split in ("train", "test"):
        for number, place in enumerate(("birds/jay", "birds/crow", "deep/a/b", "deep/c/d")):
            (pictures / split / place).mkdir(parents=True)
            for i in range(3):
                image = picture(0, 100 * (number + 1) + i + 10 * (split == "test"))
                image.save(pictures / split / place / f"{i}.png")
    (pictures / "val" / "cat").mkdir(parents=True)
    picture(0, 77).save(pictures / "val" / "cat" / "1.png")
    os.symlink(pictures / "train" / "deep", pictures / "train" / "deep" / "again")
    listed = SOURCE + 'class_folders = ["cat", "birds/jay", "deep/a/b"]\n'
    rows = data.load(toml(mine, listed))
    read = {*rows.train.keys, *rows.val.keys, *rows.test.keys}
    unread = {file.relative_to(pictures).as_posix() for file in pictures.rglob("*.png")} - read
    said = notes(mine)
    assert len(unread) == 1 + 3 + 2 + 3 + 2 + 12
    assert said == [
        f"not read in {pictures}: 1 folders that no class names, with 1 images: val",
        *(
            f"not read in {pictures / split}: 4 folders that no class names, with {count} images: "
            f"birds/crow (3), deep/c (3), dog ({each}), emu ({each})"
            for split, count, each in (("train", 12, 3), ("test", 10, 2))
        ),
    ]


def test_images_that_no_list_names_and_tables_that_no_split_names_are_named(
    tmp_path: Path,
) -> None:
    from testbed.data_layouts import miniature

    name = str(miniature("dtd", tmp_path))
    picture(0, 0).save(tmp_path / "dtd" / "images" / "extra.png")
    events = list(prepare_datasets([name], tmp_path / "root"))
    named = "1 images that no list names, the first is images/extra.png"
    texts = [event.text for event in events]
    assert f"not read in {tmp_path / 'dtd' / 'images'}: {named}" in texts
    for split in ("train", "test", "validation"):
        images = [encoded(picture(0, i)) for i in range(3)]
        table(tmp_path / "data" / f"{split}-0.parquet", images, [0, 1, 2])
    toml(tmp_path, TABLE)
    named = "1 tables that no split names: validation-0.parquet"
    assert f"not read in {tmp_path / 'data'}: {named}" in notes(tmp_path)


# --- pictures that cannot be decoded


def corrupt(folder: Path) -> list[str]:
    """An empty, a cut and a foreign file; their keys."""
    whole = (folder / "pictures" / "test" / "cat" / "0.png").read_bytes()
    spoilt = {"test/cat/0.png": b"", "test/dog/1.png": whole[:200], "train/emu/1.png": b"<html>"}
    for key, content in spoilt.items():
        (folder / "pictures" / key).write_bytes(content)
    return list(spoilt)


def test_verify_decodes_every_picture_and_names_those_that_cannot_be(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = corrupt(mine)
    assert execute(["prepare", str(mine / "mine.toml"), "--verify"]) == MISSING
    shown = capsys.readouterr().err
    assert f"mine: 3 of 15 images cannot be read: {', '.join(keys)}; of the first: image " in shown
    assert "verify every image (15 of 15 images)" in shown
    assert f"restore the files in {mine / 'pictures'} and prepare mine again" in shown
    assert "delete" not in shown


def test_an_image_that_was_mended_is_taken_without_ado(mine: Path) -> None:
    corrupt(mine)
    failure(mine, verify=True)
    for key, label in (("test/cat/0", 0), ("test/dog/1", 1), ("train/emu/1", 2)):
        picture(label, 77).save(mine / "pictures" / f"{key}.png")
    assert "all 15 images were decoded" in prepared(mine, verify=True)[-1].text
    assert not data.load(str(mine / "mine.toml"), mine / "root").changed


def test_prepare_decodes_a_sample_and_says_so(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.data import image_rows, preparation

    assert "all 15 images were decoded" in prepared(mine)[-1].text
    for module in (image_rows, preparation):
        monkeypatch.setattr(module, "SAMPLED", 5)
    assert prepared(mine)[-1].text.endswith("5 of 15 images were decoded, --verify decodes all")
    (mine / "pictures" / "train" / "cat" / "1.png").write_bytes(b"")
    assert "1 of 5 images cannot be read: train/cat/1.png" in failure(mine)


def test_verify_also_decodes_the_pictures_of_a_table(tmp_path: Path) -> None:
    for split in ("train", "test"):
        images = [encoded(picture(0, i)) for i in range(3)]
        table(tmp_path / "data" / f"{split}-0.parquet", [*images, b"GIF89a"], [0, 1, 2, 1])
    toml(tmp_path, TABLE)
    named = "2 of 8 images cannot be read: test-0.parquet#3, train-0.parquet#3"
    assert named in failure(tmp_path, verify=True)


def test_bytes_that_changed_under_an_unchanged_stamp_are_found_by_verify(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a disk goes bad: nothing but reading every byte again shows it."""
    monkeypatch.setattr(paths, "SETTLED_S", -1)
    notes(mine, verify=True)
    image = mine / "pictures" / "test" / "cat" / "0.png"
    monkeypatch.setattr(paths, "stamp_of", stamps_before_a_change(image))
    picture(0, 88).save(image)
    before = data.digest(str(mine / "mine.toml"))
    text = failure(mine, verify=True)
    assert "1 of 15 images have changed since they were first verified" in text
    assert "without --verify they are taken as they are now" in text
    assert data.digest(str(mine / "mine.toml")) != before
    monkeypatch.undo()  # as another process would
    digests._remembered.cache_clear()
    assert digests.of_file(image) == digests.hashed(image)


def stamps_before_a_change(image: Path) -> Callable[[str], str]:
    stamp, real = paths.stamp_of(str(image)), paths.stamp_of
    return lambda path: stamp if path == str(image) else real(path)


def test_what_rgb_does_not_show_is_counted_by_verify(mine: Path) -> None:
    folder = mine / "pictures" / "train" / "cat"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0, 1).save(folder / "1.png", exif=exif)
    picture(0, 2).convert("RGBA").save(folder / "2.png")
    said = notes(mine, verify=True)
    assert [sentence.partition(" images ")[0] for sentence in said] == ["1 of 15", "1 of 15"]
    assert "are to be turned by their EXIF data, which are ignored; exif = 'apply'" in said[0]
    assert "have transparent parts" in said[1]
    toml(mine, SOURCE + 'exif = "apply"\n')
    assert len(notes(mine, verify=True)) == 1
    assert data.load(str(mine / "mine.toml")).train.pictures.exif == "apply"


def test_a_picture_that_may_not_be_read_is_named(mine: Path, monkeypatch: Any) -> None:
    image = mine / "pictures" / "test" / "cat" / "0.png"

    def forbidden(path: str, *_: object) -> str:
        if path == str(image):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    real = digests.hashed
    monkeypatch.setattr(digests, "hashed", forbidden)
    assert f"image {image} cannot be read (Permission denied)" in refused(str(mine / "mine.toml"))


def test_names_that_differ_in_their_suffix_or_case_alone_are_different_images(mine: Path) -> None:
    folder = mine / "pictures" / "train" / "cat"
    picture(0, 60).save(folder / "0.PNG")
    picture(0, 61).save(folder / "0.jpg")
    dataset = data.load(str(mine / "mine.toml"))
    cats = [key for key in dataset.train.keys if "/cat/" in key]
    assert len(cats) == 4


# --- classes with few images


def test_classes_with_too_few_images_are_named_before_any_cell_runs(
    mine: Path, invoke: Invoke
) -> None:
    (mine / "pictures" / "train" / "dog" / "2.png").unlink()
    name = mine / "mine.toml"
    flags = ("--backbone", "tiny", "--results", mine / "results")
    few = ("--dataset", name, "--method", "zero_shot,linear_probe", "--seed", 1, *flags)
    for command in ("plan", "run"):
        outcome = invoke(command, *few, "--shots", "1,2,3")
        assert outcome.code == 2
        assert (
            "mine.toml: 3 of 3 classes have too few training images for 3 shots ('cat' has 2 of 3, "
            "'dog' has 1 of 3, 'emu' has 2 of 3); take --shots 1, or --sampler coop-short" in
            outcome.err
        )  # fmt: skip
        assert not list((mine / "results").rglob("*.json"))
    assert invoke("plan", *few, "--shots", 1).code == 0
    assert invoke("run", *few, "--shots", 3, "--sampler", "coop-short", "--plain").code == 0
    (record,) = [each for each in Store(mine / "results").records() if each.identity.shots]
    assert record.identity.sampler == "coop-short"


def test_a_source_with_too_few_images_is_named_too(mine: Path) -> None:
    name = str(mine / "mine.toml")
    seen = Cell(
        method="prompt_adapter", dataset="tiny_shapes", shots=4, seed=1, backbone="tiny",
        sources=(name,),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"mine\.toml: 3 of 3 classes have too few"):
        refuse_short_classes([seen])
    refuse_short_classes([replace(seen, source_shots=-1)])


def test_data_that_cannot_be_read_stop_no_other_dataset(tmp_path: Path) -> None:
    lost = Cell(method="coop", dataset="dtd", shots=16, seed=1, backbone="tiny")
    refuse_short_classes([lost], tmp_path)


# --- two datasets of one name


def two_of_one_name(folder: Path) -> list[Path]:
    """Two files "mine.toml" over equal names of other pictures."""
    files = []
    for place, first in (("a", 0), ("b", 30)):
        for split, count in (("train", 2), ("test", 2)):
            for label, name in enumerate(NAMES):
                below = folder / place / "pictures" / split / name
                below.mkdir(parents=True)
                for i in range(count):
                    number = first + i + 10 * (split == "test")
                    picture((label + bool(first)) % 3, number).save(below / f"{i}.png")
        files.append(Path(toml(folder / place)))
    return files


def test_two_files_of_one_name_are_both_run_and_told_apart(tmp_path: Path, invoke: Invoke) -> None:
    one, other = two_of_one_name(tmp_path)
    results = ("--results", tmp_path / "results")
    command = ("run", "--method", "zero_shot", "--backbone", "tiny", "--plain", *results)
    assert invoke(*command, "--dataset", f"{one},{other}").code == 0
    records = list(Store(tmp_path / "results").records())
    assert {record.identity.dataset_digest for record in records} == {
        data.digest(str(one)), data.digest(str(other)),
    }  # fmt: skip
    shown = invoke("report", *results, "--format", "csv").out
    for file in (one, other):
        digest = data.digest(str(file))
        assert f"mine@{digest[:6]}" in shown
        alone = invoke("report", *results, "--dataset", file, "--format", "csv").out
        assert f",mine,{accuracy_of(records, digest):.6g}," in alone
        assert len(alone.splitlines()) < len(shown.splitlines())
    both = invoke("report", *results, "--dataset", f"{one},{other}", "--format", "csv").out
    assert both == shown
    one.unlink()
    assert invoke("report", *results, "--dataset", one, "--format", "csv").out == shown
    assert "did you mean 'mine'" in invoke("report", *results, "--dataset", "min.toml").err


def accuracy_of(records: list[Record], digest: str) -> float:
    (record,) = [each for each in records if each.identity.dataset_digest == digest]
    return record.accuracy


def test_two_files_over_equal_pictures_are_one_dataset_and_said_to_be(
    mine: Path, invoke: Invoke
) -> None:
    other = shutil.copytree(mine / "pictures", mine / "copy" / "pictures").parent
    both = f"{mine / 'mine.toml'},{toml(other)}"
    flags = ("--method", "zero_shot", "--backbone", "tiny", "--results", mine / "results")
    outcome = invoke("run", "--dataset", both, *flags, "--plain")
    assert outcome.code == 0
    assert "hold the same images with the same labels: they are one dataset" in outcome.err
    assert len(list(Store(mine / "results").records())) == 1


# --- class names stand beside the records, which do not say where a TOML lies


def test_names_of_own_classes_are_kept_beside_the_records(mine: Path, invoke: Invoke) -> None:
    ours, merged = mine / "results", ("--results", mine / "merged")
    own = ("--dataset", mine / "mine.toml")
    command = ("run", "--method", "zero_shot", *own, "--backbone", "tiny", "--results", ours)
    assert invoke(*command, "--plain").code == 0
    shutil.rmtree(ours / "classes")  # records of before names were kept
    assert "class_name,correct" in (
        unnamed := invoke("export", "--per-class", "--results", ours).out
    )
    assert "cat" not in unnamed
    assert invoke(*command, "--plain").code == 0
    assert invoke("merge", ours, *merged).code == 0
    by_class = pd.read_csv(io.StringIO(invoke("export", "--per-class", *merged).out))
    assert by_class.class_name.tolist() == list(NAMES)
    assert invoke("report", "--html", mine / "page", *merged).code == 0
    assert '{"mine":["cat","dog","emu"]}' in (mine / "page" / "data.js").read_text()
    assert not (mine / "page" / "images").exists()
    elsewhere = invoke("export", "--confusion", *merged)
    assert "--dataset the TOML of one of your own" in elsewhere.err
    told = pd.read_csv(io.StringIO(invoke("export", "--confusion", *own, *merged).out))
    assert set(told.class_name) == set(NAMES)
    assert told.images.sum() == 6


def test_names_beside_records_are_believed_of_strange_datasets_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    shipped = identity(dataset_digest=data.digest("tiny_digits"))
    ours, mine = scored(shipped, 0.5), scored(identity(dataset="mine"), 0.5, classes=3)
    for each in (ours, mine):
        class_names.keep(store, each.identity.dataset_digest, [f"no {i}" for i in range(10)])
    assert ImageResults(store).class_names(ours) == data.read_spec("tiny_digits").class_names
    assert ImageResults(store).class_names(mine) == ()  # ten names of three classes
    digest = mine.identity.dataset_digest
    class_names.keep(store, digest, NAMES)
    assert ImageResults(store).class_names(mine) == NAMES
    for text in ("{}", '{"class_names":["cat","\\u001b[2J","emu"]}', "\0"):
        class_names.path(store, digest).write_text(text)
        assert ImageResults(store).class_names(mine) == ()
