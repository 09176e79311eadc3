"""H and the tables of the protocols: recomputed published triples, holes that are said, no mean
with the source in it.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmark.records.record import Identity, Record
from benchmark.records.store import Store
from benchmark.reference import BASE_TO_NEW
from benchmark.report import (
    comparison,
    cost_tables,
    figures,
    grouping,
    page_data,
    page_details,
    page_images,
    protocol_tables,
    tables,
    variants,
)
from benchmark.report.averages import IncompleteMean, MeanAccuracy
from benchmark.report.figure_numbers import shown
from benchmark.report.halves import Halves, harmonic_mean
from benchmark.report.image_results import ImageResults
from testbed.synthetic import TINY, digest, guesses, identity, scored, with_predictions

HITS = (("base", 0.75), ("new", 0.5), ("all", 0.25))
# H of the two means is not what these printed: GDA's is the mean of the datasets' own H
OTHERS = {"RPO": 77.94, "HPT": 80.42, "GDA": 78.96}


def triples() -> list[dict[str, str]]:
    with BASE_TO_NEW.open() as file:
        return list(csv.DictReader(file))


def h(base: float, new: float) -> float:
    value = harmonic_mean(MeanAccuracy(base, None, (1,)), MeanAccuracy(new, None, (1,)))
    assert isinstance(value, MeanAccuracy)
    return value.mean


def test_published_triples_are_harmonic_means_of_the_means() -> None:
    rows = triples()
    assert len(rows) == len({row["method"] for row in rows}) == 39
    ours = {row["method"]: h(float(row["base"]), float(row["new"])) for row in rows}
    far = {row["method"] for row in rows if abs(ours[row["method"]] - float(row["h"])) > 0.0101}
    assert far == OTHERS.keys()
    for method, value in OTHERS.items():
        assert ours[method] == pytest.approx(value, abs=0.006)
    assert round(ours["CoCoOp"], 2) == 75.83


def test_h_of_means_is_not_the_mean_of_h() -> None:
    halves = Halves({"base": {"a": {1: 0.9}, "b": {1: 0.5}}, "new": {"a": {1: 0.1}, "b": {1: 0.5}}})
    *_, of_means, _ = halves.values(["a", "b"])
    assert isinstance(of_means, MeanAccuracy)
    assert of_means.mean == pytest.approx(2 * 0.7 * 0.3 / 1.0)
    own = halves.own_harmonics(["a", "b"])
    assert isinstance(own, MeanAccuracy)
    assert own.mean == pytest.approx((2 * 0.9 * 0.1 / 1.0 + 0.5) / 2)


def test_the_mean_of_h_is_over_the_seeds_that_all_datasets_have() -> None:
    base = {"a": {1: 0.8, 2: 0.6, 3: 0.1}, "b": {1: 0.5, 2: 0.7}}
    new = {"a": {1: 0.4, 2: 0.6, 3: 0.1}, "b": {1: 0.5, 2: 0.3}}
    own = Halves({"base": base, "new": new}).own_harmonics(["a", "b"])
    first, second = (h(0.8, 0.4) + 0.5) / 2, (h(0.6, 0.6) + h(0.7, 0.3)) / 2
    assert isinstance(own, MeanAccuracy)
    assert own.mean == pytest.approx((first + second) / 2)
    assert own.std == pytest.approx(abs(first - second) / 2**0.5)
    assert set(own.seeds) == {1, 2}


def test_the_spread_of_h_is_over_seeds() -> None:
    halves = Halves({"base": {"a": {1: 0.8, 2: 0.6}}, "new": {"a": {1: 0.4, 2: 0.6}}})
    value = halves.harmonic(["a"])
    assert isinstance(value, MeanAccuracy)
    assert value.mean == pytest.approx(h(0.7, 0.5))
    assert value.std == pytest.approx(abs(h(0.8, 0.4) - h(0.6, 0.6)) / 2**0.5)


def test_h_is_over_the_seeds_that_both_halves_have() -> None:
    halves = Halves({"base": {"a": {1: 0.9, 2: 0.5, 3: 0.5}}, "new": {"a": {1: 0.5}}})
    value = halves.harmonic(["a"])
    assert value == MeanAccuracy(pytest.approx(h(0.9, 0.5)), None, (1,))
    more = Halves({"base": {"a": {1: 0.9, 2: 0.5, 3: 0.7}}, "new": {"a": {1: 0.5, 3: 0.3}}})
    value = more.harmonic(["a"])
    assert isinstance(value, MeanAccuracy)
    assert value.mean == pytest.approx(h(0.8, 0.4))
    assert value.seeds == (1, 3)
    assert value.std == pytest.approx(abs(h(0.9, 0.5) - h(0.7, 0.3)) / 2**0.5)
    none = Halves({"base": {"a": {1: 0.9}}, "new": {"a": {2: 0.5}}})
    assert none.harmonic(["a"]) == MeanAccuracy(pytest.approx(h(0.9, 0.5)), None, ())


def test_h_of_two_zeros_is_zero() -> None:
    assert h(0.0, 0.0) == 0.0


def halved(dataset: str, part: str, accuracy: float, seed: int = 1) -> Record:
    named: Identity = identity(
        "lab.first", dataset, 16, seed, classes=part, evaluation="base-to-new",
        learned_classes="base",
    )  # fmt: skip
    return scored(named, accuracy)


def judged(method: str, part: str, hit: float, store: Store) -> Record:
    """A half of tiny_digits with predictions beside the record."""
    named = halved("tiny_digits", part, hit).identity
    told_Q = guesses("tiny_digits", hit, len(method), part)
    return with_predictions(named.model_copy(update={"method": method}), told_Q, store)


def transferred(
    dataset: str,
    accuracy: float,
    protocol: str = "cross-dataset",
    method: str = "lab.first",
    **other: object,
) -> Record:
    fields = {"learned_on": {"tiny_shapes": digest("tiny_shapes")}, "learned_classes": "all"}
    return scored(
        identity(method, dataset, 16, 1, evaluation=protocol, **(fields | other)), accuracy
    )


def test_missing_halves_are_counted_and_no_mean_is_over_fewer_datasets() -> None:
    records = [halved(name, "base", 0.8) for name in TINY]
    records += [halved(name, "new", 0.4) for name in TINY[:2]]
    (table,) = protocol_tables.tables(grouping.group_records(records), "dataset-shots")
    rows = {row.label: row.values for row in table.rows}
    base, new, both, whole = rows["mean of 3"][:4]
    assert isinstance(base, MeanAccuracy)
    assert new == both == IncompleteMean(2, 3)
    assert whole is None
    assert rows[TINY[2]][1] is None
    assert table.columns == ("base", "new", "H", "all classes", "seeds")


def test_the_mean_over_targets_leaves_the_source_out_and_counts_holes() -> None:
    records = [transferred("tiny_shapes", 1.0), transferred("tiny_digits", 0.25)]
    groups = grouping.group_records([*records, transferred("tiny_textures", 0.75)])
    (table,) = protocol_tables.tables(groups, "method-shots")
    assert table.columns == ("tiny_shapes", "tiny_digits", "tiny_textures", "mean of 2", "seeds")
    (row,) = table.rows
    numbers = [value.mean for value in row.values if isinstance(value, MeanAccuracy)]
    assert numbers == pytest.approx([1.0, 0.25, 0.75, 0.5])
    (holed,) = protocol_tables.tables(grouping.group_records(records), "method-shots")
    assert holed.columns == ("tiny_shapes", "tiny_digits", "seeds")
    other = transferred("tiny_textures", 0.75, method="lab.second")
    (both,) = protocol_tables.tables(grouping.group_records([*records, other]), "method-shots")
    assert [row.values[3] for row in both.rows] == [IncompleteMean(1, 2)] * 2


def test_the_source_stands_beside_targets_of_every_suite() -> None:
    hits = {"tiny_shapes": 1.0, "tiny_digits": 0.25, "dtd": 0.5, "my_flowers": 0.75}
    records = [transferred(name, hit) for name, hit in hits.items()]
    made = list(protocol_tables.tables(grouping.group_records(records), "method-shots"))
    columns = {table.columns[1]: table for table in made}
    assert len(made) == 3
    for first, have in (("tiny_digits", 0.25), ("my_flowers", 0.75)):
        assert columns[first].columns[0] == "tiny_shapes"
        (row,) = columns[first].rows
        assert [value.mean for value in row.values[:2] if isinstance(value, MeanAccuracy)] == [
            1.0,
            have,
        ]
    (classic,) = (table for table in made if "dtd" in table.columns)
    (row,) = classic.rows
    assert row.values[0] == MeanAccuracy(1.0, None, (1,))
    assert classic.columns == ("tiny_shapes", "dtd", "seeds")
    alone = [transferred("tiny_shapes", 1.0), transferred("dtd", 0.5)]
    (only,) = protocol_tables.tables(grouping.group_records(alone), "method-shots")
    assert only.rows[0].values[0] == MeanAccuracy(1.0, None, (1,))


def test_a_prior_learned_on_the_source_is_one_row() -> None:
    saw = {name: digest(name) for name in ("tiny_digits", "tiny_textures")}
    records = [
        transferred("tiny_shapes", 1.0, "domain", sources=saw, source_shots=16),
        transferred("tiny_shapes_shifted", 0.5, "domain", sources=saw, source_shots=16),
    ]
    (table,) = protocol_tables.tables(grouping.group_records(records), "method-shots")
    (row,) = table.rows
    assert all(isinstance(value, MeanAccuracy) for value in row.values[:2])


@pytest.mark.parametrize(
    ("learned", "tested", "sources", "words"),
    [
        ("tiny_shapes", "tiny_shapes_shifted", TINY, "all of tiny, k shots each, target among"),
        ("tiny_shapes", "tiny_digits", TINY[:1], "tiny_digits, k shots each, target among them"),
        ("tiny_shapes", "tiny_digits", TINY[2:], "tiny_textures, k shots each, target held out"),
    ],
)
def test_the_target_of_a_prior_is_what_was_tested_or_learned_on(
    learned: str, tested: str, sources: Sequence[str], words: str
) -> None:
    record = transferred(
        tested, 0.5, learned_on={learned: digest(learned)}, source_shots=16,
        sources={name: digest(name) for name in sources},
    )  # fmt: skip
    assert f"prior from {words}" in str(variants.exposure_of(record.identity))


def test_the_means_of_the_page_and_of_costs_leave_the_source_out(tmp_path: Path) -> None:
    hits = {"tiny_shapes": 1.0, "tiny_digits": 0.25, "tiny_textures": 0.75}
    costs = {"tiny_shapes": 100.0, "tiny_digits": 2.0, "tiny_textures": 4.0}
    records = []
    for name, hit in hits.items():
        made = transferred(name, hit)
        spent = made.costs.model_copy(update={"fit_s": costs[name]})
        records.append(made.model_copy(update={"costs": spent}))
    images = ImageResults(Store(tmp_path), None)
    groups = grouping.group_records(records)
    (view,) = page_data.index(groups, images).settings[0]["views"]
    assert view["rows"]["mean"] == view["rows"]["per_class"] == [0.5]
    assert view["rows"]["train_s"] == [3.0]
    assert view["datasets"] == ["tiny_shapes", "tiny_digits", "tiny_textures"]
    (table,) = cost_tables.cost_tables(groups)
    assert table.rows[0].values[6] == "3.00"
    ((setting, found),) = groups.items()
    assert shown(setting, found).training_s("lab.first", 16) == 3.0


def test_the_page_says_over_which_datasets_its_means_are(tmp_path: Path) -> None:
    images = ImageResults(Store(tmp_path), None)
    holed = [transferred("tiny_shapes", 1.0), transferred(TINY[0], 0.25)]
    other = transferred(TINY[2], 0.75, method="lab.second")
    (view,) = page_data.index(grouping.group_records([*holed, other]), images).settings[0]["views"]
    assert view["averaged"] == [TINY[0], TINY[2]]
    assert view["rows"]["have"] == [1, 1]
    assert view["rows"]["mean"] == [0.25, 0.75]
    (view,) = page_data.index(grouping.group_records(holed), images).settings[0]["views"]
    assert view["averaged"] == [], "of one dataset there is no mean, as in tables"
    alone = grouping.group_records([transferred("tiny_shapes", 1.0)])
    (setting,) = page_data.index(alone, images).settings
    assert setting["cells"]["mean"] == [1.0]
    (view,) = setting["views"]
    assert (view["averaged"], view["rows"]["have"]) == ([], [0])
    assert "mean" not in view["rows"]
    assert cost_tables.cost_tables(alone)[0].rows[0].values[1] is None


def test_protocols_are_never_in_one_table() -> None:
    usual = scored(identity("lab.first", "tiny_digits", 16, 1), 0.5)
    made = [usual, halved("tiny_digits", "base", 0.8), transferred("tiny_digits", 0.2)]
    made.append(transferred("tiny_shapes_shifted", 0.1, "domain"))
    groups = grouping.group_records(made)
    assert len(groups) == 4
    assert len(tables.tables(groups)) == 1
    assert len(list(protocol_tables.tables(groups, "method-shots"))) == 3


def test_the_page_has_h_as_a_setting_of_its_own_and_names_the_classes_of_each_half(
    tmp_path: Path,
) -> None:
    records = [halved(name, part, hit) for name in TINY for part, hit in HITS]
    records.append(scored(identity("lab.first", "tiny_digits", 16, 1), 0.5))
    images = ImageResults(Store(tmp_path), None)
    made = page_data.index(grouping.group_records(records), images)
    tasks = [each["task"] for each in made.settings]
    split = [f"base-to-new, {part} classes" for part in ("all", "base", "new")]
    assert sorted(tasks[:-1]) == sorted([*split, "few-shot"])
    assert tasks[-1] == "base-to-new, H of base and new"
    classes_of = {
        number: each["classes"] for each in made.settings for number in each["cells"]["variant"]
    }
    assert [classes_of[at] for at in made.variants[-1]["parts"]] == ["base", "new"]
    (view,) = made.settings[-1]["views"]
    numbers = [*made.settings[-1]["cells"]["mean"], *view["rows"]["mean"]]
    assert numbers == [pytest.approx(h(0.75, 0.5), abs=1e-5)] * 4
    assert {"tiny_digits", "tiny_digits/base", "tiny_digits/new"} <= made.classes.keys()


def test_halves_are_judged_image_by_image(tmp_path: Path) -> None:
    store = Store(tmp_path)
    hits = {"lab.first": 0.9, "lab.second": 0.5}
    for method, hit in hits.items():
        for part, _ in HITS:
            judged(method, part, hit, store)
    groups = grouping.group_records(store.records())
    images = ImageResults(store)
    compared = comparison.compare(groups, *hits, images)
    over = {each.setting.classes: each.pairs[0].over_images for each in compared}
    assert {part: found and found.low > 0.2 for part, found in over.items()} == {
        "all": True, "base": True, "new": True,
    }  # fmt: skip
    for each in page_details.details(groups, images):
        (kept,) = each.content["records"]
        classes = len(each.content["totals"])
        assert kept["confusions"], "all wrong images are of the next class"
        assert all(told == (true + 1) % classes for true, told, _ in kept["confusions"])
    shown, _ = page_images.pictured(groups, images)
    assert len(shown["tiny_digits"]["said"]) == 2, "pictures are those of all classes"


def test_figures_of_different_protocols_have_different_names() -> None:
    made = [scored(identity("lab.first", "tiny_digits", 16, 1), 0.5)]
    made += [halved("tiny_digits", part, 0.8) for part in ("base", "new", "all")]
    made += [transferred("tiny_digits", 0.2), transferred("tiny_shapes_shifted", 0.1, "domain")]
    groups = grouping.group_records(made)
    stems = {figures._stem(setting) for setting in groups}
    assert len(stems) == len(groups) == 6
    assert "tiny-tiny-" + digest("tiny")[:8] + "-all" in stems
