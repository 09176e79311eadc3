"""The view of a running grid, on a terminal and without one."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.console import Console

from benchmark.commands import live_view, printing
from benchmark.compute.runner import Outcome
from benchmark.grid import Cell
from testbed.synthetic import identity, scored

CELLS = [
    Cell(method="coop", dataset="tiny_digits", shots=4, seed=seed, backbone="tiny")
    for seed in (1, 2, 3)
]
OUTCOMES = [
    Outcome(CELLS[0], "k1", scored(identity(seed=1), 0.5), None, cached=True),
    Outcome(CELLS[1], "k2", scored(identity(seed=2), 0.75), None, cached=False),
    Outcome(CELLS[2], "k3", None, "the learning rate [0.1] is too high", cached=False),
]


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(
        file=stream, force_terminal=terminal, width=120, color_system=None, _environ={}
    ), stream


def test_lines_show_computed_and_failed_cells_and_count_cached_ones() -> None:
    shown, stream = console(terminal=False)
    with live_view.lines(shown, 3) as view:
        for outcome in OUTCOMES:
            view.on_stage(outcome.cell, "fit")
            view.on_outcome(outcome)
    assert stream.getvalue().splitlines() == [
        "[2/3] coop tiny_digits 4-shot seed 2 tiny: 75.0 % (2.2 s, encoding 1.5 s)",
        "[3/3] coop tiny_digits 4-shot seed 3 tiny: failed: the learning rate [0.1] is too high",
        "1 of 3 cells were on record already",
    ]


def test_lines_say_what_is_running_where_nothing_ended_for_a_while() -> None:
    shown, stream = console(terminal=False)
    clock = iter([0.0, 9.0, 11.0, 11.0, 12.0, 30.0, 30.0])
    with live_view.lines(shown, 3, lambda: next(clock)) as view:
        for step in range(4):
            view.on_stage(CELLS[0], f"fit 3 runs in one batch, step {step}")
    cell = "coop tiny_digits 4-shot seed 1 tiny: fit 3 runs in one batch"
    assert stream.getvalue().splitlines() == [f"{cell}, step 1", f"{cell}, step 3"]


def test_the_bar_shows_the_running_cell_its_stage_and_failures() -> None:
    shown, stream = console(terminal=True)
    with live_view.bar(shown, 3) as view:
        for outcome in OUTCOMES:
            view.on_stage(outcome.cell, "fit")
            view.on_outcome(outcome)
    text = stream.getvalue()
    assert "failed coop tiny_digits 4-shot seed 3 tiny: the learning rate [0.1] is too high" in text
    assert "  coop tiny_digits 4-shot seed 3 tiny\n  fit" in text
    assert "3/3" in text
    assert "1 failed" in text


def test_at_80_columns_the_count_and_the_step_stay_and_only_a_long_name_is_cut() -> None:
    stream = io.StringIO()
    shown = Console(file=stream, force_terminal=True, width=80, color_system=None, _environ={})
    cell = dataclasses.replace(CELLS[0], params=(("ctx_init", "a photo of a very long text" * 4),))
    with live_view.bar(shown, 200) as view:
        view.on_outcome(OUTCOMES[0])
        view.on_outcome(OUTCOMES[2])
        view.on_stage(cell, "fit, step 120 of 800, loss 1.23")
    picture = stream.getvalue().replace("\r", "\n")
    assert "2/200" in picture
    assert "1 failed" in picture
    assert "  fit, step 120 of 800, loss 1.23" in picture
    assert "coop tiny_digits 4-shot seed 1 tiny ctx_init=a photo" in picture
    plain = re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", picture)
    assert max(map(len, plain.splitlines())) <= 80


@pytest.mark.parametrize(
    ("terminal", "requested", "ci", "plain"),
    [
        (True, False, "", False),
        (True, True, "", True),
        (False, False, "", True),
        (True, False, "1", True),
        (True, False, "false", False),
    ],
)
def test_plain_without_a_terminal_on_request_and_under_ci(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, requested: bool, ci: str, plain: bool
) -> None:
    monkeypatch.setenv("CI", ci)
    assert printing.wants_plain(console(terminal)[0], requested) is plain


def test_the_time_left_comes_from_the_cells_computed_so_far() -> None:
    assert live_view._left_s(30.0, 0, 10) == []
    assert live_view._left_s(30.0, 3, 7) == [70.0]


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.6, "9 s"), (200, "3 min 20 s"), (18660, "5 h 11 min")]
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert printing.duration(seconds) == text
