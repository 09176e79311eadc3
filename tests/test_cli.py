"""The command line: what it prints where, its exit codes, and its answers to nonsense."""

from __future__ import annotations

import builtins
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
import typing
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmark import data, grid, methods
from benchmark.cli import execute
from benchmark.commands import grid_run
from benchmark.commands.row_tables import print_rows
from benchmark.commands.run import run
from benchmark.compute import runner
from benchmark.records.record import Identity, Scalar, key
from benchmark.records.store import Store
from testbed.synthetic import scored, write
from tests.conftest import Invoke

ROOT = Path(__file__).resolve().parent.parent
EXECUTE = "import sys; from benchmark.cli import execute;"
QUICK = ["--method", "zero_shot", "--dataset", "tiny_digits"]
QUICK_MOODY = ["--method", "tests.plugins.moody", "--dataset", "tiny_digits", "--shots", "1"]
MOODY = [*QUICK_MOODY, "--sources", "none"]


@pytest.fixture(autouse=True)
def embedded_datasets_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FSBENCH_DATA", str(tmp_path / "no data"))


def planned(
    *names: str, shots: Sequence[int] = (1,), seeds: Sequence[int] = (1,)
) -> list[Identity]:
    cards: list[tuple[methods.Card, dict[str, Scalar]]] = [
        (methods.card(name), {}) for name in names
    ]
    cells = grid.expand(
        cards,
        ["tiny_digits"],
        ["tiny"],
        grid.Choices(shots, seeds),
        lambda name: data.suites()["tiny"],
    )
    return [named for _, named in runner.plan(cells)]


# What cannot be meant: one sentence, the documented exit code, no traceback.

NONSENSE = {
    "a command that is not there": (["rum"], 2, "Did you mean 'run'"),
    "an option that is not there": (["run", "--shot", "1"], 2, "--shots"),
    "an option without its value": (["run", "--shots"], 2, "requires an argument"),
    "a list that is not there": (["list", "method"], 2, "did you mean 'methods'?"),
    "an unknown method": (["run", "--method", "zero_short"], 2, "did you mean 'zero_shot'?"),
    "an unknown dataset": (
        ["run", *QUICK[:2], "--dataset", "tiny_digit"],
        2,
        "did you mean 'tiny_digits'?",
    ),
    "an unknown suite": (["run", *QUICK[:2], "--suite", "tinny"], 2, "did you mean 'tiny'?"),
    "an unknown backbone": (["run", *QUICK, "--backbone", "tyny"], 2, "did you mean 'tiny'?"),
    "an unknown parameter": (
        ["run", "--method", "linear_probe", "--set", "step=3"],
        2,
        "did you mean 'steps'?",
    ),
    "a parameter for a method not chosen": (
        ["run", *QUICK, "--set", "coop.n_ctx=4"],
        2,
        "not among the chosen methods",
    ),
    "a bare parameter that one method lacks": (
        ["run", "--method", "linear_probe,zero_shot", "--set", "steps=9"],
        2,
        "'zero_shot' has no",
    ),
    "a parameter of the wrong type": (
        ["run", "--method", "linear_probe", "--set", "steps=many"],
        2,
        "'many' will not do",
    ),
    "a setting without a value": (["run", *QUICK, "--set", "n_ctx"], 2, "key=value"),
    "no shots": (["run", *QUICK, "--shots", "0"], 2, "shots must be at least 1"),
    "shots that are no number": (["run", *QUICK, "--shots", "one"], 2, "whole numbers"),
    "a seed that is no number": (["run", *QUICK, "--seed", "1.5"], 2, "whole numbers"),
    "an unknown validation policy": (
        ["run", *QUICK, "--val", "up-to-5"],
        2,
        "did you mean 'up-to-4'?",
    ),
    "an unknown sampler": (["run", *QUICK, "--sampler", "nest"], 2, "did you mean 'nested'?"),
    "unknown classes": (["run", *QUICK, "--classes", "bas"], 2, "did you mean 'base'?"),
    "unknown sources": (["run", *QUICK, "--sources", "other"], 2, "did you mean 'others'?"),
    "a dataset that is not prepared": (["run", *QUICK[:2], "--dataset", "dtd"], 4, "prepare dtd"),
    "a suite of which nothing is prepared": (
        ["run", *QUICK[:2], "--suite", "classic"],
        4,
        "none of",
    ),
    "a plug-in that is not there": (["run", "--method", "no_such.module"], 2, "cannot import"),
    "a plug-in without class Adapter": (
        ["run", "--method", "testbed.synthetic"],
        2,
        "has no class Adapter",
    ),
    "an unknown table": (["report", "--table", "shots"], 2, "did you mean 'method-shots'?"),
    "an unknown format": (["report", "--format", "word"], 2, "markdown"),
    "an empty method": (["run", "--method", "", *QUICK[2:]], 2, "--method has an empty value"),
    "an empty dataset among others": (
        ["run", *QUICK[:2], "--dataset", "tiny_digits,,tiny_shapes"],
        2,
        "--dataset has an empty value",
    ),
    "empty shots": (["run", *QUICK, "--shots", " "], 2, "--shots has an empty value"),
    "an empty setting": (["run", *QUICK, "--set", ""], 2, "key=value"),
    "an empty sampler": (["run", *QUICK, "--sampler", ""], 2, "--sampler takes coop, nested"),
    "an empty list of sources": (["run", *QUICK, "--sources", ""], 2, "--sources takes"),
    "a golden table that is not there": (
        ["check", "--golden", "nowhere.csv"],
        2,
        "check --update --golden nowhere.csv",
    ),
    "an option of tables beside a page": (
        ["report", "--html", "pg", "--cost"],
        2,
        "--html does not go with --cost",
    ),
    "rows of tables of costs": (
        ["report", "--cost", "--table", "method-shots"],
        2,
        "--cost does not go with --table",
    ),
    "images without a page": (["report", "--no-images"], 2, "--images goes with --html"),
    "trust without a grid file, of a report": (
        ["report", "--trust", "x.py"],
        2,
        "--trust goes with --config",
    ),
    "trust without a grid file, of an export": (
        ["export", "--trust", "x.py"],
        2,
        "--trust goes with --config",
    ),
    "trust without a grid file, of a comparison": (
        ["compare", "a", "b", "--trust", "x.py"],
        2,
        "--trust goes with --config",
    ),
    "trust without a grid file, of a submission": (
        ["submit", "--name", "mine", "--trust", "x.py"],
        2,
        "--trust goes with --config",
    ),
    "trust without a grid file, of a check": (
        ["check", "--trust", "x.py"],
        2,
        "--trust goes with --config",
    ),
    "a device without an adapter": (
        ["export", "--device", "cpu"],
        2,
        "--device goes with --adapter",
    ),
    "sending to a program that keeps files": (
        ["export", "--to", "tensorboard:x", "--online"],
        2,
        "--online goes with --to wandb:PROJECT",
    ),
    "replays of what is packed": (
        ["submit", "--name", "mine", "--replays", "1", "--replay-seed", "1"],
        2,
        "--replay-seed, --replays go with --check",
    ),
    "a golden row of published numbers": (
        ["check", "--against", "published", "--update", "--seed", "7"],
        2,
        "--against published does not go with --seed, --update",
    ),
    "parameters of rows that are not written": (
        ["check", "--set", "steps=3", "--tolerance", "1"],
        2,
        "--set, --tolerance go with --update",
    ),
}


@pytest.mark.parametrize(("arguments", "code", "words"), NONSENSE.values(), ids=NONSENSE)
def test_nonsense_gets_one_sentence_and_an_exit_code(
    invoke: Invoke, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    writes = (
        []
        if arguments[0] in ("rum", "list", "check", "submit") or arguments[-1] == "--shots"
        else ["--results", tmp_path / "results"]
    )
    result = invoke(*arguments, *writes)
    assert result.code == code
    complaint = result.err.strip().splitlines()[-1]
    assert complaint.startswith("error: ")
    assert words in complaint
    assert "Traceback" not in result.err
    assert result.out == ""
    assert not (tmp_path / "results").exists()


def test_a_results_folder_that_cannot_be_written_is_refused_before_any_work(
    invoke: Invoke, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    result = invoke("run", *QUICK, "--results", tmp_path / "taken")
    assert result.code == 2
    assert "cannot write to" in result.err
    assert "choose another folder" in result.err


def test_a_run_that_is_refused_leaves_no_folder(invoke: Invoke, tmp_path: Path) -> None:
    for words, code in (
        (["--method", "zero_shot", "--backbone", "RN50"], 4),
        (["--method", "tip_adapter", "--set", "alpha=-5"], 2),
    ):
        result = invoke("run", *words, "--dataset", "tiny_digits", "--results", tmp_path / "new")
        assert result.code == code, result.err
        assert not (tmp_path / "new").exists()


def test_reporting_an_empty_folder_says_how_records_come_about(
    invoke: Invoke, tmp_path: Path
) -> None:
    result = invoke("report", "--results", tmp_path)
    assert result.code == 2
    assert "there are no records" in result.err


# Flags


def test_commas_and_repetition_mean_the_same(invoke: Invoke, tmp_path: Path) -> None:
    commas = invoke(
        "plan",
        "--method",
        "zero_shot,linear_probe",
        "--shots",
        "1,2",
        "--json",
        "--results",
        tmp_path,
    )
    repeated = invoke(
        "plan",
        "-m",
        "zero_shot",
        "-m",
        "linear_probe",
        "--shots",
        "1",
        "--shots",
        "2",
        "--json",
        "--results",
        tmp_path,
    )
    assert commas.out == repeated.out
    assert json.loads(commas.out)["total"] == 3 + 3 * 2 * 3


def test_run_without_data_takes_the_embedded_suite_and_says_so_in_one_line(
    invoke: Invoke, tmp_path: Path
) -> None:
    result = invoke("run", "--method", "zero_shot", "--dry-run", "--results", tmp_path / "results")
    assert result.code == 0
    (line,) = result.err.strip().splitlines()
    assert "embedded suite 'tiny'" in line
    assert "prepare --suite classic" in line
    assert not (tmp_path / "results").exists()


def test_without_a_method_all_are_taken_and_named(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("plan", "--dataset", "tiny_digits", "--results", tmp_path)
    assert all(name in result.err for name in methods.names())


def test_a_parameter_can_go_to_one_method_or_to_all(invoke: Invoke, tmp_path: Path) -> None:
    both = [
        "plan",
        "--method",
        "tip_adapter,tip_adapter_f",
        "--dataset",
        "tiny_digits",
        "--shots",
        "1",
        "--seed",
        "1",
        "--json",
        "--results",
    ]
    cells = json.loads(invoke(*both, tmp_path, "--set", "tip_adapter.key_views=3").out)["cells"]
    assert ["key_views=3" in cell["cell"] for cell in cells] == [True, False]
    cells = json.loads(invoke(*both, tmp_path, "--set", "key_views=3").out)["cells"]
    assert ["key_views=3" in cell["cell"] for cell in cells] == [True, True]


def test_a_default_written_out_is_the_same_cell(invoke: Invoke, tmp_path: Path) -> None:
    default = methods.card("linear_probe").defaults["steps"]
    plan = [
        "plan",
        "--method",
        "linear_probe",
        "--dataset",
        "tiny_digits",
        "--json",
        "--results",
        tmp_path,
    ]
    assert invoke(*plan).out == invoke(*plan, "--set", f"steps={default}").out


@pytest.mark.parametrize("what", ["methods", "datasets", "suites", "backbones"])
def test_lists_are_the_same_for_people_and_machines(invoke: Invoke, what: str) -> None:
    names = [row["name"] for row in json.loads(invoke("list", what, "--json").out)]
    assert [line.split()[0] for line in invoke("list", what).out.splitlines()[1:]] == names
    assert names


def test_a_list_has_one_line_a_row_and_keeps_it_whole_without_a_terminal(invoke: Invoke) -> None:
    names = methods.names()
    heading, *lines = invoke("list", "methods").out.splitlines()
    assert heading.split() == ["name", "title", "family", "needs", "paper"]
    assert len(lines) == len(names)
    coop = lines[names.index("coop")]
    assert re.fullmatch(r"coop +CoOp +prompts +shots +arXiv:2109\.01134", coop)
    zero_shot = lines[names.index("zero_shot")]
    assert re.fullmatch(
        r"zero_shot +Zero-shot CLIP +zero-shot +nothing +arXiv:2103\.00020", zero_shot
    )


def test_one_name_of_a_list_shows_everything_about_it(invoke: Invoke) -> None:
    row = json.loads(invoke("list", "methods", "coop", "--json").out)
    assert row["params"] == methods.card("coop").defaults
    text = invoke("list", "methods", "coop").out
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in row["params"])
    assert "did you mean 'coop'?" in invoke("list", "methods", "cop").err
    short = json.loads(invoke("list", "backbones", "ViT-B/16", "--json").out)
    assert short["name"] == "ViT-B-16/openai"
    digits = json.loads(invoke("list", "datasets", "tiny_digits", "--json").out)
    assert (digits["train"], digits["suites"]) == (320, ["tiny"])
    resnet = json.loads(invoke("list", "backbones", "RN50/openai", "--json").out)
    assert (resnet["prompts"], resnet["image blocks"]) == (True, False)


@pytest.mark.parametrize("what", ["methods", "datasets", "suites", "backbones", "status"])
def test_a_list_keeps_to_one_line_a_row_at_80_columns(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = ["prepare", "--status"] if what == "status" else ["list", what]
    names = [row["name"] for row in json.loads(invoke(*command, "--json").out)]
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the stream for a terminal then
    monkeypatch.setenv("NO_COLOR", "1")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in invoke(*command).out.splitlines()]
    if what == "status":
        assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines), "nothing is cut"
        assert lines.pop().startswith("* only where you ask for it")
    assert [line.split()[0] for line in lines[1:]] == names, "every name whole, no line wrapped"
    assert max(map(len, lines)) <= 80
    cut = [line for line in lines if "\N{HORIZONTAL ELLIPSIS}" in line]
    assert all(line.endswith("\N{HORIZONTAL ELLIPSIS}") for line in cut), "only the last column"


def test_rows_are_cut_to_a_terminal_and_whole_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"name": "a", "images": 1331167, "licence": "word " * 30}]
    monkeypatch.setenv("COLUMNS", "40")
    print_rows(rows, ["name", "images", "licence"])
    assert capsys.readouterr().out.splitlines()[1].startswith("a     1,331,167  word word")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the stream for a terminal then
    print_rows(rows, ["name", "images", "licence"])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2
    assert shown[1].endswith("\N{HORIZONTAL ELLIPSIS}")
    assert len(shown[1]) <= 40


def test_the_version_is_that_of_the_package(invoke: Invoke) -> None:
    line = invoke("--version").out
    assert line.startswith(f"fsbench {version('fsbench')}, torch {version('torch')}, Python 3.")
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("run --method co", ["cones", "coop"]),
        ("run --method zero_shot,tip", ["zero_shot,tip_adapter", "zero_shot,tip_adapter_f"]),
        ("check --dataset tiny_d", ["tiny_digits"]),
        ("plan --backbone ViT-L", ["ViT-L-14/openai"]),
        ("run --suite cl", ["classic"]),
        ("run --set coop.n", ["coop.n_ctx="]),
        ("run --set coo", ["coop."]),
        ("run --sampler nes", ["nested"]),
        ("run --precision bf", ["bfloat16"]),
        ("report --protocol cross", ["cross-dataset"]),
        ("list meth", ["methods"]),
        ("list datasets tiny_d", ["tiny_digits"]),
        ("rep", ["replay", "report"]),
    ],
)
def test_a_shell_completes_commands_options_and_their_values(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    offers: list[str],
) -> None:
    words = ["fsbench", *line.split()]
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setenv("_FSBENCH_COMPLETE", "complete_bash")
    with pytest.raises(SystemExit):
        execute([], "fsbench")
    offered = capsys.readouterr().out.split()
    assert set(offers) <= set(offered)
    assert all(each.rpartition(",")[2].startswith(words[-1].rpartition(",")[2]) for each in offered)


def test_every_option_of_a_run_stands_in_a_group(invoke: Invoke) -> None:
    parameters = inspect.signature(run).parameters.values()
    options = [typing.get_args(each.annotation)[1] for each in parameters if each.name != "context"]
    assert not [each.param_decls for each in options if not each.rich_help_panel]
    shown = invoke("run", "--help").out
    panels = ["Grids written down", "Which cells", "How a cell is made", "Data", "Where and how"]
    places = [shown.index(f"─ {panel}") for panel in panels]
    assert places == sorted(places)
    assert "[default: (1,2,3)]" in shown


def test_doctor_finds_what_is_embedded(invoke: Invoke, tmp_path: Path) -> None:
    report = json.loads(invoke("doctor", "--json", "--results", tmp_path).out)
    assert report["datasets"]["tiny_digits"] == "prepared"
    assert report["backbones"]["tiny"] == "embedded"
    assert "writable" in report["folders"]["results"]
    (tmp_path / "file").write_text("")
    assert "NOT writable" in invoke("doctor", "--results", tmp_path / "file" / "below").out


# Runs


def test_a_run_ends_with_its_table_and_the_same_command_finds_everything(
    invoke: Invoke, tmp_path: Path
) -> None:
    first, second = (
        invoke("run", *QUICK, "--results", tmp_path),
        invoke("run", *QUICK, "--results", tmp_path),
    )
    assert (first.code, second.code) == (0, 0)
    assert "[1/1] zero_shot tiny_digits" in first.err
    assert "1 of 1 cell was on record already" in second.err
    assert first.out == second.out
    assert re.search(r"tiny_digits +\d\d\.\d", first.out)
    assert invoke("report", "--results", tmp_path).out.strip() == first.out.strip()


def test_json_is_all_there_is_on_stdout(invoke: Invoke, tmp_path: Path) -> None:
    first = json.loads(invoke("run", *QUICK, "--json", "--results", tmp_path).out)
    second = json.loads(invoke("run", *QUICK, "--json", "--results", tmp_path).out)
    assert (first["status"], second["status"]) == ("computed", "cached")
    assert first["accuracy"] == pytest.approx(first["correct"] / first["total"], abs=1e-6)
    assert Store(tmp_path).has(first["key"])


def test_a_failed_cell_is_named_with_its_log_and_the_rest_goes_on(
    invoke: Invoke, tmp_path: Path
) -> None:
    result = invoke(
        "run", *MOODY, "--set", "mood=raise", "--set", "on_seed=2", "--results", tmp_path
    )
    assert result.code == 1
    assert "1 of 3 cells failed" in result.err
    assert "in no mood to fit" in result.err
    log = Path(result.err.split("(log: ")[1].split(")")[0])
    assert "Traceback" in log.read_text()
    assert len(list(Store(tmp_path).records())) == 2
    plan = invoke(
        "plan", *MOODY, "--set", "mood=raise", "--set", "on_seed=2", "--results", tmp_path
    ).out
    assert "2 done, 1 failed before" in plan


def test_an_interrupt_keeps_what_is_finished_and_exits_130(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke(
        "run", *MOODY, "--set", "mood=interrupt", "--set", "on_seed=2", "--results", tmp_path
    )
    assert result.code == 130
    assert f"1 of 3 cells are kept in {tmp_path}; the same command goes on from there" in result.err
    assert "100" not in result.err.splitlines()[-1]
    assert len(list(Store(tmp_path).records())) == 1


def test_a_truncated_record_is_computed_again(invoke: Invoke, tmp_path: Path) -> None:
    outcome = json.loads(invoke("run", *QUICK, "--json", "--results", tmp_path).out)
    path = Store(tmp_path).path(outcome["key"])
    path.write_text(path.read_text()[:50])
    assert invoke("report", "--results", tmp_path).code == 2
    again = json.loads(invoke("run", *QUICK, "--json", "--results", tmp_path).out)
    assert again == outcome


def test_a_report_warns_of_what_it_passes_over(invoke: Invoke, tmp_path: Path) -> None:
    _good, cut = write(
        tmp_path, [scored(named, 0.5) for named in planned("linear_probe", seeds=(1, 2))]
    )
    Store(tmp_path).path(cut.key).write_text("{")
    result = invoke("report", "--results", tmp_path)
    assert result.code == 0
    assert f"{cut.key}.json is not a record" in result.err
    assert "50.0" in result.out
    assert invoke("export", "--results", tmp_path).out.count("\n") == 2


@pytest.mark.parametrize("flag", ["--html", "--figures"])
def test_a_report_is_not_written_below_a_file(invoke: Invoke, tmp_path: Path, flag: str) -> None:
    write(tmp_path, [scored(named, 0.5) for named in planned("linear_probe")])
    (tmp_path / "file").write_text("")
    result = invoke("report", "--results", tmp_path, flag, tmp_path / "file" / "below")
    assert result.code == 2
    assert f"{flag} takes a folder, and {tmp_path / 'file'} is a file" in result.err


def test_export_writes_where_it_is_told(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, [scored(named, 0.5) for named in planned("linear_probe", seeds=(1, 2))])
    result = invoke("export", "--results", tmp_path, "--out", tmp_path / "deep" / "leaderboard.csv")
    assert (result.code, result.out) == (0, "")
    assert (tmp_path / "deep" / "leaderboard.csv").read_text() == invoke(
        "export", "--results", tmp_path
    ).out


# Plans


def test_a_plan_knows_done_missing_superseded_and_the_time_left(
    invoke: Invoke, tmp_path: Path
) -> None:
    done, missing = planned("linear_probe", seeds=(1, 2))
    old = missing.model_copy(update={"adapter_version": 0})
    other = missing.model_copy(update={"params": missing.params | {"steps": 7}})
    narrow = missing.model_copy(update={"precision": "float32"})
    write(tmp_path, [scored(named, 0.5) for named in (done, old, other, narrow)])
    plan = [
        "plan",
        "--method",
        "linear_probe",
        "--dataset",
        "tiny_digits",
        "--shots",
        "1",
        "--seed",
        "1,2",
        "--results",
        tmp_path,
    ]
    shown_plan = json.loads(invoke(*plan, "--json").out)
    assert [cell["state"] for cell in shown_plan["cells"]] == ["done", "missing"]
    assert shown_plan["cells"][1]["superseded"] == [key(old)]
    # fit and predict of the records, encoding aside
    assert shown_plan["eta_s"] == pytest.approx(2.25)
    text = invoke(*plan).out
    assert "2 cells: 1 done, 1 missing" in text
    assert "; to go: less than 10 s for 1 cell, by 4 records each\n" in text
    plan[plan.index("--shots") + 1] = "2"
    guessed = "by 4 records each (2 by records at other shots)"
    assert f"to go: less than 10 s for 2 cells, {guessed}\n" in invoke(*plan).out
    assert "1 record of these cells is superseded" in text


def test_of_methods_that_never_ran_a_plan_forecasts_nothing(invoke: Invoke, tmp_path: Path) -> None:
    plan = [
        "plan",
        "--dataset",
        "tiny_digits",
        "--shots",
        "1",
        "--seed",
        "1",
        "--results",
        tmp_path,
    ]
    write(tmp_path, [scored(planned("linear_probe", seeds=(2,))[0], 0.5)])
    assert "to go" not in invoke(*plan, "--method", "coop").out
    text = invoke(*plan, "--method", "coop,linear_probe,gda").out
    assert "to go: less than 10 s for 1 cell, by 1 record each; nothing is known of 2 more" in text
    shown = json.loads(invoke(*plan, "--method", "coop,linear_probe", "--json").out)
    assert shown["eta_s"] is None, "a sum of what is known alone would be taken for all"
    assert [cell["expected_s"] for cell in shown["cells"]] == [None, 2.25]
    assert [cell["expected_from"] for cell in shown["cells"]] == [0, 1]
    both = invoke(*plan, "--method", "linear_probe", "--dataset", "tiny_shapes").out
    assert "less than 10 s for 2 cells, by 1 record each (1 by records of other datasets)\n" in both


def test_a_run_says_before_it_starts_how_many_cells_it_will_compute_where_these_are_many(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid_run, "MANY", 2)
    few = ("--dataset", "tiny_digits", "--shots", "1", "--plain", "--results", tmp_path)
    line = "to compute: 3 cells of 1 method; less than 10 s for 3 cells, by 1 record each; "

    def said(*options: object) -> list[str]:
        result = invoke("run", "--method", "nearest_mean", *few, *options)
        assert result.code == 0, result.err
        return result.err.splitlines()

    assert not any("to compute" in each for each in said("--seed", "4"))
    assert said()[0].startswith(line), "seeds 1, 2 and 3"
    assert not any("to compute" in each for each in said()), "all on record"
    again = "to compute: 3 cells of 1 method; less than 10 s for 3 cells, by 4 records each; "
    assert said("--force")[0].startswith(again)


def test_a_plan_tells_when_a_methods_file_changed_and_its_version_did_not(
    invoke: Invoke, tmp_path: Path
) -> None:
    (named,) = planned("linear_probe")
    record = scored(named, 0.5).model_copy(update={"provenance": {"adapter_source": "another"}})
    write(tmp_path, [record])
    plan = [
        "plan",
        "--method",
        "linear_probe",
        "--dataset",
        "tiny_digits",
        "--shots",
        "1",
        "--seed",
        "1",
        "--results",
        tmp_path,
    ]
    assert "the file of linear_probe has changed" in invoke(*plan).out


# The regression check


@pytest.fixture
def golden(invoke: Invoke, tmp_path: Path) -> Path:
    path = tmp_path / "golden.csv"
    assert invoke("check", "--update", "--golden", path, *QUICK).code == 0
    return path


def test_check_passes_on_what_was_just_written(invoke: Invoke, golden: Path) -> None:
    result = invoke("check", "--golden", golden)
    assert (result.code, result.out) == (0, "1 of 1 cell is as the golden table says\n")


def test_check_names_a_cell_whose_counts_moved_and_exits_3(invoke: Invoke, golden: Path) -> None:
    head, row = golden.read_text().splitlines()
    fields = dict(zip(head.split(","), row.split(","), strict=True))
    for by, code in ((int(fields["tolerance"]), 0), (int(fields["tolerance"]) + 1, 3)):
        moved = fields | {"correct": str(int(fields["correct"]) - by)}
        golden.write_text(f"{head}\n{','.join(moved.values())}\n")
        result = invoke("check", "--golden", golden)
        assert result.code == code
    assert "differs: zero_shot tiny_digits 0-shot" in result.out
    assert f"instead of {moved['correct']}" in result.out
    assert "this processor rounds differently" in result.out


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("data", "0" * 12, "changed since: the data;"),
        ("weights", "0" * 12, "changed since: the weights;"),
        ("source", "0" * 12, "changed since: the method's file;"),
        ("training", "0" * 12, "changed since: the shared training code;"),
        ("packages", "torch 1.0", "(was 1.0), numpy"),
        ("key", "0" * 12, "changed since: a default, the image pipeline or the suite's rules;"),
    ],
)
def test_check_says_what_has_changed_since_the_row_was_written(
    invoke: Invoke, golden: Path, column: str, value: str, reason: str
) -> None:
    head, row = golden.read_text().splitlines()
    fields = dict(zip(head.split(","), row.split(","), strict=True))
    fields |= {column: value, "correct": "0"}
    golden.write_text(f"{head}\n{','.join(fields.values())}\n")
    assert reason in invoke("check", "--golden", golden).out


def test_a_row_is_run_again_with_its_own_parameters(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "golden.csv"
    choices = ["--method", "tip_adapter", "--dataset", "tiny_digits", "--shots", "1"]
    for alpha in ("0.5", "2.0"):
        flags = ["--set", f"alpha={alpha}", "--set", "alpha_grid=1,2"]
        assert invoke("check", "--update", "--golden", path, *choices, *flags).code == 0
    before = path.read_text()
    assert before.count("alpha_grid=1,2") == 2
    assert invoke("check", "--update", "--golden", path).code == 0
    assert path.read_text() == before
    assert invoke("check", "--golden", path).out == "2 of 2 cells are as the golden table says\n"


def test_a_row_keeps_its_tolerance_unless_another_is_given(invoke: Invoke, golden: Path) -> None:
    assert ",0," in golden.read_text()
    assert invoke("check", "--update", "--golden", golden, *QUICK, "--tolerance", "7").code == 0
    assert ",7," in golden.read_text()
    assert invoke("check", "--update", "--golden", golden, *QUICK).code == 0
    assert ",7," in golden.read_text()


def test_check_of_a_method_without_rows_says_how_to_get_them(invoke: Invoke, golden: Path) -> None:
    result = invoke("check", "--golden", golden, "--method", "linear_probe")
    assert result.code == 2
    assert "no row for --method linear_probe" in result.err
    assert "check --update" in result.err


def test_check_serves_a_plug_in_and_names_one_that_is_not_there(
    invoke: Invoke, tmp_path: Path
) -> None:
    mine = ["--golden", tmp_path / "mine.csv", *QUICK_MOODY]
    assert invoke("check", "--update", *mine).code == 0
    assert invoke("check", *mine).code == 0
    rows = (tmp_path / "mine.csv").read_text()
    (tmp_path / "mine.csv").write_text(rows.replace("plugins.moody", "plugins.nobody"))
    result = invoke("check", "--golden", tmp_path / "mine.csv")
    assert result.code == 2
    assert "tests.plugins.nobody" in result.err
    assert result.out == ""  # nothing was run


def test_check_tells_a_failed_cell_from_a_different_one(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = ["--golden", tmp_path / "mine.csv", *QUICK_MOODY]
    assert invoke("check", "--update", *mine).code == 0
    monkeypatch.setattr("tests.plugins.moody.Adapter.fit", lambda self, episode: 1 / 0)
    result = invoke("check", *mine)
    assert result.code == 1
    assert "failed: ZeroDivisionError" in result.out


def test_a_file_that_is_no_golden_table_is_named(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("milk,eggs\n1,2\n")
    result = invoke("check", "--golden", tmp_path / "list.csv")
    assert result.code == 2
    assert "is not a golden table" in result.err


# Processes of their own


def fresh(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["list", "methods"],
        ["list", "datasets"],
        ["doctor"],
        ["plan"],
    ],
    ids=" ".join,
)
def test_looking_around_imports_no_torch(arguments: list[str]) -> None:
    heavy = "{'torch', 'open_clip', 'pandas', 'matplotlib', 'scipy', 'datasets'}"
    script = f"{EXECUTE} print(execute({arguments}), {heavy} & sys.modules.keys())"
    assert fresh("-c", script).stdout.splitlines()[-1] == "0 set()"


def test_a_finished_grid_is_shown_without_torch_and_without_pandas(tmp_path: Path) -> None:
    write(tmp_path, [scored(named, 0.5) for named in planned("linear_probe", seeds=(1, 2, 3))])
    run = [
        "run",
        "--method",
        "linear_probe",
        "--dataset",
        "tiny_digits",
        "--shots",
        "1",
        "--results",
        str(tmp_path),
    ]
    heavy = "{'torch', 'pandas'}"
    script = f"{EXECUTE} print(execute({run}), {heavy} & sys.modules.keys())"
    assert fresh("-c", script).stdout.splitlines()[-1] == "0 set()"


def test_python_m_benchmark_and_the_console_script_end_with_the_exit_code() -> None:
    assert fresh("-m", "benchmark", "rum").returncode == 2
    assert fresh("-c", "from benchmark.cli import main; main()", "rum").returncode == 2


SLOW = """
import time
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Slow"
    paper: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    naps: int = 1

    def fit(self, episode):
        time.sleep(600 if episode.seed == 2 and self.naps else 0)
        return lambda images: images.features() @ episode.text_features().T
"""


def test_ctrl_c_in_mid_grid_keeps_the_finished_cells(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "slow.py").write_text(SLOW)
    run = [
        sys.executable,
        "-m",
        "benchmark",
        "run",
        "--method",
        "lab.slow",
        "--dataset",
        "tiny_digits",
        "--shots",
        "1",
    ]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    process = subprocess.Popen(
        [*run, "--results", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while (
        not list(Store(tmp_path).records())
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.2)
    time.sleep(0.5)  # now it naps in the second cell
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "1 of 3 cells are kept" in err
    assert "Traceback" not in err


def test_an_interrupt_while_modules_are_imported_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmark import __main__ as program

    plain = builtins.__import__

    def interrupted(name: str, *rest: object, **named: object) -> object:
        if name == "benchmark":
            raise KeyboardInterrupt
        return plain(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(SystemExit, match="130"):
        program.main()
    assert capsys.readouterr().err == "interrupted\n"
