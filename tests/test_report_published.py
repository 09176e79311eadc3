"""Published numbers keep their sources, and records made up to match or to miss get the right
verdict.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import data, methods, presets
from benchmark.cli import execute
from benchmark.records.record import Record
from benchmark.reference import PUBLISHED
from benchmark.report import grouping, published, published_table
from benchmark.report.averages import MeanAccuracy
from testbed.synthetic import CLASSIC, digest, identity, scored, write

TABLE = published_table.read_published()
RN50 = {"backbone": "RN50/openai", "weights_digest": digest("RN50")}


def rows() -> list[dict[str, str]]:
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_row_has_a_source_and_values_that_can_be() -> None:
    table = rows()
    assert len(table) == 2656
    assert tuple(table[0]) == published_table.COLUMNS
    for row in table:
        assert row["source"].strip(), row
        assert row["method"].isidentifier()
        assert row["variant"]
        assert 0 < float(row["accuracy"]) < 1
        assert row["shots"] in {"0", "1", "2", "4", "8", "16"}
        assert row["kind"] in {"table", "log", "sheet", "digitised"}
        assert row["selection"] in {
            "last step",
            "val-up-to-4",
            "full-val",
            "test",
            "none",
            "unknown",
        }


def test_rows_name_datasets_backbones_and_parameters_as_we_do() -> None:
    for row in rows():
        assert row["dataset"] in {*data.names(), *data.suites()}
        assert row["backbone"] in {
            "",
            "RN50/openai",
            "RN101/openai",
            "ViT-B-16/openai",
            "ViT-B-32/openai",
            "ViT-L-14/openai",
        }
        if row["params"] and row["method"] in methods.own():
            methods.checked(methods.card(row["method"]), json.loads(row["params"]))


def test_what_was_tuned_on_the_test_set_is_never_comparable() -> None:
    assert all(row["obstacle"] for row in rows() if row["selection"] in ("test", "full-val"))
    assert all(row["obstacle"] for row in rows() if row["classes"] != "all")


def ours(
    method: str, dataset: str, shots: int, accuracies: Sequence[float], **other: object
) -> list[Record]:
    card = methods.card(method)
    seeds = range(1, len(accuracies) + 1) if shots else [0]
    named = [
        identity(
            method,
            dataset,
            shots,
            seed,
            adapter_version=card.version,
            params=card.defaults,
            **RN50 | other,
        )
        for seed in seeds
    ]
    return [
        scored(named_record, accuracy, 100, 100)
        for named_record, accuracy in zip(named, accuracies, strict=True)
    ]


def verdicts(records: list[Record], variant: str) -> list[published.PublishedComparison]:
    return [
        comparison
        for comparison in published.compare_published(grouping.group_records(records), TABLE)
        if comparison.published.variant == variant
    ]


def test_records_made_up_to_match_are_reproduced_and_those_made_to_miss_differ() -> None:
    value = next(
        row
        for row in TABLE
        if row.variant == "CoOp (M=16, end)" and row.dataset == "dtd" and row.shots == 16
    ).accuracy
    (hit,) = verdicts(
        ours("coop", "dtd", 16, [value - 0.005, value, value + 0.005]), "CoOp (M=16, end)"
    )
    assert (hit.verdict, hit.why) == ("reproduced", "")
    (miss,) = verdicts(
        ours("coop", "dtd", 16, [value - 0.065, value - 0.06, value - 0.055]), "CoOp (M=16, end)"
    )
    assert miss.verdict == "differs"
    assert miss.difference == pytest.approx(-0.06, abs=0.001)


def test_zero_shot_numbers_have_half_a_point_and_no_more() -> None:
    variant = "zero-shot CLIP (single hand template)"
    value = next(row for row in TABLE if row.variant == variant and row.dataset == "dtd").accuracy
    for by, verdict in ((0.004, "reproduced"), (0.006, "differs")):
        (comparison,) = verdicts(ours("zero_shot", "dtd", 0, [value + by], val="none"), variant)
        assert comparison.verdict == verdict


def test_other_protocols_are_not_comparable_and_say_why() -> None:
    (tuned,) = verdicts(ours("tip_adapter_f", "dtd", 16, [0.6, 0.61, 0.62]), "Tip-Adapter-F")
    assert tuned.verdict == "not comparable"
    assert "test set" in tuned.why
    (nested,) = verdicts(ours("coop", "dtd", 16, [0.6], sampler="nested"), "CoOp (M=16, end)")
    assert nested.verdict == "not comparable"
    assert "nested" in nested.why


def test_other_parameters_meet_other_rows() -> None:
    middle = ours("coop", "dtd", 16, [0.6])[0].identity
    moved = scored(
        middle.model_copy(update={"params": middle.params | {"position": "middle"}}), 0.6
    )
    variants = [
        comparison.published.variant
        for comparison in published.compare_published(grouping.group_records([moved]), TABLE)
    ]
    assert variants == ["CoOp (M=16, middle)"]


def test_a_mean_over_ten_of_eleven_is_not_compared_with_one_over_eleven() -> None:
    row = replace(
        next(row for row in TABLE if row.variant == "CoOp (M=16, end)" and row.shots == 16),
        dataset="classic",
        accuracy=0.6,
    )
    whole = [record for name in CLASSIC for record in ours("coop", name, 16, [0.6, 0.61, 0.59])]
    part = [record for record in whole if record.identity.dataset != "imagenet"]
    assert [
        comparison.verdict
        for comparison in published.compare_published(grouping.group_records(whole), [row])
    ] == ["reproduced"]
    (comparison,) = published.compare_published(grouping.group_records(part), [row])
    assert comparison.verdict == "not comparable"
    assert "(10/11)" in comparison.why


def test_the_tolerance_follows_from_seeds() -> None:
    row = next(row for row in TABLE if row.variant == "CoOp (M=16, end)" and row.shots == 16)
    three = published.tolerance(row, MeanAccuracy(0.6, 0.01, (1, 2, 3)))
    assert three == pytest.approx(0.005 + 4.3027 * 0.01 * (2 / 3) ** 0.5, rel=1e-3)
    assert published.tolerance(row, MeanAccuracy(0.6, 0.01, tuple(range(10)))) < three
    assert published.tolerance(
        replace(row, kind="digitised"), MeanAccuracy(0.6, 0.01, (1, 2, 3))
    ) == pytest.approx(three + 0.002)
    assert published.tolerance(row, MeanAccuracy(0.6, None, (1,))) > published_table.ALLOWANCE


# --- obstacles, disputes, presets


def obstacles(variant: str, dataset: str = "") -> set[str]:
    return {
        row.obstacle for row in TABLE if row.variant == variant and dataset in ("", row.dataset)
    }


def test_runs_of_other_groups_and_other_support_sets_have_their_obstacles() -> None:
    for method in ("ProGrad", "TaskRes"):
        assert obstacles(f"{method} (CLIP-LoRA figure)") == {
            "run by another group, whose settings are not stated"
        }
    assert obstacles("CoOp (M=16, end)", "dtd") == {""}
    (imagenet,) = obstacles("CoOp (M=16, end)", "imagenet")
    assert "support sets" in imagenet
    (lora,) = obstacles("CLIP-LoRA (CLIP-LoRA figure)", "dtd")
    assert "after validation images" in lora
    assert all(row["obstacle"] for row in rows() if "another random generator" in row["caveat"])
    assert all(row.obstacle for row in TABLE if row.preset_obstacle)


def test_a_run_is_listed_once() -> None:
    listed = [
        (row.method, tuple(row.params.items()), row.dataset, row.classes, row.shots, row.backbone,
         row.variant, row.accuracy)
        for row in TABLE
    ]  # fmt: skip
    assert len(listed) - len(set(listed)) == 0


def test_disputed_values_are_found_and_chance_is_no_dispute() -> None:
    places = {
        (rows[0].method, rows[0].dataset, rows[0].shots): [row.accuracy for row in rows]
        for rows in published_table.disputed(TABLE)
    }
    assert places["maple", "eurosat", 4] == [0.5487, 0.845]
    assert places["promptsrc", "eurosat", 4] == [0.7502, 0.863]
    row = next(row for row in TABLE if row.variant == "CoOp (M=16, end)" and row.shots == 16)
    # 0.5 points for software, and 1.96 deviations of 0.75 points times the root of 2/3
    for by, disputes in ((0.016, 0), (0.018, 1)):
        other = replace(row, accuracy=row.accuracy + by)
        assert len(published_table.disputed([row, other])) == disputes
    assert "54.87 (MaPLe (run by TCP's authors)), 84.50" in published.disputed_text(TABLE)


def as_released(method: str, dataset: str, accuracy: float, **other: object) -> Record:
    """A record as the harness makes it under the preset."""
    cell = {"dataset": dataset, "shots": 16, "classes": "all", "backbone": "RN50/openai"}
    changed = presets.changes("released", method, cell)
    card = methods.card(method)
    named = identity(
        method,
        dataset,
        16,
        1,
        adapter_version=card.version,
        params=card.defaults | changed.set | other,
        val=changed.val or "up-to-4",
        selection=changed.selection or "",
        templates=changed.templates or (),
        underscores=bool(changed.underscores),
        preset="released",
        **RN50,
    )
    return scored(named, accuracy, 100, 100)


def test_published_numbers_meet_records_under_the_preset_they_were_made_with() -> None:
    value = next(
        row.accuracy
        for row in TABLE
        if (row.variant, row.dataset, row.shots) == ("Tip-Adapter-F", "dtd", 16)
        and row.backbone == "RN50/openai"
    )
    (met,) = verdicts([as_released("tip_adapter_f", "dtd", round(value, 2))], "Tip-Adapter-F")
    assert (met.verdict, met.preset) == ("reproduced", "released")
    (imagenet,) = verdicts([as_released("tip_adapter_f", "imagenet", 0.6)], "Tip-Adapter-F")
    assert imagenet.verdict == "not comparable"
    (plain,) = verdicts(ours("tip_adapter_f", "dtd", 16, [value]), "Tip-Adapter-F")
    assert plain.verdict == "not comparable"
    middle = as_released("coop", "dtd", 0.6, position="middle")
    assert [
        each.published.variant
        for each in published.compare_published(grouping.group_records([middle]), TABLE)
    ] == ["CoOp (M=16, middle)"]


def halves(part: str, accuracy: float = 0.7, **other: object) -> list[Record]:
    """Zero-shot CLIP on one half of every dataset's classes."""
    fields = {
        "backbone": "ViT-B-16/openai", "weights_digest": digest("ViT-B-16"),
        "precision": "float32", "classes": part, "evaluation": "base-to-new",
        "learned_classes": "base",
    }  # fmt: skip
    return [
        record
        for name in CLASSIC
        for record in ours("zero_shot", name, 0, [accuracy], **fields | other)
    ]


def test_published_base_and_new_stand_beside_base_to_new_alone() -> None:
    for part in ("base", "new"):
        compared = list(published.compare_published(grouping.group_records(halves(part)), TABLE))
        assert {each.published.classes for each in compared} == {part}
        assert {each.published.dataset for each in compared} >= {"classic"}
    usual = halves("new", evaluation="few-shot", learned_classes="")
    assert not list(published.compare_published(grouping.group_records(usual), TABLE))
    (lacking,) = [
        each
        for each in published.compare_published(grouping.group_records(halves("new")[1:]), TABLE)
        if each.published.dataset == "classic"
    ]
    assert lacking.why == "our mean lacks datasets (10/11)"


def test_a_published_h_stands_beside_ours() -> None:
    both = grouping.group_records([*halves("base"), *halves("new", accuracy=0.6)])
    (found,) = [
        each
        for each in published.compare_published(both, TABLE)
        if (each.published.classes, each.published.dataset) == ("H", "classic")
    ]
    assert found.ours.mean == pytest.approx(2 * 0.7 * 0.6 / 1.3)
    assert "zero-shot CLIP, classic H, 0-shot" in published.published_text([found])
    (lacking,) = [
        each
        for each in published.compare_published(
            grouping.group_records([*halves("base"), *halves("new")[1:]]), TABLE
        )
        if (each.published.classes, each.published.dataset) == ("H", "classic")
    ]
    assert lacking.why == "our mean lacks datasets (10/11)"


@pytest.mark.parametrize(("protocol", "parts"), [("base-to-new", 3), ("few-shot", 0), ("", 3)])
def test_the_command_compares_the_protocol_that_is_asked_for(
    protocol: str, parts: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [*halves("base"), *halves("new")])
    words = ["check", "--against", "published", "--results", str(tmp_path), "--json"]
    assert execute([*words, *(["--protocol", protocol] if protocol else [])]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len([each for each in found if each["dataset"] == "classic"]) == parts


def test_one_command_makes_both_halves() -> None:
    table = [row for row in TABLE if row.method == "coop" and row.dataset == "classic"]
    halved = [replace(row, preset_obstacle="") for row in table if row.classes != "all"]
    assert [row.classes for row in halved] == ["base", "new", "H"]
    (missing,) = published.missing_runs([], halved)
    assert missing.values == 3
    assert " --protocol base-to-new" in missing.command
    assert "--classes" not in missing.command


def test_what_no_record_stands_beside_comes_with_the_command_that_makes_it() -> None:
    table = [row for row in TABLE if row.method == "tip_adapter_f" and row.shots == 16]
    records = [as_released("tip_adapter_f", "dtd", 0.6)]
    compared = list(published.compare_published(grouping.group_records(records), table))
    (missing,) = published.missing_runs(compared, table)
    assert (missing.variant, missing.values) == ("Tip-Adapter-F", 9)
    assert (
        "--method tip_adapter_f --preset released --dataset caltech101,eurosat" in missing.command
    )
    assert "--shots 16 --seed 1 --backbone RN50/openai" in missing.command
    assert published.missing_runs([], [row for row in TABLE if row.method == "gda"]) == []
