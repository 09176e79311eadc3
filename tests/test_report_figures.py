"""Figures are drawn for every setting, in both formats, the same bytes each time, as wide as asked;
what they show is taken from the axes, and no text lies over another.
"""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from benchmark.cli import execute
from benchmark.errors import UserError
from benchmark.records.record import Record
from benchmark.report import figure_curves, figure_differences, figure_style, figures, grouping
from benchmark.report.figure_cost import cost, points_of
from benchmark.report.figure_labels import place_labels
from benchmark.report.figure_numbers import INTERVALS, Shown, shown
from testbed.synthetic import CLASSIC, TINY, digest, grid, identity, scored, write

TITLES = ["Tiny digits", "Tiny shapes", "Tiny textures"]


def few() -> list[Record]:
    zero = [scored(identity("zero_shot", name, 0, 0, val="none"), 0.4) for name in TINY]
    full = {name: digest(name) for name in TINY}
    barred = [
        scored(identity("prompt_adapter", name, 16, 1, sources=full, source_shots=-1), 0.99)
        for name in TINY
    ]
    return [*grid(["coop", "linear_probe"]), *zero, *barred]


def numbers(records: list[Record]) -> Shown:
    ((setting, variants),) = grouping.group_records(records).items()
    return shown(setting, variants)


def test_three_figures_in_two_formats_the_same_each_time_as_wide_as_asked(tmp_path: Path) -> None:
    first = figures.write_figures(tmp_path / "a", grouping.group_records(few()), width="one-column")
    again = figures.write_figures(tmp_path / "b", grouping.group_records(few()), width="one-column")
    assert [path.name.split("-")[0] for path in first[::2]] == ["curves", "cost", "differences"]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    for pdf in first[::2]:
        content = pdf.read_bytes()
        (box,) = re.findall(rb"/MediaBox \[ *0 0 ([\d.]+) ", content)
        assert float(box) == pytest.approx(72 * 3.25, abs=0.01)
        assert b"/Subtype /Type0" in content  # whole fonts
        assert b"/Subtype /Type3" not in content
        assert b"/Subtype /Image" not in content  # lines, no pixels


def test_curves_hold_a_panel_for_the_mean_and_one_per_dataset_and_no_diagnostic() -> None:
    figure = figure_curves.curves(numbers(few()), "two-column")
    assert [axes.get_title() for axes in figure.axes] == ["mean of 3 datasets", *TITLES]
    axes = figure.axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert sorted(labels) == ["CoOp", "Linear probe", "Zero-shot CLIP"]
    (whiskers,) = axes.collections
    assert len(whiskers.get_paths()) == 1 + 2 * 5
    assert whiskers.get_linewidth() == [figure_style.THIN]


def test_one_dataset_of_a_suite_has_the_only_panel_and_what_lacks_some_is_in_no_mean() -> None:
    alone = numbers([each for each in few() if each.identity.dataset == TINY[1]])
    assert [axes.get_title() for axes in figure_curves.curves(alone, "two-column").axes] == TITLES[
        1:2
    ]
    holed = [
        each for each in few() if (each.identity.dataset, each.identity.method) != (TINY[0], "coop")
    ]
    mean, digits = figure_curves.curves(numbers(holed), "two-column").axes[:2]
    for axes in (mean, digits):
        assert "CoOp" not in axes.get_legend_handles_labels()[1]
    assert list(figures._left_out(numbers(holed), "x")) == [
        "x: CoOp is in no mean, since it lacks tiny_digits"
    ]


def drawn(kind: str, width: str) -> Figure:
    """A figure of eleven datasets, seven methods, two with long names, one of which is one word."""
    if kind == "one value":
        with matplotlib.rc_context(figure_style.SETTINGS):
            return figure_curves.curves(numbers([scored(identity("coop", "dtd"), 0.4)]), width)
    word = "lab.experiments.prompt_tuning_with_a_name_that_goes_on"
    long = {"ctx_init": "a photo of a", "n_ctx": 4}
    records = list(grid(["tip_adapter_f", "cross_modal_probe", "gda", "taskres"], CLASSIC, (1, 16)))
    records += [scored(identity("coop", name, 16, 1, params=long), 0.6) for name in CLASSIC]
    records += [scored(identity(word, name, 16, 1), 0.5) for name in CLASSIC]
    records += [scored(identity("zero_shot", name, 0, 0, val="none"), 0.2) for name in CLASSIC]
    found = numbers(
        [
            each.model_copy(update={"costs": each.costs.model_copy(update={"fit_s": 3.0 * at})})
            for at, each in enumerate(records)
        ]
    )
    with matplotlib.rc_context(figure_style.SETTINGS):
        if kind == "cost":
            return cost(found, points_of(found), width)
        if kind == "curves":
            return figure_curves.curves(found, width)
        others = figure_differences.others_than(found, "Zero-shot CLIP")
        return figure_differences.differences(found, "Zero-shot CLIP", others, width)


@pytest.mark.parametrize("width", figure_style.WIDTHS)
@pytest.mark.parametrize("kind", ["curves", "cost", "differences", "one value"])
def test_no_text_lies_over_another_or_off_the_page(kind: str, width: str) -> None:
    figure = drawn(kind, width)
    with matplotlib.rc_context(figure_style.SETTINGS):
        figure.draw_without_rendering()
        page = figure.bbox.padded(1)
        texts = [each for each in figure.findobj(Text) if each.get_text().strip()]
        boxes = {
            f"{at} {each.get_text()}": each.get_window_extent()
            for at, each in enumerate(texts)
            if (each.get_visible() and each.axes is not None) or each in figure.texts
        }
    for name, box in boxes.items():
        assert page.containsx(box.x0) and page.containsx(box.x1), name  # noqa: PT018
        assert page.containsy(box.y0) and page.containsy(box.y1), name  # noqa: PT018
    for (one, first), (other, second) in combinations(boxes.items(), 2):
        assert not Bbox.intersection(first.shrunk(0.9, 0.9), second.shrunk(0.9, 0.9)), (one, other)
    for legend in figure.legends:
        for axes in figure.axes:
            assert not Bbox.intersection(legend.get_window_extent(), axes.get_tightbbox())


def test_names_of_crowded_points_lie_apart() -> None:
    (figure, (axes,)) = figure_style.Panels(3.25, 1, 1, 2.5, 0.45, 0.0, [0.2]).draw()
    points = {f"Method {at}": (10 + at % 4, 50.0 + at // 4) for at in range(12)}
    axes.plot(*zip(*points.values(), strict=True), "o", markersize=4)
    axes.set(xlim=(0, 30), ylim=(30, 70))
    place_labels(axes, points, figure_style.text_inches)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    dots = [Bbox([xy, xy]).padded(2) for xy in axes.transData.transform(list(points.values()))]
    assert len(boxes) == len(points)
    assert not any(Bbox.intersection(*pair) for pair in combinations(boxes, 2))
    assert not any(Bbox.intersection(box, dot) for box in boxes for dot in dots)


@pytest.mark.parametrize("kind", ["curves", "cost"])
def test_axes_are_fitted_and_stay_within_0_and_100(kind: str) -> None:
    for axes in drawn(kind, "two-column").axes:
        low, high = axes.get_ylim()
        assert 0 <= low < 20 < high <= 100
    top = scored(identity("coop", "dtd", 16, 1), 1.0)
    bottom = scored(identity("gda", "dtd", 16, 1), 0.0)
    (axes,) = figure_curves.curves(numbers([top, bottom]), "one-column").axes
    assert axes.get_ylim() == (0, 100)


def test_every_point_of_the_cost_figure_bears_its_name_on_the_left_what_needs_no_training() -> None:
    axes = drawn("cost", "two-column").axes[0]
    names = {text.get_text().replace("\n", " ") for text in axes.texts}
    assert {"GDA", "TaskRes", "CoOp", "Zero-shot CLIP", "Cross-modal probe"} <= names
    found = numbers(few())
    free = [each for each in found.records["CoOp"][TINY[0]] if each.identity.shots == 16]
    assert found.training_s("CoOp", 16) == pytest.approx(free[0].costs.fit_s)


def test_methods_of_different_datasets_have_no_mean_and_no_cost(tmp_path: Path) -> None:
    apart = [*grid(["coop"], TINY[:1], (1,)), *grid(["gda"], TINY[1:], (1,))]
    notes: list[str] = []
    files = figures.write_figures(tmp_path, grouping.group_records(apart), "coop", notes=notes)
    assert {path.name.split("-")[0] for path in files} == {"curves"}
    assert "no figure of cost, since no trained method has all datasets" in " ".join(notes)
    assert "no figure of differences, since no trained method has results" in " ".join(notes)


def test_a_setting_without_the_baseline_or_without_shots_is_noted(tmp_path: Path) -> None:
    records = [*grid(["gda"], TINY[:1], (1,), (1,)), *grid(["coop"], ["dtd"], (1,), (1,))]
    records.append(scored(identity("zero_shot", "dtd", 0, 0, val="none", backbone="RN50"), 0.4))
    groups = grouping.group_records(records)
    for wanted, said in [(None, "of a method without shots"), ("coop", "coop")]:
        notes: list[str] = []
        figures.write_figures(tmp_path, groups, wanted, notes=notes)
        (tiny,) = [each for each in notes if each.startswith("tiny-")]
        assert tiny.endswith(f"no figure of differences, since no row is {said}")
        (bare,) = [each for each in notes if "-RN50-" in each]
        assert bare.endswith("no figures, since no row has shots")


def test_cost_and_differences_are_at_the_shots_that_most_methods_have() -> None:
    zero = [scored(identity("zero_shot", name, 0, 0, val="none"), 0.4) for name in TINY]
    found = numbers([*grid(["coop", "gda"], shots=(1, 4)), *grid(["coop"], shots=(16,)), *zero])
    assert (found.shots, found.fullest) == ([1, 4, 16], 4)
    points = points_of(found)
    assert {each.name for each in points} == {"CoOp", "GDA", "Zero-shot CLIP"}
    axes = cost(found, points, "two-column").axes[0]
    assert axes.get_title().startswith("4-shot")
    assert axes.get_title().replace("\n", " ").endswith(f"; {INTERVALS}")
    labels = [each.get_text() for each in axes.get_xticklabels()]
    assert labels.count("none") == 1


def test_two_seeds_have_no_whiskers_and_no_word_about_them() -> None:
    for seeds, said in [((1, 2), False), ((1, 2, 3), True)]:
        figure = figure_curves.curves(numbers(list(grid(["coop"], seeds=seeds))), "one-column")
        texts = " ".join(each.get_text() for each in figure.texts)
        assert (INTERVALS in texts) == said
        assert texts.startswith("backbone tiny")


def test_an_unknown_baseline_and_nothing_to_draw_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="to be a baseline; did you mean 'CoOp'"):
        figures.write_figures(tmp_path, grouping.group_records(few()), "Coop")
    with pytest.raises(UserError, match="nothing to draw"):
        figures.write_figures(
            tmp_path, grouping.group_records([scored(identity("zero_shot", shots=0, seed=0), 0.5)])
        )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--figure-width", "one-column"], "--figure-width goes with --figures"),
        (["--text-width", "400"], "--text-width goes with --format latex"),
        (["--figures", "x", "--figure-width", "one"], "takes one-column, two-column, not 'one'"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    write(tmp_path, few())
    assert execute(["report", *flags, "--results", str(tmp_path)]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_page_and_figures_are_made_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, grid(["coop"], TINY[:1], (1,), (1,)))
    made = [tmp_path / "page", tmp_path / "figures"]
    words = ["--html", made[0], "--no-images", "--figures", made[1], "--results", tmp_path]
    assert execute(["report", *map(str, words)]) == 0
    assert (made[0] / "index.html").is_file()
    assert list(made[1].glob("curves-*.pdf"))
    assert "CoOp" not in capsys.readouterr().out, "tables are not shown beside them"
