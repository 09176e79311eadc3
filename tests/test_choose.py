"""Settings chosen on the validation set: best count, first of equals, fixed without one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmark.api import Episode, ImageSet, Labelled, Predictor, UserError
from benchmark.conformance import toy
from benchmark.training.choose import Setting, choose_by_counts, choose_on_val, correct

SETTINGS: list[Setting] = [
    {"alpha": alpha, "beta": beta} for alpha in (0.0, 1.0) for beta in (1, 2)
]
FIXED: Setting = {"alpha": 0.5, "beta": 3}


def chosen(episode: Episode, *counts: int) -> Setting:
    return choose_by_counts(
        episode, SETTINGS, FIXED, lambda val: torch.tensor(counts).reshape(2, 2)
    )


@pytest.mark.parametrize(
    ("counts", "winner"),
    [((3, 1, 2, 0), 0), ((1, 5, 9, 2), 2), ((1, 7, 7, 7), 1), ((0, 0, 0, 0), 0)],
)
def test_the_best_count_wins_and_the_first_of_equals(counts: tuple[int, ...], winner: int) -> None:
    episode = toy.feature_episode()
    assert chosen(episode, *counts) == SETTINGS[winner]
    expected = {**SETTINGS[winner], "selection": "val", "val_correct": max(counts)}
    assert episode.notes == expected


def test_without_a_validation_set_the_fixed_setting_is_taken_and_nothing_is_counted() -> None:
    episode = toy.feature_episode(val=False)

    def count(val: Labelled) -> Tensor:
        raise AssertionError("there is nothing to count")

    assert choose_by_counts(episode, SETTINGS, FIXED, count) == FIXED
    assert episode.notes == {**FIXED, "selection": "fixed"}


def test_a_predictor_is_judged_by_the_images_it_gets_right() -> None:
    episode = toy.feature_episode(shots=4)
    text_KD = episode.text_features()
    assert episode.val is not None

    def predictor(setting: Setting) -> Predictor:
        order_K = torch.arange(len(text_KD)).roll(int(setting["shift"]))
        return lambda images: images.features() @ text_KD[order_K].T

    settings: list[Setting] = [{"shift": shift} for shift in (2, 1, 0)]
    by_hand = [correct(predictor(setting), episode.val) for setting in settings]
    best = choose_on_val(episode, settings, {"shift": 1}, predictor)
    assert best == settings[by_hand.index(max(by_hand))] == {"shift": 0}
    assert episode.notes["val_correct"] == max(by_hand) > min(by_hand)


def test_correct_counts_images_whose_largest_logit_is_their_label() -> None:
    images = ImageSet.from_features(torch.eye(3))
    labels_N = torch.tensor([0, 1, 1])
    assert correct(lambda images: images.features(), Labelled(images, labels_N)) == 2


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(UserError, match="no settings to choose from"):
        choose_by_counts(toy.feature_episode(), [], FIXED, lambda val: torch.zeros(0))
