"""TransCLIP: all test images are classified together, as a mixture of Gaussians around the classes.

    z_q = softmax(lambda s f_q T' + (log N(f_q; mu, V) + (tau / 6) ((W + W') z)_q) / tau)
    mu_k = weighted mean over the test images (weights z_qk / n_q) and the support (tau gamma / n_s)

f: image feature, s: CLIP's scale, T: text features, z_q: shares of the classes in test image q,
mu_k: mean of class k, V: one variance per coordinate, shared by the classes, W: cosines of every
test image with its three nearest ones, n_q and n_s: test and support images, tau = 50. From the
means of the support set and V = 1 / d on, ten rounds: five times z, then mu and V. gamma is chosen
on the few-shot validation set: an image stands for its nearest test image (on a tie the smallest).

TRANSDUCTIVE: no test label is seen, but all test images are, before the first is answered. A number
belongs to the whole test set, its size and how its classes are distributed included; it is no
statement about an image that comes alone. Such methods are ranked among themselves.

Deviations from the released code, which was read for the idea only:

| here | there |
|---|---|
| every gamma starts anew | from the state that the gamma before left |
| self is left out of the neighbours | the nearest one is, also of support images |
| support images: their centre crops, and they have no neighbours | they have |
| a class without images starts at its 8 surest test images | not foreseen |

Expected: few-shot means are not in its repository.

Source: Zanella, Gerin and Ben Ayed, Boosting Vision-Language Models with Transduction, NeurIPS
2024; MaxZanella/transduction-for-vlms @ 6a9e8f3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from adapters import _checks, _samples, _transfer
from benchmark.api import Episode, ImageSet, Predictor, State, Target, unit
from benchmark.training.batches import Bank

SUREST = 8  # test images that a class without support images starts from
BLOCK = 4096  # test images whose neighbours are looked for at once; changes no number


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "TransCLIP"
    paper: ClassVar[str] = "arXiv:2406.01837"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    transductive: ClassVar[bool] = True
    transfers: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)
    zero_shot_at: ClassVar[dict[str, Any]] = {"rounds": 0}

    text_weight: float = 0.5  # lambda
    temperature: float = 50.0  # tau
    neighbours: int = 3
    rounds: int = 10
    inner_rounds: int = 5
    support_grid: str = "0.002,0.01,0.02,0.2"  # gamma, tried on the validation set
    support_weight: float = 0.02  # without one

    def __post_init__(self) -> None:
        _checks.at_least(0, text_weight=self.text_weight, support_weight=self.support_weight)
        _checks.at_least(0, neighbours=self.neighbours, rounds=self.rounds)
        _checks.at_least(1, inner_rounds=self.inner_rounds)
        _checks.above_zero(temperature=self.temperature)
        _checks.numbers("support_grid", self.support_grid, low=0)

    fit, learn = _transfer.fit, _transfer.learn

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        return [self._compared_with(episode) for episode in episodes]

    def _compared_with(self, episode: Episode) -> State:
        """Nothing is learnt before the test images are there: what they are compared with is kept,
        the validation images as well, by which gamma is chosen.
        """
        support, val = _samples.centres(episode), episode.val
        state = {"image_MD": support.image_MD, "labels_M": support.labels_M}
        if val is None:
            return state
        device = support.image_MD.device
        val_ND, labels_N = val.images.features().to(device), val.labels_N.to(device)
        return {**state, "val_ND": val_ND, "val_labels_N": labels_N}

    def predictor(self, state: State, target: Target) -> Predictor:
        text_KD, scale = target.text_features(), target.backbone.logit_scale
        support = Bank(state["image_MD"], state["labels_M"])

        @torch.no_grad()
        def predict(images: ImageSet) -> Tensor:
            image_QD = images.features().to(text_KD.device)
            by_text_QK = scale * image_QD @ text_KD.T
            near_QQ = affinity(image_QD, self.neighbours)
            mixture = Mixture(self, image_QD, by_text_QK, near_QQ, support)
            return mixture.logits(self._chosen(mixture, state, target.notes))

        return predict

    def _chosen(self, mixture: Mixture, state: State, notes: dict[str, Any]) -> float:
        """gamma, and a note of it."""
        grid = _checks.numbers("support_grid", self.support_grid, low=0)
        gamma, selection = self.support_weight, "fixed"
        if "val_ND" in state:
            correct_A = mixture.correct(state["val_ND"], state["val_labels_N"], grid)
            best = int(correct_A.argmax())  # the first of equals
            gamma, selection = grid[best], "val"
            notes["val_correct"] = int(correct_A[best])
        notes.update(support_weight=gamma, selection=selection)
        return gamma


@dataclass(frozen=True, eq=False)
class Mixture:
    """The test images of one prediction and what is shared by all gammas."""

    settings: Adapter
    image_QD: Tensor
    by_text_QK: Tensor
    near_QQ: Tensor
    support: Bank
    known: dict[float, Tensor] = field(default_factory=dict)  # logits_QK by gamma

    def logits(self, gamma: float) -> Tensor:
        """logits_QK after the last round, whose softmax is z."""
        if gamma not in self.known:
            self.known[gamma] = self._rounds(gamma)
        return self.known[gamma]

    def correct(self, val_ND: Tensor, labels_N: Tensor, gammas: tuple[float, ...]) -> Tensor:
        """correct_A: how many validation images have their class at the nearest test image."""
        nearest_N = (val_ND @ self.image_QD.T).argmax(1)
        guess_AN = torch.stack([self.logits(gamma)[nearest_N].argmax(1) for gamma in gammas])
        return (guess_AN == labels_N).sum(1)

    def _rounds(self, gamma: float) -> Tensor:
        settings, by_text_QK = self.settings, self.by_text_QK
        logits_QK, z_QK = by_text_QK, by_text_QK.softmax(1)
        mean_KD = start(self.support, self.image_QD, z_QK)
        variance_D = torch.full_like(mean_KD[0], 1 / mean_KD.shape[1])
        for _ in range(settings.rounds):
            likely_QK = log_density(self.image_QD, mean_KD, variance_D) / settings.temperature
            for _ in range(settings.inner_rounds):
                logits_QK = settings.text_weight * by_text_QK + likely_QK + self.near_QQ @ z_QK / 6
                z_QK = logits_QK.softmax(1)
            weight = settings.temperature * gamma
            mean_KD, variance_D = moments(self.image_QD, z_QK, self.support, weight)
        return logits_QK


def affinity(image_QD: Tensor, neighbours: int) -> Tensor:
    """near_QQ, sparse: W + W', the cosines of every image with its nearest others."""
    count = len(image_QD)
    most = min(neighbours, count - 1)
    index_Q = torch.arange(count, device=image_QD.device)
    found = []
    for rows_B in index_Q.split(BLOCK):
        cosine_BQ = image_QD[rows_B] @ image_QD.T
        cosine_BQ[index_Q[: len(rows_B)], rows_B] = -torch.inf
        found.append(cosine_BQ.topk(most, 1))
    value_E = torch.cat([each.values for each in found]).flatten()
    from_E, to_E = index_Q.repeat_interleave(most), torch.cat([e.indices for e in found]).flatten()
    both_2E = torch.stack([torch.cat([from_E, to_E]), torch.cat([to_E, from_E])])
    values_E, size = value_E.repeat(2), (count, count)
    return torch.sparse_coo_tensor(both_2E, values_E, size, check_invariants=False).coalesce()


def start(support: Bank, image_QD: Tensor, z_QK: Tensor) -> Tensor:
    """mean_KD of the support images, of a class without any that of its surest test images."""
    surest_SK = z_QK.topk(min(SUREST, len(z_QK)), 0).indices
    return unit(_samples.class_means(support, image_QD[surest_SK].mean(0)))


def log_density(image_QD: Tensor, mean_KD: Tensor, variance_D: Tensor) -> Tensor:
    """likely_QK, but for what all classes share."""
    precise_KD = mean_KD / variance_D
    return image_QD @ precise_KD.T - (precise_KD * mean_KD).sum(1) / 2


def moments(
    image_QD: Tensor, z_QK: Tensor, support: Bank, support_weight: float
) -> tuple[Tensor, Tensor]:
    """mean_KD and variance_D; test images weigh 1 in all, support images `support_weight`."""
    image_MD = torch.cat([image_QD, support.image_MD])
    one_NK = _samples.one_hot(support.labels_M, z_QK.shape[1], z_QK.dtype)
    own_NK = one_NK * (support_weight / len(support.labels_M))
    weight_MK = torch.cat([z_QK / len(z_QK), own_NK])
    total_K = weight_MK.sum(0).clamp_min(torch.finfo(z_QK.dtype).tiny)
    mean_KD = weight_MK.T @ image_MD / total_K[:, None]
    spread_D = weight_MK.sum(1) @ image_MD.square() - total_K @ mean_KD.square()
    return mean_KD, spread_D.clamp_min(0) / total_K.sum() + torch.finfo(z_QK.dtype).eps
