"""What a running grid leaves in its results folder for others to read: plans, announcements,
leases, logs, failures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.commands import progress_text, progress_view
from benchmark.records.store import Store
from testbed.mutation import json_text, mutated, mutated_tree
from testbed.targets.inputs import Random, written

KEY, OTHER = "0123456789ab", "abcdef012345"
PLAN: Any = {
    KEY: ["coop tiny_digits 4-shot seed 1 tiny", 2.5],
    OTHER: ["zero_shot tiny_digits", None],
}
ANNOUNCED: Any = {
    "cell": "coop tiny_digits 4-shot seed 1 tiny",
    "host": "here",
    "pid": 1,
    "expected_s": 2.5,
}
TEXTS = {
    "locks": b"1\nhere\n",
    "logs": b"[1.0 s] fit\nloss 0.5\n",
    "failures": b"coop\n\nTraceback\nValueError: x\n",
}


def honest_grid() -> dict[str, bytes]:
    texts = {
        f"{folder}/{KEY}.{'lock' if folder == 'locks' else 'txt'}": text
        for folder, text in TEXTS.items()
    }
    return {
        f"plans/{OTHER}.json": json_text(PLAN),
        f"running/{KEY}.json": json_text(ANNOUNCED),
    } | texts


def make_grid(rng: Random) -> dict[str, bytes]:
    """One or two of the files changed."""
    files = honest_grid()
    for name in rng.sample(list(files), rng.choice((1, 2))):
        tree = {"plans": PLAN, "running": ANNOUNCED}.get(name.partition("/")[0])
        files[name] = (
            json_text(mutated_tree(rng, tree))
            if tree and rng.random() < 0.6
            else mutated(rng, files[name], list(files.values()))
        )
    return files


def read_grid(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        written(folder / "results" / name, content)
    progress = progress_view.existing_progress(Store(folder / "results"), [])
    progress_text.as_dict(progress, "results")
    for line in progress_text.lines(progress, "results"):
        assert "\x1b" not in line.plain, "a stranger steers the terminal"
