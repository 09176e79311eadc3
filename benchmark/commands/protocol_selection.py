"""What a protocol makes of the chosen methods and datasets: who can take part, and from where."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark import data, methods
from benchmark.backbones import weights
from benchmark.commands.option_fields import Flags
from benchmark.commands.options.values import one_of
from benchmark.errors import UserError
from benchmark.methods import Card
from benchmark.protocols import ALL, BASE_TO_NEW, DOMAIN, FEW_SHOT, FROM_A_SOURCE, PROTOCOLS, others
from benchmark.records.record import Scalar

EMBEDDED = ("tiny", "tiny_shift")  # suites
SOURCE, EMBEDDED_SOURCE = "imagenet", "tiny_shapes"
FEWEST = 2  # classes of a half


def protocol_of(flags: Flags) -> str:
    """The name of the protocol. UserError for options that do not go with it."""
    name = one_of("protocol", flags.protocol, PROTOCOLS)
    if flags.classes != ALL and name != FEW_SHOT:
        raise UserError(
            f"--classes chooses what --protocol few-shot learns and tests; leave it out, since "
            f"{name} says itself which classes those are"
        )
    if flags.learn_from and name not in FROM_A_SOURCE:
        raise UserError(
            f"--learn-from goes with --protocol {' or '.join(FROM_A_SOURCE)}; "
            f"{name} learns on the datasets that it tests"
        )
    return name


def is_embedded(dataset: str) -> bool:
    """Whether a dataset is drawn by the suite itself."""
    return any(dataset in data.suites()[suite] for suite in EMBEDDED)


def usual_backbone(dataset: str) -> str:
    """What a dataset is run with where no backbone is named."""
    return weights.TINY if is_embedded(dataset) else weights.STANDARD


def source_of(flags: Flags, datasets: Sequence[str]) -> str:
    """The dataset to learn on: the one asked for, or the parent of a variant, or a default."""
    if flags.learn_from:
        return flags.learn_from
    parents = [data.read_spec(name).parent for name in flags.datasets]
    if flags.protocol == DOMAIN and parents and parents[0]:
        return parents[0]
    return EMBEDDED_SOURCE if all(map(is_embedded, datasets)) else SOURCE


def variants_of(source: str) -> tuple[str, ...]:
    """The shipped datasets with the classes of `source` under a shift of domain."""
    return tuple(name for name in data.names() if data.read_spec(name).parent == source)


def require_variants(names: Sequence[str], source: str) -> None:
    """UserError for a target of the domain protocol that is no variant of the source."""
    for name in others(names, source):
        if data.read_spec(name).parent != source:
            raise UserError(
                f"{name} is no shifted variant of {source}, whose classes it would have; "
                "take --protocol cross-dataset for other datasets"
            )


def require_halves(names: Sequence[str]) -> None:
    """UserError for a dataset with too few classes for base-to-new: one class is always right."""
    for name in names:
        classes = len(data.read_spec(name).class_names)
        if classes < 2 * FEWEST:
            raise UserError(
                f"{name} has {classes} classes, so that its new half has {classes // 2}; "
                f"--protocol {BASE_TO_NEW} needs {2 * FEWEST} classes at least"
            )


def require_unbound(protocol: str, cards: Sequence[tuple[Card, dict[str, Scalar]]]) -> None:
    """UserError for a method whose learned state the targets of the protocol cannot use.

    A variant has classes of its source, so that a bound method's columns serve there.
    """
    if protocol in (FEW_SHOT, DOMAIN):
        return
    for card, params in cards:
        if why := card.bound(params):
            can = ", ".join(unbound(methods.names()))
            raise UserError(f"{why}, so --protocol {protocol} is not for it; these can: {can}")


def unbound(names: Sequence[str]) -> list[str]:
    """The methods that transfer at their defaults."""
    return [name for name in names if not methods.card(name).bound({})]
