"""A method in a file, from the command line: an edited file never answers with old numbers."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmark import methods, reference
from benchmark.records.store import Store
from testbed.synthetic import identity, scored, write
from tests.conftest import Invoke
from tests.test_methods import PLUGIN

# What it learns, and its prior, is the sign that its helper gives.
SIGNED = PLUGIN.replace(
    "\nfrom typing", "\nimport torch\nimport sign_of_mine\nfrom typing"
).replace(
    "    def fit(self, episode):\n",
    """    sources: ClassVar[str] = "others"
    source_shots: ClassVar[int] = 0

    def pretraining(self):
        return {}

    def pretrain(self, episodes):
        return {"sign": torch.tensor([sign_of_mine.SIGN])}

    def learn(self, episode):
        return episode.prior or self.pretrain([])

    def predictor(self, state, target):
        return lambda images: state["sign"] * (images.features() @ target.text_features().T)

    def fit(self, episode):
        return self.predictor(self.learn(episode), episode.target)

    def _unused(self, episode):
""",
)
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
    for name in ("mine_too", "class_mean"):
        sys.modules.pop(f"fsbench_method_{name}", None)
    sys.modules.pop("sign_of_mine", None)


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
    assert report.out.count("Mine, code ") == 3, "two rows, and a note about one of them"
    assert report.out.count("made by other code than mine_too.py holds now") == 1
    assert "Zero-shot" not in report.out
    present = invoke("compare", "./mine_too.py", "zero_shot", *store)
    assert present.code == 0, present.err  # a file stands for its present code
    ambiguous = invoke("compare", "mine_too", "zero_shot", *store)
    assert ambiguous.code == 2
    assert "2 rows here, several with its defaults; name one: 'Mine, code" in ambiguous.err


def test_a_report_says_which_rows_were_made_by_other_code_than_a_file_holds_now(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, store = Path("lab", "mine_too.py"), ("--results", tmp_path / "results")
    file.parent.mkdir()
    file.write_text(PLUGIN)
    forget(monkeypatch)
    ran = invoke("run", "--method", "./lab/mine_too.py", *GRID, *store)
    assert ran.code == 0, ran.err
    Path("lab", "grid.toml").write_text('[[grid]]\nmethods = "./mine_too.py"\n')
    named = (["--method", "lab/mine_too.py"], ["--config", "lab/grid.toml"])
    told = "Mine: made by other code than lab/mine_too.py holds now"

    def reports(*options: object) -> str:
        forget(monkeypatch)
        shown = invoke("report", *store, *options)
        assert shown.code == 0, shown.err
        return " ".join((shown.out + shown.err).split())

    assert not any("other code" in reports(*option) for option in named)
    file.write_text(PLUGIN + "raise SystemExit('this code has run')\n")
    for option in named:
        assert told in reports(*option)
        assert told in reports(*option, "--format", "markdown")
        assert f"warning: {told}" in reports(*option, "--html", "page")
    assert "other code" not in reports(), "of which file nobody has said"
    file.rename("mine_too.py")
    assert "Mine: made by other code than mine_too.py holds now" in reports()
    Path("mine_too.py").unlink()
    os.mkfifo("mine_too.py")
    assert "other code" not in reports(), "nothing waits for a pipe"


def test_a_parameter_that_was_changed_stands_in_the_row_of_a_method_of_ones_own(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine_too.py").write_text(PLUGIN)
    store = ("--results", tmp_path / "results")
    ran = invoke("run", "--method", "./mine_too.py", *GRID, *store, "--set", "mine_too.rate=0.9")
    assert ran.code == 0, ran.err
    forget(monkeypatch)  # the report does not know the file, and there is one row of it
    for shown in (ran, invoke("report", *store)):
        assert "Mine, rate=0.9" in shown.out


def test_a_link_in_the_place_of_a_method_does_not_end_a_report(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = ["a"] * (len(tmp_path.parts) + 2)
    Path("shallow.py").write_text(PLUGIN)
    link = Path(*parts).with_suffix(".py")
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "shallow.py")
    write(tmp_path / "results", [scored(identity(".".join(parts), code="0" * 12), 0.5)])
    shown = invoke("report", "--results", "results")
    assert (shown.code, "other code" in shown.out + shown.err) == (0, False), shown.err


@pytest.mark.parametrize(
    ("asked", "folder"),
    [
        (("--protocol", "base-to-new", "--sources", "none"), "states"),
        (("--sources", "tiny_digits"), "priors"),
    ],
)
def test_an_edited_helper_leaves_no_learned_state_and_no_prior_in_use(
    asked: tuple[str, ...],
    folder: str,
    invoke: Invoke,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine_too.py").write_text(SIGNED)
    correct = []
    for sign in ("+1.0", "-1.0"):
        Path("sign_of_mine.py").write_text(f"SIGN = {sign}\n")
        shutil.rmtree("__pycache__", ignore_errors=True)
        forget(monkeypatch)
        result = invoke("run", "--method", "./mine_too.py", *GRID, *asked, "--results", "r")
        assert result.code == 0, result.err
        found = {record.key: sum(record.counts.correct) for record in Store(Path("r")).records()}
        correct.append(sum(found.values()) - sum(correct))
    assert correct[0] > 2 * correct[1]
    assert len(list(Path("r", folder).glob("*.json"))) == 2


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
    told = "warning: Mine: made by other code than mine_too.py holds now"
    assert told not in compared.err
    Path("mine_too.py").write_text(OTHER)
    for shape in ((), ("--json",)):
        forget(monkeypatch)
        stale = invoke("compare", *names, "--results", "r", *shape)
        assert stale.code == 0, stale.err
        assert stale.err.count(told) == 1, "the numbers are those of before"
        assert "Zero-shot: made by" not in stale.err


def test_replay_names_the_file_of_a_method_of_ones_own_and_says_that_its_code_is_another(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("class_mean.py")
    file.write_text(PLUGIN)
    assert invoke("run", "--method", "./class_mean.py", *GRID, "--results", "r").code == 0
    (made,) = Store(Path("r")).records()
    replay = ("replay", made.key, "--results", "r")
    refused = invoke(*replay)
    assert refused.code == 2
    assert "add --method class_mean, or its file as --method ./class_mean.py" in refused.err
    assert "did you mean" not in refused.err, "nearest_mean is another method"
    same = invoke(*replay, "--method", "./class_mean.py")
    assert same.out.endswith("right\n"), same.err
    file.write_text(PLUGIN + "\nUNUSED = 1\n")
    forget(monkeypatch)
    other = invoke(*replay, "--method", "./class_mean.py")
    assert other.code == 0, other.err
    assert ": identical, " in other.out
    assert f"right\ncode was {made.identity.code}, is " in other.out
    forget(monkeypatch)


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
    assert "the code of mine_too changed after this run began" in result.err


def test_the_golden_table_of_a_method_of_ones_own_is_checked_as_its_page_says(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GOLDEN.md: once with --update, then in continuous integration, where the code is trusted by
    its name on the command line.
    """
    monkeypatch.chdir(tmp_path)
    Path("mine_too.py").write_text(PLUGIN)
    forget(monkeypatch)
    few = ("--dataset", "tiny_shapes", "--shots", "1", "--plain")
    golden = ("--golden", "golden.csv")
    assert invoke("check", "--update", "--method", "./mine_too.py", *golden, *few).code == 0
    for given in ("./mine_too.py", "mine_too.py"):
        forget(monkeypatch)
        result = invoke("check", *golden, "--method", given, "--plain")
        assert result.code == 0, result.err
        assert "1 of 1 cell is as the golden table says" in result.out
    forget(monkeypatch)
    untrusted = invoke("check", *golden)
    assert untrusted.code == 2
    assert "if you trust it, add --method" in untrusted.err
    Path("mine_too.py").write_text(OTHER)
    forget(monkeypatch)
    assert invoke("check", *golden, "--method", "./mine_too.py", "--plain").code == 3
    page = (Path(reference.__file__).parent / "GOLDEN.md").read_text()
    assert "python -m benchmark check --golden golden.csv --method my_lab.my_method" in page


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--results", "", "--method", "zero_shot"),
        ("report", "--results", ""),
        ("report", "--html", ""),
        ("report", "--figures", " "),
        ("check", "--golden", ""),
        ("export", "--out", ""),
        ("prepare", "dtd", "--from", ""),
        ("status", "--results", ""),
        ("plan", "--data-root", ""),
    ],
    ids=" ".join,
)
def test_an_empty_path_is_refused(command: tuple[str, ...], invoke: Invoke) -> None:
    result = invoke(*command)
    assert result.code == 2
    assert "a path is empty, as an unset shell variable is" in result.err


def test_a_page_below_a_file_is_refused_in_a_sentence(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("mine")
    assert invoke("run", "--method", "zero_shot", *GRID, "--results", tmp_path / "r").code == 0
    for place in ("FILE", "FILE/x", "FILE/x/y"):
        result = invoke("report", "--results", tmp_path / "r", "--html", tmp_path / place)
        assert result.code == 2
        assert "--html takes a folder, and" in result.err
    assert (tmp_path / "FILE").read_text() == "mine"


def test_a_method_without_its_prior_says_so_before_it_runs_and_in_its_row(
    invoke: Invoke, tmp_path: Path
) -> None:
    few = ("--set", "epochs=1", "--set", "pretrain_steps=2", "--results", tmp_path / "r")
    run = ("run", "--method", "prompt_adapter", *GRID, *few)
    alone = invoke(*run, "--sources", "none")
    assert alone.code == 0, alone.err
    assert "Prompt-Adapter" in alone.out
    assert "no prior" in alone.out
    text = (
        'title = "P"\ndomain = "p"\nclass_names = ["a", "b"]\ntemplates = ["{}"]\nlicence = "x"\n'
        '[source]\nkind = "image_folder"\nfolder = "p"\ntrain = "train"\ntest = "test"\n'
    )
    for split in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "p" / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                colour = (number * 60, 200 if name == "a" else 20, 100 if split == "train" else 50)
                Image.new("RGB", (40, 40), colour).save(folder / f"{number}.png")
    (tmp_path / "pets.toml").write_text(text)
    own = [each if each != "tiny_shapes" else tmp_path / "pets.toml" for each in run]
    result = invoke(*own, "--backbone", "tiny", "--val", "none")
    assert "belongs to no suite, so methods with a prior run without one" in result.err
    assert "--sources names datasets for it" in result.err
    assert result.code == 0, result.err
    assert "no prior" in result.out
