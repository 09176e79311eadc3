"""Grids written down: a file means the same cells wherever it lies, and says where it is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmark import data, methods
from benchmark.cli import execute
from benchmark.commands import grid_records
from benchmark.commands.cell_selection import select
from benchmark.commands.grid_file import Grid, read_grid_file
from benchmark.commands.grid_file_selection import select_grids, select_written
from benchmark.commands.grid_records import records_of_grid
from benchmark.commands.grid_strangers import records_of_strangers
from benchmark.commands.option_fields import Flags, RecordFilters
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.grid import identity as name_of
from benchmark.records.record import Identity
from benchmark.records.store import Store
from testbed.synthetic import identity, record, scored, write
from tests.conftest import Invoke

PLUGIN = Path(__file__).parent / "plugins" / "rows.py"


def keys_of(invoke: Invoke, *arguments: object) -> list[str]:
    result = invoke("plan", "--json", *arguments)
    assert result.code == 0, result.err
    return [cell["key"] for cell in json.loads(result.out)["cells"]]


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "grid.toml"
    file.write_text(text)
    return file


def test_a_saved_grid_is_repeated_from_another_folder_under_the_same_names(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "lab").mkdir(parents=True)
    (here / "my_rows.py").write_bytes(PLUGIN.read_bytes())
    monkeypatch.chdir(here)
    saved = here / "lab" / "grid.toml"
    first = invoke(
        "run", "--method", "zero_shot,./my_rows.py", "--dataset", "tiny_digits",
        "--shots", "1-2", "--seed", "1", "--results", "results", "--save-config", saved,
    )  # fmt: skip
    assert first.code == 0, first.err
    monkeypatch.delenv("FSBENCH_METHOD_FILES")
    shutil.copytree(here, there)
    monkeypatch.chdir(tmp_path)
    text = (there / "lab" / "grid.toml").read_text()
    assert str(tmp_path) not in text
    assert '"../my_rows.py"' in text
    again = ["run", "--config", "there/lab/grid.toml", "--results", "again", "--plain"]
    refused = invoke(*again)
    assert refused.code == 2
    assert "add --trust there/lab/../my_rows.py" in refused.err
    assert not (tmp_path / "again").exists()
    assert invoke(*again, "--trust", "there/my_rows.py").code == 0
    records = list(Store(tmp_path / "again").records())
    assert {each.key for each in records} == Store(there / "results").keys()
    assert len(records) == 3
    digest = read_grid_file(there / "lab" / "grid.toml").digest
    assert {each.provenance["grid_file"] for each in records} == {f"grid.toml sha256-{digest}"}
    assert not any("grid_file" in each.provenance for each in Store(there / "results").records()), (
        "the first run was given options, no file"
    )


EVERYTHING = [
    ["--method", "coop,tip_adapter", "--set", "coop.lr=0.001,0.002", "--set", "coop.ctx_init=a, b"],
    ["--method", "prompt_adapter", "--sources", "tiny_shapes", "--source-shots", "2"],
    ["--method", "coop", "--preset", "released", "--val", "up-to-4"],
    ["--method", "coop", "--protocol", "base-to-new"],
    ["--method", "coop,zero_shot", "--protocol", "cross-dataset", "--learn-from", "tiny_shapes"],
    ["--method", "tip_adapter", "--sampler", "nested", "--classes", "new", "--val", "none"],
    ["--method", "tip_adapter", "--texts", "hand,tiny,hand+texts.json"],
    ["--method", "linear_probe", "--precision", "float32", "--backbone", "tiny"],
]


@pytest.mark.parametrize("options", EVERYTHING, ids=lambda options: " ".join(options[:4]))
def test_every_option_is_written_down(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = data.read_spec("tiny_digits").class_names
    Path("texts.json").write_text(json.dumps({name: [f"my {name}"] for name in names}))
    file = tmp_path / "grid.toml"
    chosen = [*options, "--dataset", "tiny_digits", "--seed", "1-2", "--results", tmp_path]
    names = keys_of(invoke, *chosen, "--save-config", file)
    assert keys_of(invoke, "--config", file, "--results", tmp_path) == names
    assert "auto" not in file.read_text()
    assert keys_of(invoke, *chosen, "--save-config", file) == names, "written again as it was"
    other = invoke("plan", "--method", "zero_shot", "--save-config", file)
    assert (other.code, "is there already" in other.err) == (2, True)


def _in_a_folder_with_a_link(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv(methods.FILES, "")
    Path("real", "deep").mkdir(parents=True)
    Path("link").symlink_to("real/deep")


def test_a_grid_is_saved_behind_a_link_and_writes_over_none(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_a_folder_with_a_link(tmp_path, monkeypatch)
    Path("my_rows.py").write_bytes(PLUGIN.read_bytes())
    plan = ["--method", "./my_rows.py", "--dataset", "tiny_digits", "--shots", "1", "--seed", "1"]
    names = keys_of(invoke, *plan, "--results", "r", "--save-config", "link/grid.toml")
    for place in ("link", "real/deep"):
        again = ["--config", f"{place}/grid.toml", "--trust", "my_rows.py", "--results", "r"]
        assert keys_of(invoke, *again) == names
    Path("a, b").mkdir()
    monkeypatch.chdir("a, b")
    monkeypatch.setenv(methods.FILES, "")
    Path("her_rows.py").write_bytes(PLUGIN.read_bytes())
    names = keys_of(
        invoke, "--method", "./her_rows.py", *plan[2:], "--save-config", "../comma.toml"
    )
    assert "a, b/her_rows.py" in Path("../comma.toml").read_text()
    assert keys_of(invoke, "--config", "../comma.toml", "--trust", "her_rows.py") == names
    monkeypatch.chdir(tmp_path)
    Path("nowhere.toml").symlink_to("gone.toml")
    refused = invoke("plan", *plan, "--save-config", "nowhere.toml")
    assert (refused.code, "is there already" in refused.err) == (2, True)
    assert Path("nowhere.toml").is_symlink()
    long = invoke("plan", *plan, "--save-config", f"{300 * 'a'}.toml")
    assert (long.code, "cannot write to" in long.err) == (2, True)


def test_what_is_saved_again_stays_a_link(invoke: Invoke, tmp_path: Path) -> None:
    file, link = tmp_path / "real.toml", tmp_path / "link.toml"
    link.symlink_to(file)
    for place in (file, link):
        assert keys_of(invoke, "--method", "zero_shot", "--save-config", place)
    assert link.is_symlink()


def test_a_file_behind_a_link_and_two_dots_is_found_from_a_grid(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_a_folder_with_a_link(tmp_path, monkeypatch)
    Path("real", "my_rows.py").write_bytes(PLUGIN.read_bytes())
    plan = ["--method", "link/../my_rows.py", "--dataset", "tiny_digits", "--results", "r"]
    names = keys_of(invoke, *plan, "--save-config", "grid.toml")
    assert keys_of(invoke, "--config", "grid.toml", "--trust", "real/my_rows.py") == names


def test_odd_texts_are_written_down_or_refused_in_a_sentence(
    invoke: Invoke, tmp_path: Path
) -> None:
    file, plan = tmp_path / "grid.toml", ["--method", "coop", "--dataset", "tiny_digits"]
    plan += ["--shots", "1", "--seed", "1-60", "--results", str(tmp_path)]
    odd = ["--set", 'coop.ctx_init=a "b" \\ = # [é]']
    names = keys_of(invoke, *plan, *odd, "--save-config", file)
    assert keys_of(invoke, "--config", file, "--results", tmp_path) == names
    assert max(map(len, file.read_text().split("\n"))) <= 100, "long lists take several lines"
    undecoded = os.fsdecode(b"a photo \xff of")  # as Python reads such an argument
    nowhere = tmp_path / "new.toml"
    refused = invoke("plan", *plan, "--set", f"ctx_init={undecoded}", "--save-config", nowhere)
    assert refused.code == 2, refused.err
    assert "ctx_init takes printable text" in refused.err
    for unprintable in ("\x7f", "a\tb", "a\u2028b"):
        refused = invoke("plan", *plan, "--set", f"ctx_init={unprintable}")
        assert "ctx_init takes printable text" in refused.err
    assert not nowhere.exists()


def test_a_grid_has_a_key_for_every_option_that_chooses_cells() -> None:
    options = {field.name for field in dataclasses.fields(Flags)} - {"data_root", "settings"}
    assert options | {"set"} == set(Grid.model_fields)


def test_several_grids_and_sweeps_mean_what_the_options_mean(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
title = "two"
[[grid]]
methods = ["zero_shot", "coop"]
datasets = "tiny_digits"
shots = 1
seeds = ["1-2", 4]
set.n_ctx = 2
set.coop.lr = [0.001, 0.002]
[grid.set.zero_shot]

[[grid]]
methods = ["coop"]
datasets = ["tiny_digits"]
shots = [1]
seeds = [1]
[grid.set]
n_ctx = 2
lr = 0.001
""".replace("set.n_ctx = 2\n", "set.coop.n_ctx = 2\n", 1),
    )
    cells = select_written(file, Flags())[0].cells
    coop = [cell for cell in cells if cell.method == "coop"]
    assert {cell.seed for cell in coop} == {1, 2, 4}
    assert {cell.params for cell in coop if cell.seed == 1} == {
        (("lr", 0.001), ("n_ctx", 2)),
        (("n_ctx", 2),),  # 0.002 is the default
    }
    options = Flags(
        methods=["coop"], datasets=["tiny_digits"], shots=["1"], seeds=["1", "2", "4"],
        settings=["n_ctx=2", "lr=0.001,0.002"],
    )  # fmt: skip
    assert set(coop) == set(select(options).cells)
    assert len(cells) == len(set(cells)) == 7, "what two grids have in common is there once"


def test_options_beside_a_file_choose_among_its_cells(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[[grid]]\nmethods = ["zero_shot", "coop"]\ndatasets = ["tiny_digits", "tiny_shapes"]\n',
    )

    def chosen(**options: list[str]) -> list[Cell]:
        return select_written(file, Flags(**options))[0].cells

    assert {cell.dataset for cell in chosen(datasets=["tiny_shapes"])} == {"tiny_shapes"}
    few = chosen(shots=["1"], seeds=["2"])
    assert {(cell.method, cell.shots, cell.seed) for cell in few} == {
        ("zero_shot", 0, 0),
        ("coop", 1, 2),
    }
    with pytest.raises(UserError, match="has the seed '7'"):
        chosen(seeds=["7"])
    with pytest.raises(UserError, match="has the method 'cop'; did you mean 'coop'"):
        chosen(methods=["cop"])
    for option, flags in (
        ("--set", {"settings": ["lr=1"]}),
        ("--suite", {"suites": ["tiny"]}),
        ("--source-shots", {"source_shots": 3}),
        ("--precision", {"precision": "float32"}),
    ):
        with pytest.raises(UserError, match=f"^{option} cannot stand beside --config"):
            select_written(file, Flags(**flags))  # type: ignore[arg-type]


def test_a_default_written_out_contradicts_a_file_too(invoke: Invoke, tmp_path: Path) -> None:
    file = written(tmp_path, '[[grid]]\nmethods = "coop"\nprecision = "float32"\n')
    for command in ("run", "plan"):
        for option in (["--precision", "auto"], ["--val", "up-to-4"], ["--protocol", "few-shot"]):
            result = invoke(command, "--config", file, "--results", tmp_path / "r", *option)
            assert result.code == 2
            assert f"{option[0]} cannot stand beside --config" in result.err


WRONG = {
    "": "it has no grid; begin one with a line [[grid]]",
    "grid = []": ", line 1: it has no grid",
    "x = 1\n[[grid]]": ", line 1: the file has no key 'x'; known are title, grid, saved",
    "[[grid]]\n[[grid]]\n\nshot = 3": ", line 4: grid 2 has no key 'shot'; did you mean 'shots'?",
    "[[grid]]\nshots = [1.5]": ', line 2: shots of grid 1 takes whole numbers, or a range as "1-10',
    "[[grid]]\nseeds = '3-1'": "grid.toml, line 2: seeds of grid 1 takes whole numbers, or a range",
    "[grid]\nmethods = 'coop'": ", line 1: a grid has double brackets, [[grid]], and not [grid]",
    "[grid.set]\nlr = 1": ": a grid has double brackets, [[grid]], and not [grid]",
    "[[grid]]\nsource_shots = -2": "source_shots of grid 1 takes a number of -1 or more, not -2",
    "[[grid]]\n[saved]\nkeys = ''\ncells = -5": "saved.cells of the file takes a number of 0",
    "[[grid]]\nseeds = true": ", line 2: seeds of grid 1 takes whole numbers",
    "[[grid]]\nmethods = []": ", line 2: methods of grid 1 is empty",
    "[[grid]]\nmethods = 3": ", line 2: methods of grid 1 takes text, not 3",
    "[[grid]]\nmethods = 'coop,gda'": (
        """, line 2: methods of grid 1 takes names without commas, as ["a", "b"], not 'coop,gda'"""
    ),
    "[[grid]]\nval = 'up'": ", line 2: val of grid 1 takes 'up-to-4' or 'none', not 'up'",
    "[[grid]]\nset = 3": ", line 2: set of grid 1 takes a table",
    "[[grid]]\nset.coop.lr = []": ", line 2: set of grid 1 takes a value or several for 'lr', not",
    "[[grid]]\nset.lr = 1979-05-27": ", line 2: set of grid 1 takes texts, numbers",
    "[[grid]]\n[saved]\ncells = 3": "saved.keys of the file is missing",
    "[[grid]]\nset.coop.lr = " + 5000 * "9": "is no TOML: Exceeds the limit",
    "[[grid]": "is no TOML: Expected ']]'",
    "[[grid]]\nmethods = 'cop'": "grid.toml, grid 1: the method 'cop' is a module from elsewhere",
    "[[grid]]\nmethods = 'coop'\nset.coop.lrr = 1": "grid 1: method 'coop' has no parameter 'lrr'",
    "[[grid]]\nmethods = 'coop'\nset.coop.lr = 'x'": "grid 1: coop.lr takes a finite number",
    "[[grid]]\nmethods = 'coop'\nset.cop.lr = 1": "grid 1: --set cop.lr=1: 'cop' is not among",
    "[[grid]]\nmethods = 'coop'\nshots = '1-9999'\nseeds = '1-9999'": "cells, more than 1,000,000",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:60])
def test_a_wrong_file_is_answered_in_a_sentence_with_the_place(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as caught:
        select_written(written(tmp_path, text), Flags())
    assert WRONG[text] in str(caught.value)
    assert str(caught.value).count(", not ") <= 1


def test_a_mark_of_byte_order_is_no_part_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_bytes(b"\xef\xbb\xbf[[grid]]\nmethods = 'zero_shot'\ndatasets = 'tiny_digits'\n")
    assert len(select_written(file, Flags())[0].cells) == 1


def test_a_file_whose_records_have_other_names_now_says_so(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    plan = ["plan", "--results", tmp_path]
    chosen = ["--method", "zero_shot", "--dataset", "tiny_digits"]
    assert invoke(*plan, *chosen, "--save-config", file).code == 0
    assert "other names" not in invoke(*plan, "--config", file).err
    file.write_text(file.read_text().replace('keys = "', 'keys = "0'))
    assert (
        "its records have other names than when it was saved" in invoke(*plan, "--config", file).err
    )


def test_a_report_of_a_grid_shows_its_records_and_counts_the_missing(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSBENCH_DATA", str(tmp_path / "no data"))
    file = written(
        tmp_path,
        '[[grid]]\nmethods = ["coop", "zero_shot"]\ndatasets = "dtd"\nbackbones = "ViT-B/16"\n'
        "shots = [1, 4]\nseeds = [1, 2]\n[grid.set.coop]\nlr = [0.001, 0.002]\n",
    )
    of_grid = [
        ("coop", 1, 1, {"lr": 0.001}), ("coop", 4, 2, {}), ("zero_shot", 0, 0, {}),
    ]  # fmt: skip
    others = [("coop", 1, 3, {}), ("coop", 1, 1, {"lr": 0.003}), ("gda", 1, 1, {})]
    for accuracy, rows in ((0.5, of_grid), (0.9, others)):
        made = [
            identity(
                *(name, "dtd", shots, seed),
                backbone="ViT-B-16/openai",
                params=methods.card(name).defaults | params,
                val="up-to-4" if shots else "none",
            )
            for name, shots, seed, params in rows
        ]
        write(tmp_path, [scored(each, accuracy) for each in made])
    report = ["report", "--config", file, "--results", tmp_path, "--format", "markdown"]
    shown = invoke(*report)
    assert shown.code == 0, shown.err
    assert "6 of 9 cells" in shown.err, "2 shots x 2 seeds x 2 rates, and zero-shot once"
    assert ("50.0" in shown.out, "90.0" in shown.out) == (True, False)
    assert "1 of 1 cell" not in invoke(*report, "--method", "zero_shot").err
    written(tmp_path, '[[grid]]\nmethods = "apt"\ndatasets = "dtd"\n')
    nothing = invoke(*report)
    assert (nothing.code, "of the 15 cells" in nothing.err) == (2, True)


@pytest.mark.parametrize(
    ("recorded", "missing"),
    [(["tiny_digits"], "2 of 3"), (["tiny_digits", "dtd"], "2 of 4"), (["dtd"], "")],
)
def test_a_grid_without_datasets_means_in_a_report_what_was_run(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[str],
    missing: str,
) -> None:  # fmt: skip
    """Of no prepared data a run takes the embedded suite; data may have been prepared elsewhere."""
    monkeypatch.setenv("FSBENCH_DATA", str(tmp_path / "no data"))
    file = written(tmp_path, '[[grid]]\nmethods = "zero_shot"\nbackbones = "tiny"\n')
    made = [identity("zero_shot", name, 0, 0, val="none") for name in recorded]
    elsewhere = identity("gda", "eurosat")  # of another method
    write(tmp_path, [scored(each, 0.5) for each in [*made, elsewhere]])
    assert len(keys_of(invoke, "--config", file, "--results", tmp_path / "none")) == 3
    shown = invoke("report", "--config", file, "--results", tmp_path, "--format", "markdown")
    assert (shown.code, "50.0" in shown.out) == (0, True), shown.err
    told = f"{missing} cells of {file} have no record" if missing else ""
    assert told in shown.err
    assert ("no record" in shown.err) == bool(missing)
    among = invoke("report", "--config", file, "--results", tmp_path, "--dataset", "tiny_digits")
    assert (among.code == 0) == ("tiny_digits" in recorded)


@pytest.mark.parametrize(
    ("backbones", "cells"),
    [
        ('backbones = "ViT-B/16"', ["dtd"]),
        ('backbones = ["RN50", "ViT-B/16"]', 2 * ["dtd", "eurosat"]),
        ("", ["dtd"]),
    ],
)
def test_a_grid_without_datasets_takes_those_of_records_of_its_backbones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbones: str, cells: list[str]
) -> None:
    monkeypatch.setenv("FSBENCH_DATA", str(tmp_path / "no data"))
    file = written(tmp_path, f'[[grid]]\nmethods = "zero_shot"\n{backbones}\n')
    of = {"dtd": "ViT-B-16/openai", "eurosat": "RN50/openai"}
    made = [
        scored(identity("zero_shot", name, 0, 0, val="none", backbone=backbone), 0.5)
        for name, backbone in of.items()
    ]
    chosen = select_grids(read_grid_file(file), Flags(), [], records=made).cells
    assert sorted(cell.dataset for cell in chosen) == sorted(cells)


def test_targets_of_a_source_are_no_matter_of_what_is_on_record(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[[grid]]\nmethods = "zero_shot"\nprotocol = "cross-dataset"\n'
        'learn_from = "tiny_shapes"\nbackbones = "tiny"\n',
    )
    learned = {"tiny_shapes": "d"}
    named = identity(
        *("zero_shot", "tiny_digits", 0, 0), val="none", evaluation="cross-dataset",
        learned_on=learned, learned_classes="all",
    )  # fmt: skip
    notes: list[str] = []
    of_dtd = named.model_copy(update={"dataset": "dtd"})
    made = [scored(each, 0.5) for each in (named, of_dtd)]
    assert records_of_grid(made, file, RecordFilters(), notes) == made[:1]
    assert [note.split(" of ")[:2] for note in notes] == [["2", "3 cells"]]


def test_grids_of_one_file_that_differ_in_precision_alone_are_told_apart_in_a_report(
    invoke: Invoke, tmp_path: Path
) -> None:
    grids = ["float64", "float32", "auto", "bfloat16"]
    each = '[[grid]]\nmethods = "zero_shot"\ndatasets = "tiny_digits"\nprecision = "{}"\n'
    file = written(tmp_path, "".join(map(each.format, grids)))
    for precision in ("float64", "float32"):
        made = identity("zero_shot", "tiny_digits", 0, 0, val="none", precision=precision)
        write(tmp_path, [scored(made, 0.5)])
    shown = invoke("report", "--config", file, "--results", tmp_path, "--format", "markdown")
    assert shown.out.count("50.0") >= 2
    assert "1 of 4 cells" in shown.err


def test_a_report_of_a_grid_holds_records_to_what_a_prior_may_see(tmp_path: Path) -> None:
    shapes, textures, digits = ({f"tiny_{name}": "d"} for name in ("shapes", "textures", "digits"))
    made = {
        name: scored(
            identity(
                *("prompt_adapter", "tiny_digits", 4, 1),
                params=methods.card("prompt_adapter").defaults,
                sources=sources,
                source_shots=4 if sources else 0,
            ),
            0.5,
        )
        for name, sources in {
            "none": {},
            "one": shapes,
            "others": shapes | textures,
            "all": shapes | textures | digits,
        }.items()
    }
    fitting = {
        '"others"': {"one", "others"},  # what is prepared differs
        '"all"': {"all"},
        '"none"': {"none"},
        '"tiny_shapes"': {"one"},
        '["tiny_digits", "tiny_shapes"]': set(),
    }
    for sources, right in fitting.items():
        grid = f'shots = 4\nseeds = 1\ndatasets = "tiny_digits"\nsources = {sources}\n'
        file = written(tmp_path, f'[[grid]]\nmethods = "prompt_adapter"\n{grid}')
        found = []
        with suppress(UserError):  # none of the cell has a record
            found = records_of_grid(list(made.values()), file, RecordFilters(), [])
        assert {name for name in made if made[name] in found} == right, sources


@pytest.mark.parametrize(
    ("protocol", "learned_on", "tested"),
    [
        ('"base-to-new"\ndatasets = "dtd"', {}, {"dataset": "dtd", "classes": "base"}),
        (
            '"cross-dataset"\nlearn_from = "imagenet"\ndatasets = "dtd"',
            {"imagenet": "d"},
            {"dataset": "dtd", "classes": "all", "learned_classes": "all"},
        ),
    ],
    ids=["base-to-new", "cross-dataset"],
)
def test_a_report_of_a_grid_holds_records_to_their_sources_under_protocols(
    tmp_path: Path, protocol: str, learned_on: dict[str, str], tested: dict[str, str]
) -> None:
    changed = {"alpha": 0.0, "alpha_grid": "0"}  # without which it is bound to its classes
    common = {
        "params": methods.card("prompt_adapter").defaults | changed,
        "backbone": "ViT-B-16/openai",
        "evaluation": protocol.split('"')[1],
        "learned_on": learned_on,
        "learned_classes": "base",
        "source_shots": 4,
    }
    made = {
        source: scored(
            identity("prompt_adapter", shots=4, sources={source: "d"}, **common | tested), 0.5
        )
        for source in ("eurosat", "food101", "tiny_digits")
    }
    fitting = {"others": {"eurosat", "food101"}} | {source: {source} for source in made}
    for sources, right in {**fitting, "tiny_shapes": set[str]()}.items():
        file = written(
            tmp_path,
            '[[grid]]\nmethods = "prompt_adapter"\nshots = 4\nseeds = 1\nbackbones = "ViT-B/16"\n'
            f'sources = "{sources}"\nprotocol = {protocol}\n'
            '[grid.set.prompt_adapter]\nalpha = 0.0\nalpha_grid = "0"\n',
        )
        found = []
        with suppress(UserError):  # none of the cells has a record
            found = records_of_grid(list(made.values()), file, RecordFilters(), [])
        assert {source for source in made if made[source] in found} == right, sources


def test_a_grid_that_names_sources_beside_one_with_a_policy_means_these_alone(
    tmp_path: Path,
) -> None:
    """Though the policy stands for the same datasets, and shots alone tell the cells apart."""
    common = 'methods = "prompt_adapter"\ndatasets = "tiny_digits"\nseeds = 1\nsource_shots = 4\n'
    by_policy = f'[[grid]]\n{common}backbones = "tiny"\nshots = 1\nsources = "others"\n'
    by_name = (
        f'[[grid]]\n{common}backbones = "tiny"\nshots = 4\nsources = "tiny_shapes,tiny_textures"\n'
    )
    params = methods.card("prompt_adapter").defaults
    made = [
        scored(
            identity(
                "prompt_adapter",
                shots=shots,
                params=params,
                sources={"tiny_shapes": "d"},
                source_shots=4,
            ),
            0.5,
        )
        for shots in (1, 4)
    ]
    for text in (by_policy + by_name, by_name + by_policy):
        found = records_of_grid(made, written(tmp_path, text), RecordFilters(), [])
        assert [record.identity.shots for record in found] == [1]


def test_a_policy_of_sources_stands_alone_and_what_is_wrong_is_said_of_the_file(
    tmp_path: Path,
) -> None:
    sources = 'shots = 1\nsources = ["all", "tiny_shapes"]\n'
    made = [scored(identity(name), 0.5) for name in ("prompt_adapter", "strange")]
    for name in ("prompt_adapter", "strange.py"):
        file = written(tmp_path, f'[[grid]]\nmethods = "{name}"\n{sources}')
        with pytest.raises(UserError, match=r"grid.toml, grid 1: .*'all' alone"):
            records_of_grid(made, file, RecordFilters(), [])
    with pytest.raises(UserError, match="'others' alone"):
        select(Flags(methods=["prompt_adapter"], sources="tiny_shapes,others"))


def test_a_report_of_a_grid_names_a_family_of_cells_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An Identity of each of many cells, and of each record, takes seconds and gigabytes."""
    made: list[Cell] = []

    def counting(cell: Cell, *arguments: Any, **named: Any) -> Identity:
        made.append(cell)
        return name_of(cell, *arguments, **named)

    monkeypatch.setattr(grid_records, "identity", counting)
    monkeypatch.setattr(Identity, "model_copy", None)
    file = written(
        tmp_path,
        '[[grid]]\nmethods = ["gda", "tip_adapter", "zero_shot"]\ndatasets = "tiny_digits"\n'
        'shots = [1, 4]\nseeds = "1-30"\n',
    )
    defaults = methods.card("gda").defaults
    records = [scored(identity("gda", seed=seed, params=defaults), 0.5) for seed in range(1, 41)]
    notes: list[str] = []
    assert records_of_grid(records, file, RecordFilters(), notes) == records[:30]
    assert notes[0].startswith("91 of 121 cells")
    assert sorted(cell.method for cell in made) == ["gda", "tip_adapter", "zero_shot"]


def test_a_cell_that_other_options_leave_out_is_not_missing(invoke: Invoke, tmp_path: Path) -> None:
    grids = '[[grid]]\nmethods = ["zero_shot", "tip_adapter"]\nshots = 1\nseeds = 1\n'
    more = '[[grid]]\nmethods = "zero_shot"\ndatasets = "dtd"\nbackbones = "tiny"\n'
    file = written(tmp_path, f'{grids}datasets = "tiny_digits"\n{more}')
    defaults = methods.card("tip_adapter").defaults
    made = [
        identity("zero_shot", "tiny_digits", 0, 0, val="none"),
        identity("tip_adapter", "tiny_digits", 1, 1, params=defaults),
        identity("gda", "tiny_digits", 1, 1, val="none"),
    ]
    write(tmp_path, [scored(each, 0.5) for each in made])
    report = ["report", "--config", file, "--results", tmp_path, "--format", "markdown"]
    for options, missing in (
        ([], "1 of 3 cells"),
        (["--val", "none"], "1 of 2 cells"),
        (["--suite", "tiny"], ""),
        (["--suite", "tiny", "--val", "none", "--precision", "float64"], ""),
        (["--protocol", "few-shot", "--sampler", "coop", "--suite", "tiny"], ""),
    ):
        shown = invoke(*report, *options)
        assert (shown.code, "50.0" in shown.out) == (0, True), shown.err
        assert missing in shown.err
        assert bool(missing) == ("no record" in shown.err), options


def test_a_grid_file_chooses_rows_of_a_golden_table(invoke: Invoke, tmp_path: Path) -> None:
    file = written(tmp_path, '[[grid]]\nmethods = "zero_shot"\ndatasets = "tiny_digits"\n')
    check = ["check", "--config", file, "--golden", tmp_path / "golden.csv", "--plain"]
    assert invoke(*check, "--update").code == 0
    assert "1 of 1 cell is as the golden table says" in invoke(*check).out
    file.write_text(file.read_text().replace("tiny_digits", "tiny_shapes"))
    lacking = invoke(*check)
    assert (lacking.code, "no row for 1 of 1 cell" in lacking.err) == (2, True)
    assert invoke(*check, "--against", "published").code == 2


def test_trust_is_of_a_file_and_not_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(methods.FILES, "")
    for folder in (tmp_path, tmp_path / "theirs"):
        folder.mkdir(exist_ok=True)
        (folder / "their_mean.py").write_text("raise SystemExit('this code has run')")
    text = '[[grid]]\nmethods = "their_mean.py"\ndatasets = "tiny_digits"\n'
    file = written(tmp_path / "theirs", text)
    for trusted in ([], ["their_mean"], ["their_mean.py"]):
        with pytest.raises(UserError, match=f"add --trust {file.parent}/their_mean.py$"):
            select_written(file, Flags(), trusted)
    monkeypatch.setenv(methods.FILES, "")
    with pytest.raises(SystemExit, match="this code has run"):
        select_written(file, Flags(), ["theirs/their_mean.py"])


def test_a_report_runs_no_method_and_asks_for_no_trust(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(methods.FILES, "")
    (tmp_path / "mine.py").write_text("raise SystemExit('this code has run')")
    text = '[[grid]]\nmethods = ["mine.py", "zero_shot"]\ndatasets = "dtd"\nshots = 1\n'
    file = written(tmp_path, text + "set.mine.lr = [0.1, 0.2]\n")
    for accuracy, params, shots in ((0.5, {"lr": 0.1}, 1), (0.9, {"lr": 0.3}, 1), (0.8, {}, 4)):
        made = identity("mine", "dtd", shots, 1, params=params, val="up-to-4")
        write(tmp_path, [scored(made, accuracy)])
    report = ["report", "--config", file, "--results", tmp_path, "--format", "markdown"]
    choices = [["--method", "mine"], ["--dataset", "dtd"], ["--shots", "1"], ["--backbone", "tiny"]]
    for extra in ([], *choices):
        shown = invoke(*report, *extra)
        assert shown.code == 0, shown.err
        assert ("50.0" in shown.out, "90.0" in shown.out, "80.0" in shown.out) == (
            True,
            False,
            False,
        )
        assert "how many are missing only its code knows" in shown.err
    written(tmp_path, '[[grid]]\nmethods = "mine.py"\ndatasets = "dtd"\n')
    for extra in choices:
        assert "50.0" in invoke(*report, *extra).out, "no other method has such cells"


# what a grid says of methods without trust: by option, what a record of it has, and another one
SAID: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {
    "datasets": ('datasets = "dtd"', {}, {"dataset": "food101"}),
    "suites": ('suites = "classic"', {}, {"dataset": "tiny_digits"}),
    "shots": ("shots = [1, 4]", {}, {"shots": 2}),
    "seeds": ('seeds = "1-2"', {}, {"seed": 3}),
    "backbones": ('backbones = ["tiny", "RN50"]', {}, {"backbone": "ViT-B-16/openai"}),
    "precision": ('precision = "float64"', {}, {"precision": "float32"}),
    "protocol": ('protocol = "domain"', {"evaluation": "domain"}, {"evaluation": "few-shot"}),
    "learn_from": (
        'protocol = "cross-dataset"\nlearn_from = "tiny_shapes"',
        {"evaluation": "cross-dataset", "learned_on": {"tiny_shapes": "d"}},
        {"evaluation": "cross-dataset", "learned_on": {"imagenet": "d"}},
    ),
    "val": ("", {}, {"val": "none"}),
    "sampler": ('sampler = "nested"', {"sampler": "nested"}, {"sampler": "coop"}),
    "classes": ('classes = "base"', {"classes": "base"}, {"classes": "all"}),
    "texts": ('texts = ["hand", "tiny"]', {"texts": "tiny"}, {"texts": "hand+tiny"}),
    "sources": (
        'sources = ["eurosat", "food101"]',
        {"sources": {"food101": "d", "eurosat": "d"}},
        {"sources": {"food101": "d"}},
    ),
    "source_shots": (
        "source_shots = 2",
        {"sources": {"dtd": "d"}, "source_shots": 2},
        {"sources": {"dtd": "d"}, "source_shots": 4},
    ),
    "preset": ("", {}, {"preset": "released"}),
    "set": ("set.lr = [0.1, 0.2]", {"params": {"lr": 0.2}}, {"params": {"lr": 0.3}}),
}


def test_all_that_a_grid_says_is_asked_of_records_of_methods_without_trust(tmp_path: Path) -> None:
    assert SAID.keys() | {"methods"} == set(Grid.model_fields)
    for option, (text, of_grid, other) in SAID.items():
        file = written(tmp_path, f'[[grid]]\nmethods = "./mine.py"\n{text}\n')
        right, wrong = (
            record(identity("mine", **{"dataset": "dtd"} | of_it), [1], [2])  # type: ignore[arg-type]
            for of_it in (of_grid, other)
        )
        mine = [str(tmp_path / "mine.py")]
        found = records_of_strangers([wrong, right], read_grid_file(file), mine)
        assert found == [right], option


def test_a_policy_of_sources_is_asked_of_records_of_methods_without_trust(tmp_path: Path) -> None:
    shown = ({"dtd": "d"}, {"dtd": "d", "eurosat": "d"})
    others, every = made = [
        record(identity("mine", "eurosat", sources=of), [1], [2]) for of in shown
    ]
    fitting = {"default": made, "none": [], "others": [others], "all": [every]}
    for policy, of_it in fitting.items():
        text = f'[[grid]]\nmethods = "./mine.py"\nsources = "{policy}"\n'
        grids = read_grid_file(written(tmp_path, text))
        assert records_of_strangers(made, grids, [str(tmp_path / "mine.py")]) == of_it, policy


def test_ranges_and_lists_of_values_on_the_command_line() -> None:
    chosen = {"methods": ["coop"], "datasets": ["tiny_digits"], "shots": ["1"], "seeds": ["1"]}

    def params(*settings: str) -> list[tuple[tuple[str, object], ...]]:
        flags = Flags(**chosen, settings=list(settings))
        return [cell.params for cell in select(flags).cells]

    assert params("lr=0.1, 0.2", "position=end,middle") == [
        (("lr", 0.1),),
        (("lr", 0.1), ("position", "middle")),
        (("lr", 0.2),),
        (("lr", 0.2), ("position", "middle")),
    ]
    assert params("ctx_init=a photo, of a") == [(("ctx_init", "a photo, of a"),)]
    with pytest.raises(UserError, match="so '' will not do"):
        params("lr=0.1,")
    hundred = ",".join(map(str, range(1, 101)))
    with pytest.raises(UserError, match="1,000,000 rows"):
        params(*(f"{name}={hundred}" for name in ("lr", "n_ctx", "warmup_epochs")))


def test_a_range_of_seeds_is_written_out(invoke: Invoke, tmp_path: Path) -> None:
    plan = ["--method", "coop", "--dataset", "tiny_digits", "--results", tmp_path, "--shots", "1"]
    assert keys_of(invoke, *plan, "--seed", "1-3") == keys_of(invoke, *plan, "--seed", "1,2,3")
    assert execute(["plan", *map(str, plan), "--seed", "3-1"]) == 2
