"""Housekeeping: `nox` runs the tests, `nox -l` lists the rest. Every session builds its own
environment.
"""

import nox

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "venv"
nox.needs_version = ">=2024.10.9"


def install(session: nox.Session, *groups: str) -> None:
    """The project and some dependency groups, at the versions that were tested."""
    wanted = (
        nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), *groups)
        if groups
        else []
    )
    session.install("-e", ".", *wanted, "-c", "constraints.txt")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, then the regression check of the tiny suite against its golden table."""
    install(session, "test")
    session.run("pytest", *session.posargs)
    session.run("python", "-m", "benchmark", "check", "--results", session.create_tmp())


@nox.session
def lint(session: nox.Session) -> None:
    """Style, imports, formatting and types."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    """Speed against naive references, side by side: `nox -s bench -- prompting`."""
    install(session)
    for name in session.posargs or ["prompting"]:
        session.run("python", "-m", f"benches.{name}")


@nox.session
def gpu(session: nox.Session) -> None:
    """The tests that need a CUDA device."""
    install(session, "test")
    session.run("pytest", "-m", "gpu", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """A wheel, installed and asked for its methods from an empty folder."""
    session.install("build")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--wheel", "--outdir", folder)
