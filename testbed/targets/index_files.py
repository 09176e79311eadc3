"""The index beside records, forged by one who knows how its checksum is made."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.records import index
from benchmark.records.store import Store, read
from testbed.mutation import json_text, mutated, mutated_tree
from testbed.targets.inputs import Random, written
from testbed.targets.records import record_trees


@cache
def _tree() -> Any:
    """The content of an honest index."""
    content, problems = index.Content(), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for tree in record_trees():
            file = written(Path(folder) / f"{tree['key']}.json", json_text(tree))
            assert read(file)
            files.append((file, "1-1-1-1"))
        content.rows.extend(index._fresh_rows(content, files, problems))
    assert not problems
    return json.loads(content.model_dump_json())


def honest_index() -> bytes:
    return json_text(_tree())


def make_index(rng: Random) -> bytes:
    if rng.random() < 0.7:
        return json_text(mutated_tree(rng, _tree()))
    return mutated(rng, honest_index(), [honest_index()])


def read_index(folder: Path, content: bytes) -> None:
    """Taken apart to the last field, or passed over."""
    place = written(folder / index.FILE, index._checksum(content) + b"\n" + content)
    found = index._load(place, 10_000_000)
    if not found.rows:
        raise UserError("nothing is taken from it")
    for record in index._records(found, found.rows, Store(folder)):
        assert 0 <= record.class_accuracy <= 1
        assert record.costs.trainable_params >= 0
        assert record.identity.shots >= 0
