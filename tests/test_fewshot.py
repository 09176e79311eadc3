"""Support sets: CoOp's published subsets to the last index, nested sampling, and refusals."""

import csv
import hashlib
import json
import random
from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import pytest

from benchmark import data
from benchmark.data import sampling
from benchmark.data.sampling import few_shot, short_classes
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
        joined = ",".join(map(str, positions))  # in drawing order
        assert hashlib.sha256(joined.encode()).hexdigest() == row["positions_sha256"], (
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


@pytest.mark.parametrize("policy", ["coop", "nested"])
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
    with pytest.raises(UserError, match="too few training images for 5 shots: label 1 has 3 of 5;"):
        few_shot(labels, [], 5, seed=1)
    train, val = few_shot(labels, [], 5, seed=1, policy="coop-short")
    assert len(train[:5]) == len({i for i in train[:5] if labels[i] == 0}) == 5
    assert train[5:] == (20, 21, 22)
    assert val == ()


def test_all_classes_that_are_too_short_are_named_with_their_numbers():
    labels = [0] * 3 + [1] * 20 + [2] * 4
    assert short_classes(labels, 5, "coop") == {0: (3, 5), 2: (4, 5)}
    assert short_classes(labels, 3, "coop") == short_classes(labels, 5, "coop-short") == {}
    with pytest.raises(UserError, match="label 0 has 3 of 5, 2 has 4 of 5; ask for fewer"):
        few_shot(labels, [], 5, seed=1)


def naive_counts(labels: list[int], shots: int, least: int) -> dict[int, int]:
    """SS-Text's rule in whole numbers, one class and one surplus image after the other."""
    pool, budget, counts = Counter(labels), shots * len(set(labels)), {}
    for label in sorted(pool):
        whole, rest = divmod(budget * pool[label], len(labels))
        if 2 * rest > len(labels) or (2 * rest == len(labels) and whole % 2):
            whole += 1
        counts[label] = whole if whole > least else least
    while sum(counts.values()) > budget:
        most = max(counts.values())
        counts[min(label for label in counts if counts[label] == most)] -= 1
    return counts


def naive_draw(labels: list[int], counts: dict[int, int], rng: random.Random) -> list[int]:
    drawn = []
    for label in dict.fromkeys(labels):
        own = [i for i, other in enumerate(labels) if other == label]
        drawn += rng.sample(own, counts[label]) if counts[label] <= len(own) else own
    return drawn


def uneven(seed: int, classes: int, images: int) -> list[int]:
    """A pool with every class in it, few classes large and many small, in random order."""
    rng = random.Random(seed)
    labels = [*range(classes)]
    labels += [min(int(rng.expovariate(0.4)), classes - 1) for _ in range(images - classes)]
    rng.shuffle(labels)
    return labels


@pytest.mark.parametrize(("policy", "least"), [("relaxed", 1), ("realistic", 0)])
@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
def test_imbalanced_draws_are_those_of_a_naive_twin(policy, least, shots):
    for seed in range(1, 6):
        train, val = uneven(seed, 9, 400), uneven(100 + seed, 9, 60)
        rng = random.Random(seed)
        expected = [
            naive_draw(labels, naive_counts(labels, count, least), rng)
            for labels, count in ((train, shots), (val, min(shots, 4)))
        ]
        drawn = few_shot(train, val, shots, seed, policy=policy)
        assert [list(positions) for positions in drawn] == expected


def test_shares_by_hand():
    """Three classes of 12, 3 and 1 of 16 images; 2 shots are 6 images: 4.5, 1.125 and 0.375."""
    labels = [0] * 12 + [1] * 3 + [2]

    def counts(policy: str, shots: int) -> list[int]:
        train, _ = few_shot(labels, [], shots, seed=1, policy=policy)
        return [sum(labels[i] == label for i in train) for label in range(3)]

    assert counts("realistic", 2) == [4, 1, 0]  # 4.5 goes to the even 4: a deficit of one stays
    assert counts("relaxed", 2) == [4, 1, 1]
    assert counts("realistic", 1) == [2, 1, 0]  # 2.25, 0.5625 and 0.1875
    assert counts("relaxed", 1) == [1, 1, 1]  # 2, 1 and 1 are one too many
    assert counts("relaxed", 5) == counts("realistic", 5) == [11, 3, 1]


@pytest.mark.parametrize("policy", ["relaxed", "realistic"])
def test_on_an_even_pool_imbalanced_draws_are_coops(policy):
    labels = [i % 7 for i in range(140)]
    random.Random(5).shuffle(labels)
    for shots, seed in ((1, 1), (4, 2), (16, 3)):
        drawn = few_shot(labels, labels, shots, seed, policy=policy)
        assert drawn == few_shot(labels, labels, shots, seed)


def test_an_imbalanced_draw_beyond_the_pool_is_refused():
    labels = [0] * 12 + [1] * 4
    with pytest.raises(UserError, match="for 9 shots: label 0 has"):
        few_shot(labels, [], 9, seed=1, policy="realistic")
    assert len(few_shot(labels, [], 8, seed=1, policy="realistic")[0]) == 16


@pytest.mark.data
@pytest.mark.parametrize("dataset", WITH_SPLIT_FILE)
def test_shares_of_real_pools_are_those_of_released_floating_point(real, dataset):
    """SS-Text multiplies and rounds in float64."""
    source = data.read_spec(dataset).source
    rows = json.loads((real / "splits" / source.split.file).read_bytes())["train"]
    labels = [label for _, label, _ in rows]
    pool = Counter(labels)
    for shots, (policy, least) in product((1, 2, 4, 8, 16), (("relaxed", 1), ("realistic", 0))):
        drawn = Counter(labels[i] for i in few_shot(labels, [], shots, 1, policy)[0])
        budget = shots * len(pool)
        counts = [max(least, round(budget * (pool[c] / len(labels)))) for c in sorted(pool)]
        while sum(counts) > budget:
            counts[counts.index(max(counts))] -= 1
        assert [drawn[c] for c in sorted(pool)] == counts
    assert (len(set(pool.values())) == 1) == (dataset == "dtd")


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
