"""`doctor`: what this machine has."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import print_json

Devices = Annotated[bool, typer.Option("--devices", help="Look for GPUs as well (imports torch).")]


def doctor(
    results: opt.Results = opt.DEFAULT,
    data_root: opt.DataRoot = None,
    devices: Devices = False,
    as_json: opt.Json = False,
) -> None:
    """Say what this machine has: versions, folders, prepared data, weights."""
    from benchmark.commands import machine_facts

    facts = machine_facts.facts(results, data_root, devices)
    if as_json:
        print_json(facts)
    else:
        print(machine_facts.text(facts))
