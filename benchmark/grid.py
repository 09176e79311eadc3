"""The grid as plain data: cells, how flags expand into them, and what names a cell's record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from itertools import product
from math import prod
from typing import Any

from benchmark import presets, protocols, text_sets
from benchmark.errors import UserError
from benchmark.methods import Card
from benchmark.records.record import BEYOND_FEW_SHOT, Identity, Scalar

SHOTS = (1, 2, 4, 8, 16)
SEEDS = (1, 2, 3)
VAL_POLICIES = ("up-to-4", "none")
IMBALANCED = ("relaxed", "realistic")  # in proportion to the training pool
SAMPLERS = ("coop", "nested", "coop-short", *IMBALANCED)
CLASSES = ("all", "base", "new")
LOW_PRECISIONS = ("tf32", "bfloat16", "float16")
MOST_CELLS = 1_000_000  # of one choice of options
PROTOCOL = 1  # raise when a rule of the harness itself changes numbers
# fields of an identity that are those of its cell
AS_IN_THE_CELL = (
    *("method", "evaluation", "classes", "shots", "seed", "sampler", "val", "precision"),
    *("preset", "selection", "templates", "underscores"),
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """method x dataset x shots x seed x backbone, and the choices that make it another experiment.

    `precision` "auto" is resolved when the cell is planned, before anything is hashed or stored.
    """

    method: str
    dataset: str
    shots: int
    seed: int
    backbone: str
    sources: tuple[str, ...] = ()  # datasets a prior may see, resolved and sorted
    source_shots: int = 0  # images per class of each source; 0: as many as the cell; -1: all
    val: str = "up-to-4"
    sampler: str = "coop"
    classes: str = "all"  # tested; those learned as well where the evaluation is few-shot
    precision: str = "auto"  # of the frozen backbone
    evaluation: str = protocols.FEW_SHOT
    learned_on: str = ""  # the dataset it is learned on; empty: the tested one
    # hyper-parameters that differ from the method's defaults, sorted
    params: tuple[tuple[str, Scalar], ...] = ()
    preset: str = ""  # whose settings these are, where not the suite's own (benchmark/presets.py)
    selection: str = ""  # "test", under a preset only: the test set, handed over to select on
    templates: tuple[str, ...] = ()  # in place of the dataset's own
    underscores: bool = False  # of class names are left in texts
    texts: str = ""  # which sentences describe a class (text_sets.reference); empty: the usual ones

    def __str__(self) -> str:
        precision = f" {self.precision}" if self.precision in LOW_PRECISIONS else ""
        changed = "".join(f" {name}={value}" for name, value in self.params)
        changed = f" as {self.preset}" if self.preset else changed
        changed += f" texts={text_sets.short(self.texts)}" if self.texts else ""
        problem = f"{self._tested} {self.shots}-shot seed {self.seed}"
        return f"{self.method} {problem} {self.backbone}{precision}{changed}"

    @property
    def _tested(self) -> str:
        """'tiny_shapes', 'tiny_shapes (base-to-new, new)', 'tiny_digits (domain from ...)'."""
        if self.evaluation == protocols.FEW_SHOT:
            return self.dataset
        how = f" from {self.learned_on}" if self.learned_on else f", {self.classes} classes"
        return f"{self.dataset} ({self.evaluation}{how})"

    @property
    def datasets(self) -> tuple[str, ...]:
        """Every dataset it sees: the tested one, the sources, and the one it is learned on."""
        return (self.dataset, *self.sources, *filter(None, [self.learned_on]))

    @property
    def learned(self) -> Cell:
        """The few-shot cell whose support set this cell's method learns from: itself where the
        evaluation is few-shot.
        """
        if self.evaluation == protocols.FEW_SHOT:
            return self
        return replace(
            self,
            dataset=self.learned_on or self.dataset,
            classes=protocols.learned_classes(self.evaluation, self.classes),
            evaluation=protocols.FEW_SHOT,
            learned_on="",
        )


@dataclass(frozen=True)
class Choices:
    """What a grid ranges over and what all its cells share."""

    shots: Sequence[int] = SHOTS
    seeds: Sequence[int] = SEEDS
    val: str = "up-to-4"
    sampler: str = "coop"
    classes: str = "all"
    evaluation: str = protocols.FEW_SHOT
    learned_on: str = ""  # the source of a protocol that has one
    # "default" (each method's own), "others", "all", "none", or names joined by commas
    sources: str = "default"
    source_shots: int | None = None  # None: each method's own
    precision: str = "auto"
    preset: str = ""
    texts: Sequence[str] = ("",)  # text sets, as a cell has them


def expand(
    cards: Iterable[tuple[Card, dict[str, Scalar]]],
    datasets: Sequence[str],
    backbones: Sequence[str],
    choices: Choices,
    suite_of: Callable[[str], Sequence[str]],
) -> list[Cell]:
    """All cells, those that share a backbone and a dataset side by side; a method without shots
    appears once per dataset.
    """
    tests = protocols.tests(choices.evaluation, datasets, choices.learned_on, choices.classes)
    _check_shots(choices.shots)
    rows = (backbones, list(tests), list(cards))
    of_each = (choices.texts, choices.shots, choices.seeds)
    if (count := prod(map(len, (*rows, *of_each)))) > MOST_CELLS:
        raise UserError(f"that makes {count:,} cells, more than {MOST_CELLS:,}; take fewer")
    cells = (
        cell
        for backbone, test, (card, params) in product(*rows)
        for cell in _of_row(backbone, test, card, params, choices, suite_of)
    )
    return list(dict.fromkeys(cells))


def _of_row(
    backbone: str,
    test: protocols.Test,
    card: Card,
    params: dict[str, Scalar],
    choices: Choices,
    suite_of: Callable[[str], Sequence[str]],
) -> Iterator[Cell]:
    """The cells of one row on one dataset; what seeds and texts share is found once."""
    by_shots = [
        _cell(backbone, test, card, params, shots, choices, suite_of) for shots in choices.shots
    ]
    for texts, cell, seed in product(choices.texts, by_shots, choices.seeds):
        yield replace(cell, texts=texts, seed=seed if cell.shots else 0)


def _cell(
    backbone: str,
    test: protocols.Test,
    card: Card,
    params: dict[str, Scalar],
    shots: int,
    choices: Choices,
    suite_of: Callable[[str], Sequence[str]],
) -> Cell:
    """The cell of seed 0 with the usual texts."""
    cell = Cell(
        method=card.name,
        dataset=test.dataset,
        shots=0,
        seed=0,
        backbone=backbone,
        val="none",
        classes=test.classes,
        precision=choices.precision,
        evaluation=choices.evaluation,
        learned_on=test.learned_on,
        preset=choices.preset,
    )
    if card.few_shot:
        cell = replace(cell, shots=shots, val=choices.val, sampler=choices.sampler)
    released = presets.Changes()
    if choices.preset:
        released = presets.changes(choices.preset, card.name, vars(cell.learned))
        _refuse_overruled(card.name, choices, released)
        cell = _as_preset(cell, released)
    values = {**released.set, **params}
    changed = sorted((key, value) for key, value in values.items() if value != card.defaults[key])
    cell = replace(cell, params=tuple(changed))
    if not card.few_shot:
        return cell
    learned = cell.learned.dataset
    policy = released.sources or choices.sources
    sources = resolve_sources(card, policy, learned, suite_of(learned))
    given = choices.source_shots if released.source_shots is None else released.source_shots
    own = card.source_shots if given is None else given
    return replace(cell, sources=sources, source_shots=(own or shots) if sources else 0)


def _refuse_overruled(method: str, choices: Choices, released: presets.Changes) -> None:
    """UserError for what was asked of the harness and is decided by the preset."""
    usual = Choices()
    for field in ("val", "sources", "source_shots"):
        wanted, decided = getattr(choices, field), getattr(released, field)
        if decided is not None and wanted not in (getattr(usual, field), decided):
            flag = f"--{field.replace('_', '-')}"
            raise UserError(
                f"the preset '{choices.preset}' decides {flag} of {method}; leave out"
                f" {flag} {wanted}"
            )


def _as_preset(cell: Cell, released: presets.Changes) -> Cell:
    """The cell with what the preset decides of the harness."""
    return replace(
        cell,
        val=released.val or cell.val,
        selection=released.selection or "",
        templates=released.templates or (),
        underscores=bool(released.underscores),
    )


def resolve_sources(card: Card, policy: str, target: str, suite: Sequence[str]) -> tuple[str, ...]:
    """The explicit list a prior will see, so that a record always says whether the target was among
    it.
    """
    if not card.pretrains or policy == "none":
        return ()
    if policy == "default":
        policy = card.sources
    if policy == "others":
        return tuple(sorted(set(suite) - {target}))
    if policy == "all":
        return tuple(sorted(set(suite) | {target}))
    return tuple(sorted({name.strip() for name in policy.split(",") if name.strip()}))


def _check_shots(shots: Sequence[int]) -> None:
    for number in shots:
        if number < 1:
            raise UserError(
                f"shots must be at least 1, not {number}; zero-shot methods run at 0 "
                "shots by themselves"
            )


def identity(
    cell: Cell,
    card: Card,
    dataset_of: Callable[[str], tuple[str, str]],
    weights_digest: Callable[[str], str],
    *,
    transform: str | None = None,
    backbone: str | None = None,
    texts_of: Callable[[str], tuple[str, str]] = text_sets.named,
) -> Identity:
    """What the number depends on. `dataset_of` gives name and digest, so that a TOML's own place on
    disk names nothing; `transform` is the version of the image pipeline, by default CLIP's own on
    the host, `backbone` the name in records, by default the cell's, and `texts_of` gives name and
    digest of a text set.

    Pure: digests are asked for, nothing is loaded.
    """
    _require_marked_selection(cell)
    return Identity(
        **{name: getattr(cell, name) for name in AS_IN_THE_CELL},
        **_of_method(cell, card),
        **_of_datasets(cell, dataset_of),
        **_of_texts(cell, texts_of),
        backbone=backbone or cell.backbone,
        weights_digest=weights_digest(cell.backbone),
        transform=transform or transform_version(),
        protocol=PROTOCOL,
    )


def _of_method(cell: Cell, card: Card) -> dict[str, Any]:
    return {
        "adapter_version": card.version,
        "code": card.code,
        "params": card.defaults | dict(cell.params),
    }


def _of_datasets(cell: Cell, dataset_of: Callable[[str], tuple[str, str]]) -> dict[str, Any]:
    """The tested dataset, what a prior sees, and what is learned on where that is not the same."""
    dataset, digest = dataset_of(cell.dataset)
    few_shot = cell.evaluation == protocols.FEW_SHOT
    sources = dict(map(dataset_of, cell.sources))
    learned_on = dict([dataset_of(cell.learned_on)]) if cell.learned_on else {}
    if not few_shot and dataset not in learned_on:
        _require_unseen(dataset, sources, cell.evaluation)
    return {
        "dataset": dataset,
        "dataset_digest": digest,
        "sources": sources,
        "source_shots": (cell.source_shots or cell.shots) if cell.sources else 0,
        "learned_on": learned_on,
        "learned_classes": "" if few_shot else cell.learned.classes,
    }


def _of_texts(cell: Cell, texts_of: Callable[[str], tuple[str, str]]) -> dict[str, Any]:
    texts, digest = texts_of(cell.texts) if cell.texts else ("", "")
    return {"texts": texts, "texts_digest": digest}


def _require_marked_selection(cell: Cell) -> None:
    """UserError for more labels than the shots allow, but under a preset."""
    if (cell.val in BEYOND_FEW_SHOT or cell.selection) and not cell.preset:
        raise UserError(
            f"val='{cell.val}' and selection='{cell.selection}' are for presets of releases, whose"
            " records are marked as diagnostics; take val='up-to-4'"
        )


def _require_unseen(dataset: str, sources: Iterable[str], evaluation: str) -> None:
    """UserError where a prior would see images of classes that a protocol calls unseen."""
    if dataset in sources:
        raise UserError(
            f"--protocol {evaluation} tests classes of {dataset} whose images no method has"
            f" seen, so a prior cannot see {dataset}; name other --sources"
        )


@cache
def transform_version(*, on_device: bool = False, preprocessing: str = "") -> str:
    """Version of the image pipeline, with that of Pillow's resize, whose 13.0 changed the order of
    passes. Pictures are cut on the host, or on a GPU (benchmark/features/resampling.py).
    `preprocessing` names a model's own way with pictures, where that is not CLIP's.
    """
    major = int(version("pillow").split(".")[0])
    where = "device-1" if on_device else "host-2"
    own = f"-{preprocessing}" if preprocessing else ""
    return f"{where}-pillow{'13' if major >= 13 else '12'}{own}"
