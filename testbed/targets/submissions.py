"""Submissions of strangers, forged by one who knows how their checksums and keys are made."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from benchmark.records import submission
from benchmark.records.store import Store
from testbed.mutation import PATHS, json_text, mutated, mutated_tree
from testbed.targets.arrays import npz_files
from testbed.targets.inputs import Random, nothing_beside, written
from testbed.targets.records import record_trees, rekeyed

Files = dict[str, bytes]


def _files(records: list[Any], archives: list[Any]) -> Files:
    """The files of a submission; checksums fit whatever stands in them."""
    files = {
        submission.RECORDS: b"".join(json_text(each) + b"\n" for each in records),
        submission.PREDICTIONS: b"".join(json_text(each) + b"\n" for each in archives),
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    facts = {"format": 1, "records": len(records), "sha256": sums}
    return files | {submission.FACTS: json.dumps(facts).encode()}


def _lines() -> tuple[list[Any], list[Any]]:
    records = sorted(
        (tree | {"provenance": {"suite": "1"}} for tree in record_trees()),
        key=lambda tree: str(tree["key"]),
    )
    archive = base64.b64encode(npz_files()[0]).decode()
    return records, [{"key": tree["key"], "archive": archive} for tree in records]


def honest_submission() -> Files:
    return _files(*_lines())


def make_submission(rng: Random) -> Files:
    """A mutated record, archive or file."""
    records, archives = _lines()
    which = rng.random()
    if which < 0.4:
        at = rng.randrange(len(records))
        tree = mutated_tree(rng, records[at])
        records[at] = rekeyed(tree) if rng.random() < 0.5 else tree
    elif which < 0.7:
        at = rng.randrange(len(archives))
        archives[at] = mutated_tree(rng, archives[at])
    files = _files(records, archives)
    if which >= 0.7:
        name = rng.choice(sorted(files))
        files[name] = mutated(rng, files[name], list(files.values()))
    return files


def crafted_submissions() -> list[Files]:
    """Keys that are paths, and lines without end."""
    submissions = []
    for path in (*PATHS, "/../../../../escaped"):
        records, archives = _lines()
        records[0]["key"] = archives[0]["key"] = path
        submissions.append(_files(records, archives))
    records, archives = _lines()
    archives[0]["archive"] = "A" * (submission.MOST_LINE + 1)
    return [*submissions, _files(records, archives)]


def read_submission(folder: Path, files: Files) -> None:
    for name, content in files.items():
        written(folder / "theirs" / name, content)
    submission.unpack(folder / "theirs", Store(folder / "ours"))
    nothing_beside(folder, {"theirs", "ours"})
