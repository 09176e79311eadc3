"""The records that the options of a command choose."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from benchmark import data, methods
from benchmark.commands.option_fields import RecordFilters
from benchmark.commands.options.values import whole_numbers
from benchmark.errors import UserError
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.report import record_selection


def chosen_records(store: Store, filters: RecordFilters, notes: list[str]) -> list[Record]:
    """The records that pass all filters; what was passed over is added to `notes`."""
    records = record_selection.select_records(
        *(store, notes, filters.methods, filters.datasets, filters.backbones),
        *(filters.preset, filters.protocol),
        suites=filters.suites,
        precision=filters.precision,
        shots=whole_numbers("shots", filters.shots),
        seeds=whole_numbers("seed", filters.seeds),
        sampler=filters.sampler,
        val=filters.val,
    )
    if not filters.config:
        return records
    from benchmark.commands.grid_records import records_of_grid

    return records_of_grid(records, filters.config, filters, notes)


def named_files(filters: RecordFilters) -> dict[str, Path]:
    """The files of methods that the options name, or their grid file does, by names of records."""
    named = [*filters.methods, *filters.trusted]
    if filters.config:
        from benchmark.commands.grid_file import read_grid_file
        from benchmark.commands.grid_strangers import named_methods

        named += named_methods(read_grid_file(filters.config))
    return {methods.stable_name(name): Path(name) for name in named if name.endswith(".py")}


def files_of_datasets(filters: RecordFilters) -> dict[str, str]:
    """The TOMLs that the options name, by names of records, which do not say where these lie."""
    files: dict[str, str] = {}
    for name in filters.datasets:
        if name.endswith(".toml"):
            with suppress(UserError):  # records outlive the file
                files[data.read_spec(name).name] = name
    return files
