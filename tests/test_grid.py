"""What names a record: unchanged by a default written out, changed by every input that matters."""

from __future__ import annotations

import dataclasses

import pytest

from benchmark import grid, methods
from benchmark.errors import UserError
from benchmark.grid import Cell, Choices, expand, identity, resolve_sources
from benchmark.records.record import VERSIONS, Identity, cell_key, draws_of, key

SUITE = ("tiny_digits", "tiny_shapes", "tiny_textures")
CELL = Cell(
    method="prompt_adapter",
    dataset="tiny_digits",
    shots=4,
    seed=1,
    backbone="tiny",
    sources=("tiny_shapes", "tiny_textures"),
)


def key_of(cell: Cell, data: str = "d", weights: str = "w") -> str:
    return key(
        identity(
            cell,
            methods.card(cell.method),
            lambda name: (name, f"{data}-{name}"),
            lambda name: f"{weights}-{name}",
        )
    )


def cells(method: str, choices: Choices, **params: object) -> list[Cell]:
    card = methods.card(method)
    return expand(
        [(card, methods.checked(card, params))], ["tiny_digits"], ["tiny"], choices, lambda _: SUITE
    )


def test_what_seeds_and_texts_share_is_found_once() -> None:
    asked: list[str] = []

    def suite_of(dataset: str) -> tuple[str, ...]:
        asked.append(dataset)
        return SUITE

    choices = Choices(shots=(1, 4), seeds=range(1, 51), texts=("", "tiny"))
    rows = [(methods.card(name), {}) for name in ("prompt_adapter", "zero_shot")]
    made = expand(rows, ["tiny_digits"], ["tiny"], choices, suite_of)
    draws = [(cell.texts, cell.shots, cell.seed) for cell in made]
    assert draws == [
        *(
            (texts, shots, seed)
            for texts in choices.texts
            for shots in (1, 4)
            for seed in range(1, 51)
        ),
        *((texts, 0, 0) for texts in choices.texts),
    ]
    assert len(asked) == 2
    assert {(cell.shots, cell.source_shots) for cell in made} == {(1, 1), (4, 4), (0, 0)}


def test_another_draw_of_an_identity_is_the_checked_one() -> None:
    def checked(shots: int, seed: int) -> Identity:
        cell = dataclasses.replace(CELL, shots=shots, seed=seed, source_shots=2)
        return identity(cell, methods.card(cell.method), lambda name: (name, "d"), lambda name: "w")

    made = draws_of(checked(4, 1))(16, 3)
    assert made == checked(16, 3)
    assert key(made) == key(checked(16, 3))


def test_a_default_written_out_keeps_the_key() -> None:
    default = methods.card("coop").defaults["n_ctx"]
    assert cells("coop", Choices(), n_ctx=str(default)) == cells("coop", Choices())


@pytest.mark.parametrize(
    "change",
    [
        {"method": "coop", "sources": ()},
        {"dataset": "tiny_shapes"},
        {"shots": 8},
        {"seed": 2},
        {"backbone": "ViT-B-16/openai"},
        {"sources": ("tiny_shapes",)},
        {"val": "none"},
        {"sampler": "nested"},
        {"classes": "base"},
        {"source_shots": -1},
        {"precision": "float16"},
        {"params": (("n_ctx", 4),)},
        {"preset": "released"},
        {"preset": "released", "selection": "test"},
        {"preset": "released", "val": "test"},
        {"templates": ("a photo of a {}.",)},
        {"underscores": True},
        {"texts": "tiny"},
        {"evaluation": "base-to-new"},
        {"evaluation": "cross-dataset", "learned_on": "tiny_shapes"},
    ],
)
def test_every_field_of_a_cell_changes_the_key(change: dict[str, object]) -> None:
    assert key_of(dataclasses.replace(CELL, **change)) != key_of(CELL)  # type: ignore[arg-type]


def test_the_change_list_above_names_every_field() -> None:
    assert {field.name for field in dataclasses.fields(Cell)} == {
        "method", "dataset", "shots", "seed", "backbone", "sources", "source_shots", "val",
        "sampler", "classes", "precision", "params", "preset", "selection", "templates",
        "underscores", "texts", "evaluation", "learned_on",
    }  # fmt: skip


@pytest.mark.parametrize("change", [{"val": "test"}, {"val": "full"}, {"selection": "test"}])
def test_more_labels_than_the_shots_allow_are_for_presets_only(change: dict[str, str]) -> None:
    with pytest.raises(UserError, match="presets of releases, whose records are marked"):
        key_of(dataclasses.replace(CELL, **change))  # type: ignore[arg-type]


def test_data_weights_transform_protocol_and_adapter_version_change_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = key_of(CELL)
    assert key_of(CELL, data="other") != before
    assert key_of(CELL, weights="other") != before
    named = identity(CELL, methods.card(CELL.method), lambda name: (name, name), str)
    for change in (
        {"transform": "2"},
        {"protocol": 99},
        {"adapter_version": 99},
        {"source_shots": -1},
    ):
        assert key(named.model_copy(update=change)) != key(named)


def test_every_field_of_an_identity_reaches_the_hash() -> None:
    named = identity(CELL, methods.card(CELL.method), lambda name: (name, name), str)
    other = {
        int: 99,
        str: "something else",
        dict: {"something": "else"},
        tuple: ("something else",),
        bool: True,
    }
    for name in Identity.model_fields:
        changed = named.model_copy(update={name: other[type(getattr(named, name))]})
        assert key(changed) != key(named), name


def test_what_is_chosen_of_a_cell_is_all_but_versions_and_digests() -> None:
    named = identity(CELL, methods.card(CELL.method), lambda name: (name, name), str)
    named = named.model_copy(update={"sources": {"dtd": "d"}, "learned_on": {"dtd": "d"}})
    other: dict[type, object] = {int: 99, str: "other", dict: {"eurosat": "d"}, bool: True}
    for name in Identity.model_fields:
        value = other.get(type(getattr(named, name)), ("other",))
        changed = named.model_copy(update={name: value})
        same = cell_key(changed) == cell_key(named)
        assert same == (name in VERSIONS), name
        assert cell_key(changed, name) == cell_key(named, name), name
    renewed = {"sources": {"dtd": "e"}, "learned_on": {"dtd": "e"}}
    assert cell_key(named.model_copy(update=renewed)) == cell_key(named), "digests"
    assert len({cell_key(named)}) == 1, "it can be hashed"


def test_a_new_field_at_its_default_keeps_the_names_of_older_records() -> None:
    class Later(Identity):
        added: str = "usual"

    named = identity(CELL, methods.card(CELL.method), lambda name: (name, name), str)
    later = Later(**named.model_dump())
    assert key(later) == key(named)
    assert key(later.model_copy(update={"added": "other"})) != key(named)


def test_a_method_without_shots_is_one_cell_per_dataset() -> None:
    assert [(cell.shots, cell.seed) for cell in cells("zero_shot", Choices())] == [(0, 0)]


def test_the_full_grid_has_shots_times_seeds_cells_in_a_fixed_order() -> None:
    chosen = cells("coop", Choices())
    assert len(chosen) == len(set(chosen)) == 15
    assert chosen == cells("coop", Choices())


def test_sources_are_resolved_before_hashing() -> None:
    card = methods.card("prompt_adapter")
    assert resolve_sources(card, "default", "tiny_digits", SUITE) == (
        "tiny_shapes",
        "tiny_textures",
    )
    assert resolve_sources(card, "all", "tiny_digits", SUITE) == SUITE
    assert resolve_sources(card, "none", "tiny_digits", SUITE) == ()
    assert resolve_sources(card, "tiny_textures, tiny_shapes", "tiny_digits", SUITE) == (
        "tiny_shapes",
        "tiny_textures",
    )
    assert resolve_sources(methods.card("coop"), "all", "tiny_digits", SUITE) == ()


def test_zero_shots_are_refused_with_a_way_out() -> None:
    with pytest.raises(UserError, match="shots must be at least 1, not 0"):
        cells("coop", Choices(shots=(0,)))


def test_where_a_toml_lies_names_nothing() -> None:
    here, there = (
        Cell(method="coop", dataset=f"/{name}/mine.toml", shots=4, seed=1, backbone="tiny")
        for name in ("a", "b")
    )
    card = methods.card("coop")
    keys = {key(identity(cell, card, lambda _: ("mine", "digest"), str)) for cell in (here, there)}
    assert len(keys) == 1


def test_pillow_thirteen_is_another_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_pillow(version: str) -> str:
        monkeypatch.setattr(grid, "version", lambda _: version)
        grid.transform_version.cache_clear()
        return grid.transform_version()

    try:
        assert with_pillow("12.3.0") != with_pillow("13.0.0") == with_pillow("13.1.0")
    finally:
        grid.transform_version.cache_clear()


@pytest.mark.parametrize(
    ("own", "chosen", "expected"),
    [(0, None, 4), (-1, None, -1), (-1, 2, 2), (-1, 0, 4), (0, -1, -1)],
)
def test_source_shots_are_the_methods_own_unless_chosen(
    own: int, chosen: int | None, expected: int
) -> None:
    card = dataclasses.replace(methods.card("prompt_adapter"), source_shots=own)
    choices = Choices(shots=(4,), seeds=(1,), sources="others", source_shots=chosen)
    (cell,) = expand([(card, {})], ["tiny_digits"], ["tiny"], choices, lambda name: SUITE)
    assert cell.source_shots == expected


def test_a_cell_without_sources_has_no_source_shots() -> None:
    (cell,) = cells("coop", Choices(shots=(4,), seeds=(1,), source_shots=-1))
    assert cell.source_shots == 0


def test_a_cell_is_named_by_its_low_precision() -> None:
    assert str(dataclasses.replace(CELL, precision="tf32")).endswith("tiny tf32")
    assert str(dataclasses.replace(CELL, precision="float64")).endswith("tiny")


@pytest.mark.parametrize("beyond", [{"val": "full"}, {"val": "test"}, {"selection": "test"}])
def test_labels_beyond_the_shots_are_for_presets_alone(beyond: dict[str, str]) -> None:
    cell = dataclasses.replace(CELL, **beyond)
    with pytest.raises(UserError, match="are for presets of releases"):
        key_of(cell)
    assert key_of(dataclasses.replace(cell, preset="released"))


@pytest.mark.parametrize(
    ("tested", "refused"),
    [
        ({"evaluation": "base-to-new", "classes": "new"}, ("tiny_digits",)),
        ({"evaluation": "base-to-new", "classes": "base"}, ("tiny_digits",)),
        ({"evaluation": "cross-dataset", "learned_on": "tiny_shapes"}, ("tiny_digits",)),
        ({"evaluation": "domain", "learned_on": "tiny_shapes"}, ("tiny_digits",)),
        # the source of a protocol is tested as in few-shot, where a row says what its prior saw
        ({"evaluation": "cross-dataset", "learned_on": "tiny_digits"}, ()),
        ({"evaluation": "few-shot"}, ()),
    ],
)
def test_no_prior_sees_classes_that_a_protocol_calls_unseen(
    tested: dict[str, str], refused: tuple[str, ...]
) -> None:
    for seen in SUITE:
        cell = dataclasses.replace(CELL, sources=("tiny_textures", seen), **tested)
        if seen in refused:
            with pytest.raises(UserError, match="so a prior cannot see tiny_digits; name other"):
                key_of(cell)
        else:
            assert key_of(cell)
