"""Every shipped TOML: what it says holds together, and its layout is read in miniature through the
same code.
"""

import hashlib
import json
from collections import Counter
from importlib import util
from pathlib import Path

import pytest

from benchmark import data
from benchmark.data.sampling import few_shot
from benchmark.data.sources import ClassFolders, CoopFolder, Generated
from benchmark.errors import UserError
from testbed.data_layouts import PER_CLASS, miniature

CLASSES = {
    "imagenet": 1000,
    "caltech101": 100,
    "oxford_pets": 37,
    "stanford_cars": 196,
    "oxford_flowers": 102,
    "food101": 101,
    "fgvc_aircraft": 100,
    "sun397": 397,
    "dtd": 47,
    "eurosat": 10,
    "ucf101": 101,
    "imagenetv2": 1000,
    "imagenet_sketch": 1000,
    "imagenet_a": 200,
    "imagenet_r": 200,
}
ON_DISK = tuple(CLASSES)
NAMED_IN_FACTS = {
    "caltech101": "Caltech101",
    "dtd": "DescribableTextures",
    "eurosat": "EuroSAT",
    "fgvc_aircraft": "FGVCAircraft",
    "food101": "Food101",
    "imagenet": "ImageNet",
    "oxford_flowers": "OxfordFlowers",
    "oxford_pets": "OxfordPets",
    "stanford_cars": "StanfordCars",
    "sun397": "SUN397",
    "ucf101": "UCF101",
}


def test_every_dataset_of_a_suite_is_there_and_every_dataset_is_in_a_suite():
    assert {name for members in data.suites().values() for name in members} == set(data.names())
    assert sum(CLASSES[name] for name in data.suites()["classic"]) == 2191
    assert set(data.suites()["classic"]) | set(data.suites()["imagenet_shift"]) == set(ON_DISK)


@pytest.mark.parametrize("name", data.names())
def test_a_spec_is_complete(name):
    spec = data.read_spec(name)
    assert len(spec.class_names) == CLASSES.get(name, len(spec.class_names))
    assert all(
        text == text.strip() and text
        for text in (*spec.class_names, spec.title, spec.domain, spec.licence)
    )
    assert spec.counts is not None
    assert spec.counts.test > 0
    assert isinstance(spec.source, Generated) or (spec.licence_seen and spec.parts)


@pytest.mark.parametrize("name", ON_DISK)
def test_every_part_can_be_had_somehow_and_gives_all_that_reading_needs(name):
    spec = data.read_spec(name)
    given = {path for part in spec.parts for path in part.gives}
    source = spec.source
    if isinstance(source, ClassFolders):
        needed = {folder for folder in (source.train, source.val, source.test) if folder}
    else:
        images = [] if source.images == "." else [source.images]
        needed = {
            *images,
            *(
                [source.split.file]
                if source.split
                else [source.lists.train, source.lists.val, source.lists.test]
            ),
        }
    assert needed <= given
    for part in spec.parts:
        assert part.by_hand or any(not offer.opt_in for offer in part.offers), (
            "a part without a plain source says how to get it"
        )
        assert all(
            offer.md5 or offer.sha256 or offer.doubt or offer.label == "github"
            for offer in part.offers
        )


# First digits of the sha256 of every file whose checksum is known from two sources or more, or from
# its owner, and of the mirror's where it is known: dataset -> offer -> digits.
PINS = {
    "caltech101": {"official": "331234750fc7", "hub": "331234750fc7", "mirror": "ef7dced0802c"},
    "dtd": {"official": "e42855a52a49", "mirror": "5ba4d3000e60"},
    "eurosat": {"hub": "8ebea6263493"},
    "food101": {"official": "d97d15e438b7"},
    "imagenet_a": {"official": "3bb3632277e6"},
    "imagenet_r": {"official": "18c6bf493b39"},
    "imagenet_sketch": {"mirror": "8f93bc6064cf"},
    "imagenetv2": {"hub": "f0c37fdf9259", "mirror2": "f0c37fdf9259"},
    "oxford_flowers": {"official": "2d01ecc807db"},
    "oxford_pets": {"official": "67195c5e1c01"},
    "stanford_cars": {"mirror": "50812812f335"},
    "sun397": {"mirror": "ce6dee6685c9"},
    "ucf101": {"mirror": "2fe1bd40e644"},
}
SPLITS_PINNED = {
    "caltech101": "52ce83205ff8",
    "dtd": "f26ebeccd2b5",
    "eurosat": "541503a77d0b",
    "food101": "7c3d456c4f34",
    "oxford_flowers": "2f50c42fc1a1",
    "oxford_pets": "d7f3ffe65b39",
    "stanford_cars": "40acee7aa65c",
    "sun397": "9847f9ef6110",
    "ucf101": "d78cb834f7c5",
}


@pytest.mark.parametrize(("name", "pins"), PINS.items())
def test_every_known_checksum_of_an_archive_is_pinned(name, pins):
    offers = data.read_spec(name).parts[0].offers
    known = {offer.label: offer.sha256[:12] for offer in offers if offer.sha256}
    assert known == pins


@pytest.mark.parametrize("name", ON_DISK)
def test_what_is_fetched_unasked_has_a_checksum_or_says_that_it_has_none(name):
    for part in data.read_spec(name).parts:
        for offer in part.offers:
            if not offer.opt_in and not (offer.sha256 or offer.md5):
                assert (name, offer.label) == ("imagenet_sketch", "hub")
                assert "its checksum is not known to us" in offer.doubt


@pytest.mark.parametrize(("name", "pin"), SPLITS_PINNED.items())
def test_a_split_file_is_pinned_where_it_is_read_and_where_it_is_fetched(name, pin):
    spec = data.read_spec(name)
    (offer,) = spec.parts[1].offers
    assert spec.source.split.sha256 == offer.sha256
    assert offer.sha256.startswith(pin)


def test_the_lists_of_aircraft_are_pinned_and_its_class_names_are_its_owners():
    spec = data.read_spec("fgvc_aircraft")
    digests = spec.source.lists.sha256
    assert [each[:8] for each in (digests.train, digests.val, digests.test)] == [
        "29ac66fb",
        "17afd8d6",
        "06b5f65d",
    ]
    variants = "".join(f"{name}\n" for name in spec.class_names).encode()
    assert hashlib.sha256(variants).hexdigest().startswith("6e14e778b0a7c94c")


def test_another_list_than_the_pinned_one_is_refused(tmp_path):
    toml = miniature("fgvc_aircraft", tmp_path)
    lists = {
        split: tmp_path / "fgvc_aircraft" / f"images_variant_{split}.txt"
        for split in ("train", "val", "test")
    }
    pins = {split: hashlib.sha256(file.read_bytes()).hexdigest() for split, file in lists.items()}
    pinned = ", ".join(f'{split} = "{digest}"' for split, digest in pins.items())
    text = toml.read_text().replace('suffix = ".jpg"', f'suffix = ".jpg", sha256 = {{ {pinned} }}')
    toml.write_text(text)
    assert not data.load(str(toml)).changed
    lines = lists["val"].read_text().splitlines()
    lists["val"].write_text("\n".join(reversed(lines)))
    with pytest.raises(UserError, match=r"images_variant_val\.txt is another split file"):
        data.load(str(toml))


@pytest.mark.parametrize("name", [name for name in ON_DISK if name != "imagenet"])
def test_every_dataset_but_imagenet_can_be_had_from_the_mirror(name):
    offers = data.read_spec(name).parts[0].offers
    (mirror,) = [offer for offer in offers if offer.label == "mirror"]
    assert mirror.opt_in
    assert len(mirror.revision) == 40
    assert ("of unknown checksum" in mirror.doubt) == (mirror.sha256 is None)


@pytest.mark.parametrize("name", data.suites()["classic"])
def test_sixteen_shots_and_four_for_validation_exist(name):
    counts, classes = data.read_spec(name).counts, CLASSES[name]
    assert counts.train >= 16 * classes
    assert counts.val >= 4 * classes


@pytest.mark.parametrize(("name", "named"), NAMED_IN_FACTS.items())
def test_class_names_are_those_of_the_fact_sheet(data_root, name, named):
    facts = data_root / "classnames.json"
    if not facts.is_file():
        pytest.skip("the data root has no classnames.json")
    assert list(data.read_spec(name).class_names) == json.loads(facts.read_text())[named]


@pytest.mark.parametrize(
    "name", [name for name in ON_DISK if isinstance(data.read_spec(name).source, CoopFolder)]
)
def test_the_real_split_file_has_the_hash_counts_and_names_of_its_spec(data_root, name):
    spec = data.read_spec(name)
    file = data_root / "splits" / (spec.source.split.file if spec.source.split else "none")
    if not file.is_file():
        pytest.skip("its split file is not at hand")
    from benchmark.data.digests import hashed

    rows = json.loads(file.read_bytes())
    assert hashed(file) == spec.source.split.sha256
    assert {split: len(rows[split]) for split in rows} == dict(spec.counts)
    assert {(label, text) for split in rows for _, label, text in rows[split]} == set(
        enumerate(spec.class_names)
    )


@pytest.mark.parametrize("name", ON_DISK)
def test_a_miniature_of_the_layout_is_read(tmp_path, name):
    toml = str(miniature(name, tmp_path))
    spec, dataset = data.read_spec(toml), data.load(toml)
    assert data.prepared(toml)
    assert not dataset.changed
    assert dataset.class_names == data.read_spec(name).class_names
    for split in ("train", "val", "test"):
        table = getattr(dataset, split)
        expected = PER_CLASS[split] if getattr(data.read_spec(name).counts, split) else 0
        assert set(Counter(table.labels).values()) <= {expected}
        assert len(table) == expected * CLASSES[name] == getattr(spec.counts, split)
    assert dataset.test.open(0).size == (8, 8)
    assert len(dataset.test.digest(0)) == 64
    if len(dataset.train):
        support, _ = few_shot(dataset.train.labels, dataset.val.labels, 1, seed=1)
        assert len(support) == CLASSES[name]
        assert not {*dataset.train.keys} & {*dataset.val.keys, *dataset.test.keys}


def test_a_split_file_decides_the_order_and_a_file_system_never_does(tmp_path):
    toml = miniature("dtd", tmp_path)
    rows = json.loads((tmp_path / "dtd" / "split_zhou_DescribableTextures.json").read_bytes())
    assert data.load(str(toml)).train.keys == tuple(
        f"images/{path}" for path, _, _ in rows["train"]
    )
    train = data.load(str(miniature("imagenet", tmp_path))).train
    assert list(train.labels) == sorted(train.labels)
    assert train.keys[:2] == (
        "images/train/n01440764/1.JPEG",
        "images/train/n01440764/2.JPEG",
    )


def test_imagenet_classes_and_their_subsets_are_those_timm_knows():
    package = util.find_spec("timm")
    if package is None or not package.submodule_search_locations:
        pytest.skip("timm is not installed")
    lists = Path(package.submodule_search_locations[0]) / "data" / "_info"
    assert (
        list(data.read_spec("imagenet").folders)
        == (lists / "imagenet_synsets.txt").read_text().split()
    )
    for name in ("imagenet_a", "imagenet_r"):
        spec = data.read_spec(name)
        assert list(spec.folders) == (lists / f"{name}_synsets.txt").read_text().split()
        assert list(spec.parent_labels) == [
            int(line) for line in (lists / f"{name}_indices.txt").read_text().split()
        ]
        assert spec.class_names == tuple(
            data.read_spec("imagenet").class_names[label] for label in spec.parent_labels
        )


def test_shifted_sets_of_a_thousand_classes_share_imagenets_labels():
    for name in ("imagenetv2", "imagenet_sketch"):
        assert data.read_spec(name).parent_labels == tuple(range(1000))
        assert data.read_spec(name).class_names == data.read_spec("imagenet").class_names
    assert data.read_spec("imagenetv2").folders[999] == "999"
    assert data.read_spec("imagenet_sketch").folders == data.read_spec("imagenet").folders
