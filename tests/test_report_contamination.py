"""What a backbone has seen of a dataset: as the training code says, and not known elsewhere."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from benchmark import data
from benchmark.records.store import Store
from benchmark.report import grouping, page_details, protocol_tables, tables
from benchmark.report.contamination import UNKNOWN, seen, seen_notes
from benchmark.report.image_results import ImageResults
from benchmark.tiny import captions
from testbed.synthetic import grid, identity, scored
from tests.conftest import leaderboard_csv


@pytest.mark.parametrize(
    ("dataset", "pairs"),
    [("tiny_shapes", captions.SHAPE_PAIRS), ("tiny_textures", captions.TEXTURE_PAIRS)],
)
def test_the_tiny_clip_was_not_shown_as_many_classes_as_is_said(
    dataset: str, pairs: tuple[tuple[str, str], ...]
) -> None:
    shown, names = {" ".join(pair) for pair in pairs}, data.read_spec(dataset).class_names
    never = sum(name not in shown for name in names)
    assert f"{never} of {len(names)} classes never shown" in seen("tiny", dataset)


def test_the_tiny_clip_was_shown_every_digit_in_print() -> None:
    assert set(data.read_spec("tiny_digits").class_names) == set(captions.fonts.NAMES)
    assert "no handwriting" in seen("tiny", "tiny_digits")


@pytest.mark.parametrize(
    ("backbone", "dataset", "fact"),
    [
        ("ViT-B-16/openai", "caltech101", "arXiv:2103.00020"),
        ("RN50/openai", "imagenet", "not known per image"),
        ("timm:resnet50.a1_in1k", "imagenet", "training images with their labels"),
        ("timm:resnet50.a1_in1k", "caltech101", UNKNOWN),
        ("ViT-B-16/laion2b_s34b_b88k", "caltech101", UNKNOWN),
        ("ViT-B-16/openai", "my_pets", UNKNOWN),
        ("ViT-B-16/mine.safetensors", "imagenet", UNKNOWN),
        ("tiny", "tiny_shapes@abcdef", UNKNOWN),  # another version of the dataset
    ],
)
def test_what_is_known_and_what_is_not(backbone: str, dataset: str, fact: str) -> None:
    assert fact in seen(backbone, dataset)


def test_a_note_groups_datasets_and_is_silent_where_nothing_is_known() -> None:
    (note,) = seen_notes("RN50/openai", ["imagenet", "dtd", "my_pets"])
    assert note.startswith("RN50/openai has seen of imagenet, dtd: overlap not known")
    assert "my_pets" not in note
    assert seen_notes("RN50/laion", ["dtd"]) == []


def test_tables_of_every_kind_and_protocol_say_it() -> None:
    groups = grouping.group_records(grid(["coop"], shots=(1,)))
    halves = grouping.group_records(
        [
            scored(identity("coop", "tiny_shapes", 16, 1, evaluation="base-to-new", classes=part,
                            learned_classes="base"), 0.5)
            for part in ("base", "new")
        ]
    )  # fmt: skip
    made = [table for kind in tables.KINDS for table in tables.tables(groups, kind)]
    made += protocol_tables.tables(halves, "method-shots")
    assert len(made) == len(tables.KINDS) + 1
    for table in made:
        assert sum("10 of 16 classes never shown" in fact for fact in table.facts) == 1


def test_tables_exports_and_the_page_say_it(tmp_path: Path) -> None:
    groups = grouping.group_records(grid(["coop"], shots=(1,)))
    (table,) = tables.tables(groups)
    assert sum("10 of 16 classes never shown" in fact for fact in table.facts) == 1
    rows = csv.DictReader(io.StringIO(leaderboard_csv(groups)))
    assert {row["backbone_saw"].split(";")[0] for row in rows} == {
        "other pictures of the same generator",
        "printed digits of the same classes",
    }
    details = page_details.details(groups, ImageResults(Store(tmp_path)))
    assert all("captions.py" in detail.content["seen"] for detail in details)
