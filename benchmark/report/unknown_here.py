"""What a submission names that this copy of the suite does not know, so that nobody takes it for
checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmark import data
from benchmark.backbones import weights
from benchmark.backbones.precision import PRECISIONS
from benchmark.errors import UserError, counted
from benchmark.grid import CLASSES, PROTOCOL, SAMPLERS, VAL_POLICIES
from benchmark.presets import PRESETS
from benchmark.protocols import PROTOCOLS
from benchmark.records.record import BEYOND_FEW_SHOT, Identity, Record
from benchmark.report.variants import own_card

MOST_LETTERS = 60  # of a name that somebody else has written
MOST_NAMES = 5
CHOICES = {  # field -> its values here
    "classes": CLASSES,
    "sampler": SAMPLERS,
    "val": (*VAL_POLICIES, *BEYOND_FEW_SHOT),
    "precision": PRECISIONS,
    "preset": ("", *PRESETS),
}


def require_no_newer_version(records: Iterable[Record]) -> None:
    """UserError, exit code 3, for a record of a version of our methods that is not yet there: it
    would take the place of all others, and nothing of it can be computed again.
    """
    for record in records:
        named = record.identity
        known = own_card(named.method)
        if known and named.adapter_version > known.version:
            raise UserError(
                f"record {record.key} is of version {named.adapter_version} of {named.method}, and "
                f"the newest here is {known.version}; get the newest suite, or compute its cell "
                "again and submit that",
                exit_code=3,
            )


def unknown_here(records: Iterable[Record]) -> tuple[str, ...]:
    """Methods, datasets, backbones, weights, protocols and choices that are unknown here, each
    named once.
    """
    found = sorted({what for record in records for what in _unknown(record.identity)})
    more = [f"{len(found) - MOST_NAMES} more"] if len(found) > MOST_NAMES else []
    return (*found[:MOST_NAMES], *more)


def said_of_private(records: Iterable[Record]) -> list[str]:
    """A sentence about the datasets that do not come with the suite, tested or learned from, where
    there are some: whoever packs their records should know that it makes their names public.
    """
    shipped = set(data.names())
    private = [theirs for record in records if (theirs := _datasets(record.identity) - shipped)]
    if not private:
        return []
    named = sorted(set().union(*private))
    names = ", ".join(named[:MOST_NAMES])
    more = f" and {len(named) - MOST_NAMES} more" if len(named) > MOST_NAMES else ""
    return [
        f"{counted(len(private), 'record')} with images of {names}{more}, which nobody else has: "
        "these names become public, others cannot check the records; --dataset, --suite or "
        "--method leaves them out"
    ]


def _datasets(named: Identity) -> set[str]:
    """Those it was tested on or learned from, by a prior too."""
    return {named.dataset, *named.learned_on, *named.sources}


def _unknown(named: Identity) -> Iterator[str]:
    if not own_card(named.method):
        yield f"the method '{named.method[:MOST_LETTERS]}'"
    for name in _datasets(named).difference(data.names()):
        yield f"the dataset '{name[:MOST_LETTERS]}'"
    if named.backbone not in weights.NAMED:
        yield f"the backbone '{named.backbone[:MOST_LETTERS]}'"
    elif named.weights_digest != _digest_here(named.backbone):
        yield f"the weights {named.weights_digest[:12]} of {named.backbone}"
    if named.evaluation not in PROTOCOLS:
        yield f"the protocol '{named.evaluation[:MOST_LETTERS]}'"
    if named.protocol != PROTOCOL:
        yield f"version {named.protocol} of the suite's rules"
    for field, known in CHOICES.items():
        if (value := getattr(named, field)) not in known:
            yield f"the {field} '{value[:MOST_LETTERS]}'"


def _digest_here(backbone: str) -> str:
    """Of the weights as they are on this machine; empty where they are not."""
    try:
        return weights.weights_digest(backbone)
    except UserError:
        return ""
