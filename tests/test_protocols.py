"""Base-to-new, cross-dataset and domain: what is learned on some classes is what others get."""

from __future__ import annotations

import csv
import json
import math
import pickle
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmark import data, grid, methods, protocols
from benchmark.backbones import clip
from benchmark.cli import execute
from benchmark.commands import protocol_selection
from benchmark.compute import runner
from benchmark.compute.executors.scheduling import Task
from benchmark.compute.resources import Resources
from benchmark.compute.runner import run
from benchmark.data.sampling import few_shot
from benchmark.errors import UserError
from benchmark.features.feature_store import Stopwatch
from benchmark.features.image_sets import image_set
from benchmark.grid import Cell, Choices
from benchmark.records.announcements import announce_plan
from benchmark.records.record import Record, key
from benchmark.records.store import Store
from testbed import naive_clip

SHIFTING, ROWS = "tests.plugins.shifting", "tests.plugins.rows"
TINY = ("tiny_digits", "tiny_shapes", "tiny_textures")
NO_CACHE = ("--method", "prompt_adapter", "--set", "alpha=0", "--set", "alpha_grid=0")
RESOURCES = Resources()


def cells(
    protocol: str,
    datasets: Sequence[str],
    source: str = "",
    method: str = SHIFTING,
    **params: object,
) -> list[Cell]:
    card = methods.card(method)
    choices = Choices((4,), (1,), evaluation=protocol, learned_on=source)
    checked = methods.checked(card, params)
    return grid.expand([(card, checked)], datasets, ["tiny"], choices, lambda name: (name,))


def records(made: Sequence[Cell], folder: Path) -> dict[tuple[str, str], Record]:
    """(dataset, classes) -> record."""
    outcomes = list(run(made, Store(folder)))
    assert [each.error for each in outcomes] == [None] * len(outcomes)
    return {(each.cell.dataset, each.cell.classes): each.record for each in outcomes}  # type: ignore[misc]


# --- by hand: numpy, labels and features alone


def features(table: data.ImageTable) -> np.ndarray:
    images = image_set(
        table, encoder=RESOURCES.encoder("tiny"), store=RESOURCES.features, timer=Stopwatch()
    )
    return images.features().numpy()


def text(dataset: data.Dataset) -> np.ndarray:
    """A unit row per class, the mean of its templates' unit rows."""
    rows = [
        [template.format(name) for template in dataset.templates] for name in dataset.class_names
    ]
    encode = RESOURCES.backbone("tiny").encode_texts
    return unit(np.stack([encode(prompts).numpy().mean(0) for prompts in rows]))


def unit(x_ND: np.ndarray) -> np.ndarray:
    return x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)


def support(dataset: data.Dataset, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of four images of each class, drawn from all classes first."""
    chosen, _ = few_shot(dataset.train.labels, dataset.val.labels, 4, 1, "coop")
    kept = [i for i in chosen if dataset.train.labels[i] in classes]
    return features(dataset.train.take(kept)), np.array([dataset.train.labels[i] for i in kept])


def shift_by_hand(dataset: data.Dataset, classes: Sequence[int]) -> np.ndarray:
    image_ND, labels_N = support(dataset, classes)
    return (image_ND - text(dataset)[labels_N]).mean(0)


def right_by_hand(dataset: data.Dataset, classes: Sequence[int], shift_D: np.ndarray) -> int:
    labels_N = np.array(dataset.test.labels)
    tested = np.isin(labels_N, classes)
    text_KD = unit(text(dataset)[list(classes)] + shift_D)
    predicted_N = (features(dataset.test)[tested] @ text_KD.T).argmax(1)
    return int((np.array(classes)[predicted_N] == labels_N[tested]).sum())


# --- base-to-new


def test_what_is_learned_on_the_base_half_is_tested_on_both(tmp_path: Path) -> None:
    dataset = data.load("tiny_digits")
    count = len(dataset.class_names)
    halves = {
        "base": range(math.ceil(count / 2)),
        "new": range(math.ceil(count / 2), count),
        "all": range(count),
    }
    shift_D = shift_by_hand(dataset, halves["base"])
    diary = tmp_path / "diary"
    made = records(cells("base-to-new", ["tiny_digits"], diary=str(diary)), tmp_path)
    for part, classes in halves.items():
        record = made["tiny_digits", part]
        assert sum(record.counts.correct) == right_by_hand(dataset, list(classes), shift_D)
        assert len(record.counts.total) == len(classes)
        assert record.identity.learned_classes == "base"
        assert record.notes["images"] == 4 * len(halves["base"])
    assert diary.read_text() == f"tiny_digits {len(halves['base'])} 1\n", "learned once"


def test_an_odd_number_of_classes_has_the_larger_half_as_base() -> None:
    spec = replace(data.load("tiny_digits"))
    odd = replace(spec, class_names=spec.class_names[:5], test=spec.test.only(range(5)))
    assert [len(odd.half(part).class_names) for part in ("base", "new")] == [3, 2]


def test_few_shot_on_the_new_half_learns_there_and_is_something_else() -> None:
    (new,) = [each for each in cells("base-to-new", ["tiny_digits"]) if each.classes == "new"]
    own = replace(new, evaluation="few-shot")
    assert own.learned.classes == "new"
    assert new.learned.classes == "base"
    ((_, own_identity), (_, new_identity)) = runner.plan([own, new])
    assert key(own_identity) != key(new_identity)


def test_zero_shot_has_h_of_two_runs_on_the_halves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apart = []
    for part in ("base", "new"):
        cell = Cell(
            method="zero_shot", dataset="tiny_shapes", shots=0, seed=0, backbone="tiny", val="none",
            classes=part,
        )  # fmt: skip
        (outcome,) = run([cell], Store(tmp_path / part))
        assert outcome.record
        apart.append(outcome.record.accuracy)
    words = ["--method", "zero_shot", "--dataset", "tiny_shapes", "--results", str(tmp_path)]
    assert execute(["run", "--protocol", "base-to-new", *words, "--plain"]) == 0
    capsys.readouterr()
    assert execute(["report", "--results", str(tmp_path), "--format", "csv"]) == 0
    head, row = (line.split(",") for line in capsys.readouterr().out.splitlines()[:2])
    shown = dict(zip(head[::-1], row[::-1], strict=False))
    assert float(shown["base mean"]) == pytest.approx(apart[0], abs=1e-6)
    assert float(shown["new mean"]) == pytest.approx(apart[1], abs=1e-6)
    h = 2 * apart[0] * apart[1] / sum(apart)
    assert float(shown["H mean"]) == pytest.approx(h, abs=1e-6)


# --- transfer


def test_a_context_of_coop_serves_the_target_as_its_prompts_put_together_by_hand(
    tmp_path: Path,
) -> None:
    made = cells(
        "cross-dataset", ["tiny_digits"], "tiny_textures", "coop", epochs="5", n_ctx=3, lr=0.02
    )
    found = records(made, tmp_path)
    (file,) = (tmp_path / "states").glob("*.safetensors")
    target = data.load("tiny_digits")
    backbone = clip.load("tiny")
    with torch.no_grad():
        text_KD = naive_clip.text_features(
            backbone.model, target.class_names, load_file(file)["ctx_PE"]
        )
    predicted_N = (features(target.test) @ text_KD.numpy().T).argmax(1)
    right = int((predicted_N == np.array(target.test.labels)).sum())
    record = found["tiny_digits", "all"]
    assert sum(record.counts.correct) == right
    assert set(record.identity.learned_on) == {"tiny_textures"}
    assert sum(record.counts.correct) != sum(records([replace(made[1], evaluation="few-shot",
        learned_on="")], tmp_path / "own")["tiny_digits", "all"].counts.correct)  # fmt: skip


def test_the_source_is_tested_as_in_few_shot(tmp_path: Path) -> None:
    made = cells("cross-dataset", ["tiny_digits"], "tiny_textures")
    own = [replace(made[0], evaluation="few-shot", learned_on="")]
    there = records(made, tmp_path)["tiny_textures", "all"]
    assert there.counts == records(own, tmp_path)["tiny_textures", "all"].counts
    assert there.key != records(own, tmp_path)["tiny_textures", "all"].key


def test_a_bound_method_gets_the_columns_of_the_classes_that_a_variant_has(tmp_path: Path) -> None:
    made = records(cells("domain", ["tiny_shapes_shifted"], "tiny_shapes", ROWS), tmp_path)
    source, variant = data.load("tiny_shapes"), data.load("tiny_shapes_shifted")
    image_ND, labels_N = support(source, range(16))
    rows = [image_ND[labels_N == source.class_names.index(name)].mean(0) for name in
            variant.class_names]  # fmt: skip
    predicted_N = (features(variant.test) @ np.stack(rows).T).argmax(1)
    right = int((predicted_N == np.array(variant.test.labels)).sum())
    assert sum(made["tiny_shapes_shifted", "all"].counts.correct) == right
    assert len(made["tiny_shapes_shifted", "all"].counts.total) == 10
    assert made["tiny_shapes_shifted", "all"].costs.batched_runs == 2


def test_what_a_bound_method_notes_of_test_images_is_of_their_own_target(tmp_path: Path) -> None:
    """TransCLIP chooses its gamma among the test images, others for the variant."""
    made = records(
        cells("domain", ["tiny_shapes_shifted"], "tiny_shapes", "transclip", rounds=1), tmp_path
    )
    alone = cells("domain", ["tiny_shapes_shifted"], "tiny_shapes", "transclip", rounds=1)
    (variant,) = [each for each in alone if each.dataset == "tiny_shapes_shifted"]
    own = records([variant], tmp_path / "alone")["tiny_shapes_shifted", "all"].notes
    source = made["tiny_shapes", "all"].notes
    assert {"selection", "val_correct", "support_weight"} <= own.keys()
    assert made["tiny_shapes_shifted", "all"].notes == own
    assert source["val_correct"] != own["val_correct"]


def test_the_shifted_variant_has_classes_of_its_parent_in_another_order() -> None:
    variant, parent = data.load("tiny_shapes_shifted"), data.load("tiny_shapes")
    names = [parent.class_names[label] for label in variant.parent_labels]
    assert names == list(variant.class_names)
    assert list(variant.parent_labels) != sorted(variant.parent_labels)
    assert len(variant.parent_labels) < len(parent.class_names)
    assert len(variant.train) == len(variant.val) == 0


# --- identity, resumption, refusals


def test_protocol_source_and_learned_classes_name_a_record() -> None:
    made = [
        *cells("few-shot", ["tiny_digits"]),
        *cells("base-to-new", ["tiny_digits"]),
        *cells("cross-dataset", ["tiny_digits"], "tiny_shapes"),
        *cells("cross-dataset", ["tiny_digits"], "tiny_textures"),
        *cells("domain", ["tiny_digits"], "tiny_shapes"),
    ]
    keys = [key(identity) for _, identity in runner.plan(made)]
    assert len(set(keys)) == len(keys) == 1 + 3 + 2 + 2 + 2


def test_a_record_of_few_shot_names_no_protocol() -> None:
    ((_, identity),) = runner.plan(cells("few-shot", ["tiny_digits"]))
    new = {"evaluation", "learned_on", "learned_classes"}
    assert not new & identity.model_dump(exclude_defaults=True).keys()


@pytest.mark.parametrize("damaged", [False, True])
def test_what_was_learned_serves_a_run_that_goes_on(tmp_path: Path, damaged: bool) -> None:
    diary = tmp_path / "diary"
    made = cells("cross-dataset", TINY[1:], TINY[0], diary=str(diary))
    before = records(made, tmp_path)
    for record in list(before.values())[1:]:
        Store(tmp_path).path(record.key).unlink()
    if damaged:
        (file,) = (tmp_path / "states").glob("*.safetensors")
        file.write_bytes(file.read_bytes()[:-3])
    again = records(made, tmp_path)
    assert len(diary.read_text().splitlines()) == (2 if damaged else 1)
    assert [each.counts for each in again.values()] == [each.counts for each in before.values()]
    assert [each.notes for each in again.values()] == [each.notes for each in before.values()]
    if not damaged:
        assert {each.costs.batched_runs for each in again.values()} == {3}


def test_a_forced_run_learns_every_state_once_and_anew(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    made = cells("cross-dataset", TINY[1:], TINY[0], diary=str(diary))
    for force, learned in ((False, 1), (True, 2), (True, 3), (False, 3)):
        outcomes = list(run(made, Store(tmp_path), force=force, limit_s=300))  # cell by cell
        assert [each.error for each in outcomes] == [None] * len(made)
        assert len(diary.read_text().splitlines()) == learned


def test_protocols_from_one_source_share_what_was_learned(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    for protocol, target in (("cross-dataset", "tiny_digits"), ("domain", "tiny_shapes_shifted")):
        records(cells(protocol, [target], "tiny_shapes", diary=str(diary)), tmp_path)
    assert len(diary.read_text().splitlines()) == 1


def test_a_task_of_a_protocol_can_be_sent_to_a_worker() -> None:
    ((cell, identity),) = runner.plan(cells("domain", ["tiny_digits"], "tiny_shapes")[1:])
    task = Task(cell, identity, key(identity))
    assert pickle.loads(pickle.dumps(task)) == task


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["base-to-new", "--method", "tip_adapter"], "tip_adapter is bound to the classes it has"),
        (["cross-dataset", "--method", "coop", "--set", "class_specific=true"],
         "without --set coop.class_specific=False"),
        (["cross-dataset", "--method", "cones_shared"], "without --set cones_shared.rank=0"),
    ],
)  # fmt: skip
def test_a_bound_method_is_told_so_before_anything_runs(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ["--suite", "tiny", "--results", str(tmp_path / "results")]
    assert execute(["run", "--protocol", *words, *results]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    (able,) = re.findall(r"these can: (.*)", said)
    assert able.split(", ") == [
        name for name in methods.names() if not methods.card(name).bound({})
    ]
    assert {"coop", "zero_shot"} <= set(able.split(", "))
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--protocol", "base-to-new", "--classes", "new"], "leave it out, since base-to-new says"),
        (["--learn-from", "tiny_shapes"], "goes with --protocol cross-dataset or domain"),
        (["--protocol", "domain", "--dataset", "tiny_digits"], "no shifted variant of tiny_shapes"),
        (["--protocol", "domian"], "did you mean 'domain'"),
        (["--protocol", "domain", "--learn-from", "tiny_digits"], "no shifted variants of it"),
        (["--protocol", "base-to-new", "--sources", "all", *NO_CACHE], "a prior cannot see tiny_"),
        (["--protocol", "cross-dataset", "--learn-from", "tiny_shapes", "--dataset", "tiny_digits",
          "--sources", "tiny_digits", *NO_CACHE], "a prior cannot see tiny_digits"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words if "--method" in words else ["--method", "zero_shot", *words]
    assert execute(["plan", *words, "--results", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err


def test_a_half_of_one_class_is_refused() -> None:
    classes = {"three": ("a", "b", "c"), "four": ("a", "b", "c", "d")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "read_spec", lambda name: SimpleNamespace(class_names=classes[name]))
        protocol_selection.require_halves(["four"])
        with pytest.raises(UserError, match="3 classes, so that its new half has 1"):
            protocol_selection.require_halves(["four", "three"])


def test_a_grid_of_all_protocols_on_the_tiny_suite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FSBENCH_DATA", raising=False)  # where there are real data, those are meant
    words = ["--method", "zero_shot,coop", "--set", "coop.epochs=2", "--plain"]
    words += ["--results", str(tmp_path), "--seed", "1,2"]
    for protocol in ("base-to-new", "cross-dataset", "domain"):
        assert execute(["run", "--protocol", protocol, "--backbone", "tiny", *words]) == 0
        assert execute(["plan", "--protocol", protocol, "--backbone", "tiny", *words[:4],
                        *words[5:]]) == 0  # fmt: skip
        assert "done" in capsys.readouterr().out.splitlines()[-1]
    assert execute(["report", "--results", str(tmp_path), "--table", "method-shots"]) == 0
    shown = capsys.readouterr().out
    assert "base-to-new\n" in shown
    assert "cross-dataset from tiny_shapes\n" in shown
    assert "tiny_shapes_shifted" in shown
    assert shown.count("Accuracy in %") == 3


@pytest.mark.parametrize("protocol", ["base-to-new", "domain"])
def test_the_golden_check_has_rows_of_every_protocol(
    protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = tmp_path / "golden.csv"
    dataset = [] if protocol == "domain" else ["--dataset", "tiny_digits"]
    words = ["check", "--golden", str(golden), "--method", "zero_shot", "--plain"]
    assert execute([*words, "--update", "--protocol", protocol, *dataset]) == 0
    rows = golden.read_text().splitlines()
    assert len(rows) == 1 + {"base-to-new": 3, "domain": 2}[protocol]
    assert execute([*words, "--protocol", protocol]) == 0
    table = list(csv.DictReader(golden.read_text().splitlines()))
    first = ",".join(table[0].values())
    table[0]["correct"] = str(int(table[0]["correct"]) - 1)
    golden.write_text(golden.read_text().replace(first, ",".join(table[0].values())))
    capsys.readouterr()
    assert execute([*words, "--protocol", protocol]) == 3
    assert protocol in capsys.readouterr().out


def test_the_status_of_one_protocol_counts_its_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [*cells("few-shot", TINY), *cells("base-to-new", TINY)]
    made += [*cells("cross-dataset", TINY[1:], TINY[0]), *cells("domain", TINY[:1], TINY[1])]
    assert [protocols.protocol_of(str(cell)) for cell in made] == [each.evaluation for each in made]
    store = Store(tmp_path)
    announce_plan(store, {f"{at:012x}": (str(cell), None) for at, cell in enumerate(made)})
    counts = {}
    for protocol in protocols.PROTOCOLS:
        assert (
            execute(["status", "--results", str(tmp_path), "--protocol", protocol, "--json"]) == 0
        )
        counts[protocol] = json.loads(capsys.readouterr().out)["cells"]
    assert counts == {"few-shot": 3, "base-to-new": 9, "cross-dataset": 3, "domain": 2}
