"""Which records may be averaged with which: the only place that decides it.

A *setting* is what all numbers of one table share: suite, backbone, weights and precision, class
split, image pipeline, protocol. A *variant* is one row of it: a method with its hyper-parameters,
validation policy, sampler and what its prior has seen. Records of one setting, variant and dataset
differ in shots and seed alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from benchmark import data
from benchmark.errors import UserError
from benchmark.methods import Card, card, own
from benchmark.records.record import Identity, Record, Scalar

FULL = "full training sets"
TINY = "tiny"  # the embedded backbone, the only one that usually computes in float64


@dataclass(frozen=True, order=True)
class EvaluationSetting:
    """What must be equal for two numbers to stand in one table."""

    suite: str
    backbone: str
    weights_digest: str
    precision: str
    classes: str
    transform: str
    protocol: int

    def __str__(self) -> str:
        split = "" if self.classes == "all" else f", {self.classes} classes"
        usual = "float64" if self.backbone == TINY else "float32"
        precision = "" if self.precision == usual else f" in {self.precision}"
        weights = f"(weights {self.weights_digest[:8]})"
        return f"suite {self.suite}, backbone {self.backbone}{precision} {weights}{split}"


@dataclass(frozen=True, order=True)
class PriorExposure:
    """What a prior was shown: which datasets, whether the target was among them, how many shots of
    each.
    """

    pool: str = ""
    target: bool = False
    shots: str = ""

    @property
    def ranked(self) -> bool:
        """A prior that read full training sets is a diagnostic: few-shot numbers do not stand
        beside it.
        """
        return self.shots != FULL

    @property
    def bar(self) -> str:
        """Why it is not ranked; nothing where it is."""
        whose = (
            "full target training data" if self.target else "full training sets of other datasets"
        )
        return "" if self.ranked else f"uses {whose}, not ranked"

    def __str__(self) -> str:
        if not self.pool:
            return ""
        target = "target among them" if self.target else "target held out"
        return f"prior from {self.pool}, {self.shots}, {target}"


@dataclass(frozen=True, order=True)
class MethodVariant:
    """One row of a table: everything but the setting, the dataset, shots and seed."""

    method: str
    version: int
    params: tuple[tuple[str, Scalar], ...]
    val: str
    sampler: str
    exposure: PriorExposure
    title: str = field(compare=False)  # of the first record

    @property
    def protocol(self) -> tuple[str, str, PriorExposure | bool]:
        """Variants are ranked together where this is equal; whether an unexposed method has a prior
        makes no difference.
        """
        exposure = self.exposure if self.exposure.target or not self.exposure.ranked else False
        return self.val, self.sampler, exposure


DatasetRecords = Mapping[str, Sequence[Record]]  # by dataset
VariantRecords = Mapping[MethodVariant, DatasetRecords]
GroupedRecords = dict[EvaluationSetting, dict[MethodVariant, dict[str, list[Record]]]]


def group_records(
    records: Iterable[Record], notes: list[str] | None = None, superseded: bool = False
) -> GroupedRecords:
    """Records by setting, variant and dataset; what was left out, and why, is added to `notes`."""
    kept = list(records)
    notes = [] if notes is None else notes
    if not superseded:
        kept = _current(kept, notes)
    label = _dataset_labels(kept)
    groups: GroupedRecords = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for record in kept:
        named = record.identity
        dataset = label[named.dataset, named.dataset_digest]
        groups[_setting(named, dataset)][_variant(record)][dataset].append(record)
    return {
        setting: _without_doubles(variants, notes) for setting, variants in sorted(groups.items())
    }


def _setting(named: Identity, dataset: str) -> EvaluationSetting:
    return EvaluationSetting(
        suite_of(dataset) or dataset,
        named.backbone,
        named.weights_digest,
        named.precision,
        named.classes,
        named.transform,
        named.protocol,
    )


def _variant(record: Record) -> MethodVariant:
    """At 0 shots nothing is sampled or selected, so neither policy makes another variant."""
    named = record.identity
    params = tuple(sorted(named.params.items()))
    val, sampler = (named.val, named.sampler) if named.shots else ("none", "none")
    return MethodVariant(
        named.method, named.adapter_version, params, val, sampler, exposure(named), record.title
    )


def exposure(named: Identity) -> PriorExposure:
    """Leave-one-out over a suite is one protocol for all its datasets, though the list of sources
    differs by target.
    """
    sources = set(named.sources)
    if not sources:
        return PriorExposure()
    target = named.dataset in sources
    suite = next(
        (
            name
            for name, members in data.suites().items()
            if set(members) == sources | {named.dataset}
        ),
        "",
    )
    pool = f"{'all' if target else 'others'} of {suite}" if suite else ", ".join(sorted(sources))
    shots = {-1: FULL, named.shots: "k shots each"}.get(
        named.source_shots, f"{named.source_shots} shots each"
    )
    return PriorExposure(pool, target, shots)


@cache
def suite_of(dataset: str) -> str:
    """The suite a dataset is averaged in, or '' for a dataset that stands alone."""
    return next((name for name, members in data.suites().items() if dataset in members), "")


def members(suite: str) -> tuple[str, ...]:
    """The datasets of a suite in the order of rows; a dataset alone is its own suite."""
    return data.suites().get(suite, (suite,))


def _current(records: list[Record], notes: list[str]) -> list[Record]:
    """Without records of an older adapter version where there is a newer one."""
    newest: dict[str, int] = {}
    for record in records:
        named = record.identity
        known = own_card(named.method)
        newest[named.method] = max(
            newest.get(named.method, 0), named.adapter_version, known.version if known else 0
        )
    kept = [
        record
        for record in records
        if record.identity.adapter_version == newest[record.identity.method]
    ]
    if len(kept) < len(records):
        old = sorted(
            {record.identity.method for record in records}
            - {record.identity.method for record in kept}
        )
        which = f"; nothing newer exists of {', '.join(old)}" if old else ""
        notes.append(
            f"{len(records) - len(kept)} records of superseded adapter versions are left out "
            f"(--superseded shows them){which}"
        )
    return kept


def _dataset_labels(records: list[Record]) -> dict[tuple[str, str], str]:
    """A dataset whose spec has changed is another dataset: all but one digest get it written behind
    the name.
    """
    digests: dict[str, set[str]] = defaultdict(set)
    for record in records:
        digests[record.identity.dataset].add(record.identity.dataset_digest)
    labels: dict[tuple[str, str], str] = {}
    for name, several in digests.items():
        plain = _current_digest(name) if len(several) > 1 else next(iter(several))
        labels |= {
            (name, digest): name if digest == plain else f"{name}@{digest[:6]}"
            for digest in several
        }
    return labels


def _current_digest(name: str) -> str:
    try:
        return data.read_spec(name).digest
    except UserError:
        return ""


def _without_doubles(
    variants: dict[MethodVariant, dict[str, list[Record]]], notes: list[str]
) -> dict[MethodVariant, dict[str, list[Record]]]:
    """One record per shots and seed: two can differ only in the spec of a source dataset, then the
    current spec counts.
    """
    result = {}
    for variant, datasets in sorted(variants.items(), key=lambda item: _order(item[0])):
        result[variant] = {
            name: _one_each(records, name, notes) for name, records in datasets.items()
        }
    return result


def _one_each(records: list[Record], dataset: str, notes: list[str]) -> list[Record]:
    unique = {(record.identity.shots, record.identity.seed): record for record in records}
    if len(unique) < len(records):
        ordered = sorted(
            records, key=lambda record: (_current_sources(record.identity), record.key)
        )
        unique = {(record.identity.shots, record.identity.seed): record for record in ordered}
        notes.append(
            f"{len(records) - len(unique)} records of {dataset} saw another spec of a source "
            "dataset and are left out"
        )
    return [unique[at] for at in sorted(unique)]


def _current_sources(named: Identity) -> int:
    return sum(_current_digest(name) == digest for name, digest in named.sources.items())


def _order(variant: MethodVariant) -> tuple[bool, bool, str, MethodVariant]:
    """Methods that never look at the support set first, diagnostics last, the rest by title."""
    return (
        not variant.exposure.ranked,
        variant.sampler != "none",
        variant.title.lower(),
        replace(variant, params=_texts(variant.params)),
    )


def _texts(params: tuple[tuple[str, Scalar], ...]) -> tuple[tuple[str, Scalar], ...]:
    return tuple((name, str(value)) for name, value in params)


@cache
def own_card(method: str) -> Card | None:
    """The card of one of our own methods; a plug-in would have to be imported for it, which a
    report never does.
    """
    if method not in own():
        return None
    try:
        return card(method)
    except UserError:
        return None


def headings(variants: Iterable[MethodVariant]) -> dict[MethodVariant, str]:
    """The heading of each row: the method's title, then what differs from the method's defaults or
    from its other rows.
    """
    same_method: dict[str, list[MethodVariant]] = defaultdict(list)
    for variant in variants:
        same_method[variant.method].append(variant)
    return {
        variant: ", ".join([variant.title, *filter(None, _differences(variant, rows))])
        for rows in same_method.values()
        for variant in rows
    }


def _differences(variant: MethodVariant, same_method: list[MethodVariant]) -> list[str]:
    known = own_card(variant.method)
    common = (
        known.defaults
        if known
        else dict(set.intersection(*({*other.params} for other in same_method)))
    )
    words = [
        f"{key}={value}"
        for key, value in variant.params
        if key not in common or common[key] != value
    ]
    words += (
        [f"version {variant.version}"] if len({other.version for other in same_method}) > 1 else []
    )
    words += ["no validation set"] if variant.val == "none" and variant.sampler != "none" else []
    words += [f"{variant.sampler} sampling"] if variant.sampler not in ("coop", "none") else []
    several = len({other.exposure for other in same_method}) > 1
    words += (
        [str(variant.exposure) or "no prior"]
        if several or variant.exposure.target or not variant.exposure.ranked
        else []
    )
    return words
