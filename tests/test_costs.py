"""What is counted per image, held against closed forms; and what a record says of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark import methods
from benchmark.compute import macs, runner
from benchmark.compute.cell import compute_records
from benchmark.compute.resources import Resources
from benchmark.conformance import toy
from benchmark.features.feature_store import Space, open_store
from benchmark.grid import Cell
from benchmark.records.store import Store

# tokens, width, blocks of the toy's image tower; embedding; classes
L, E, DEPTH, D, K = (5, 32, 2, 16, 3)


def added(name: str, **params: Any) -> int | None:
    predict = methods.load(name, params).fit(toy.episode(2, K))
    return macs.added_macs(predict, toy.held_out(K).images, toy.backbone())


def frozen() -> int:
    """The toy's image encoder: patches, keys and values of all rows, everything else of the last
    block for one row.
    """
    patches = (L - 1) * 3 * 8 * 8 * E
    block = L * 12 * E * E + 2 * L * L * E
    last = L * 2 * E * E + 10 * E * E + 2 * L * E
    return patches + (DEPTH - 1) * block + last + E * D


def test_the_frozen_encoder_is_counted_as_it_must_be() -> None:
    assert (
        macs.frozen_macs(toy.backbone(), torch.zeros(1, 3, toy.IMAGE_PX, toy.IMAGE_PX)) == frozen()
    )


@pytest.mark.parametrize("name", ["zero_shot", "cones", "taskres", "clap"])
def test_a_classifier_costs_one_product_per_class(name: str) -> None:
    assert added(name) == K * D


def test_several_concepts_cost_as_many_products() -> None:
    assert added("cones_tokens", epochs="1", concepts=3) == 3 * K * D


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("clip_lora", {"steps_per_shot": 1}),
        ("two_stage", {"steps_per_shot": 1}),
        ("skip_tuning", {"epochs": "1"}),
        ("cones_finetune", {"tune_epochs": "1"}),
    ],
)
def test_changed_weights_cost_nothing(name: str, short: dict[str, Any]) -> None:
    """Merged or not: of the last block only the row that is read out is computed."""
    assert added(name, **short) == K * D


@pytest.mark.parametrize(("prompts", "layers"), [(4, 0), (16, 0), (16, 1)])
def test_approximated_prompts_cost_two_products_per_token(prompts: int, layers: int) -> None:
    rows = 1 + (L if layers == 0 else 0)  # all rows below the last block, one row in it
    assert (
        added("apt", side="vision", epochs="1", n_prompts=prompts, layers=layers)
        == rows * 2 * prompts * E + K * D
    )


def test_prompts_on_the_text_side_cost_nothing_at_prediction() -> None:
    assert added("apt", side="text", epochs="1") == K * D


@pytest.mark.parametrize("prompts", [4, 16])
def test_deep_prompts_are_tokens_like_others(prompts: int) -> None:
    inner = prompts * 12 * E * E + 2 * ((L + prompts) ** 2 - L**2) * E
    last = prompts * 2 * E * E + 2 * prompts * E
    assert added("vpt", epochs="1", n_prompts=prompts) == inner + last + K * D


@pytest.mark.parametrize("prompts", [1, 3])
def test_every_prompt_of_an_image_costs_a_pass_through_its_blocks(prompts: int) -> None:
    """With two more tokens; the patches are embedded once, and all meet the texts of 4 phrases."""
    inner = 2 * 12 * E * E + 2 * ((L + 2) ** 2 - L**2) * E
    last = 2 * 2 * E * E + 2 * 2 * E
    patches = (L - 1) * 3 * 8 * 8 * E
    passes = prompts * (frozen() - patches + inner + last) - (frozen() - patches)
    assert (
        added("plot_plus_plus", epochs="1", image_prompts=prompts) == passes + prompts * 4 * K * D
    )


def test_one_image_is_too_few_to_tell() -> None:
    images = dataclasses.replace(toy.held_out(K).images, size=1)
    assert (
        macs.added_macs(lambda images: torch.zeros(len(images), K), images, toy.backbone()) is None
    )


def test_a_cell_reads_all_test_images_once_and_then_two(tmp_path: Path) -> None:
    """Features of single places are 10 GB on ImageNet."""
    asked: list[int] = []
    store = open_store(tmp_path / "features")

    def rows(space: Space, digests: Sequence[str], *rest: Any) -> torch.Tensor:
        asked.append(len(digests))
        return store.rows(space, digests, *rest)

    cell = Cell(
        method="zero_shot", dataset="tiny_digits", shots=0, seed=0, backbone="tiny", val="none"
    )
    (record,) = compute_records(
        Resources(features=dataclasses.replace(store, rows=rows)),
        Store(tmp_path / "results"),
        lambda *_: None,
        list(runner.plan([cell])),
    )
    assert record.costs.added_macs
    assert asked == [record.tested, 2, 2]


def test_counting_leaves_torch_as_it_was() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    assert macs.macs(lambda: torch.ones(2, 3) @ torch.ones(3, 4)) == 24
    assert torch.backends.mha.get_fastpath_enabled() == before
