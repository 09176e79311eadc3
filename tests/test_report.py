"""Records become tables: what is averaged with what, what is shown as missing, and what every
format says.
"""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cli import execute
from benchmark.errors import UserError
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.report import (
    cell_texts,
    grouping,
    record_selection,
    rendering,
    tables,
    text_tables,
)
from benchmark.report.averages import (
    IncompleteMean,
    MeanAccuracy,
    mean_over_datasets,
    mean_over_seeds,
)
from benchmark.report.headings import headings
from benchmark.report.leaderboard import COLUMNS
from benchmark.report.variants import PriorExposure
from testbed.synthetic import CLASSIC, TINY, digest, grid, identity, scored, write
from tests.conftest import leaderboard_csv


def zero_shot(dataset: str, accuracy: float) -> Record:
    return scored(identity("zero_shot", dataset, 0, 0, val="none"), accuracy)


def test_mean_and_sample_deviation_over_seeds() -> None:
    mean = mean_over_seeds({1: 0.5, 2: 0.6, 3: 0.7})
    assert mean.mean == pytest.approx(0.6)
    assert mean.std == pytest.approx(0.1)  # divided by 2, not by 3
    assert mean.seeds == (1, 2, 3)
    assert mean_over_seeds({7: 0.25}) == MeanAccuracy(0.25, None, (7,))


def test_a_mean_over_datasets_uses_the_seeds_all_of_them_have() -> None:
    mean = mean_over_datasets([{1: 0.2, 2: 0.4, 3: 0.9}, {1: 0.4, 2: 0.6}])
    assert isinstance(mean, MeanAccuracy)
    assert mean.mean == pytest.approx(0.4)
    assert mean.seeds == (1, 2)


def test_a_mean_with_a_dataset_missing_is_shown_as_missing() -> None:
    assert mean_over_datasets([{1: 0.2}, None, {1: 0.3}]) == IncompleteMean(2, 3)
    assert mean_over_datasets([None, None]) is None
    assert cell_texts.cell_text(IncompleteMean(10, 11)) == "- (10/11)"


def test_the_table_of_a_grid_with_holes() -> None:
    records = [
        record
        for record in grid(["linear_probe"], shots=(1, 4))
        if (record.identity.dataset, record.identity.shots) != ("tiny_digits", 4)
    ]
    records = [
        record
        for record in records
        if (record.identity.dataset, record.identity.shots, record.identity.seed)
        != ("tiny_shapes", 4, 3)
    ]
    (table,) = tables.tables(grouping.group_records([*records, zero_shot("tiny_digits", 0.5)]))
    text = text_tables.plain_text([table])
    rows = {row.split()[0]: row.split() for row in text.splitlines() if row.startswith("  tiny")}
    assert text.count("  tiny_digits ") == 2  # once under each method
    assert next(
        row.split()[1:] for row in text.splitlines() if row.startswith("  tiny_digits")
    ) == ["50.0", "-", "-", "1"]
    assert rows["tiny_digits"][3] == "-"
    assert rows["tiny_shapes"][3].endswith(cell_texts.FEWER)
    assert rows["tiny_shapes"][4] == "2-3"
    assert "- (2/3)" in text
    assert f"{cell_texts.FEWER} fewer seeds" in text


def test_suites_backbones_weights_class_splits_and_protocols_never_share_a_table() -> None:
    plain = identity()
    others = [
        identity(backbone="ViT-B-16/openai"),
        identity(weights_digest=digest("retrained")),
        identity(classes="base"),
        identity(transform="1-pillow13"),
        identity(protocol=2),
        identity(precision="float16"),
        identity(dataset="dtd"),
    ]
    groups = grouping.group_records([scored(named, 0.5) for named in [plain, *others]])
    assert len(groups) == 1 + len(others)


def test_validation_sampler_parameters_and_exposure_make_another_line() -> None:
    sources = {"tiny_shapes": digest("tiny_shapes"), "tiny_textures": digest("tiny_textures")}
    everyone = sources | {"tiny_digits": digest("tiny_digits")}
    several = [
        identity(),
        identity(val="none"),
        identity(sampler="nested"),
        identity(params={"n_ctx": 4}),
        identity(sources=sources, source_shots=4),
        identity(sources=everyone, source_shots=4),
        identity(sources=everyone, source_shots=-1),
    ]
    (setting,) = (groups := grouping.group_records([scored(named, 0.5) for named in several]))
    assert len(groups[setting]) == len(several)
    assert len(set(headings(groups[setting]).values())) == len(several)
    text = text_tables.plain_text([tables.dataset_shots(setting, groups[setting])])
    assert "uses full target training data, not ranked" in " ".join(text.split())
    assert [line.exposure.ranked for line in groups[setting]].index(False) == len(several) - 1


def test_leaving_one_dataset_out_is_one_protocol_for_the_whole_suite() -> None:
    def held_out(target: str) -> Record:
        return scored(
            identity(
                "prompt_adapter",
                target,
                4,
                1,
                sources={name: digest(name) for name in TINY if name != target},
                source_shots=4,
            ),
            0.5,
        )

    (lined,) = grouping.group_records([held_out(name) for name in TINY]).values()
    (line,) = lined
    assert line.exposure == PriorExposure("others of tiny", False, "k shots each")
    assert set(lined[line]) == set(TINY)


def test_records_of_a_superseded_adapter_are_left_out_with_a_word() -> None:
    old, new = (
        scored(identity("plug.in", adapter_version=1), 0.2),
        scored(identity("plug.in", adapter_version=2), 0.8),
    )
    notes: list[str] = []
    (by_line,) = grouping.group_records([old, new], notes).values()
    assert [line.version for line in by_line] == [2]
    assert notes == [
        "1 records of superseded adapter versions are left out (--superseded shows them)"
    ]
    (both,) = grouping.group_records([old, new], superseded=True).values()
    assert {line.version for line in both} == {1, 2}


def test_a_changed_dataset_spec_is_another_dataset() -> None:
    from benchmark import data

    current = data.read_spec("tiny_digits").digest
    groups = grouping.group_records(
        [
            scored(identity(dataset_digest=current), 0.5),
            scored(identity(dataset_digest=digest("before")), 0.9),
        ]
    )
    suites = {setting.suite for setting in groups}
    assert suites == {"tiny", f"tiny_digits@{digest('before')[:6]}"}


def test_two_records_that_differ_in_the_spec_of_a_source_count_once() -> None:
    from benchmark import data

    now = scored(
        identity(sources={"tiny_shapes": data.read_spec("tiny_shapes").digest}, source_shots=4), 0.5
    )
    before = scored(identity(sources={"tiny_shapes": digest("before")}, source_shots=4), 0.9)
    for order in ([now, before], [before, now]):
        notes: list[str] = []
        (by_line,) = grouping.group_records(order, notes).values()
        (by_dataset,) = by_line.values()
        assert by_dataset["tiny_digits"] == [now]
        assert "another spec of a source" in notes[0]


def test_zero_shot_methods_stand_in_the_column_of_no_shots_and_in_every_table_by_dataset() -> None:
    groups = grouping.group_records(
        [*grid(["linear_probe"], shots=(1, 4)), *(zero_shot(name, 0.5) for name in TINY)]
    )
    (by_shots,) = tables.tables(groups, "method-shots")
    assert by_shots.columns == ("0-shot", "1-shot", "4-shot", "seeds")
    assert [row.label for row in by_shots.rows] == ["Zero-shot CLIP", "Linear probe"]
    by_dataset = tables.tables(groups, "method-dataset")
    assert [len(table.rows) for table in by_dataset] == [2, 2]


def test_a_dataset_outside_of_all_suites_has_no_mean() -> None:
    (table,) = tables.tables(grouping.group_records([scored(identity(dataset="my_own"), 0.5)]))
    assert [row.label for row in table.rows] == ["my_own"]


@pytest.mark.parametrize("form", rendering.FORMATS)
def test_each_format_shows_every_number(form: str) -> None:
    result_tables = tables.tables(
        grouping.group_records(grid(["linear_probe", "zero_shot"], shots=(1, 4)))
    )
    text = rendering.render(result_tables, form)
    for row in result_tables[0].rows:
        for value in row.values:
            if isinstance(value, MeanAccuracy):
                assert (f"{value.mean:.6f}" if form == "csv" else f"{100 * value.mean:.1f}") in text


def test_latex_escapes_and_closes_what_it_opens() -> None:
    records = [*grid(["linear_probe"], shots=(1,)), scored(identity("lab.50%_&", TINY[0], 1), 0.5)]
    text = rendering.render(tables.tables(grouping.group_records(records)), "latex")
    assert r"lab.50\%\_\&" in text
    assert "Tiny digits" in text  # the title of the dataset
    for environment in ("tabular", "table"):
        assert text.count(rf"\begin{{{environment}}}") == 1
        assert text.count(rf"\end{{{environment}}}") == 1
    body = [row for row in text.splitlines() if row.endswith(r"\\") and "multicolumn" not in row]
    assert len({row.count(" & ") for row in body}) == 1


def test_markdown_has_as_many_cells_in_every_row() -> None:
    text = rendering.render(
        tables.tables(grouping.group_records(grid(["linear_probe"], shots=(1,)))), "markdown"
    )
    assert len({row.count("|") for row in text.splitlines() if row.startswith("|")}) == 1


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("kind", tables.KINDS)
def test_a_wide_table_is_cut_between_columns_and_never_through_a_number(
    kind: str, width: int
) -> None:
    records = [
        record
        for record in grid(["coop", "a.plug_in.with_a_rather_long_name"], CLASSIC, shots=(4, 16))
        if (record.identity.dataset, record.identity.seed) != ("dtd", 3)
    ]
    table = tables.tables(grouping.group_records(records), kind, ranked=True)[0]
    lines = text_tables.plain_text([table], width).splitlines()
    assert max(map(len, lines)) <= width
    words = {word for line in lines for word in line.split()}
    numbers = {
        text + cell_texts.SUFFIXES[mark]
        for row in table.rows
        for text, mark in cell_texts.row_cells(row)
    }
    assert numbers <= words
    for column in table.columns:  # in two lines where it is wider than its values
        assert column in words or {*cell_texts.two_lines(column, 0)} <= words
    text = text_tables.plain_text([table], width)
    blocks = text.count("\n\n") + 1
    assert sum(line.strip().startswith("CoOp") for line in lines) == blocks
    assert (blocks > 1) == (len(table.columns) > 4 or width == 40)


def test_a_block_holds_as_many_columns_as_fit() -> None:
    (table,) = tables.tables(
        grouping.group_records(grid(["coop"], shots=(1, 2, 4))), "method-shots"
    )
    name, column = len("method"), len("1-shot") + 2
    wide = max(column, len("60.0±1.0") + 2)
    whole = name + 3 * wide + len("seeds") + 2
    assert "\n\n" not in text_tables.plain_text([table], whole + 20)
    assert "\n\n" in text_tables.plain_text([table], whole - 1)


def test_a_pipe_gets_a_table_as_wide_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
    write(tmp_path, grid(["coop"], CLASSIC, shots=(4,)))
    assert execute(["report", "--table", "method-dataset", "--results", str(tmp_path)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) > 130


def test_the_leaderboard_has_a_row_per_result_and_its_documented_columns() -> None:
    records = [*grid(["linear_probe"], shots=(1, 4)), zero_shot("tiny_digits", 0.5)]
    rows = list(csv.DictReader(io.StringIO(leaderboard_csv(grouping.group_records(records)))))
    assert len(rows) == 3 * 2 + 1
    assert tuple(rows[0]) == COLUMNS
    row_of = next(
        row
        for row in rows
        if (row["method"], row["dataset"], row["shots"]) == ("linear_probe", "tiny_digits", "4")
    )
    seeds = [
        record.accuracy
        for record in records
        if record.identity.dataset == "tiny_digits" and record.identity.shots == 4
    ]
    assert float(row_of["mean"]) == pytest.approx(sum(seeds) / 3, abs=1e-6)
    assert (
        row_of["n_seeds"],
        row_of["seeds"],
        row_of["n_test"],
        row_of["val"],
        row_of["ranked"],
    ) == (
        "3",
        "1 2 3",
        "400",
        "up-to-4",
        "yes",
    )
    assert set(row_of["keys"].split()) <= {record.key for record in records}
    assert next(row for row in rows if row["method"] == "zero_shot")["std"] == ""


def test_every_column_of_the_leaderboard_is_documented() -> None:
    page = (Path(__file__).resolve().parent.parent / "results" / "LEADERBOARD.md").read_text()
    documented = [
        name.strip()
        for row in page.splitlines()
        if row.startswith("| ")
        for name in row.split("|")[1].split(",")
    ]
    assert [name for name in documented if name != "column"] == list(COLUMNS)


def test_foreign_and_truncated_records_are_named_and_passed_over(tmp_path: Path) -> None:
    good, cut = write(tmp_path, [scored(identity(seed=seed), 0.5) for seed in (1, 2)])
    path = Store(tmp_path).path(cut.key)
    path.write_text(path.read_text()[:100])
    (path.parent / "shopping.json").write_text('{"milk": 2}')
    notes: list[str] = []
    assert record_selection.select_records(Store(tmp_path), notes) == [good]
    assert sorted(str(path) in note or "shopping.json" in note for note in notes) == [True, True]


def test_an_empty_folder_and_a_filter_that_fits_nothing_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no records in"):
        record_selection.select_records(Store(tmp_path), [])
    write(tmp_path, [scored(identity("coop"), 0.5)])
    with pytest.raises(UserError, match="did you mean 'coop'"):
        record_selection.select_records(Store(tmp_path), [], methods=["cop"])


def test_lines_are_ranked_together_only_under_one_protocol() -> None:
    (setting,) = (
        groups := grouping.group_records(
            [scored(identity(), 0.5), scored(identity(val="none"), 0.5)]
        )
    )
    first, second = groups[setting]
    assert first.protocol != second.protocol
    held_out = replace(first, exposure=PriorExposure("others of tiny", False, "k shots each"))
    assert held_out.protocol == first.protocol
    assert (
        replace(first, exposure=PriorExposure("all of tiny", True, "k shots each")).protocol
        != first.protocol
    )


def test_records_of_one_family_stand_in_rows_of_their_own_where_only_some_are_transductive() -> (
    None
):
    usual, other = (scored(identity("my_lab.mine", seed=seed), 0.5) for seed in (1, 2))
    together = other.model_copy(update={"provenance": {"transductive": True}})
    assert usual.family == together.family
    assert usual.family != scored(identity("my_lab.mine", val="none"), 0.5).family
    (variants,) = grouping.group_records([usual, together]).values()
    assert [(variant.transductive, each) for variant, each in variants.items()] == [
        (False, {"tiny_digits": [usual]}),
        (True, {"tiny_digits": [together]}),
    ]


def test_a_plug_in_stands_under_its_own_title_everywhere() -> None:
    plug_in = scored(identity("my_lab.mine"), 0.5).model_copy(update={"title": "Mine 2.0"})
    groups = grouping.group_records([plug_in])
    (table,) = tables.tables(groups, "method-shots")
    assert [row.label for row in table.rows] == ["Mine 2.0"]
    assert "\nMine 2.0\n" in text_tables.plain_text(tables.tables(groups))
    (row,) = csv.DictReader(io.StringIO(leaderboard_csv(groups)))
    assert row["title"] == "Mine 2.0"


def test_how_images_were_drawn_is_said_in_words_as_far_as_rows_share_it() -> None:
    rule = "all of a class that has fewer than shots"
    for samplers, said in (
        (["coop-short"], f"training images drawn as CoOp draws them, {rule}; validation images: "),
        (["coop", "coop-short"], f"coop-short sampling: images drawn as CoOp draws them, {rule}\n"),
    ):
        records = [scored(identity(sampler=sampler), 0.5) for sampler in samplers]
        text = rendering.render(tables.tables(grouping.group_records(records)), "markdown")
        assert said in text
        assert "validation images: min(shots, 4) per class\n" in text
        assert "sampling: coop" not in text
