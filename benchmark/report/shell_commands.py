"""The command that makes a record again: what a reader of a report copies into a terminal."""

from __future__ import annotations

import shlex

from benchmark.protocols import FEW_SHOT
from benchmark.records.record import Identity
from benchmark.report.variants import USUAL_VAL, own_card, own_params, own_preset


def run_command(named: Identity) -> str:
    """`run` with every flag that is not its default; all parameters of a plug-in, whose defaults
    are not known here.
    """
    words = ["--method", named.method, "--dataset", named.dataset, "--backbone", named.backbone]
    if named.evaluation != FEW_SHOT:
        words += ["--protocol", named.evaluation]
    for source in named.learned_on:
        words += ["--learn-from", source]
    if named.shots:
        words += ["--shots", str(named.shots), "--seed", str(named.seed)]
    if named.preset:
        words += ["--preset", named.preset]
    if named.shots and named.val != USUAL_VAL and _val_is_open(named):
        words += ["--val", named.val]
    if named.texts:
        words += ["--texts", named.texts]
    if named.sampler not in ("coop", "none"):
        words += ["--sampler", named.sampler]
    words += ["--precision", named.precision]
    if named.classes != "all" and named.evaluation == FEW_SHOT:
        words += ["--classes", named.classes]
    if named.sources and not named.preset:
        words += ["--sources", ",".join(sorted(named.sources))]
        words += ["--source-shots", str(named.source_shots)]
    return "python -m benchmark run " + shlex.join([*words, *_changed_parameters(named)])


def _val_is_open(named: Identity) -> bool:
    """Whether --val may be given: where no preset says what is validated on."""
    said = own_preset(named)
    return said.val is None if said else not named.preset


def _changed_parameters(named: Identity) -> list[str]:
    """`--set` for every hyper-parameter that is not the method's default."""
    card = own_card(named.method)
    words = []
    usual = {} if named.preset or not card else card.defaults
    for name, value in own_params(named).items():
        if usual.get(name, ...) != value:
            words += ["--set", f"{named.method}.{name}={value}"]
    return words
