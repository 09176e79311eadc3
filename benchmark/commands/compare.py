"""`compare`: two methods on the same seeds and test images."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import consoles, print_json, print_tables, warn
from benchmark.errors import UserError

First = Annotated[
    str,
    typer.Argument(
        metavar="A", help="A method (name, module, file), or a whole row heading of `report`."
    ),
]
Second = Annotated[str, typer.Argument(metavar="B", help="Another one.")]


def compare(
    first: First,
    second: Second,
    shots: opt.Shots = opt.NOTHING,
    protocol: opt.OfProtocol = "",
    results: opt.Results = opt.DEFAULT,
    data_root: opt.DataRoot = None,
    as_json: opt.Json = False,
) -> None:
    """Compare two methods on the same seeds and test images, and over the datasets of a suite."""
    from benchmark import methods
    from benchmark.records.store import Store
    from benchmark.report import comparison, grouping, record_selection
    from benchmark.report.comparison_table import comparison_table
    from benchmark.report.image_results import ImageResults

    notes: list[str] = []
    store = Store(results)
    records = record_selection.select_records(store, notes, protocol=protocol)
    groups = grouping.group_records(records, notes)
    numbers = opt.whole_numbers("shots", shots)
    # a heading may hold a slash, so only what ends as a file is taken for one
    files = {each: methods.stable_name(each) for each in (first, second) if each.endswith(".py")}
    code_of = {}
    for file, name in files.items():
        with suppress(UserError):  # records outlive the file
            code_of[name] = methods.card(file).code
    one, other = (files.get(each, each) for each in (first, second))
    images = ImageResults(store, data_root)
    compared = comparison.compare(groups, one, other, images, numbers, code_of)
    if as_json:
        print_json([comparison.comparison_dict(each) for each in compared])
    else:
        print_tables([comparison_table(each) for each in compared], consoles()[0])
    warn(notes)
