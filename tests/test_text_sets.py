"""Text sets: read from files, the same for all methods of a cell, named wherever they matter."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adapters import _blocks
from benchmark import data, methods, text_sets
from benchmark.api import Episode, unit
from benchmark.compute import rerun, runner
from benchmark.compute.episode import problem
from benchmark.compute.resources import Resources
from benchmark.compute.texts import require_sentences
from benchmark.conformance import toy
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.records.record import key
from benchmark.report import grouping, ranking, shell_commands, tables
from benchmark.report.headings import headings
from testbed.synthetic import identity, scored
from tests.conftest import Invoke

RAGGED = (
    ("a cat.", "a small animal with whiskers."),
    ("a dog.",),
    ("an old car.", "rust", "a car."),
)
CELL = Cell(method="zero_shot", dataset="tiny_digits", shots=0, seed=0, backbone="tiny", val="none")


def written(path: Path, contents: object) -> str:
    path.write_text(json.dumps(contents) if path.suffix == ".json" else str(contents))
    return str(path)


def ragged(**other: object) -> Episode:
    return replace(toy.episode(**other), texts=RAGGED)  # type: ignore[arg-type]


# --- files


def test_a_set_is_known_by_its_contents_whatever_their_layout(tmp_path: Path) -> None:
    as_json = written(tmp_path / "mine.json", {"cat": ["soft."], "old_car": ["rust.", "{}"]})
    as_toml = written(tmp_path / "mine.toml", 'old_car = ["rust.", "{}"]\ncat = ["soft."]')
    one, other = text_sets.read(as_json), text_sets.read(as_toml)
    assert (one.name, one.digest) == (other.name, other.digest) == ("mine", one.digest)
    assert one.of(["any"], ["old_car", "cat"]) == (("rust.", "{}"), ("soft.",))
    longer = written(tmp_path / "mine.json", {"cat": ["soft."], "old_car": ["rust."]})
    assert text_sets.read(longer).digest != one.digest
    assert text_sets.read(f"hand+{longer}").name == "hand+mine"


def test_a_pipe_and_a_file_without_an_end_are_refused_before_they_are_read(tmp_path: Path) -> None:
    pipe, huge = tmp_path / "pipe.json", tmp_path / "huge.json"
    os.mkfifo(pipe)
    with huge.open("wb") as stream:
        stream.truncate(1 << 38)
    for file, why in ((pipe, "it is no regular file"), (huge, "more than 256 MB")):
        with pytest.raises(UserError, match=why):
            text_sets.read(str(file))


def test_underscores_of_class_names_are_spaces_and_all_else_must_be_exact(tmp_path: Path) -> None:
    texts = text_sets.read(written(tmp_path / "a.json", {"old car": ["rust."], "Cat": ["soft."]}))
    assert texts.of(["x"], ["old_car"]) == (("rust.",),)
    with pytest.raises(UserError, match="no sentence for 2 of 3 classes of x: 'cat', 'dog'; add"):
        texts.of(["x"], ["old_car", "cat", "dog"])


def test_a_file_may_have_a_table_for_each_dataset(tmp_path: Path) -> None:
    file = written(tmp_path / "a.toml", '[one]\ncat = ["of one."]\n[two]\ncat = ["of two."]')
    assert text_sets.read(file).of(["two", "one"], ["cat"]) == (("of two.",),)
    with pytest.raises(UserError, match=r"no table for three, only for one, two; add \[three\]"):
        text_sets.read(file).of(["three"], ["cat"])


@pytest.mark.parametrize(
    "contents",
    ["", "[]", "{}", '{"cat": []}', '{"cat": "soft"}', '{"cat": [1]}', '{"cat": [" "]}', "[" * 9999,
     '{"one": {"cat": ["a"]}, "two": ["b"]}', '{"cat": ["\\ud800"]}'],
)  # fmt: skip
def test_what_is_no_text_set_is_refused_in_a_sentence(tmp_path: Path, contents: str) -> None:
    (tmp_path / "bad.json").write_text(contents)
    if contents == '{"cat": []}':
        texts = text_sets.read(str(tmp_path / "bad.json"))
        with pytest.raises(UserError, match="no sentence for 1 of 1 classes"):
            texts.of(["x"], ["cat"])
        return
    with pytest.raises(UserError, match=r"is no text set|cannot be read"):
        text_sets.read(str(tmp_path / "bad.json"))


@pytest.mark.parametrize("name", ["away.json", "a\0.json", "x" * 5000 + ".toml", "away/b.toml"])
def test_a_file_that_is_not_there_is_said_to_be_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no texts|too long|cannot be read"):
        text_sets.read(text_sets.reference(str(tmp_path / name)))


@pytest.mark.parametrize("name", text_sets.shipped())
def test_shipped_sets_have_every_class_of_the_embedded_suite(name: str) -> None:
    cells = [replace(CELL, dataset=each, texts=name) for each in data.suites()["tiny"]]
    shifted = replace(CELL, dataset="tiny_shapes_shifted", learned_on="tiny_shapes", texts=name)
    require_sentences([*cells, replace(shifted, evaluation="domain")])


# --- what methods are given


def test_a_class_is_the_mean_of_its_own_sentences_however_many() -> None:
    given = ragged()
    own_KTD = [given.backbone.encode_texts(texts) for texts in RAGGED]
    for ours_TD, theirs_TD in zip(given.sentence_features(), own_KTD, strict=True):
        torch.testing.assert_close(ours_TD, theirs_TD)
    means_KD = torch.stack([unit(text_TD.mean(0)) for text_TD in own_KTD])
    torch.testing.assert_close(given.text_features(), means_KD)
    raw_K = [given.backbone.raw_texts(texts).mean(0).norm() for texts in RAGGED]
    torch.testing.assert_close(given.text_lengths(), torch.stack(raw_K))


def test_templates_are_sentences_too() -> None:
    given = replace(toy.episode(), templates=("a photo of a {}.", "one {}"))
    assert given.target.sentences()[1] == ("a photo of a dog.", "one dog")
    means_KD = torch.stack([unit(text_TD.mean(0)) for text_TD in given.sentence_features()])
    torch.testing.assert_close(given.text_features(), means_KD)
    text_KD = toy.feature_episode().text_features()
    assert torch.equal(torch.cat(toy.feature_episode().sentence_features()), text_KD)


@pytest.mark.parametrize(
    ("name", "untrained"),
    [("clip_lora", {"steps_per_shot": 0}), ("apt", {"side": "text", "epochs": "0"})],
)
def test_towers_that_are_trained_read_the_same_sentences(
    name: str, untrained: dict[str, object]
) -> None:
    given, images = ragged(), toy.held_out().images
    method = methods.load(name, {**methods.load(name).zero_shot_at, **untrained})
    zero_QK = given.backbone.logit_scale * images.features() @ given.text_features().T
    torch.testing.assert_close(method.fit(given)(images), zero_QK, rtol=1e-4, atol=1e-3)


def test_class_means_of_a_tower_have_a_gradient_per_sentence() -> None:
    text_ND = torch.randn(6, 4, requires_grad=True)
    mean_KD = _blocks.class_mean(ragged().target, text_ND)
    torch.testing.assert_close(mean_KD[2], text_ND[3:].mean(0))
    mean_KD[0].sum().backward()
    assert text_ND.grad is not None
    assert text_ND.grad[:, 0].tolist() == [0.5, 0.5, 0, 0, 0, 0]


def test_a_cell_s_texts_reach_both_what_is_learned_and_what_is_tested(tmp_path: Path) -> None:
    names = data.read_spec("tiny_digits").class_names
    file = written(tmp_path / "mine.json", {name: [f"{name}!"] for name in names})
    shot = replace(CELL, method="tip_adapter", shots=1, seed=1, val="up-to-4")
    made = problem(Resources(), replace(shot, texts=f"hand+{file}"))
    assert made.episode.target.sentences()[0] == ("a photo of the number zero.", "zero!")
    assert made.target.sentences() == made.episode.target.sentences()
    plain = problem(Resources(), shot)
    assert not torch.allclose(plain.episode.text_features(), made.episode.text_features())


# --- what is recorded and shown


def test_texts_are_part_of_the_key_and_checked_before_any_cell(tmp_path: Path) -> None:
    ((_, usual),) = runner.plan([CELL])
    ((cell, named),) = runner.plan([replace(CELL, texts="tiny")])
    assert (named.texts, named.texts_digest) == text_sets.named("tiny")
    assert key(named) != key(usual) == key(usual.model_copy(update={"texts": ""}))
    assert key(runner.plan([rerun.cell_of(named)])[0][1]) == key(named)
    assert str(cell).endswith("tiny texts=tiny")
    assert " --texts tiny " in shell_commands.run_command(named)
    file = written(tmp_path / "mine.json", {"zero": ["0"]})
    with pytest.raises(UserError, match="'mine' have no sentence for 9 of 10 classes"):
        runner.plan([replace(CELL, texts=file)])
    foreign = scored(named.model_copy(update={"texts": "../mine.json"}), 0.5)
    with pytest.raises(UserError, match="came from a file"):
        rerun.rerun(foreign, None, "cpu")


def test_rows_name_their_texts_and_are_ranked_among_the_same() -> None:
    sets = {"": "", "tiny": "aa", "cupl": "bb"}
    worded = [{"texts": name, "texts_digest": digest} for name, digest in sets.items()]
    named = [
        identity(method, shots=4, seed=seed, **texts)
        for texts in worded
        for method in ("coop", "kgcoop")
        for seed in (1, 2, 3)
    ]
    records = [
        scored(each, 0.3 + 0.2 * (each.method == "coop") + 0.01 * each.seed) for each in named
    ]
    other = identity("coop", texts="cupl", texts_digest="cc0000f")
    ((_, variants),) = grouping.group_records([*records, scored(other, 0.9)]).items()
    titles = headings(variants)
    assert {"CoOp", "CoOp, texts tiny", "KgCoOp", "KgCoOp, texts cupl"} <= set(titles.values())
    assert {"CoOp, texts cupl@bb", "CoOp, texts cupl@cc0000"} <= set(titles.values())
    (marks,) = ranking.column_marks(variants, [(4, ["tiny_digits"])])
    best = {titles[each] for each, mark in marks.items() if mark == "best"}
    assert best == {"CoOp", "CoOp, texts tiny", "CoOp, texts cupl@bb"}
    (table,) = tables.tables(grouping.group_records(records), "method-shots")
    assert any("texts describe the classes alike" in note for note in table.notes)


def test_run_and_export_name_the_texts(tmp_path: Path, invoke: Invoke) -> None:
    names = data.read_spec("tiny_digits").class_names
    file = written(tmp_path / "own.json", {name: [f"the digit {name}."] for name in names})
    where = ("--results", tmp_path / "results")
    asked = ("--dataset", "tiny_digits", "--method", "zero_shot", "--texts", f"hand,tiny,{file}")
    made = invoke("run", *asked, "--plain", *where)
    assert made.code == 0
    assert "Zero-shot CLIP, texts own" in made.out
    rows = list(csv.DictReader(invoke("export", *where).out.splitlines()))
    assert [row["texts"].split("@")[0] for row in rows] == ["hand", "own", "tiny"]
    refused = invoke("run", *asked[:4], "--texts", "tinny", "--plain", *where)
    assert refused.code == 2
    assert "did you mean 'tiny'?" in refused.err
