"""Calibration: closed forms, bins by hand, half precision, and what is shown as missing."""

from __future__ import annotations

import csv
import io
import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmark.records.predictions import Confidences
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.report import grouping, page_data, page_details
from benchmark.report.calibration import BINS, COVERAGES, Calibrations, calibration
from benchmark.report.image_results import ImageResults
from testbed.synthetic import identity, record, write
from tests.conftest import Invoke, leaderboard_csv

RNG = np.random.default_rng
REACH = 2**-12  # the most that a probability moves when it is rounded to half precision


def naive_ece(confidence, right) -> float:  # type: ignore[no-untyped-def]
    total = 0.0
    for b in range(BINS):
        low, high = b / BINS, (b + 1) / BINS
        inside = [(c, r) for c, r in zip(confidence, right, strict=True) if low < c <= high]
        if inside:
            mean_c, mean_r = (sum(each) / len(inside) for each in zip(*inside, strict=True))
            total += len(inside) / len(confidence) * abs(mean_c - mean_r)
    return total


def naive_aurc(confidence, right) -> float:  # type: ignore[no-untyped-def]
    """The mean over all orders of images of one confidence."""
    orders = [
        order
        for order in itertools.permutations(range(len(right)))
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order))
    ]
    risks = [
        np.mean([1 - np.mean([right[i] for i in order[:n]]) for n in range(1, len(right) + 1)])
        for order in orders
    ]
    return float(np.mean(risks))


def test_confidences_that_are_the_chance_of_being_right_have_no_error() -> None:
    rng = RNG(1)
    confidence_Q = rng.uniform(0.1, 1, 200_000)
    found = calibration(confidence_Q, rng.random(200_000) < confidence_Q)
    assert found.ece < 0.005
    assert found.ece_mass < 0.005
    assert found.at_coverage == pytest.approx([1 - 0.9 * c / 2 for c in COVERAGES], abs=0.005)


@pytest.mark.parametrize(("confidence", "share"), [(0.9, 0.6), (0.3, 0.8), (1.0, 0.5)])
def test_a_constant_confidence_errs_by_its_distance_from_accuracy(
    confidence: float, share: float
) -> None:
    right_Q = np.arange(1000) < 1000 * share
    found = calibration(np.full(1000, confidence), right_Q)
    assert found.ece == pytest.approx(abs(confidence - share))
    assert found.at_coverage == pytest.approx([share] * 3)  # no image is surer than another
    assert found.aurc == pytest.approx(1 - share)


def test_bins_by_hand() -> None:
    """Bins are closed above: 1/15 and 0.02 share the first, 2/15 and 0.1 the second."""
    confidence_Q = np.array([0.02, 1 / 15, 0.1, 2 / 15, 0.97, 1.0])
    right_Q = np.array([True, False, False, False, True, False])
    gaps = (abs(0.02 + 1 / 15 - 1), 0.1 + 2 / 15, abs(0.97 + 1.0 - 1))
    found = calibration(confidence_Q, right_Q)
    assert found.ece == pytest.approx(sum(gaps) / 6)
    each = np.abs(confidence_Q - right_Q).mean()  # fewer images than bins: every one has its own
    assert found.ece_mass == pytest.approx(each)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_those_of_naive_twins(seed: int) -> None:
    rng = RNG(seed)
    confidence_Q = np.round(rng.random(7) * 5) / 5  # many ties
    right_Q = rng.random(7) < 0.5
    found = calibration(confidence_Q, right_Q)
    assert found.aurc == pytest.approx(naive_aurc(confidence_Q, right_Q))
    confidence_Q, right_Q = rng.random(500) ** 0.3, rng.random(500) < 0.7
    assert calibration(confidence_Q, right_Q).ece == pytest.approx(naive_ece(confidence_Q, right_Q))


def test_the_order_of_images_changes_nothing() -> None:
    rng = RNG(3)
    confidence_Q, right_Q = rng.random(300).astype(np.float16), rng.random(300) < 0.6
    order = rng.permutation(300)
    assert calibration(confidence_Q, right_Q) == calibration(confidence_Q[order], right_Q[order])


def test_half_precision_moves_the_error_by_less_than_its_rounding() -> None:
    """And by the images that it moves into another bin, of which there are few."""
    rng = RNG(4)
    confidence_Q, right_Q = rng.random(50_000) ** 0.2, rng.random(50_000) < 0.7
    half_Q = confidence_Q.astype(np.float16)
    moved = np.mean(np.ceil(confidence_Q * BINS) != np.ceil(half_Q.astype(np.float64) * BINS))
    exact, kept = calibration(confidence_Q, right_Q), calibration(half_Q, right_Q)
    assert np.abs(half_Q - confidence_Q).max() <= REACH
    assert moved < 0.005
    assert abs(exact.ece - kept.ece) <= REACH + 2 * moved
    assert exact.at_coverage == pytest.approx(kept.at_coverage, abs=0.002)
    assert exact.aurc == pytest.approx(kept.aurc, abs=0.002)


# --- from records


def sure(store: Store, seed: int, confidence: float, **fields: object) -> Record:
    """60 of 100 images right, all with one confidence."""
    right_Q = np.arange(100) < 60
    made = record(identity(dataset="my_pets", seed=seed, **fields), (30, 30), (50, 50))  # type: ignore[arg-type]
    store.put(made, np.zeros(100), Confidences(np.full(100, confidence), right_Q))
    return made


def test_a_table_shows_the_mean_over_seeds_and_counts_what_is_missing(
    invoke: Invoke, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    sure(store, 1, 0.75)
    sure(store, 2, 0.875)
    write(tmp_path, [record(identity(dataset="my_pets", seed=3), (30, 30), (50, 50))])
    told = invoke("report", "--calibration", "--results", tmp_path, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(told.out))
    assert float(row["ECE mean"]) == pytest.approx((0.15 + 0.275) / 2)
    assert (row["ECE seeds"], row["accuracy seeds"]) == ("2", "3")
    assert float(row["at 50 % mean"]) == pytest.approx(0.6)
    text = invoke("report", "--calibration", "--results", tmp_path).out
    assert "1 of 3 records keep no confidences" in text


@pytest.mark.parametrize("damage", ["other counts", "fewer images", "no archive", "broken"])
def test_confidences_that_do_not_belong_to_a_record_count_as_missing(
    tmp_path: Path, damage: str
) -> None:
    store = Store(tmp_path)
    made = sure(store, 1, 0.75)
    assert Calibrations(store).of(made) is not None
    kept = Confidences(np.full(100, 0.75), np.arange(100) < 61)
    if damage == "other counts":
        store.put(made, np.zeros(100), kept)
    elif damage == "fewer images":
        store.put(made, np.zeros(100), Confidences(kept.confidence_Q[:60], kept.right_Q[:60]))
    elif damage == "no archive":
        store.beside(made.key).unlink()
    else:
        store.beside(made.key).write_bytes(b"PK")
    assert Calibrations(store).of(made) is None


def test_exports_have_it_where_every_seed_does(tmp_path: Path) -> None:
    store = Store(tmp_path)
    records = [sure(store, 1, 0.75), sure(store, 2, 0.875)]
    old = record(identity(dataset="my_pets", seed=1, shots=8), (30, 30), (50, 50))
    rows = leaderboard_csv(grouping.group_records([*records, old]), Calibrations(store))
    full, lacking = csv.DictReader(io.StringIO(rows))
    assert float(full["ece"]) == pytest.approx((0.15 + 0.275) / 2)
    assert float(full["accuracy_at_80"]) == pytest.approx(0.6)
    assert float(full["aurc"]) == pytest.approx(0.4)
    assert lacking["ece"] == lacking["aurc"] == ""


def test_the_page_shows_it_beside_accuracy_and_with_every_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = [sure(store, 1, 0.75), sure(store, 2, 0.875)]
    old = record(identity(dataset="my_pets", seed=1, shots=8), (30, 20), (50, 50))
    groups, images = grouping.group_records([*made, old]), ImageResults(store)
    cells = page_data.index(groups, images).settings[0]["cells"]
    assert cells["per_class"] == [0.6, 0.5]
    assert cells["ece"] == [pytest.approx(0.2125, abs=1e-5), None]
    assert cells["covered"] == [0.6, None]
    (detail,) = page_details.details(groups, images)
    facts = {each["key"]: each.get("calibration", {}) for each in detail.content["records"]}
    assert facts[made[0].key]["calibration error"] == "15.0 % (15.0 % in equal bins)"
    assert "60.0 % at 80 %" in facts[made[0].key]["accuracy at coverage"]
    assert facts[old.key] == {}


@pytest.mark.parametrize(
    "flags", [("--cost", "--calibration"), ("--calibration", "--metric", "per-class")]
)
def test_of_two_kinds_of_tables_none_is_dropped_in_silence(
    invoke: Invoke, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    told = invoke("report", *flags, "--results", tmp_path)
    assert told.code == 2
    assert "are tables of their own; take one of them" in told.err
