"""What a result is: the identity of a cell, counts, costs, notes, provenance. One small JSON each,
named by its identity's hash.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from operator import gt
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MOST_TITLE = 200  # characters
LARGEST_NOTE = 10**300  # fits into a float
Scalar = str | int | float | bool | None
CellKey = tuple[object, ...]
OF_A_DRAW = {"shots", "seed"}  # what the identities of one family differ in
BEYOND_FEW_SHOT = ("full", "test")  # validation sets that presets of releases alone may use


def _nameable(name: str) -> str:
    """Names of datasets become names of files, also those that stand in other people's records."""
    if (
        not name.isprintable()
        or name.startswith(".")
        or "/" in name
        or "\\" in name
        or not 0 < len(name.encode()) <= 150
    ):
        raise ValueError(
            "a name is printable, short, without '/' and '\\', and does not begin with '.'"
        )
    return name


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed")
    return text


def _shown(value: Scalar) -> Scalar:
    return _printable(value) if isinstance(value, str) else value


def _fits(value: Scalar) -> Scalar:
    if isinstance(value, int) and abs(value) > LARGEST_NOTE:
        raise ValueError("it is too large for a number of a table")
    return value


Name = Annotated[str, AfterValidator(_nameable)]
# Reports and tables show these, also where a stranger has written them.
Printable = Annotated[str, AfterValidator(_printable)]
Title = Annotated[Printable, Field(max_length=MOST_TITLE)]
ParamValue = Annotated[Scalar, AfterValidator(_shown)]
Note = Annotated[Scalar, AfterValidator(_fits)]
Whole = Annotated[int, Field(ge=0, lt=1 << 63)]
Images = Annotated[int, Field(ge=0, le=10**9)]
# Sums of what strangers write are finite as well.
Measured = Annotated[float, Field(ge=-1e15, le=1e15)]


class Identity(BaseModel):
    """Everything that may change the number, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Printable
    adapter_version: Whole
    params: dict[Printable, ParamValue]  # every hyper-parameter, defaults written out
    dataset: Name
    dataset_digest: (
        Name  # its first digits stand behind the dataset's name where there are two of that name
    )
    classes: Printable  # "all", "base" or "new"
    shots: Whole  # images per class; 0 for a method that never looks at the support set
    seed: Whole
    sampler: Printable  # which rule draws the support set (benchmark/data/sampling.py)
    # "up-to-4": min(shots, 4) validation images per class; "none"; of presets only "full", the
    # whole validation split, and "test", the test set
    val: Printable
    sources: dict[Printable, Printable]  # dataset name -> digest of every dataset a prior has seen
    # shots per class shown to the prior; -1 for full training sets
    source_shots: Annotated[int, Field(ge=-1, lt=1 << 63)]
    backbone: Printable
    weights_digest: Printable
    precision: Printable  # of the frozen backbone: float64, float32, tf32, bfloat16 or float16
    transform: Printable  # version of the image pipeline, Pillow's resize order included
    # digest of the code of a method from elsewhere; '' for ours and for released plug-ins
    code: Printable = ""
    protocol: Whole  # raised when the harness's own rules change numbers
    preset: Printable = ""  # whose settings these are (benchmark/presets.py); "": the suite's own
    selection: Printable = ""  # "test": a release selects on the test set beside its validation set
    templates: tuple[Printable, ...] = ()  # in place of the dataset's own
    underscores: bool = False  # of class names are left in texts
    texts: Title = ""  # name of the set of sentences (text_sets.py); empty: the templates
    texts_digest: Printable = ""
    # what was asked: "few-shot", or one of the others of benchmark/protocols.py
    evaluation: Printable = "few-shot"
    # dataset name -> digest of the dataset it was learned on; empty: the tested one
    learned_on: dict[Name, Printable] = Field(default_factory=dict)
    learned_classes: Printable = ""  # the classes it was learned on; empty: those tested


class Counts(BaseModel):
    """Test images, per class in label order; accuracy is computed at report time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    correct: list[Images]
    total: list[Images]

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Counts:
        if any(map(gt, self.correct, self.total)):
            raise ValueError("more images are right than there are")
        return self


class Costs(BaseModel):
    """Seconds of each stage, apart.

    `encode_s` is spent on features that were not stored yet, so that the sum over records is the
    time that encoding took; `images_per_s` counts encoding whether or not it was stored.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    encode_s: Measured
    pretrain_s: Measured
    fit_s: Measured
    predict_s: Measured
    peak_mb: Measured
    trainable_params: Whole
    added_macs: Annotated[int, Field(gt=-(1 << 63), lt=1 << 63)] | None = (
        None  # per image at prediction, beyond the frozen image encoder (benchmark/compute/macs.py)
    )
    images_per_s: Measured | None = None  # at prediction, encoding included
    # runs trained at once, or results that share what was learned; `fit_s` is each one's share,
    # `peak_mb` that of all
    batched_runs: Whole = 1
    energy_j: Measured | None = (
        # of the whole GPU while fitting and predicting, features encoded on the way included
        # (power.py)
        None
    )
    gpu_use: Measured | None = None  # mean share of that time in which the GPU had work, in [0, 1]


class Record(BaseModel):
    """One finished cell."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    key: str
    title: Title  # the method's own, as tables show it; no part of what names the record
    identity: Identity
    counts: Counts
    costs: Costs
    notes: dict[str, Note]
    provenance: dict[str, Any]

    @property
    def family(self) -> str:
        """Equal for records that differ in shots, seed, numbers and provenance alone."""
        return family_of(self.title, self.identity)

    @property
    def right(self) -> int:
        """Test images of all classes that were told right."""
        return sum(self.counts.correct)

    @property
    def tested(self) -> int:
        """Test images of all classes."""
        return sum(self.counts.total)

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy over the whole test list, in [0, 1]."""
        return self.right / max(1, self.tested)

    @property
    def class_accuracy(self) -> float:
        """Mean per-class accuracy, in [0, 1]: every class that has test images counts the same."""
        pairs = zip(self.counts.correct, self.counts.total, strict=True)
        shares = [correct / total for correct, total in pairs if total]
        return math.fsum(shares) / max(1, len(shares))


def family_of(title: str, identity: Identity) -> str:
    """The family of records with this title and identity."""
    return f"{title}\n{identity.model_dump_json(exclude=OF_A_DRAW)}"


def draws_of(identity: Identity) -> Callable[[int, int], Identity]:
    """(shots, seed) -> the identity that has these and all else of `identity`. They are not checked
    again, so that a hundred thousand take little time and memory.
    """
    # a copy copies the names of the fields that were given as well, three quarters of its memory
    shared = Identity.model_construct(set(), **dict(identity))
    return lambda shots, seed: shared.model_copy(update={"shots": shots, "seed": seed})


def hash_of(identity: dict[str, Any]) -> str:
    """The first 12 hex digits of the sha256 of the canonical JSON."""
    canonical = json.dumps(
        identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def key(identity: Identity) -> str:
    """The name of a record. A field with a default is left out while it has that value, so that a
    new field, given a default, keeps the names of the records that were made without it.
    """
    return hash_of(identity.model_dump(exclude_defaults=True))


# fields of an Identity that nobody chooses: the state of code, data and weights
VERSIONS = frozenset(
    {"adapter_version", "code", "dataset_digest", "weights_digest", "texts_digest"}
    | {"transform", "protocol"}
)
CHOSEN = tuple(name for name in Identity.model_fields if name not in VERSIONS)


def cell_key(named: Identity, *without: str) -> CellKey:
    """What a user has chosen of a cell, but the fields `without`: neither versions nor digests, so
    that records of other states of code, data and weights have the same. It can be hashed.
    """
    has: dict[str, Any] = vars(named) | {
        "params": tuple(sorted(named.params.items())),
        "sources": tuple(sorted(named.sources)),
        "learned_on": tuple(named.learned_on),
    }
    return tuple(has[name] for name in CHOSEN if name not in without)
