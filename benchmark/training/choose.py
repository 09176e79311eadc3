"""Settings chosen on the validation set, by one rule for all methods.

The setting with most validation images right wins; on a tie the first of the grid. Where an episode
has no validation set the method's fixed setting is taken. The record says which of the two it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from benchmark.api import Episode, Labelled, Predictor, UserError

Setting = Mapping[str, float | int | str | bool]  # hyper-parameter -> value
Value = TypeVar("Value", bound=float | int | str | bool)


def choose_on_val(
    episode: Episode,
    settings: Sequence[Setting],
    fixed: Setting,
    predictor: Callable[[Setting], Predictor],
) -> Setting:
    """The best of `settings` by validation accuracy, or `fixed` without a validation set.

    `predictor` gives the method's predictor at a setting. `episode.notes` receives the values
    chosen, "selection" ("val" or "fixed") and "val_correct", the number of validation images right.
    Raises UserError where `settings` is empty.
    """

    def count(val: Labelled) -> Tensor:
        return torch.tensor([correct(predictor(setting), val) for setting in settings])

    return choose_by_counts(episode, settings, fixed, count)


def choose_by_counts(
    episode: Episode,
    settings: Sequence[Mapping[str, Value]],
    fixed: Mapping[str, Value],
    count: Callable[[Labelled], Tensor],
) -> Mapping[str, Value]:
    """`choose_on_val` for methods that count all settings at once.

    `count` gives the number of images right per setting, in the order of `settings` once flattened.
    """
    if not settings:
        raise UserError("there are no settings to choose from; give at least one")
    chosen, selection = fixed, "fixed"
    if episode.val is not None:
        counts = count(episode.val).cpu().flatten()
        assert len(counts) == len(settings), f"{len(counts)} counts of {len(settings)} settings"
        best = int(counts.argmax())  # the first of equals
        chosen, selection = settings[best], "val"
        episode.notes["val_correct"] = int(counts[best])
    episode.notes.update(chosen)
    episode.notes["selection"] = selection
    return chosen


def correct(predict: Predictor, labelled: Labelled) -> int:
    """How many images a predictor gets right."""
    logits_NK = predict(labelled.images)
    return int((logits_NK.argmax(1) == labelled.labels_N.to(logits_NK.device)).sum())
