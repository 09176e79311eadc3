"""`compare`: two methods on the same seeds and test images."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.option_fields import RecordFilters, refuse_trust_alone, takes_fields
from benchmark.commands.printing import consoles, print_json, print_tables, warn
from benchmark.errors import UserError

First = Annotated[
    str,
    typer.Argument(
        metavar="A",
        help="A method (name, module, file), whose row of defaults is meant where it has several, "
        "or a whole row heading of `report`.",
    ),
]
Second = Annotated[str, typer.Argument(metavar="B", help="Another one.")]


@partial(takes_fields, without=("methods",))  # which are A and B
def compare(
    context: typer.Context,
    first: First,
    second: Second,
    filters: RecordFilters,
    results: opt.Results = opt.DEFAULT,
    superseded: opt.Superseded = False,
    data_root: opt.DataRoot = None,
    as_json: opt.Json = False,
) -> None:
    """Compare two methods on the same seeds and test images, and over the datasets of a suite."""
    from benchmark import methods
    from benchmark.commands.record_choice import chosen_records, files_of_datasets
    from benchmark.records.store import Store
    from benchmark.report import comparison, edited_methods, grouping
    from benchmark.report.comparison_table import comparison_table
    from benchmark.report.image_results import ImageResults

    refuse_trust_alone(context, filters.config)
    notes: list[str] = []
    store = Store(results)
    groups = grouping.group_records(chosen_records(store, filters, notes), notes, superseded)
    # a heading may hold a slash, so only what ends as a file is taken for one
    files = {each: methods.stable_name(each) for each in (first, second) if each.endswith(".py")}
    one, other = (files.get(each, each) for each in (first, second))
    paths = {name: Path(file) for file, name in files.items()}
    groups = edited_methods.with_edited_files(groups, paths)
    images = ImageResults(store, data_root, files_of_datasets(filters))
    compared = comparison.compare(groups, one, other, images, _code_of(files))
    if as_json:
        print_json([comparison.comparison_dict(each) for each in compared])
    else:
        print_tables([comparison_table(each) for each in compared], consoles()[0])
    warn([*notes, *dict.fromkeys(note for each in compared for note in each.edited)])


def _code_of(files: Iterable[str]) -> dict[str, str]:
    """Name in records -> code that the file has now; records outlive files."""
    from benchmark import methods

    codes = {}
    for file in files:
        with suppress(UserError):
            codes[methods.stable_name(file)] = methods.card(file).code
    return codes
