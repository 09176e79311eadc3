"""Commands over records: comparisons, replays, merges, published numbers, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark import methods
from benchmark.compute.rerun import cell_of
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.report import grouping, shell_commands, tables
from benchmark.report.comparison import compare
from benchmark.report.image_results import ImageResults
from benchmark.report.marks import BEST, TIED
from benchmark.report.ranking import column_marks
from testbed.synthetic import (
    TINY,
    digest,
    grid,
    guesses,
    identity,
    record,
    scored,
    with_predictions,
    write,
)
from tests.conftest import Invoke


def predicted(method: str, seed: int, hit: float, store: Store) -> Record:
    """A record on tiny_digits with predictions beside it, right at a rate of `hit`."""
    told_Q = guesses("tiny_digits", hit, seed + int(1000 * hit))
    return with_predictions(identity(method, seed=seed), told_Q, store)


# compare


def test_compare_finds_a_planted_difference_over_seeds_and_images(
    invoke: Invoke, tmp_path: Path
) -> None:
    for seed in (1, 2, 3):
        predicted("coop", seed, 0.8, Store(tmp_path))
        predicted("linear_probe", seed, 0.6, Store(tmp_path))
    (comparison,) = json.loads(
        invoke("compare", "coop", "linear_probe", "--results", tmp_path, "--json").out
    )
    (pair,) = comparison["pairs"]
    assert pair["difference"] == pytest.approx(0.2, abs=0.05)
    assert pair["over_images"]["low"] > 0.1
    assert pair["over_seeds"]["p"] < 0.05
    assert pair["p_mcnemar"] is None
    text = invoke("compare", "coop", "linear_probe", "--results", tmp_path).out
    assert "1 win, 0 ties, 0 losses; Student's t over seeds" in " ".join(text.split())


def test_compare_with_one_seed_is_mcnemar_and_no_test_over_seeds(
    invoke: Invoke, tmp_path: Path
) -> None:
    predicted("coop", 1, 0.7, Store(tmp_path))
    predicted("linear_probe", 1, 0.7, Store(tmp_path))
    text = invoke("compare", "coop", "linear_probe", "--results", tmp_path).out
    assert "one seed" in text
    assert "(McNemar)" in text
    assert "no test" in text


def test_compare_goes_without_predictions_and_beside_zero_shot(
    invoke: Invoke, tmp_path: Path
) -> None:
    zero = [scored(identity("zero_shot", name, 0, 0, val="none"), 0.3) for name in TINY]
    write(tmp_path, [*grid(["coop"], shots=(4,)), *zero])
    (comparison,) = json.loads(
        invoke("compare", "coop", "zero_shot", "--results", tmp_path, "--json").out
    )
    assert [pair["dataset"] for pair in comparison["pairs"]] == list(TINY)
    assert all(
        pair["over_images"] is None and len(pair["gaps"]) == 3 for pair in comparison["pairs"]
    )
    assert comparison["over_datasets"]["4"] < 0.01


def test_compare_says_what_it_does_not_know(invoke: Invoke, tmp_path: Path) -> None:
    write(
        tmp_path,
        [
            scored(identity("coop", texts="cupl"), 0.5),
            scored(identity("coop", val="none"), 0.5),
            scored(identity("apt", backbone="RN50"), 0.5),
            scored(identity("linear_probe", shots=1), 0.5),
        ],
    )
    unknown = invoke("compare", "coop", "aptt", "--results", tmp_path)
    assert (unknown.code, "did you mean 'apt'?" in unknown.err) == (2, True)
    row = invoke("compare", "CoOp, no valdation set", "apt", "--results", tmp_path)
    assert "did you mean 'CoOp, no validation set'?" in row.err
    twice = invoke("compare", "linear_probe", "Linear probe", "--results", tmp_path)
    assert (twice.code, "are one row; name two" in twice.err) == (2, True)
    unclear = invoke("compare", "coop", "apt", "--results", tmp_path)
    assert unclear.code == 2
    assert "'coop' is 2 rows here, none with its defaults; name one: 'CoOp" in unclear.err
    for other in ("apt", "linear_probe"):
        apart = invoke("compare", "CoOp, no validation set", other, "--results", tmp_path)
        assert apart.code == 2
        assert "have no records of the same dataset, shots and seed in one setting" in apart.err


def test_compare_takes_a_method_for_its_row_of_defaults_and_says_so(
    invoke: Invoke, tmp_path: Path
) -> None:
    chosen: list[dict[str, object]] = [{}, {"params": {"n_ctx": 4}}, {"val": "none"}]
    coop = [identity("coop", seed=seed, **other) for seed in (1, 2) for other in chosen]
    write(tmp_path, [*grid(["linear_probe"], shots=(4,)), *(scored(each, 0.5) for each in coop)])
    others = "'CoOp, no validation set', 'CoOp, n_ctx=4'"
    usual = invoke("compare", "linear_probe", "coop", "--results", tmp_path)
    assert "Linear probe minus CoOp: suite tiny" in usual.out
    said = f"'coop' is taken for the row of its defaults, not for {others}"
    assert said in " ".join(usual.out.split())
    own = invoke("compare", "CoOp, n_ctx=4", "coop", "--results", tmp_path)
    assert "CoOp, n_ctx=4 minus CoOp: suite tiny" in own.out


def test_compare_has_the_filters_of_report(invoke: Invoke, tmp_path: Path) -> None:
    rows = ["coop", "linear_probe"]
    write(tmp_path, grid(rows, shots=(1, 4), backbones=("tiny", "RN50")))
    options = ["--dataset", "tiny_digits", "--shots", "4", "--seed", "1,2", "--backbone", "RN50"]
    result = invoke("compare", *rows, *options, "--results", tmp_path, "--json")
    (comparison,) = json.loads(result.out)
    assert comparison["setting"]["backbone"] == "RN50"
    (pair,) = comparison["pairs"]
    assert (pair["dataset"], pair["shots"], set(pair["gaps"])) == ("tiny_digits", 4, {"1", "2"})
    wrong = invoke("compare", *rows, "--shots", "2", "--results", tmp_path)
    assert "no record has the number of shots '2'" in wrong.err


def test_compare_takes_a_file_for_the_code_that_it_has_now(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "rows_compared.py"
    file.write_bytes((Path(__file__).parent / "plugins" / "rows.py").read_bytes())
    now = methods.card(str(file)).code
    rows = [("coop", ""), ("rows_compared", now), ("rows_compared", "older")]
    write(
        tmp_path,
        [
            scored(identity(name, seed=seed, code=code), 0.5)
            for seed in (1, 2)
            for name, code in rows
        ],
    )
    result = invoke("compare", file, "coop", "--results", tmp_path)
    assert result.code == 0, result.err
    assert f"code {now[:4]}" in result.out
    assert "is 2 rows here" in invoke("compare", "rows_compared", "coop", "--results", tmp_path).err


def test_compare_is_as_wide_as_columns_says_and_explains_its_columns(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"ctx_init": "a photo of a", "n_ctx": 4}
    coop = [scored(identity("coop", "dtd", 4, seed, params=long), 0.5) for seed in (1, 2, 3)]
    write(tmp_path, [*grid(["cross_modal_probe"], ["dtd"], (4,)), *coop])
    command = ("compare", "cross_modal_probe", "coop", "--results", tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    piped = invoke(*command).out
    monkeypatch.setenv("COLUMNS", "60")
    narrow = invoke(*command).out
    assert max(map(len, narrow.splitlines())) <= 60 < max(map(len, piped.splitlines()))
    for text in (piped, narrow):
        assert "Cross-modal probe minus CoOp [1]" in text
        assert "[1] CoOp, " in text
        assert "in brackets its 95 % interval" in " ".join(text.split())
        assert "gap: the first minus the second before rounding" in " ".join(text.split())
        blocks = text[: text.index("4-shot, 1 dataset")].split("\n\n")
        assert all("\n4-shot\n" in block for block in blocks), "no row without its shots"
        assert "would other test images?" in " ".join(text.split())


# ranking


def test_leaders_are_marked_within_a_protocol_only() -> None:
    better = [
        scored(identity("linear_probe", name, 4, seed), 0.9 + 0.001 * seed)
        for name in TINY
        for seed in (1, 2, 3)
    ]
    worse = [
        scored(identity("coop", name, 4, seed), 0.5 + 0.001 * seed)
        for name in TINY
        for seed in (1, 2, 3)
    ]
    apart = [
        scored(identity("coop", name, 4, seed, val="none"), 0.4)
        for name in TINY
        for seed in (1, 2, 3)
    ]
    full = {name: digest(name) for name in TINY}
    barred = [
        scored(identity("prompt_adapter", name, 4, seed, sources=full, source_shots=-1), 0.99)
        for name in TINY
        for seed in (1, 2, 3)
    ]
    (groups,) = grouping.group_records([*better, *worse, *apart, *barred]).values()
    (marks,) = column_marks(groups, [(4, TINY)])
    assert {variant.method: mark for variant, mark in marks.items()} == {"linear_probe": BEST}
    (table,) = tables.tables(
        grouping.group_records([*better, *worse, *apart, *barred]), "method-shots", ranked=True
    )
    assert {row.label: dict(row.marks) for row in table.rows if row.marks} == {
        "Linear probe": {0: BEST}
    }


def test_a_column_of_one_dataset_is_decided_over_test_images(tmp_path: Path) -> None:
    """Three seeds that vary by themselves tell little, 400 images that differ tell more."""
    store = Store(tmp_path)
    records = [
        predicted(method, seed, rate + 0.02 * seed, store)
        for method, rate in (("coop", 0.7), ("linear_probe", 0.69), ("cones", 0.6))
        for seed in (1, 2, 3)
    ]
    (variants,) = grouping.group_records(records).values()
    column = [(4, ["tiny_digits"])]
    by_name = [
        {variant.method: mark for variant, mark in marks.items()}
        for images in (None, ImageResults(store))
        for marks in column_marks(variants, column, images)
    ]
    over_seeds, over_images = by_name
    assert over_images == {"coop": BEST, "linear_probe": TIED}
    assert over_seeds.keys() >= over_images.keys()
    for other, tied in (("linear_probe", True), ("cones", False)):
        (compared,) = compare(grouping.group_records(records), "coop", other, ImageResults(store))
        over = compared.pairs[0].over_images
        assert over is not None
        assert (over.p >= 0.05) == tied


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("promptsrcc", "did you mean 'promptsrc'?"),
        ("promptsrc", "these have: coop, prompt_adapter"),
        ("qqq", "these have: coop, prompt_adapter"),
    ],
)
def test_a_method_without_records_is_looked_for_among_all_names(
    name: str, hint: str, invoke: Invoke, tmp_path: Path
) -> None:
    write(tmp_path, list(grid(["coop", "prompt_adapter"], ["dtd"], (4,))))
    for command in (("report", "--method", name), ("compare", name, "coop")):
        result = invoke(*command, "--results", tmp_path)
        assert result.code == 2
        assert f"no record has the method '{name}'; {hint}" in result.err


def test_a_missing_argument_is_said_with_all_of_them(invoke: Invoke) -> None:
    said = invoke("compare", "taskres").err
    assert "Missing argument 'B'; usage: " in said
    assert said.endswith("compare [OPTIONS] {A} {B}\n")


def test_a_data_root_that_is_not_there_is_no_empty_one(invoke: Invoke, tmp_path: Path) -> None:
    command = ("run", "--dry-run", "--method", "zero_shot", "--dataset", "caltech101")
    assert "are not here" in invoke(*command, "--data-root", tmp_path).err
    result = invoke(*command, "--data-root", tmp_path / "datasets")
    assert result.code == 4
    assert f"--data-root names {tmp_path / 'datasets'}, and there is no such folder" in result.err
    assert invoke("prepare", "tiny_digits", "--data-root", tmp_path / "datasets").code == 0


# replay


def test_replay_says_identical_or_what_moved(invoke: Invoke, tmp_path: Path) -> None:
    assert (
        invoke(
            "run", "--method", "zero_shot", "--dataset", "tiny_digits", "--results", tmp_path
        ).code
        == 0
    )
    (record,) = Store(tmp_path).records()
    result = invoke("replay", record.key[:6], "--results", tmp_path)
    assert result.code == 0
    assert "identical" in result.out
    counts = record.counts.model_copy(
        update={"correct": [record.counts.correct[0] - 1, *record.counts.correct[1:]]}
    )
    told = record.provenance | {"commit": "\x1b[2J", "packages": {"torch": "\x1b[2J"}}
    write(tmp_path, [record.model_copy(update={"counts": counts, "provenance": told})])
    moved = invoke("replay", record.key, "--results", tmp_path)
    assert moved.code == 3
    assert "at least 1 test images changed sides" in moved.out
    assert ("commit was ?[2J, is" in moved.out, "\x1b" in moved.out) == (True, False)


TRAP = "from pathlib import Path\n\nPath('sprung').touch()\n\nclass Adapter: ...\n"


def test_no_file_of_a_stranger_decides_which_module_is_run(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A results folder that brings a module along, and a golden table that names it."""
    monkeypatch.chdir(tmp_path)
    Path("trapped").mkdir()
    Path("trapped/method.py").write_text(TRAP)
    named = identity("tip_adapter").model_copy(update={"method": "trapped.method", "params": {}})
    write(Path("trapped"), [record(named, [30] * 10, [64] * 10)])
    (trapped,) = Store(Path("trapped")).records()
    golden = Path("golden.csv")
    header = (
        "method,adapter_version,dataset,shots,seed,backbone,params,correct,total,tolerance,key,"
        "source,training,data,weights,packages"
    )
    row = f"trapped.method,1,tiny_digits,1,1,tiny,,300,640,2,{trapped.key},,,,,"
    golden.write_text(f"{header}\n{row}\n")
    for command in (
        ["replay", trapped.key, "--results", "trapped"],
        ["check", "--golden", golden],
        ["check", "--golden", golden, "--update"],
    ):
        result = invoke(*command)
        assert result.code == 2
        assert "is a module from elsewhere, whose code would run" in result.err
        assert "if you trust it, add --method trapped.method" in result.err
    for command in (["report"], ["export"], ["status"], ["compare", "trapped.method", "coop"]):
        invoke(*command, "--results", "trapped")
    assert not Path("sprung").exists()
    invoke("replay", trapped.key, "--results", "trapped", "--method", "trapped.method")
    assert Path("sprung").exists()  # it would have been


def test_replay_of_no_record_or_of_several_is_an_error(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, [scored(identity(seed=seed), 0.5) for seed in range(40)])
    unknown = invoke("replay", "zzz", "--results", tmp_path).err
    assert "no record zzz" in unknown
    assert "40 are there, as " in unknown
    assert unknown.count(",") == 3  # three keys, not all
    keys = [path.stem for path in (tmp_path / "records").iterdir()]
    twice = next(key[0] for key in keys if sum(other[0] == key[0] for other in keys) > 1)
    assert "give more digits" in invoke("replay", twice, "--results", tmp_path).err


def shown_commands() -> Iterator[Record]:
    card = methods.card("prompt_adapter")
    params = card.defaults | {"n_ctx": 4}
    yield scored(
        identity(
            "prompt_adapter",
            shots=2,
            val="none",
            params=params,
            sources={"tiny_shapes": digest("x")},
            source_shots=2,
        ),
        0.5,
    )
    yield scored(identity("zero_shot", shots=0, seed=0, val="none", params={}), 0.5)


@pytest.mark.parametrize(
    "record", list(shown_commands()), ids=lambda record: record.identity.method
)
def test_the_command_shown_with_a_record_makes_its_cell(
    record: Record, invoke: Invoke, tmp_path: Path
) -> None:
    words = shell_commands.run_command(record.identity).split()[4:]
    (cell,) = json.loads(invoke("plan", *words, "--results", tmp_path, "--json").out)["cells"]
    assert cell["cell"] == str(cell_of(record.identity))


# merge


def test_merge_gathers_names_conflicts_and_keeps_what_was_there(
    invoke: Invoke, tmp_path: Path
) -> None:
    here, there, other = (tmp_path / name for name in ("here", "there", "other"))
    write(here, [scored(identity(seed=1), 0.5)])
    write(there, [scored(identity(seed=1), 0.5), scored(identity(seed=2), 0.6)])
    (third,) = write(other, [scored(identity(seed=2), 0.7)])
    Store(there).put(scored(identity(seed=3), 0.7), np.zeros(400))
    (there / "records" / "junk.json").write_text("{}")
    result = invoke("merge", there, other, "--results", here)
    assert result.code == 1
    assert "2 records added" in result.out
    assert "1 were there already, 1 conflicts" in result.out
    assert f"conflict: {third.key}: 280 right in" in result.err
    assert "junk.json is not a record" in result.err
    assert {record.identity.seed for record in Store(here).records()} == {1, 2, 3}
    assert len(Store(here).predictions(scored(identity(seed=3), 0.7).key)) == 400
    kept = Store(here).get(third.key)
    assert kept is not None
    assert kept.accuracy == pytest.approx(0.6)
    assert invoke("merge", there, "--results", here).code == 0


def test_merging_what_is_no_folder_of_records_is_an_error(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("merge", tmp_path / "nowhere", "--results", tmp_path / "target")
    assert result.code == 2
    assert "is no folder of records" in result.err


# published numbers


def test_check_against_published_gives_a_verdict_per_row_and_exits_3_where_one_differs(
    invoke: Invoke, tmp_path: Path
) -> None:
    card = methods.card("zero_shot")
    named = identity(
        "zero_shot",
        "dtd",
        0,
        0,
        val="none",
        params=card.defaults,
        adapter_version=card.version,
        backbone="RN50/openai",
    )
    write(tmp_path / "hit", [scored(named, 0.4232, 100, 100)])
    hit = invoke("check", "--against", "published", "--results", tmp_path / "hit")
    assert hit.code == 0
    assert "reproduced" in hit.out.splitlines()[0]
    assert "[CoOp paper curve sheet" in hit.out
    write(tmp_path / "miss", [scored(named, 0.60, 100, 100)])
    miss = invoke("check", "--against", "published", "--results", tmp_path / "miss", "--json")
    assert miss.code == 3
    assert {row["verdict"] for row in json.loads(miss.out)} == {"differs", "not comparable"}
