"""The command that makes a record again: what a reader of a report copies into a terminal."""

from __future__ import annotations

import shlex

from benchmark.records.record import Identity
from benchmark.report.grouping import own_card


def run_command(named: Identity) -> str:
    """`run` with every flag that is not its default; all parameters of a plug-in, whose defaults
    are not known here.
    """
    words = ["--method", named.method, "--dataset", named.dataset, "--backbone", named.backbone]
    words += ["--shots", str(named.shots), "--seed", str(named.seed)] if named.shots else []
    words += ["--val", named.val] if named.shots and named.val != "up-to-4" else []
    words += ["--sampler", named.sampler] if named.sampler not in ("coop", "none") else []
    words += ["--precision", named.precision]
    words += ["--classes", named.classes] if named.classes != "all" else []
    words += ["--sources", ",".join(sorted(named.sources))] if named.sources else []
    card = own_card(named.method)
    if named.sources:
        words += ["--source-shots", str(named.source_shots)]
    for name, value in named.params.items():
        if not card or card.defaults.get(name, ...) != value:
            words += ["--set", f"{named.method}.{name}={value}"]
    return "python -m benchmark run " + shlex.join(words)
