"""Presets: which settings a release has for which cell, and that its records are kept apart."""

from __future__ import annotations

import pytest

from benchmark import methods, presets
from benchmark.data import names

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


def test_coop_trains_50_epochs_on_imagenet_and_its_base_half_alone() -> None:
    epochs = {
        (dataset, classes): settings("coop", dataset, 4, classes=classes)["epochs"]
        for dataset in ("imagenet", "sun397")
        for classes in ("all", "base")
    }
    assert epochs["imagenet", "all"] == epochs["imagenet", "base"] == "50"
    assert epochs["sun397", "base"] == "200"
    assert settings("coop", "sun397", 1)["epochs"].startswith("1:50")  # type: ignore[attr-defined]
