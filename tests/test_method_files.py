"""A method in a file, from the command line: an edited file never answers with old numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmark import methods
from tests.conftest import Invoke
from tests.test_methods import PLUGIN

GRID = ("--dataset", "tiny_shapes", "--shots", "1", "--seed", "1", "--plain")
OTHER = PLUGIN.replace(
    "images.features() @ episode.text_features().T",
    "-images.features() @ episode.text_features().T",
)


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(methods.FILES, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if in a new process."""
    monkeypatch.delenv(methods.FILES, raising=False)
    methods.card.cache_clear()
    sys.modules.pop("fsbench_method_mine_too", None)


def test_an_edited_file_is_computed_again_and_both_rows_are_told_apart(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, store = Path("mine_too.py"), ("--results", tmp_path / "results")
    accuracies = []
    for text in (PLUGIN, OTHER, PLUGIN):
        file.write_text(text)
        forget(monkeypatch)
        result = invoke("run", "--method", "./mine_too.py", *GRID, *store)
        assert result.code == 0, result.err
        accuracies.append(result.out)
    assert accuracies[0] == accuracies[2] != accuracies[1]
    assert len(list((tmp_path / "results" / "records").glob("*.json"))) == 2
    forget(monkeypatch)
    assert invoke("run", "--method", "zero_shot", *GRID, *store).code == 0
    report = invoke("report", "--method", "./mine_too.py", *store)
    assert report.code == 0, report.err
    assert report.out.count("Mine, code ") == 2
    assert "Zero-shot" not in report.out
    ambiguous = invoke("compare", "./mine_too.py", "zero_shot", *store)
    assert ambiguous.code == 2
    assert "'mine_too' is 2 rows here; name one: 'Mine, code " in ambiguous.err


def test_compare_takes_a_file_as_run_does(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine_too.py").write_text(PLUGIN)
    forget(monkeypatch)
    names = ("./mine_too.py", "zero_shot")
    assert invoke("run", "--method", ",".join(names), *GRID, "--results", "r").code == 0
    compared = invoke("compare", *names, "--results", "r")
    assert compared.code == 0, compared.err
    assert "Mine" in compared.out


def test_a_file_that_changes_while_a_grid_runs_is_noticed(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine_too.py").write_text(PLUGIN)
    forget(monkeypatch)
    from benchmark.compute import runner

    plan = runner.plan

    def changed_after(*given: object, **named: object) -> object:
        planned = plan(*given, **named)  # type: ignore[arg-type]
        Path("mine_too.py").write_text(OTHER)
        methods.card.cache_clear()
        return planned

    monkeypatch.setattr(runner, "plan", changed_after)
    result = invoke("run", "--method", "./mine_too.py", *GRID, "--results", "r")
    assert result.code == 1
    assert "the code of mine_too was changed after this run began" in result.err
