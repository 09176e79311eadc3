"""Reading data that differ from their spec, pictures of every mode, tables, and own folders."""

import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from benchmark import data, paths
from benchmark.data import digests
from benchmark.data.preparation import prepare_datasets
from benchmark.errors import MISSING, UserError
from benchmark.paths import cache_dir
from testbed.data_layouts import jpeg, miniature

SPLIT = "split_zhou_DescribableTextures.json"


@pytest.fixture
def dtd(tmp_path: Path) -> str:
    return str(miniature("dtd", tmp_path))


def first_image(toml: str) -> Path:
    return Path(toml).parent / "dtd" / data.load(toml).train.keys[0]


def refused(toml: str) -> str:
    with pytest.raises(UserError) as caught:
        data.load(toml)
    assert caught.value.exit_code == MISSING
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite_split(toml: str, change: object) -> None:
    """Change the split file and let the TOML state the changed one."""
    file = Path(toml).parent / "dtd" / SPLIT
    text = Path(toml).read_text()
    old = digests.hashed(file)
    lists = json.loads(file.read_bytes())
    file.write_text(json.dumps(change(lists) or lists))  # type: ignore[operator]
    Path(toml).write_text(text.replace(old, digests.hashed(file)))


def test_a_missing_image_is_named_with_the_number_of_them(dtd):
    image = first_image(dtd)
    image.unlink()
    assert (
        f"1 of 188 images are missing in {image.parents[1]}, the first is images/{image.name}"
        in refused(dtd)
    )


def test_a_renamed_image_is_a_missing_one(dtd):
    image = first_image(dtd)
    image.rename(image.with_name("renamed.jpg"))
    assert "1 of 188 images are missing" in refused(dtd)


def test_a_split_file_with_another_hash_is_refused_with_both(dtd):
    file = Path(dtd).parent / "dtd" / SPLIT
    expected = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    file.write_text(file.read_text() + " ")
    changed = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    text = refused(dtd)
    assert f"is another split file: its sha256 is {changed}, expected {expected}" in text
    assert "--accept-changed-data, which marks every record" in text


def test_changed_data_can_be_accepted_and_stays_marked(dtd):
    before = data.load(dtd)
    first_image(dtd).unlink()
    after = data.load(dtd, accept_changed_data=True)
    assert (after.changed, len(after.train)) == (True, len(before.train) - 1)
    assert after.digest != before.digest
    assert data.digest(dtd, accept_changed_data=True) == after.digest


def test_accepting_changes_nothing_where_the_data_are_as_specified(dtd):
    assert data.load(dtd, accept_changed_data=True) == data.load(dtd)


def test_other_counts_than_specified_are_refused(dtd):
    rewrite_split(dtd, lambda lists: lists["train"].pop() and None)
    assert (
        "93 train / 47 val / 47 test images found, 94 train / 47 val / 47 test expected"
        in refused(dtd)
    )


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (["banded.jpg", 47, "none"], "label 47 of 47 classes"),
        (["banded.jpg", 0, "striped"], "class 0 is called 'striped' instead of 'banded'"),
        (["../../etc/passwd", 0, "banded"], "leads out of the folder"),
        (["banded.jpg", 0], "it needs train, val and test lists"),
    ],
)
def test_a_split_file_of_something_else_is_named(dtd, row, complaint):
    rewrite_split(dtd, lambda lists: lists["train"].append(row))
    assert complaint in refused(dtd)


def test_a_web_page_saved_as_split_file_is_named(dtd):
    rewrite_split(dtd, lambda lists: "page")
    (Path(dtd).parent / "dtd" / SPLIT).write_text("<html>")
    assert "is no split file of dtd" in refused(dtd)


def test_an_official_list_with_an_unknown_class_is_named_by_line(tmp_path):
    toml = str(miniature("fgvc_aircraft", tmp_path))
    with (tmp_path / "fgvc_aircraft" / "images_variant_val.txt").open("a") as stream:
        stream.write("1234567 Spruce Goose\n")
    assert (
        "images_variant_val.txt line 101 names an unknown class: '1234567 Spruce Goose'"
        in refused(toml)
    )


def test_lists_that_are_not_pinned_enter_the_digest(tmp_path):
    toml = str(miniature("fgvc_aircraft", tmp_path))
    before = data.load(toml)
    assert before.digest == data.digest(toml) != data.read_spec(toml).digest
    file = tmp_path / "fgvc_aircraft" / "images_variant_train.txt"
    file.write_text("\n".join(reversed(file.read_text().splitlines())) + "\n")
    assert data.load(toml).digest != before.digest


def test_a_class_folder_without_images_is_named(tmp_path):
    toml = str(miniature("imagenet_a", tmp_path))
    shutil.rmtree(tmp_path / "imagenet-adversarial" / "imagenet-a" / "n01498041")
    assert "has no images of 1 classes, the first is 'n01498041'" in refused(toml)


@pytest.mark.parametrize("content", [b"", b"<html>", jpeg()[:200], b"GIF89a"])
def test_a_picture_that_cannot_be_decoded_is_named_by_path(dtd, content):
    image = first_image(dtd)
    table = data.load(dtd).train
    image.unlink()
    image.write_bytes(content)
    with pytest.raises(UserError, match="cannot be decoded") as caught:
        table.open(0)
    assert str(image) in str(caught.value)
    image.unlink()
    with pytest.raises(UserError, match="is missing"):
        table.open(0)
    with pytest.raises(UserError, match="cannot be read"):
        table.digest(0)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "I;16"])
def test_pictures_of_every_mode_come_out_in_rgb(dtd, mode):
    image = first_image(dtd)
    table = data.load(dtd).train
    image.unlink()
    options = {"transparency": b"\0\1"} if mode == "P" else {}
    Image.new(mode, (4, 4)).save(image, "TIFF" if mode == "CMYK" else "PNG", **options)
    assert (table.open(0).mode, table.open(0).size) == ("RGB", (4, 4))


def test_digests_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "SETTLED_S", -1)
    file = tmp_path / "x.jpg"
    file.write_bytes(b"one")
    first = digests.of_file(file)
    monkeypatch.setattr(digests, "hashed", lambda *_: pytest.fail("it was read again"))
    assert digests.of_file(file) == first
    digests._remembered.cache_clear()  # as another process would
    assert digests.of_file(file) == first
    monkeypatch.undo()
    file.write_bytes(b"two")
    os.utime(file, (1, 1))
    assert digests.of_file(file) == digests.hashed(file) != first


def test_a_file_of_equal_size_and_time_under_the_same_name_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "SETTLED_S", -1)
    one, two = tmp_path / "1.jpg", tmp_path / "2.jpg"
    for file in (one, two):
        file.write_bytes(file.name.encode())
        os.utime(file, (1, 1))
    before = digests.of_files([one, two])
    exchange(one, two)
    assert digests.of_files([one, two]) == before[::-1]
    two.write_bytes(b"3.jpg")
    os.utime(two, (1, 1))
    assert digests.of_file(two) == hashlib.sha256(b"3.jpg").hexdigest()


def test_a_stamp_of_whole_seconds_is_not_remembered(tmp_path, monkeypatch):
    """As of file systems without finer times, where a second change leaves no trace."""
    monkeypatch.setattr(paths, "SETTLED_S", -1)
    monkeypatch.setattr(paths, "stamp_of", lambda _: "3-1000000000-1000000000-7")
    file = tmp_path / "x.jpg"
    for content in (b"one", b"two"):
        file.write_bytes(content)
        assert digests.of_file(file) == hashlib.sha256(content).hexdigest()


def test_a_file_that_has_just_been_written_is_not_remembered(tmp_path):
    file = tmp_path / "x.jpg"
    for content in (b"one", b"two"):
        file.write_bytes(content)
        assert digests.of_file(file) == hashlib.sha256(content).hexdigest()
    assert not digests._remembered(digests._memory(str(tmp_path), cache_dir()))


@pytest.mark.parametrize("line", ["{} 3-1-1 x.jpg", "{}", "{} {} x.jpg", "é" * 64 + " {} x.jpg"])
def test_what_the_memory_of_digests_says_in_another_form_is_not_believed(tmp_path, line):
    file = tmp_path / "x.jpg"
    file.write_bytes(b"one")
    memory = digests._memory(str(tmp_path), cache_dir())
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_bytes(
        line.format("0" * 63, paths.stamp_of(str(file))).encode() + b"\n\xff\xfe\0\n"
    )
    assert digests.of_file(file) == hashlib.sha256(b"one").hexdigest()


def exchange(one: Path, other: Path) -> None:
    """Two files change places; each keeps its inode and the times it was written at."""
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def test_halves_are_labelled_anew(dtd):
    base, new = data.load(dtd, classes="base"), data.load(dtd, classes="new")
    assert (len(base.class_names), len(new.class_names)) == (24, 23)
    assert new.class_names[0] == data.read_spec(dtd).class_names[24]
    assert set(new.test.labels) == set(range(23))
    assert len(base.test) + len(new.test) == 47
    with pytest.raises(UserError, match="did you mean 'base'"):
        data.load(dtd, classes="bass")


OWN = """
title = "Mine"
domain = "things"
templates = ["a photo of a {}."]
class_names = ["red kite", "blue jay"]
licence = "mine"

[source]
"""


def own(folder: Path, source: str) -> str:
    (folder / "mine.toml").write_text(OWN + source)
    return str(folder / "mine.toml")


def birds(folder: Path, count: int = 9) -> None:
    for name in ("red kite", "blue jay", "unlisted"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            (folder / name / f"{i}.JPG").write_bytes(jpeg(i))
        (folder / name / ".hidden.jpg").write_text("")
        (folder / name / "notes.txt").write_text("")


def test_ones_own_folder_of_class_folders_needs_no_splits(tmp_path):
    birds(tmp_path / "birds")
    source = (
        'kind = "image_folder"\nfolder = "birds"\ntrain = "."\nheld_out = { val = 2, test = 3 }\n'
    )
    dataset = data.load(own(tmp_path, source))
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (8, 4, 6)
    assert dataset.test.keys[:3] == ("red kite/0.JPG", "red kite/3.JPG", "red kite/6.JPG")
    assert not {*dataset.train.keys} & {*dataset.val.keys, *dataset.test.keys}
    assert dataset.val.open(0).mode == "RGB"


def test_nobody_is_advised_to_delete_their_own_pictures(tmp_path):
    birds(tmp_path / "birds")
    shutil.rmtree(tmp_path / "birds" / "red kite")
    source = 'kind = "image_folder"\nfolder = "birds"\ntrain = "."\nheld_out = { test = 3 }\n'
    text = list(prepare_datasets([own(tmp_path, source)], tmp_path / "root"))[-1].text
    assert "has no images of 1 classes, the first is 'red kite'" in text
    assert f"restore the files in {tmp_path / 'birds'} and prepare mine again" in text
    assert "delete" not in text


def test_a_class_too_small_to_hold_images_out_is_named(tmp_path):
    birds(tmp_path / "birds", count=3)
    source = 'kind = "image_folder"\nfolder = "birds"\ntrain = "."\nheld_out = { test = 3 }\n'
    assert "class 'red kite' of mine has 3 images, too few to hold out 3" in refused(
        own(tmp_path, source)
    )


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (
            'kind = "image_folder"\nfolder = "x"\ntrain = "a"\n',
            "needs 'test', a folder, or held_out.test",
        ),
        (
            'kind = "image_folder"\nfolder = "x"\ntest = "a"\nheld_out = { val = 1 }\n',
            "'held_out' takes images from 'train'",
        ),
        (
            'kind = "image_folder"\nfolder = "x"\ntest = "a"\nclass_folders = ["one"]\n',
            "source.class_folders has 1 entries for 2",
        ),
        ('kind = "folder"\nfolder = "x"\nimages = "a"\n', "needs either 'split' or 'lists'"),
        ('folder = "x"\n', "key 'source.kind' is missing"),
    ],
)
def test_a_source_that_does_not_add_up_is_named(tmp_path, source, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        data.read_spec(own(tmp_path, source))
    assert str(caught.value).startswith("mine.toml: ")


def table(
    file: Path, images: list[bytes], labels: list[object], class_names: list[str] | None = None
) -> None:
    """A Parquet file as the hub has them, with class names in its metadata where they are given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file.parent.mkdir(exist_ok=True)
    rows = {
        "image": [{"bytes": image, "path": f"{i}.jpg"} for i, image in enumerate(images)],
        "label": labels,
    }
    stored = pa.table(rows)
    if class_names:
        features = {"label": {"names": class_names, "_type": "ClassLabel"}}
        stored = stored.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    pq.write_table(stored, file, row_group_size=2)


TABLE = """
kind = "table"
folder = "data"
train = "train-*.parquet"
test = "test-*.parquet"
held_out = { val = 1 }
"""


def test_a_hub_table_is_read_from_its_parquet_files(tmp_path):
    table(tmp_path / "data" / "train-0.parquet", [jpeg(i) for i in range(5)], [0, 1, 0, 1, 0])
    table(tmp_path / "data" / "train-1.parquet", [jpeg(9)], [1])
    table(tmp_path / "data" / "test-0.parquet", [jpeg(7), jpeg(8)], ["blue jay", "red kite"])
    dataset = data.load(own(tmp_path, TABLE))
    assert (len(dataset.train), len(dataset.val), dataset.test.labels) == (4, 2, (1, 0))
    expected = {f"train-0.parquet#{i}": jpeg(i) for i in range(5)} | {"train-1.parquet#0": jpeg(9)}
    for i, key in enumerate(dataset.train.keys):
        assert (
            dataset.train.open(i).tobytes()
            == Image.open(io.BytesIO(expected[key])).convert("RGB").tobytes()
        )
    assert dataset.test.digest(0) != dataset.test.digest(1)


@pytest.mark.parametrize(
    ("label", "complaint"), [(2, "has the label 2"), ("green jay", "has the label 'green jay'")]
)
def test_a_table_with_an_unknown_label_is_named(tmp_path, label, complaint):
    for split in ("train", "test"):
        table(tmp_path / "data" / f"{split}-0.parquet", [jpeg()], [label])
    with pytest.raises(UserError, match=complaint):
        data.load(own(tmp_path, TABLE))


def test_a_damaged_or_missing_table_is_named(tmp_path):
    toml = own(tmp_path, TABLE)
    assert "is not prepared" in refused(toml)
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        (tmp_path / "data" / f"{split}-0.parquet").write_bytes(b"<html>")
    assert "train-0.parquet is no Parquet file with a column 'label'" in refused(toml)


def stored_order(folder: Path, class_names: list[str]) -> None:
    for split in ("train", "test"):
        images = [jpeg(i) for i in range(4)]
        table(folder / "data" / f"{split}-0.parquet", images, [0, 1, 0, 1], class_names)


def test_class_names_stored_in_another_order_are_refused_with_both_lists(tmp_path):
    stored_order(tmp_path, ["blue jay", "red kite"])
    with pytest.raises(UserError) as caught:
        data.load(own(tmp_path, TABLE))
    assert "numbers its classes 0 'blue jay', 1 'red kite'" in str(caught.value)
    assert "numbers them 0 'red kite', 1 'blue jay'" in str(caught.value)


@pytest.mark.parametrize("stored", [["red kite", "blue jay"], ["Red_Kite", "blue_jay"]])
def test_class_names_stored_in_the_same_order_are_read(tmp_path, stored):
    stored_order(tmp_path, stored)
    assert data.load(own(tmp_path, TABLE)).test.labels == (0, 1, 0, 1)


def test_names_of_the_file_can_be_given_where_they_differ(tmp_path):
    stored_order(tmp_path, ["n01608432", "n01580077"])
    with pytest.raises(UserError, match="numbers its classes 0 'n01608432', 1 'n01580077'"):
        data.load(own(tmp_path, TABLE))
    names = 'label_names = ["n01608432", "n01580077"]\n'
    assert data.load(own(tmp_path, TABLE + names)).test.labels == (0, 1, 0, 1)
    with pytest.raises(UserError, match="label_names has 1 entries for 2 class names"):
        data.load(own(tmp_path, TABLE + 'label_names = ["n01608432"]\n'))


def test_class_names_that_the_datasets_library_wrote_are_compared(tmp_path):
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["blue jay", "red kite"])}
    )
    rows = {"image": [{"bytes": jpeg(i), "path": None} for i in range(4)], "label": [0, 1, 0, 1]}
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        written = datasets.Dataset.from_dict(rows, features=features)
        written.to_parquet(tmp_path / "data" / f"{split}-0.parquet")
    with pytest.raises(UserError, match="numbers its classes 0 'blue jay', 1 'red kite'"):
        data.load(own(tmp_path, TABLE))


@pytest.mark.parametrize(
    "metadata",
    [
        "no json", "5", '{"info": 5}', '{"info": {"features": {"label": 5}}}',
        '{"info": {"features": {"label": {"_type": "Nothing"}}}}',
        '{"info": {"features": {"label": {"_type": "ClassLabel", "num_classes": 1000000000000}}}}',
        '{"info": {"features": {"label": {"_type": "ClassLabel", "names": 5}}}}',
    ],
)  # fmt: skip
def test_metadata_that_cannot_be_read_is_an_error_of_the_file(tmp_path, metadata):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.table({"image": [jpeg()], "label": [0]})
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        marked = rows.replace_schema_metadata({"huggingface": metadata})
        pq.write_table(marked, tmp_path / "data" / f"{split}-0.parquet")
    assert "'huggingface' metadata cannot be read" in refused(own(tmp_path, TABLE))
