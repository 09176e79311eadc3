"""Default choices of methods, datasets and backbones, and the sources of a prior."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest

from benchmark import data
from benchmark.backbones import weights
from benchmark.commands import dataset_selection
from benchmark.commands.cell_selection import select
from benchmark.commands.option_fields import Flags


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of prepared datasets, to be filled by the test; the embedded suite always is."""
    names = set(data.suites()["tiny"])
    monkeypatch.setattr(data, "prepared", lambda name, root=None: name in names)
    return names


def chosen(flags: Flags) -> tuple[set[str], set[str], str]:
    selection = select(flags)
    return (
        {cell.dataset for cell in selection.cells},
        {cell.backbone for cell in selection.cells},
        " ".join(selection.remarks),
    )


def test_nothing_prepared_means_the_embedded_suite_and_says_so(here: set[str]) -> None:
    datasets, names, remarks = chosen(Flags(methods=["zero_shot"]))
    assert datasets == set(data.suites()["tiny"])
    assert names == {"tiny"}
    assert "no dataset is prepared" in remarks
    assert "prepare" in remarks


def test_prepared_data_without_weights_means_the_embedded_suite_and_says_which_is_lacking(
    here: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here |= {"caltech101"}
    monkeypatch.setattr(weights, "seem_here", lambda name: False)
    datasets, names, remarks = chosen(Flags(methods=["zero_shot"]))
    assert (datasets, names) == (set(data.suites()["tiny"]), {"tiny"})
    assert "caltech101 prepared, but not the weights of ViT-B-16/openai" in remarks


def test_prepared_data_and_weights_mean_the_standard_datasets_and_name_those_left_out(
    here: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here |= {"caltech101", "dtd"}
    monkeypatch.setattr(weights, "seem_here", lambda name: True)
    datasets, names, remarks = chosen(Flags(methods=["zero_shot"]))
    assert (datasets, names) == ({"caltech101", "dtd"}, {"ViT-B-16/openai"})
    assert "left out, not prepared: imagenet" in remarks


def test_a_backbone_named_by_the_user_needs_no_standard_weights(
    here: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here |= {"caltech101"}
    monkeypatch.setattr(weights, "seem_here", lambda name: False)
    assert chosen(Flags(methods=["zero_shot"], backbones=["tiny"]))[:2] == (
        {"caltech101"},
        {"tiny"},
    )


def test_a_prior_sees_the_prepared_others_and_a_remark_says_so(here: set[str]) -> None:
    here |= {"caltech101", "dtd", "eurosat"}
    selection = select(
        Flags(methods=["prompt_adapter"], datasets=["dtd"], shots=["1"], seeds=["1"])
    )
    assert [cell.sources for cell in selection.cells] == [("caltech101", "eurosat")]
    assert (
        "of 10 other datasets of its suite 2 are prepared; its prior sees caltech101, eurosat"
        in " ".join(selection.remarks)
    )


def test_a_remark_names_no_tested_dataset_as_one_that_the_prior_sees(here: set[str]) -> None:
    here |= {"caltech101", "dtd", "eurosat"}
    selection = select(
        Flags(
            methods=["prompt_adapter"], datasets=["dtd"], shots=["1"], seeds=["1"],
            protocol="cross-dataset", learn_from="eurosat",
            settings=["alpha=0", "alpha_grid=0"],
        )
    )  # fmt: skip
    assert {cell.sources for cell in selection.cells} == {("caltech101",)}
    (remark,) = [each for each in selection.remarks if "its prior sees" in each]
    assert remark.endswith("1 are prepared and not tested; its prior sees caltech101")


def test_without_any_other_dataset_there_is_no_prior_and_a_remark_says_so(here: set[str]) -> None:
    here |= {"dtd"}
    selection = select(
        Flags(methods=["prompt_adapter"], datasets=["dtd"], shots=["1"], seeds=["1"])
    )
    assert [cell.sources for cell in selection.cells] == [()]
    assert "there is no prior" in " ".join(selection.remarks)


def test_weights_are_looked_for_where_the_hub_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in weights.HUB_REPOS:
        assert not weights.seem_here(name)
        snapshot = (
            tmp_path / f"models--{weights.HUB_REPOS[name].replace('/', '--')}" / "snapshots" / "abc"
        )
        snapshot.mkdir(parents=True)
        (snapshot / "open_clip_model.safetensors").touch()
        assert weights.seem_here(name)
    assert weights.seem_here("tiny")


def test_the_hub_repositories_are_those_open_clip_fetches_from() -> None:
    assert set(weights.HUB_REPOS) == set(weights.NAMED) - {"tiny"}
    for name, repo in weights.HUB_REPOS.items():
        arch, _, tag = name.partition("/")
        assert open_clip.get_pretrained_cfg(f"{arch}-quickgelu", tag)["hf_hub"].strip("/") == repo


def test_the_suite_of_a_dataset_outside_of_all_suites_is_itself() -> None:
    assert dataset_selection.suite_around("my.toml") == ("my.toml",)
