"""Records from a store, as a report wants them: filtered, and with a word about every file that was
passed over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmark import data
from benchmark.backbones import weights
from benchmark.errors import UserError, guess, nearest
from benchmark.methods import names, stable_name
from benchmark.records.index import read_records
from benchmark.records.record import Record
from benchmark.records.store import Store

# of fields that have another name on the command line
WORDS = {"evaluation": "protocol", "shots": "number of shots", "val": "validation policy"}
OF_SUPPORT = ("shots", "seed", "sampler", "val")  # fields that say how images were drawn


def select_records(
    store: Store,
    notes: list[str],
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
    backbones: Sequence[str] = (),
    preset: str = "",
    protocol: str = "",
    *,
    suites: Sequence[str] = (),
    precision: str = "",
    shots: Sequence[int] = (),
    seeds: Sequence[int] = (),
    sampler: str = "",
    val: str = "",
) -> list[Record]:
    """The trustworthy records that pass all filters; UserError where there are none at all.

    What concerns support sets (the last four) keeps all records that have none, of methods without
    shots: they stand beside every number of shots.
    """
    records = read_records(store, notes)
    if not records:
        raise UserError(
            f"there are no records in {store.root}{_passed_over(notes)}; "
            "`run` writes them, --results names another folder"
        )
    filters: dict[str, Sequence[str | int]] = {
        "method": list(map(stable_name, methods)),
        "dataset": list(map(_name, datasets)),
        "backbone": [_recorded(name, records) for name in backbones],
        "preset": [preset] if preset else [],
        "evaluation": [protocol] if protocol else [],
        "precision": [precision] if precision else [],
        "shots": shots,
        "seed": seeds,
        "sampler": [sampler] if sampler else [],
        "val": [val] if val else [],
    }
    records = _of_suites(records, suites)
    for field, wanted in filters.items():
        records = _filtered(records, field, wanted)
    return _of_files(records, [name for name in datasets if name.endswith(".toml")])


def _name(dataset: str) -> str:
    """What records call a dataset that is given by its file."""
    if not dataset.endswith(".toml"):
        return dataset
    try:
        return data.read_spec(dataset).name
    except UserError:  # records outlive the file
        return Path(dataset).stem


def _of_files(records: list[Record], tomls: Sequence[str]) -> list[Record]:
    """The records without those of other datasets that have the name of a file's, where there are
    some of the images that the file describes now.
    """
    digests: dict[str, set[str]] = defaultdict(set)
    known = {record.identity.dataset_digest for record in records}
    for toml in tomls:
        with suppress(UserError):  # records outlive the data
            digests[_name(toml)] |= {data.digest(toml)} & known
    return [
        record
        for record in records
        if record.identity.dataset_digest
        in (digests.get(record.identity.dataset) or {record.identity.dataset_digest})
    ]


def _recorded(name: str, records: Sequence[Record]) -> str:
    """A backbone as these records name it, however it is spelt: as a path as well."""
    known = {record.identity.backbone for record in records}
    if name in known:
        return name
    with suppress(UserError):  # weights that have left this machine, or no name of any
        name = weights.canonical(name)
        if weights.is_file(name):
            return weights.recorded(name)
    twin = name.replace("/", "-quickgelu/", 1)
    return twin if twin in known else name


def _of_suites(records: list[Record], wanted: Sequence[str]) -> list[Record]:
    """The records of datasets of these suites, by the names of the datasets."""
    suites = data.suites()
    for name in wanted:
        if name not in suites:
            raise UserError(f"there is no suite '{name}'; {nearest(name, list(suites))}")
    members = {dataset for name in wanted for dataset in suites[name]}
    return [record for record in records if not wanted or record.identity.dataset in members]


def _filtered(records: list[Record], field: str, wanted: Sequence[str | int]) -> list[Record]:
    """The records whose field has one of these values; of a field that concerns support sets also
    those without any.
    """
    if not wanted:
        return records
    kept_anyway = [each for each in records if field in OF_SUPPORT and not each.identity.shots]
    rest = [each for each in records if field not in OF_SUPPORT or each.identity.shots]
    known = sorted({getattr(record.identity, field) for record in records})
    hint = method_hint if field == "method" else nearest
    for name in wanted:
        if name not in known:
            has = hint(str(name), list(map(str, known)))
            raise UserError(f"no record has the {WORDS.get(field, field)} '{name}'; {has}")
    return kept_anyway + [each for each in rest if getattr(each.identity, field) in wanted]


def method_hint(name: str, recorded: Sequence[str]) -> str:
    """`nearest` for a method without records: among all names, and what has records where it is
    one of them.
    """
    every = names()
    near = "" if name in every else guess(name, [*recorded, *every])
    return near or f"these have: {', '.join(recorded)}"


def _passed_over(notes: Sequence[str]) -> str:
    return f" that can be read ({'; '.join(notes)})" if notes else ""
