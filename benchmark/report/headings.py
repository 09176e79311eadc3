"""The heading of every row: a method's title and what tells it from the method's other rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmark import data
from benchmark.records.record import Scalar
from benchmark.report.variants import OF_THE_PRESET, MethodVariant, own_card

TRANSDUCTIVE = "transductive"


def headings(variants: Iterable[MethodVariant]) -> dict[MethodVariant, str]:
    """The heading of each variant: the title, then what differs from the defaults or other rows."""
    return {
        variant: ", ".join([variant.title, *parts])
        for variant, parts in differences(variants).items()
    }


def is_default(variant: MethodVariant) -> bool:
    """Whether nothing of it was chosen: as its method's only row it would need no more than the
    title, and the word that goes with every row of a transductive method.
    """
    return set(differences([variant])[variant]) <= {TRANSDUCTIVE}


def differences(variants: Iterable[MethodVariant]) -> dict[MethodVariant, list[str]]:
    """What stands behind each variant's title in its heading, part by part."""
    same_method: dict[str, list[MethodVariant]] = defaultdict(list)
    for variant in variants:
        same_method[variant.method].append(variant)
    return {
        variant: list(_differences(variant, rows))
        for rows in same_method.values()
        for variant in rows
    }


def _differences(variant: MethodVariant, same_method: Sequence[MethodVariant]) -> Iterator[str]:
    if variant.preset:
        yield f"as {variant.preset}"
    yield from _changed_parameters(variant, same_method)
    if len({other.version for other in same_method}) > 1:
        yield f"version {variant.version}"
    if len({other.code for other in same_method}) > 1:
        yield f"code {variant.code[:6] or 'unknown'}"
    if variant.val == "none" and variant.sampler != "none":
        yield "no validation set"
    elif variant.preset and variant.val != OF_THE_PRESET:
        yield f"val={variant.val}"
    if variant.transductive:
        yield TRANSDUCTIVE
    if variant.texts:
        yield f"texts {variant.texts}{_digest_of_texts(variant, same_method)}"
    if variant.sampler not in ("coop", "none"):
        yield f"{variant.sampler} sampling"
    exposure = variant.exposure
    several = len({other.exposure for other in same_method}) > 1
    if several or exposure.target or not exposure.ranked or _lacks_its_prior(variant):
        yield str(exposure) or "no prior"


def _digest_of_texts(variant: MethodVariant, same_method: Sequence[MethodVariant]) -> str:
    """Told where two sets have one name."""
    same_name = {other.texts_digest for other in same_method if other.texts == variant.texts}
    return f"@{variant.texts_digest[:6]}" if len(same_name) > 1 else ""


def _lacks_its_prior(variant: MethodVariant) -> bool:
    """Whether it ran without the prior that its title promises."""
    card = own_card(variant.method)
    return bool(card and card.pretrains and not variant.exposure.pool)


def _changed_parameters(
    variant: MethodVariant, same_method: Sequence[MethodVariant]
) -> Iterator[str]:
    usual = {} if variant.preset else _usual_parameters(variant, same_method)
    for name, value in variant.params:
        if name not in usual or usual[name] != value:
            yield f"{name}={value}"


def _usual_parameters(
    variant: MethodVariant, same_method: Sequence[MethodVariant]
) -> Mapping[str, Scalar]:
    """The method's defaults; of a plug-in, whose defaults are not known here, what all rows share
    but for what was changed on purpose.
    """
    card = own_card(variant.method)
    if card:
        return card.defaults
    shared = set.intersection(*(set(other.params) for other in same_method))
    return {name: value for name, value in shared if name not in variant.changed}


def dataset_title(name: str) -> str:
    """The title of a shipped dataset, as papers print it; any other name as it is."""
    return data.read_spec(name).title if name in data.names() else name
