"""What all tests share: one thread, a cache of their own, and real data where it is at hand."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmark.cli import execute
from benchmark.report import leaderboard
from benchmark.report.calibration import Calibrations
from benchmark.report.grouping import GroupedRecords

torch.set_num_threads(1)  # small models run many times faster that way
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell has started the tests in the background, where their children would ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data-root",
        type=Path,
        default=None,
        help="real datasets in CoOp's layout (default: FSBENCH_DATA)",
    )
    parser.addoption(
        "--real-shots",
        default="1,4",
        help="shots of the trial with real weights (default: 1,4)",
    )
    parser.addoption(
        "--require-gpu",
        action="store_true",
        help="stop where there is no CUDA device, instead of skipping the tests that need one",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--require-gpu") and not torch.cuda.is_available():
        raise pytest.UsageError(
            "there is no CUDA device here, so every test marked gpu would be skipped; "
            "run them on a machine that has one"
        )


# The longest files, which begin first: of two workers none is then left alone with one at the end.
LONGEST = (
    "test_faults",
    "test_executors",
    "test_real",
    "test_docs",
    "test_benches",
    "test_contract",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def data_root(request: pytest.FixtureRequest) -> Path:
    """The folder of real datasets; tests that ask for it skip where there is none."""
    given = request.config.getoption("--data-root") or os.environ.get("FSBENCH_DATA")
    if not given or not Path(given).is_dir():
        pytest.skip("needs real data: give --data-root or FSBENCH_DATA")
    return Path(given)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests neither read nor write the user's cache; they share one of their own so that features
    are computed once.
    """
    shared = tmp_path_factory.getbasetemp() / "fsbench-cache"
    monkeypatch.setenv("FSBENCH_CACHE", str(shared))


@dataclass(frozen=True)
class CliResult:
    code: int
    out: str
    err: str


Invoke = Callable[..., CliResult]


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Runs one command line in this process."""

    def run(*arguments: object) -> CliResult:
        capsys.readouterr()
        code = execute([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return CliResult(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def base_16() -> SimpleNamespace:
    """The towers of ViT-B/16 without numbers in them."""
    import open_clip

    from benchmark.backbones.towers import OpenClipTextTower, OpenClipVisionTower

    with torch.device("meta"):
        model = open_clip.CLIP(**open_clip.get_model_config("ViT-B-16"))
    return SimpleNamespace(
        vision=OpenClipVisionTower(model.visual),
        text=OpenClipTextTower(model, open_clip.SimpleTokenizer(), "argmax", 0),
        dim=512,
        device=torch.device("meta"),
        dtype=torch.float32,
    )


def leaderboard_csv(groups: GroupedRecords, found: Calibrations | None = None) -> str:
    """What `export` writes of these groups."""
    frame = leaderboard.with_decimals(leaderboard.leaderboard_frame(groups, found))
    return frame.to_csv(index=False, lineterminator="\n")
