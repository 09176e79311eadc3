"""The checks of the second half of the contract: what is learned can be kept, and what is learned
on some classes may serve others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmark.api import State, Target
from benchmark.conformance import toy
from benchmark.conformance.subject import Check, ContractViolation, Subject, close

OTHER_NAMES = ("boat", "house_plant", "tree", "old car")
OTHER_TEMPLATES = ("itap of a {}.", "a {}.")
FROM_NAMES = "make its classifier from target.class_names"


def keeps(subject: Subject) -> bool:
    return subject.card().keeps


def transfers(subject: Subject) -> bool:
    return subject.card().transfers


def state_is_free_of_classes(subject: Subject) -> None:
    few, many = (_learned(subject, classes=classes) for classes in (2, 4))
    per_class = getattr(_adapter(subject), "per_class", ())
    shapes = [
        {name: tuple(part.shape) for name, part in state.items() if name not in per_class}
        for state in (few, many)
    ]
    if shapes[0] != shapes[1]:
        raise ContractViolation(
            f"what was learned on 2 and on 4 classes has the shapes {shapes[0]} and {shapes[1]}; "
            "leave out what belongs to a class, or say in transfers_at when nothing does, or name "
            "in per_class what serves the learned classes alone, or say transfers = False"
        )


def serves_other_classes(subject: Subject) -> None:
    target = replace(
        subject.episode().target,
        class_names=OTHER_NAMES,
        templates=OTHER_TEMPLATES,
        text_KD=None,
    )
    state = _learned(subject)
    logits_QK = _predicted(subject, state, target)
    shape, expected = tuple(logits_QK.shape), (len(toy.held_out().images), len(OTHER_NAMES))
    if shape != expected:
        raise ContractViolation(
            f"the predictor for {expected[1]} other classes returned shape {shape} instead of "
            f"{expected}; {FROM_NAMES}"
        )
    turned = replace(target, class_names=OTHER_NAMES[::-1])
    turned_QK = _predicted(subject, state, turned)
    if torch.equal(logits_QK, turned_QK):
        raise ContractViolation(
            f"the order of the target's classes makes no difference to the logits; {FROM_NAMES}"
        )
    if not close(turned_QK, logits_QK.flip(1)):
        raise ContractViolation(
            "with the target's classes in reverse order the logits are others, not the same in"
            f" reverse; leave out of the state what belongs to a place, and {FROM_NAMES}"
        )


def fit_is_learn_then_predict(subject: Subject) -> None:
    """At the settings of all checks, and where a method serves other classes at some only, there
    as well.
    """
    card = subject.card()
    settings = {**card.defaults, **subject.settings()}
    elsewhere = card.transfers and any(settings[k] != v for k, v in card.transfers_at.items())
    for changes in ({}, card.transfers_at) if elsewhere else ({},):
        given, images = subject.episode(), toy.held_out().images
        fitted_QK = subject.adapter(**changes).fit(given)(images)
        again = subject.episode()
        state = subject.adapter(**changes).learn(again)
        _require_plain(state)
        predict = subject.adapter(**changes).predictor(_copied(state), again.target)
        if not torch.equal(fitted_QK, predict(images)):
            raise ContractViolation(
                "fit gives other logits than predictor(learn(episode), episode.target), with"
                " nothing but the state between the two; write fit as these two steps"
            )
        if given.notes != again.notes:
            raise ContractViolation(
                "fit leaves other notes than predictor(learn(episode), episode.target); write fit"
                " as these two steps, and note what is found later in target.notes"
            )


def _require_plain(state: State) -> None:
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.requires_grad:
            raise ContractViolation(
                f"learn returned '{name}' that is no tensor without gradient; detach() it"
            )
        if not bool(tensor.isfinite().all()):
            raise ContractViolation(
                f"learn returned '{name}' with numbers that are not finite; a mask of bool can"
                " say which places are empty"
            )


def _adapter(subject: Subject) -> Any:
    return subject.adapter(**subject.card().transfers_at)


def _learned(subject: Subject, **case: Any) -> State:
    state: State = _adapter(subject).learn(subject.episode(**case))
    return state


def _predicted(subject: Subject, state: State, target: Target) -> Tensor:
    """By a fresh adapter from a copy of the state: all that is left after an interruption."""
    logits_QK: Tensor = _adapter(subject).predictor(_copied(state), target)(toy.held_out().images)
    return logits_QK


def _copied(state: State) -> dict[str, Tensor]:
    return {name: part.detach().clone() for name, part in state.items()}


CHECKS = (
    Check("what is learned is free of classes", state_is_free_of_classes, transfers),
    Check("what is learned serves other classes", serves_other_classes, transfers),
    Check("fit is learn, then predictor", fit_is_learn_then_predict, keeps),
)
