"""The command line: one module of benchmark/commands per command, assembled here.

Exit codes: 0 all well; 1 some cells failed; 2 the command makes no sense; 3 numbers differ from
those expected; 4 data or weights are missing; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from benchmark.commands.board import board
from benchmark.commands.check import check
from benchmark.commands.compare import compare
from benchmark.commands.doctor import doctor
from benchmark.commands.export import export
from benchmark.commands.features import features
from benchmark.commands.init_dataset import init_dataset
from benchmark.commands.list_ import list_
from benchmark.commands.merge import merge
from benchmark.commands.plan import plan
from benchmark.commands.predict import predict
from benchmark.commands.prepare import prepare
from benchmark.commands.replay import replay
from benchmark.commands.report import report
from benchmark.commands.reproduce import reproduce
from benchmark.commands.run import run
from benchmark.commands.status import status
from benchmark.commands.submit import submit
from benchmark.commands.test_ import test_
from benchmark.errors import UserError

INTERRUPTED = 130
SHORT, LONG = "fsbench", "python -m benchmark"  # names of this program
COMPLETION = ("--install-completion", "--show-completion")
PANELS: dict[str, tuple[Callable[..., None], ...]] = {  # of --help, in this order
    "Look around": (list_, doctor),
    "Get ready": (prepare, init_dataset, features, test_),
    "Run cells": (plan, run, status, replay, check, reproduce),
    "Read results": (report, compare, export, merge),
    "Use what was learnt": (predict,),
    "Share results": (submit, board),
}


def _print_version(wanted: bool) -> None:
    if wanted:
        from benchmark.commands.machine_facts import version_line

        print(version_line())
        raise typer.Exit


def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Few-shot adaptation of vision-language models: datasets x methods x shots x seeds."""


def _assembled() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False, no_args_is_help=True)
    app.callback()(_main)
    for panel, commands in PANELS.items():
        for command in commands:
            name = command.__name__.rstrip("_").replace("_", "-")
            app.command(name, rich_help_panel=panel)(command)
    return app


app = _assembled()


def main() -> None:
    """Run the command line of this process and end it with the exit code."""
    code = execute(sys.argv[1:], _program(sys.argv))
    # Python remembers an interrupt that lands in code run from text, as dataclasses run theirs when
    # they are made, and although handled it would end the process by a signal. Text that runs well
    # clears that.
    exec("")
    sys.exit(code)


def _program(argv: Sequence[str]) -> str:
    """How the program was called; completion is that of `fsbench`, since no shell completes what
    stands behind `python -m`.
    """
    completing = any(word in COMPLETION for word in argv[1:])
    return SHORT if completing or Path(argv[0]).stem == SHORT else LONG


def execute(arguments: Sequence[str], program: str = LONG) -> int:
    """Run one command line and return its exit code; a user's error is one sentence on stderr."""
    try:
        code = app(list(arguments), prog_name=program, standalone_mode=False)
        return int(code or 0)
    except UserError as error:
        return _complain(str(error), error.exit_code)
    except TyperException as error:
        return _complain(_sentence(error), getattr(error, "exit_code", 2))
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _sentence(error: TyperException) -> str:
    """A usage error in one sentence; for an unknown command or option it names the nearest one,
    for a missing argument all of them.
    """
    format_message = getattr(error, "format_message", None)
    sentence = str(format_message() if format_message else error)
    lacks_an_argument = sentence.startswith("Missing argument")
    return f"{sentence.rstrip('.')}; {_usage(error)}" if lacks_an_argument else sentence


def _usage(error: TyperException) -> str:
    """'usage: fsbench compare [OPTIONS] A B'."""
    return str(error.ctx.get_usage()).replace("Usage", "usage", 1)  # type: ignore[attr-defined]


def _complain(message: str, code: int) -> int:
    if message:
        print(f"error: {message}", file=sys.stderr)
    return code
