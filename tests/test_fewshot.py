"""Support sets: CoOp's published subsets to the last index, nested sampling, and refusals."""

import csv
import hashlib
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from benchmark import data
from benchmark.data import sampling
from benchmark.data.sampling import few_shot
from benchmark.errors import UserError

WITH_SPLIT_FILE = (
    "caltech101",
    "dtd",
    "eurosat",
    "oxford_flowers",
    "oxford_pets",
    "stanford_cars",
    "ucf101",
)


@pytest.fixture
def real(data_root: Path) -> Path:
    if not (data_root / "fewshot_digests.csv").is_file():
        pytest.skip("the data root has no fewshot_digests.csv")
    return data_root


def published(real: Path, dataset: str) -> dict[tuple[int, int, str], dict[str, str]]:
    with (real / "fewshot_digests.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["dataset"] == dataset]
    return {(int(row["shots"]), int(row["seed"]), row["split"]): row for row in rows}


def assert_equal_to_published(real: Path, dataset: str, train: list[int], val: list[int]) -> None:
    expected = published(real, dataset)
    assert len(expected) == 20
    for (shots, seed, split), row in expected.items():
        positions = dict(zip(("train", "val"), few_shot(train, val, shots, seed), strict=True))[
            split
        ]
        assert len(positions) == int(row["n"])
        assert sampling.positions_digest(positions) == row["positions_sha256"], (
            dataset,
            shots,
            seed,
            split,
        )


@pytest.mark.data
@pytest.mark.parametrize("dataset", WITH_SPLIT_FILE)
def test_coop_subsets_are_reproduced_from_the_real_split_files(real, dataset):
    source = data.read_spec(dataset).source
    splits = json.loads((real / "splits" / source.split.file).read_bytes())
    labels = {name: [label for _, label, _ in rows] for name, rows in splits.items()}
    assert_equal_to_published(real, dataset, labels["train"], labels["val"])
    for (shots, seed, split), row in published(real, dataset).items():
        positions = few_shot(labels["train"], labels["val"], shots, seed)[split == "val"]
        paths = [f"{source.images}/{splits[split][i][0]}".removeprefix("./") for i in positions]
        assert paths[0] == row["first_path"]
        assert hashlib.sha256("\n".join(paths).encode()).hexdigest() == row["paths_sha256"]


@pytest.mark.data
def test_subsets_of_caltech101_as_it_is_read_have_the_published_paths(real):
    if not data.prepared("caltech101", real):
        pytest.skip("the data root has no caltech-101")
    dataset = data.load("caltech101", real)
    for (shots, seed, split), row in published(real, "caltech101").items():
        train, val = few_shot(dataset.train.labels, dataset.val.labels, shots, seed)
        chosen = dataset.train.take(train) if split == "train" else dataset.val.take(val)
        assert hashlib.sha256("\n".join(chosen.keys).encode()).hexdigest() == row["paths_sha256"]


@pytest.mark.data
@pytest.mark.parametrize(
    ("dataset", "classes", "train", "val"), [("food101", 101, 500, 200), ("sun397", 397, 40, 10)]
)
def test_coop_subsets_of_balanced_sets_follow_from_their_class_sizes(
    real, dataset, classes, train, val
):
    """Their split files list one class after the other, so positions can be checked without the
    files.
    """
    blocks = [[label for label in range(classes) for _ in range(size)] for size in (train, val)]
    assert_equal_to_published(real, dataset, *blocks)


def test_labels_need_not_appear_in_order():
    train, _ = few_shot([7, 2, 2, 7], [], 1, seed=1)
    assert [[7, 2, 2, 7][i] for i in train] == [7, 2]


@pytest.mark.parametrize("policy", sampling.POLICIES)
def test_every_class_gets_its_shots_and_at_most_four_for_validation(policy):
    labels = [i % 5 for i in range(200)]
    train, val = few_shot(labels, labels, 8, seed=3, policy=policy)
    assert set(Counter(labels[i] for i in train).values()) == {8}
    assert set(Counter(labels[i] for i in val).values()) == {4}
    assert len(set(train)) == len(train)
    assert (train, val) == few_shot(labels, labels, 8, seed=3, policy=policy)


def test_nested_shots_only_ever_add_images():
    labels = [i % 7 for i in range(140)]
    sets = [few_shot(labels, labels, shots, seed=1, policy="nested") for shots in (1, 2, 4, 8, 16)]
    for (train, val), (more_train, more_val) in pairwise(sets):
        assert set(train) < set(more_train)
        assert set(val) <= set(more_val)


def test_short_classes_are_refused_unless_all_there_are_is_asked_for():
    labels = [0] * 20 + [1] * 3
    with pytest.raises(UserError, match="5 shots are more than class 1 has: 3"):
        few_shot(labels, [], 5, seed=1)
    train, _ = few_shot(labels, [], 5, seed=1, short="all")
    assert train[5:] == (20, 21, 22)


def test_halves_are_the_first_classes_rounded_up_and_the_rest():
    assert (
        sampling.class_half(5, "base"),
        sampling.class_half(5, "new"),
        sampling.class_half(2, "all"),
    ) == (
        (0, 1, 2),
        (3, 4),
        (0, 1),
    )
    with pytest.raises(UserError, match="did you mean 'base'"):
        sampling.class_half(5, "bases")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"shots": 0}, "at least 1"),
        ({"seed": -1}, "must not be negative"),
        ({"policy": "coup"}, "did you mean 'coop'"),
        ({"train_labels": []}, "no training images"),
    ],
)
def test_bad_requests_get_one_sentence(change, complaint):
    arguments = {"train_labels": [0, 1], "val_labels": [], "shots": 1, "seed": 1} | change
    with pytest.raises(UserError, match=complaint):
        few_shot(**arguments)
