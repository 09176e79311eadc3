"""Cells become records: once, whole, whatever happens to the process; and no method ever sees a
test label.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.compute.episode import source_episode
from benchmark.compute.resources import Resources
from benchmark.compute.runner import Outcome, plan, run
from benchmark.data import ImageTable
from benchmark.errors import UserError
from benchmark.features.feature_store import Stopwatch
from benchmark.features.image_sets import image_set
from benchmark.grid import Cell
from benchmark.records.record import key
from benchmark.records.store import Store
from tests.cheating import stolen

ROOT = Path(__file__).resolve().parent.parent
TARGET = "tiny_digits"


def moody(
    mood: str = "fine", seed: int = 1, sources: tuple[str, ...] = (), **params: object
) -> Cell:
    changed = {
        name: value
        for name, value in {"mood": mood, **params}.items()
        if (name, value) != ("mood", "fine")
    }
    return Cell(
        method="tests.plugins.moody",
        dataset=TARGET,
        shots=1,
        seed=seed,
        backbone="tiny",
        sources=sources,
        params=tuple(sorted(changed.items())),
    )  # type: ignore[arg-type]


def zero_shot(dataset: str = TARGET) -> Cell:
    return Cell(method="zero_shot", dataset=dataset, shots=0, seed=0, backbone="tiny", val="none")


def run_cell(cell: Cell, store: Store, **how: object) -> Outcome:
    (outcome,) = run([cell], store, **how)  # type: ignore[arg-type]
    return outcome


def test_a_cell_becomes_a_record_with_its_predictions_beside_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    outcome = run_cell(zero_shot(), store)
    assert outcome.error is None
    record = outcome.record
    assert record is not None
    assert store.get(outcome.key) == record
    predicted = store.predictions(outcome.key)
    assert len(predicted) == sum(record.counts.total) >= 400
    kept = store.confidences(outcome.key)
    assert kept is not None
    assert kept.right_Q.sum() == sum(record.counts.correct)
    assert (kept.confidence_Q > 1 / len(record.counts.total) - 1e-3).all()
    assert record.identity.method == "zero_shot"
    assert record.identity.shots == 0
    assert record.provenance["support_digest"]
    assert record.provenance["packages"]["torch"]
    assert record.costs.peak_mb > 0


def test_a_finished_cell_is_found_not_computed_and_force_computes_it(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    cell = moody(diary=str(diary))
    first, second = run_cell(cell, Store(tmp_path)), run_cell(cell, Store(tmp_path))
    assert (first.cached, second.cached) == (False, True)
    assert first.record == second.record
    assert len(diary.read_text().splitlines()) == 1
    forced = run_cell(cell, Store(tmp_path), force=True)
    assert len(diary.read_text().splitlines()) == 2
    assert forced.record is not None
    assert first.record is not None
    assert forced.record.counts == first.record.counts


def test_encoding_counts_for_the_record_that_did_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSBENCH_CACHE", str(tmp_path / "cache"))
    start = time.perf_counter()
    outcomes = [run_cell(zero_shot(), Store(tmp_path / name)) for name in ("a", "b")]
    elapsed_s = time.perf_counter() - start
    records = [outcome.record for outcome in outcomes if outcome.record]
    first, second = (record.costs for record in records)
    assert 0 < first.encode_s < elapsed_s
    assert second.encode_s == 0
    assert second.images_per_s  # counts encoding all the same
    assert second.images_per_s < sum(records[0].counts.total) / first.encode_s * 1.001


@pytest.mark.parametrize(
    ("mood", "sentence"),
    [
        ("raise", "ValueError: in no mood to fit"),
        ("shape", r"logits of shape \(\d+, 9\) instead of"),
        ("nan", "logits that are not finite"),
    ],
)
def test_a_failure_is_no_result_and_the_rest_goes_on(
    tmp_path: Path, mood: str, sentence: str
) -> None:
    store = Store(tmp_path)
    bad, good = run([moody(mood, diary="/dev/null"), moody(seed=2, diary="/dev/null")], store)
    assert bad.record is None
    assert bad.error is not None
    assert re.search(sentence, bad.error)
    assert "\n" not in bad.error
    assert "Traceback" in store.failure(bad.key).read_text()
    assert good.error is None
    assert not store.has(bad.key)
    assert store.has(good.key)


def test_a_failed_cell_is_tried_again_and_its_log_goes_with_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, cell = Store(tmp_path), moody()
    monkeypatch.setattr("tests.plugins.moody.Adapter.fit", lambda self, episode: 1 / 0)
    assert run_cell(cell, store).error == "ZeroDivisionError: division by zero"
    monkeypatch.undo()
    again = run_cell(cell, store)
    assert again.error is None
    assert not again.cached
    assert not store.failure(again.key).exists()


def test_an_interruption_passes_through_and_keeps_what_is_finished(tmp_path: Path) -> None:
    store = Store(tmp_path)
    outcomes = run([moody(seed=2), moody("interrupt")], store)
    done = next(outcomes)
    assert done.error is None
    with pytest.raises(KeyboardInterrupt):
        next(outcomes)
    assert [record.key for record in store.records()] == [done.key]
    assert not list(tmp_path.rglob("*.part"))


def test_a_cheating_method_finds_neither_labels_nor_paths_that_say_them(tmp_path: Path) -> None:
    cheat = run_cell(
        Cell(method="tests.cheating", dataset=TARGET, shots=2, seed=1, backbone="tiny"),
        Store(tmp_path),
    ).record
    honest = run_cell(zero_shot(), Store(tmp_path)).record
    assert cheat is not None
    assert honest is not None
    assert cheat.counts == honest.counts  # it finds nothing, and then predicts as zero-shot does


def test_the_same_cheat_reads_the_paths_of_images_that_are_not_sealed() -> None:
    resources = Resources()
    table = resources.dataset(TARGET).test
    names = resources.dataset(TARGET).class_names
    for sealed in (False, True):
        images = image_set(
            table, resources.encoder("tiny"), resources.features, Stopwatch(), sealed=sealed
        )
        assert (stolen(images, len(table), names) is None) == sealed


def test_a_prior_is_pretrained_once_stored_with_its_origin_and_shared(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    sources = ("tiny_shapes", "tiny_textures")
    first = run_cell(moody(diary=str(diary), sources=sources), Store(tmp_path)).record
    other = Cell(
        method="tests.plugins.moody",
        dataset=TARGET,
        shots=1,
        seed=1,
        backbone="tiny",
        sources=sources,
        val="none",
        params=(("diary", str(diary)),),
    )
    second = run_cell(other, Store(tmp_path)).record
    assert first is not None
    assert second is not None
    assert diary.read_text().splitlines().count("pretrain tiny_shapes tiny_textures") == 1
    assert first.notes["prior"] == second.notes["prior"] > 0
    assert first.costs.pretrain_s == second.costs.pretrain_s > 0
    assert set(first.identity.sources) == set(sources)
    (origin,) = (tmp_path / "priors").glob("*.json")
    facts = json.loads(origin.read_text())
    assert set(facts["sources"]) == set(sources)
    assert facts["source_shots"] == 1
    assert set(facts["classes"]) == set(sources)


def test_a_source_costs_its_support_set_only(monkeypatch: pytest.MonkeyPatch) -> None:
    digested: list[str] = []
    digests = ImageTable.digests

    def counted(table: ImageTable) -> list[str]:
        digested.extend(table.keys)
        return digests(table)

    monkeypatch.setattr(ImageTable, "digests", counted)
    episode = source_episode(Resources(), moody(), "tiny_shapes", 2)
    classes = len(episode.class_names)
    assert len(episode.support) == 2 * classes
    assert moody().val != "none"
    assert episode.val is None, "cells that differ in validation share a prior"
    assert len(digested) == 2 * classes


def test_a_forced_run_makes_every_prior_once_and_anew(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    cells = [moody(diary=str(diary), sources=("tiny_shapes",), mood=mood) for mood in ("a", "b")]
    for force, made in ((False, 1), (True, 2), (False, 2)):
        outcomes = list(run(cells, Store(tmp_path), force=force))
        assert [each.error for each in outcomes] == [None, None]
        assert diary.read_text().splitlines().count("pretrain tiny_shapes") == made


def test_another_seed_has_another_prior(tmp_path: Path) -> None:
    for seed in (1, 2):
        run_cell(moody(seed=seed, sources=("tiny_shapes",)), Store(tmp_path))
    assert len(list((tmp_path / "priors").glob("*.safetensors"))) == 2


def test_base_and_new_halves_are_cut_after_sampling_and_cover_all_classes(tmp_path: Path) -> None:
    counts = {}
    for classes in ("all", "base", "new"):
        cell = Cell(
            method="zero_shot",
            dataset=TARGET,
            shots=0,
            seed=0,
            backbone="tiny",
            val="none",
            classes=classes,
        )
        record = run_cell(cell, Store(tmp_path)).record
        assert record is not None
        counts[classes] = record.counts.total
    assert counts["base"] + counts["new"] == counts["all"]
    assert len(counts["base"]) == 5


def test_what_cannot_run_is_refused_before_any_work(tmp_path: Path) -> None:
    for cell, sentence in [
        (
            Cell(method="cooop", dataset=TARGET, shots=1, seed=1, backbone="tiny"),
            "unknown method 'cooop'",
        ),
        (
            Cell(method="zero_shot", dataset="tiny_digitz", shots=0, seed=0, backbone="tiny"),
            "tiny_digitz",
        ),
        (
            Cell(method="zero_shot", dataset=TARGET, shots=0, seed=0, backbone="tinny"),
            "unknown backbone 'tinny'",
        ),
        (
            Cell(method="zero_shot", dataset=TARGET, shots=0, seed=0, backbone="ViT-B-16/openai"),
            "weights of ViT-B-16/openai are not on this machine",
        ),
    ]:
        with pytest.raises(UserError, match=sentence):
            list(run([zero_shot(), cell], Store(tmp_path)))
    assert list(Store(tmp_path).records()) == []


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    wrong = Cell(
        method="tip_adapter",
        dataset=TARGET,
        shots=1,
        seed=1,
        backbone="tiny",
        params=(("alpha", -5.0),),
    )
    with pytest.raises(UserError, match="is out of range"):
        list(run([zero_shot(), wrong], Store(tmp_path / "results")))
    assert not (tmp_path / "results").exists()


def test_shots_and_seeds_are_checked_of_every_cell_and_may_be_numbers_of_numpy(
    tmp_path: Path,
) -> None:
    drawn = replace(moody(), shots=np.int64(2), seed=np.int64(3))
    ((_, usual),) = plan([replace(moody(seed=3), shots=2)])
    ((_, named),) = plan([drawn])
    assert (named, key(named)) == (usual, key(usual))
    assert type(named.shots) is type(named.seed) is int
    assert run_cell(drawn, Store(tmp_path)).key == key(usual)
    for seed in (-1, 1 << 63, 1.5):
        with pytest.raises(UserError, match="a seed is a whole number from 0, not"):
            plan([moody(), replace(moody(), seed=seed)])  # type: ignore[arg-type]


def test_the_key_of_a_cell_does_not_depend_on_the_cells_beside_it() -> None:
    cells = [
        Cell(method="coop", dataset=TARGET, shots=1, seed=1, backbone="tiny", params=(("lr", lr),))
        for lr in (1, 1.0)
    ]
    alone = [key(identity) for cell in cells for _, identity in plan([cell])]
    assert [key(identity) for _, identity in plan(cells)] == alone
    assert len({*alone}) == 2


def test_too_many_shots_are_refused_with_a_sentence_before_any_cell_runs(tmp_path: Path) -> None:
    cell = Cell(method="tests.cheating", dataset=TARGET, shots=1000, seed=1, backbone="tiny")
    with pytest.raises(UserError, match=r"\('zero' has 32 of 1000, .*; take --shots 1, or"):
        list(run([replace(cell, shots=1), cell], Store(tmp_path)))
    assert not list(Store(tmp_path).records())


SCRIPT = """
import sys
import time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[3])
from benchmark.grid import Cell
from benchmark.compute.runner import run
from benchmark.records.store import Store
fields = dict(method="tests.plugins.moody", dataset="tiny_digits", shots=1, backbone="tiny")
params = (("diary", sys.argv[2]),)
cells = [Cell(**fields, seed=seed, params=params) for seed in range(1, 7)]
for outcome in run(cells, Store(Path(sys.argv[1]))):
    assert outcome.error is None, outcome.error
"""


def start(folder: Path, diary: Path, dies_at: int = 0) -> subprocess.Popen[bytes]:
    """A process that runs six cells, and is killed by its own method at one of them."""
    command = [sys.executable, "-c", SCRIPT, str(folder), str(diary), str(ROOT)]
    return subprocess.Popen(command, env=os.environ | {"MOODY_DIES_AT": str(dies_at)})


def test_two_processes_share_one_folder_and_compute_each_cell_once(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    both = [start(tmp_path / "results", diary) for _ in range(2)]
    assert [process.wait(240) for process in both] == [0, 0]
    assert len(list(Store(tmp_path / "results").records())) == 6
    assert len(diary.read_text().splitlines()) == 6


def test_after_kill_9_the_same_command_goes_on_where_it_was(tmp_path: Path) -> None:
    diary, folder = tmp_path / "diary", tmp_path / "results"
    assert start(folder, diary, dies_at=4).wait(240) == -signal.SIGKILL
    kept = {record.key for record in Store(folder).records()}
    assert len(kept) == 3
    assert start(folder, diary).wait(240) == 0
    resumed = {record.key: record.counts for record in Store(folder).records()}
    assert set(resumed) > kept
    assert len(diary.read_text().splitlines()) == 7  # six fits, the fourth of them twice
    assert start(tmp_path / "other", diary).wait(240) == 0
    assert resumed == {record.key: record.counts for record in Store(tmp_path / "other").records()}
