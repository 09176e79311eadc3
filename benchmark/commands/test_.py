"""`test`: the contract checked on a method, ours or anybody's, on a toy CLIP."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import print_json

if TYPE_CHECKING:
    from benchmark.conformance.subject import Subject
    from benchmark.conformance.verify import CheckResult
    from benchmark.records.record import Scalar

Method = Annotated[str, typer.Argument(metavar="METHOD", help="As for `run --method`.")]


def test_(method: Method, set_: opt.Set = opt.NOTHING, as_json: opt.Json = False) -> None:
    """Check that a method keeps the contract, on a toy CLIP: no data, no weights, under a minute.

    A method that trains for long says in `tested_at` with which settings it is tested, as in
    `tested_at: ClassVar[dict] = {"steps": 20}`; --set changes them.

    Exit code 1 where a check of correctness fails; a method that learns little is no error.
    """
    from benchmark import methods
    from benchmark.commands.method_settings import read_setting, settings_by_method

    card = methods.card(method)
    params = methods.checked(
        card, settings_by_method(map(read_setting, set_), [card.name])[card.name]
    )
    results, subject = [], _subject(method, params)
    if not as_json:
        settings = "".join(f", {name}={value}" for name, value in subject.settings().items())
        print(f"{card.title} ({card.name}), version {card.version}{settings}\n", flush=True)
    for result in _results(subject):
        results.append(result)
        if not as_json:
            print(result, flush=True)
    if as_json:
        print_json([dataclasses.asdict(each) for each in results])
    else:
        print("\n" + summary(results))
    raise typer.Exit(1 if any(each.problem and not each.capability for each in results) else 0)


def _subject(method: str, params: dict[str, Scalar]) -> Subject:
    from benchmark.conformance.subject import Subject

    return Subject(method, params)


def _results(subject: Subject) -> Iterator[CheckResult]:
    import torch

    from benchmark.conformance.verify import verify

    torch.set_num_threads(1)  # a model this small is many times faster that way
    return verify(subject)


def summary(results: list[CheckResult]) -> str:
    """How many checks of correctness hold, and how many of capability."""
    lines = []
    for kind, capability in (("correctness", False), ("capability", True)):
        chosen = [each for each in results if each.capability == capability]
        kept = sum(each.problem is None for each in chosen)
        lines.append(f"{kind}: {kept} of {len(chosen)} checks hold")
    return "\n".join(lines)
