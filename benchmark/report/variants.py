"""What makes two numbers comparable: settings, variants of methods, and what priors have seen.

A *setting* is what all numbers of one table share: suite, backbone, weights and precision, class
split, image pipeline, protocol. A *variant* is one row of it: a method with its hyper-parameters,
validation policy, sampler and what its prior has seen. Records of one setting, variant and dataset
differ in shots and seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from benchmark import data, presets
from benchmark.errors import UserError, counted
from benchmark.methods import Card, card, own
from benchmark.protocols import ALL, DOMAIN, FEW_SHOT, learned_classes, others
from benchmark.records.record import Identity, Record, Scalar, hash_of

FULL = "full training sets"
OF_THE_PRESET = "of the preset"
USUAL_VAL = "up-to-4"
USUAL = presets.Changes()  # none: what holds where there is no preset
Text = str | bool | tuple[str, ...]  # the value of what a preset changes beside hyper-parameters
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
    evaluation: str = FEW_SHOT
    learned_on: str = ""  # a dataset; empty: the tested one

    @property
    def members(self) -> tuple[str, ...]:
        """The datasets of a mean, in the order of rows: those of the suite, but the one that was
        learned on.
        """
        return others(members(self.suite), self.learned_on) or members(self.suite)

    @property
    def datasets(self) -> tuple[str, ...]:
        """All of them, the one that was learned on first."""
        return (self.learned_on, *self.members) if self.learned_on else self.members

    @property
    def task(self) -> str:
        """What is learned and tested, in words; nothing where both are all classes."""
        if self.learned_on:
            return f"{self.evaluation} from {self.learned_on}"
        split = {ALL: "all classes"}.get(self.classes, f"{self.classes} classes")
        if self.evaluation == FEW_SHOT:
            return "" if self.classes == ALL else split
        return f"{self.evaluation}, {split}"

    def __str__(self) -> str:
        split = f", {self.task}" if self.task else ""
        usual = "float64" if self.backbone == TINY else "float32"
        precision = "" if self.precision == usual else f" in {self.precision}"
        weights = f"(weights {self.weights_digest[:8]})"
        return f"suite {self.suite}, backbone {self.backbone}{precision} {weights}{split}"


@dataclass(frozen=True, order=True)
class PriorExposure:
    """What a prior saw: which datasets, the target among them or not, how many shots of each."""

    pool: str = ""
    target: bool = False
    shots: str = ""

    @property
    def ranked(self) -> bool:
        """Whether it may stand beside few-shot numbers: a prior from full training sets may not."""
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
    preset: str = ""  # whose settings, dataset by dataset; `params` is what differs from them
    diagnostic: bool = False  # selected with more labels than the shots allow
    code: str = ""  # of a method from elsewhere
    texts: str = ""  # set of sentences; empty: the templates
    texts_digest: str = ""
    transductive: bool = False  # predicts all test images together
    # hyper-parameters that were no defaults when the first record was made, as far as it says so
    changed: frozenset[str] = field(default=frozenset(), compare=False)
    # of a method from elsewhere whose code is another by now (edited_methods.py); empty: not known
    edited_file: str = field(default="", compare=False)

    @property
    def protocol(self) -> tuple[str, str, str, str, str, bool, PriorExposure | bool]:
        """Variants are ranked together where this is equal.

        Whether a method has a prior that never saw the target makes no difference.
        """
        exposure = self.exposure if self.exposure.target or not self.exposure.ranked else False
        chosen = self.val, self.sampler, self.preset
        return *chosen, *self.worded, self.transductive, exposure

    @property
    def worded(self) -> tuple[str, str]:
        """Which sentences describe the classes: name and digest of a text set."""
        return self.texts, self.texts_digest

    @property
    def ranked(self) -> bool:
        """Whether it may stand in a ranking of few-shot methods."""
        return self.exposure.ranked and not self.diagnostic

    @property
    def bar(self) -> str:
        """Why it is not ranked; nothing where it is."""
        if self.diagnostic:
            return "selected on the full validation split or on the test set, not ranked"
        return self.exposure.bar


DatasetRecords = Mapping[str, Sequence[Record]]  # by dataset
VariantRecords = Mapping[MethodVariant, DatasetRecords]


def setting_of(named: Identity, dataset: str) -> EvaluationSetting:
    source = next(iter(named.learned_on), "")
    return EvaluationSetting(
        _suite_in(named.evaluation, dataset, source),
        named.backbone,
        named.weights_digest,
        named.precision,
        named.classes,
        named.transform,
        named.protocol,
        named.evaluation,
        source,
    )


def _suite_in(evaluation: str, dataset: str, source: str) -> str:
    """The suite of a tested dataset; of the source of a shift of domain that of its variants."""
    if evaluation == DOMAIN and dataset == source:
        return next(filter(None, map(suite_of, _variants(source))), dataset)
    return suite_of(dataset) or dataset


@cache
def _variants(source: str) -> tuple[str, ...]:
    """Datasets that have the classes of `source`."""
    return tuple(name for name in data.names() if data.read_spec(name).parent == source)


def variant_of(record: Record) -> MethodVariant:
    """At 0 shots nothing is sampled or selected, so neither policy makes another variant."""
    named, changed = record.identity, record.provenance.get("changed")
    return MethodVariant(
        named.method,
        named.adapter_version,
        tuple(sorted((own_params(named) | _departures(named)).items())),
        _val(named),
        named.sampler if named.shots else "none",
        exposure_of(named),
        record.title,
        named.preset,
        presets.is_diagnostic(named),
        named.code,
        named.texts,
        named.texts_digest,
        is_transductive(record),
        frozenset(map(str, changed) if isinstance(changed, list) else ()),
    )


def is_transductive(record: Record) -> bool:
    """Whether the record says so; a plug-in, whose card would run its code, by nothing else."""
    card = own_card(record.identity.method)
    return bool(card and card.transductive) or record.provenance.get("transductive") is True


def own_params(named: Identity) -> dict[str, Scalar]:
    """The hyper-parameters; under a preset those that differ from what it says for the cell."""
    return presets.overrides(named) if own_preset(named) else named.params


def own_preset(named: Identity) -> presets.Changes | None:
    """What a preset of ours says for the cell; None where there is none, or it is no more."""
    if not named.preset or not own_card(named.method):
        return None
    try:
        return presets.of_record(named)
    except UserError:
        return None


def _val(named: Identity) -> str:
    """The validation policy, which of a preset may be another at every dataset."""
    if not named.preset:
        return named.val if named.shots else "none"
    said = own_preset(named)
    expected = (said.val or USUAL_VAL) if said and named.shots else named.val
    return OF_THE_PRESET if named.val == expected else named.val


def _departures(named: Identity) -> dict[str, Scalar]:
    """The texts and the selection of a record that are not what its preset says for the cell, or
    not the usual ones, and what no run writes beside its protocol and its sources.
    """
    said = own_preset(named) if named.preset else USUAL
    pairs = _unheard_of(named) | (_chosen(named, said) if said else {})
    return {name: _short(has) for name, (has, expected) in pairs.items() if has != expected}


def _chosen(named: Identity, said: presets.Changes) -> dict[str, tuple[Text, Text]]:
    """Fields of the harness that a preset may change, as a record has them and as it says."""
    return {
        "selection": (named.selection, said.selection or ""),
        "templates": (named.templates, said.templates or ()),
        "underscores": (named.underscores, bool(said.underscores)),
    }


def _unheard_of(named: Identity) -> dict[str, tuple[Text, Text]]:
    """Fields that follow from others, as a record has them and as they must be."""
    few_shot = named.evaluation == FEW_SHOT
    learned = "" if few_shot else learned_classes(named.evaluation, named.classes)
    shots = 0 if named.sources else named.source_shots
    return {
        "learned_classes": (named.learned_classes, learned),
        "learned_on": (", ".join([*named.learned_on][1:]), ""),  # the first makes the setting
        "source_shots": (str(shots), "0"),
    }


def _short(value: Text) -> Scalar:
    """Several templates by their number and a digest."""
    if not isinstance(value, tuple):
        return value if value != "" else "none"
    if len(value) < 2:
        return value[0] if value else "of the dataset"
    return f"{len(value)} ({hash_of({'templates': value})[:6]})"


def exposure_of(named: Identity) -> PriorExposure:
    """Leave-one-out over a suite is one protocol for all its datasets, though the list of sources
    differs by target. What is left out is the dataset that was learned on.
    """
    sources = set(named.sources)
    if not sources:
        return PriorExposure()
    learned = next(iter(named.learned_on), named.dataset)
    target = bool(sources & {learned, named.dataset})
    shots = {-1: FULL, named.shots: "k shots each"}.get(
        named.source_shots, f"{counted(named.source_shots, 'shot')} each"
    )
    return PriorExposure(_pool(sources, learned), target, shots)


def _pool(sources: set[str], learned: str) -> str:
    """The sources in words."""
    for name, members in data.suites().items():
        if set(members) == sources | {learned}:
            return f"{'all' if learned in sources else 'others'} of {name}"
    return ", ".join(sorted(sources))


@cache
def suite_of(dataset: str) -> str:
    """The suite a dataset is averaged in, or '' for a dataset that stands alone."""
    return next((name for name, members in data.suites().items() if dataset in members), "")


def members(suite: str) -> tuple[str, ...]:
    """The datasets of a suite in the order of rows; a dataset alone is its own suite."""
    return data.suites().get(suite, (suite,))


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
