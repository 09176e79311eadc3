"""Imbalanced support sets and no validation set, from a dataset's files to its records."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import methods
from benchmark.compute.episode import problem
from benchmark.compute.resources import Resources
from benchmark.compute.runner import run
from benchmark.conformance.subject import Subject
from benchmark.grid import Cell
from benchmark.records.store import Store
from benchmark.tiny import shapes

NAMES = ("solid star", "hollow circle", "striped square")
POOL = (12, 6, 2)
TOML = f"""
title = "Uneven shapes"
domain = "drawn figures"
class_names = {list(NAMES)}
templates = ["a photo of a {{}}."]
licence = "drawn by this project"

[source]
kind = "image_folder"
folder = "pictures"
train = "train"
test = "test"
held_out = {{ val = 1 }}
"""


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset whose training pool has 12, 6 and 2 images."""
    folder = tmp_path_factory.mktemp("uneven")
    for name, count in zip(NAMES, POOL, strict=True):
        for split, images in (("train", count + 1), ("test", 4)):
            below = folder / "pictures" / split / name
            below.mkdir(parents=True)
            for i in range(images):
                shapes.image(name, split, i, 1).save(below / f"{i}.png")
    (folder / "uneven.toml").write_text(TOML)
    return str(folder / "uneven.toml")


def cell(dataset: str, method: str, sampler: str, shots: int = 1) -> Cell:
    return Cell(
        method=method,
        dataset=dataset,
        shots=shots,
        seed=1,
        backbone="tiny",
        val="none",
        sampler=sampler,
        precision="float64",
    )


@pytest.mark.parametrize(
    ("sampler", "shots", "counts"),
    [
        ("coop", 1, (1, 1, 1)),
        ("relaxed", 1, (1, 1, 1)),  # 1.8, 0.9 and 0.3: 2, 1 and 1 are one too many
        ("realistic", 1, (2, 1, 0)),
        ("realistic", 2, (3, 2, 1)),  # 3.6, 1.8 and 0.6
        ("realistic", 4, (7, 4, 1)),  # 7.2, 3.6 and 1.2
    ],
)
def test_the_episode_of_a_cell_has_the_shares_of_its_pool(
    uneven: str, sampler: str, shots: int, counts: tuple[int, ...]
) -> None:
    episode = problem(Resources(), cell(uneven, "tip_adapter", sampler, shots)).episode
    drawn = Counter(episode.support.labels_N.tolist())
    assert tuple(drawn[label] for label in range(3)) == counts
    assert episode.val is None
    assert episode.shots == shots


def test_records_name_the_sampler_and_methods_do_without_a_class(
    uneven: str, tmp_path: Path
) -> None:
    names = ("tip_adapter", "tip_adapter_f", "linear_probe", "taskres", "clap", "cones")
    cells = [cell(uneven, name, "realistic") for name in names]
    outcomes = list(run(cells, Store(tmp_path)))
    assert [outcome.error for outcome in outcomes] == [None] * len(names)
    for outcome in outcomes:
        assert outcome.record is not None
        assert outcome.record.identity.sampler == "realistic"
        assert outcome.record.notes.get("selection", "fixed") == "fixed"
    (other,) = run([replace(cells[0], sampler="relaxed")], Store(tmp_path))
    assert other.key != outcomes[0].key


@pytest.mark.parametrize("name", [n for n in methods.own() if methods.card(n).few_shot])
def test_what_is_chosen_on_validation_images_is_a_setting_without_them(name: str) -> None:
    """One setting for all datasets, which stands among the hyper-parameters of the record."""
    subject = Subject(name)
    chosen, fixed = (subject.episode(shots=1, val=val) for val in (True, False))
    for given in (chosen, fixed):
        subject.fit(given)
    assert fixed.notes.get("selection") == ("fixed" if "selection" in chosen.notes else None)
    assert "val_correct" not in fixed.notes
    settings = methods.card(name).defaults | subject.settings()
    for note in {"alpha", "beta", "regularisation", "C"} & chosen.notes.keys():
        own = "c_without_val" if note == "C" else note
        # GDA's and TIMO's follow from `trust` and the degrees of freedom; one shot leaves none.
        assert fixed.notes[note] == (0 if name in {"gda", "timo"} else settings[own])
