"""Presets: which settings a release has for which cell, and that its records are kept apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import methods, presets
from benchmark.commands import planned_cells
from benchmark.commands.cell_selection import select
from benchmark.commands.option_fields import Flags
from benchmark.compute import rerun, runner
from benchmark.compute.episode import problem
from benchmark.compute.resources import Resources
from benchmark.data import names
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.records.record import Identity, Record, key
from benchmark.records.store import Store
from benchmark.report import grouping, ranking, shell_commands, tables
from benchmark.report.headings import headings
from testbed.synthetic import identity, scored

SHOTS = (1, 2, 4, 8, 16)


def settings(method: str, dataset: str, shots: int = 16, **other: object) -> dict[str, object]:
    """All hyper-parameters of a cell under the preset."""
    cell = {"dataset": dataset, "shots": shots, "classes": "all", "backbone": "tiny"} | other
    return methods.card(method).defaults | presets.changes("released", method, cell).set


@pytest.mark.parametrize("method", presets.methods_with("released"))
def test_every_preset_builds_its_method_at_every_dataset_and_shots(method: str) -> None:
    for dataset in (*names(), "somebody_elses"):
        for shots in SHOTS:
            methods.load(method, settings(method, dataset, shots))


def test_conditions_name_datasets_that_there_are() -> None:
    for method in presets.methods_with("released"):
        for rule in presets._read("released", method).rules:
            assert set(rule.when.get("dataset", [])) <= set(names()), method


def test_skip_tuning_trains_a_quarter_of_the_epochs_on_three_datasets() -> None:
    for dataset, part in (("food101", 4), ("sun397", 4), ("imagenet", 4), ("dtd", 1)):
        for classes, epochs, lr, image_rate in (("all", 40, 1e-5, 1.0), ("base", 20, 2e-5, 0.25)):
            found = settings("skip_tuning", dataset, classes=classes)
            training = methods.load("skip_tuning", found).training  # type: ignore[attr-defined]
            assert {training.epochs_for(16, count) for count in (100, 1000)} == {epochs // part}
            assert (found["lr"], found["image_rate"]) == (lr, image_rate)


def test_coop_trains_50_epochs_on_imagenet_and_its_base_half_alone() -> None:
    epochs = {
        (dataset, classes): settings("coop", dataset, 4, classes=classes)["epochs"]
        for dataset in ("imagenet", "sun397")
        for classes in ("all", "base")
    }
    assert epochs["imagenet", "all"] == epochs["imagenet", "base"] == "50"
    assert epochs["sun397", "base"] == "200"
    assert settings("coop", "sun397", 1)["epochs"].startswith("1:50")  # type: ignore[attr-defined]


def chosen(method: str, *settings: str, **other: object) -> Cell:
    """The cell that a user gets under the preset, on the embedded suite."""
    flags = {
        "methods": [method],
        "datasets": ["tiny_digits"],
        "shots": ["1"],
        "seeds": ["1"],
        "preset": "released",
        "settings": list(settings),
    }
    (cell,) = select(Flags(**flags | other)).cells  # type: ignore[arg-type]
    return cell


def named(cell: Cell) -> Identity:
    ((_, identity),) = runner.plan([cell])
    return identity


# --- what a method is handed


def test_only_a_preset_hands_over_more_labels_than_the_shots_allow() -> None:
    resources = Resources()
    released = problem(resources, chosen("tip_adapter_f"))
    test_labels = torch.tensor(released.answers.labels)
    assert released.episode.selection is not None
    assert torch.equal(released.episode.selection.labels_N, test_labels)
    assert released.episode.val is not None
    assert len(released.episode.val) == len(resources.dataset("tiny_digits").val)
    plain = problem(resources, chosen("tip_adapter_f", preset="")).episode
    assert plain.selection is None
    assert plain.val is not None
    assert len(plain.val) == 10
    imagenets = problem(resources, replace(chosen("tip_adapter"), val="test")).episode
    assert imagenets.val is not None
    assert torch.equal(imagenets.val.labels_N, test_labels)


def test_texts_of_a_preset_reach_the_classifier() -> None:
    resources, cell = Resources(), chosen("clip_lora")
    own = problem(resources, replace(cell, templates=())).episode
    released = problem(resources, cell).episode
    assert released.templates == ("a photo of a {}.",)
    other = problem(resources, replace(cell, templates=("digit {}, upside down",))).episode
    assert not torch.allclose(other.text_features(), own.text_features())
    kept = replace(released, class_names=("sea_horse", "cat"), text_KD=None, underscores=True)
    spaces = replace(kept, underscores=False)
    assert not torch.allclose(kept.text_features()[0], spaces.text_features()[0])
    torch.testing.assert_close(kept.text_features()[1], spaces.text_features()[1])


def test_sources_of_a_prior_are_read_with_their_own_texts_and_without_the_test_set() -> None:
    from benchmark.compute.episode import source_episode

    cell = replace(chosen("prompt_adapter"), val="test", templates=("{}, drawn",))
    source = source_episode(Resources(), cell, "tiny_shapes", 1)
    assert source.val is None
    assert source.selection is None
    assert "{}, drawn" not in source.templates


# --- what is recorded, and how it is ranked


def test_an_identity_names_the_preset_and_leads_back_to_its_cell() -> None:
    cell = chosen("tip_adapter_f")
    made = named(cell)
    assert (made.preset, made.val, made.selection) == ("released", "full", "test")
    assert key(named(rerun.cell_of(made))) == key(made)
    assert shell_commands.run_command(made) == (
        "python -m benchmark run --method tip_adapter_f --dataset tiny_digits --backbone tiny"
        " --shots 1 --seed 1 --preset released --precision float64"
    )
    changed = named(chosen("coop", "coop.n_ctx=4"))
    assert shell_commands.run_command(changed).endswith("--set coop.n_ctx=4")


def made_up(method: str, dataset: str, **other: object) -> Record:
    cell = {"dataset": dataset, "shots": 16, "classes": "all", "backbone": "RN50/openai"}
    card, changed = methods.card(method), presets.changes("released", method, cell)
    fields = {
        "adapter_version": card.version,
        "params": card.defaults | changed.set | other,
        "val": changed.val or "up-to-4",
        "selection": changed.selection or "",
        "templates": changed.templates or (),
        "underscores": bool(changed.underscores),
        "preset": "released",
        "backbone": "RN50/openai",
    }
    accuracy = 0.9 if method == "tip_adapter_f" else 0.5
    return scored(identity(method, dataset, 16, 1, **fields), accuracy, 10, 10)


def test_settings_that_differ_by_dataset_are_one_row_that_is_never_ranked() -> None:
    records = [made_up("tip_adapter_f", name) for name in ("dtd", "imagenet", "oxford_flowers")]
    records += [made_up("coop", name) for name in ("dtd", "imagenet", "oxford_flowers")]
    records += [made_up("coop", "dtd", n_ctx=4)]
    ((_, variants),) = grouping.group_records(records).items()
    shown = {heading: variant for variant, heading in headings(variants).items()}
    assert set(shown) == {
        "CoOp, as released",
        "CoOp, as released, n_ctx=4",
        "Tip-Adapter-F, as released",
    }
    tip = shown["Tip-Adapter-F, as released"]
    assert set(variants[tip]) == {"dtd", "imagenet", "oxford_flowers"}
    assert not tip.ranked
    (marks,) = ranking.column_marks(variants, [(16, ["dtd"])])
    assert tip not in marks  # though it is the best
    (table,) = tables.tables(grouping.group_records(records), "method-shots", ranked=True)
    assert any("selected on the full validation split" in note for note in table.notes)


def test_what_a_preset_leaves_open_or_no_longer_says_is_another_row() -> None:
    tip = {"val": "up-to-4", "selection": "", "templates": ("{}, drawn.",), "underscores": True}
    records = [made_up("coop", "dtd"), but(made_up("coop", "dtd"), val="none")]
    records += [
        but(made_up("tip_adapter_f", "dtd"), **{name: value}) for name, value in tip.items()
    ]
    records += [made_up("tip_adapter_f", "dtd")]
    notes: list[str] = []
    ((_, variants),) = grouping.group_records(records, notes).items()
    assert set(headings(variants).values()) == {
        "CoOp, as released",
        "CoOp, as released, no validation set",
        "Tip-Adapter-F, as released",
        "Tip-Adapter-F, as released, val=up-to-4",
        "Tip-Adapter-F, as released, selection=none",
        "Tip-Adapter-F, as released, templates={}, drawn.",
        "Tip-Adapter-F, as released, underscores=True",
    }
    assert not notes
    assert " --preset released --val none " in shell_commands.run_command(records[1].identity)
    assert " --val " not in shell_commands.run_command(records[0].identity)


def but(record: Record, **other: object) -> Record:
    """The record with another identity."""
    return scored(identity(**{**record.identity.model_dump(), **other}), 0.5, 10, 10)


def test_released_rows_are_not_ranked_with_those_of_one_setting() -> None:
    usual = made_up("coop", "dtd").identity.model_copy(update={"preset": ""})
    ((_, variants),) = grouping.group_records([made_up("coop", "dtd"), scored(usual, 0.5)]).items()
    first, second = variants
    assert first.protocol != second.protocol


def test_presets_are_refused_in_a_sentence_where_they_cannot_be() -> None:
    for flags, words in (
        ({"preset": "Released"}, "--preset takes released, not 'Released'"),
        ({"methods": ["apt"]}, "no released code has settings for apt"),
        ({"methods": ["clap"], "val": "none"}, ""),
        ({"methods": ["tip_adapter"], "val": "none"}, "leave out --val none"),
        ({"methods": ["prompt_adapter"], "sources": "others"}, "leave out --sources others"),
        ({"methods": ["prompt_adapter"], "source_shots": 4}, "leave out --source-shots 4"),
    ):
        if words:
            with pytest.raises(UserError, match=words):
                chosen("coop", **flags)
        else:
            assert chosen("coop", **flags).val == "none"


def test_a_plan_names_the_preset_and_supersedes_nothing_of_the_usual_settings(
    tmp_path: Path,
) -> None:
    cell = chosen("linear_probe")
    usual = named(replace(cell, preset=""))
    assert usual.params == named(cell).params
    store = Store(tmp_path)
    store.put(scored(usual, 0.5), np.zeros(1000, dtype=np.int64))
    (planned,) = planned_cells.planned_cells([cell], store)
    assert planned.superseded == ()
    assert planned_cells.text([planned]).startswith("linear_probe as released, tiny: 1 cell")
