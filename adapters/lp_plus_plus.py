"""LP++: a linear probe whose classes also weigh their text features, with step sizes from the data.

    logits_k = f w_k + b_k + a_k (f t_k)

f: image feature, t_k: text feature of class k; w_k starts at the sum of the features of class k, b
at 0, a at 250 times the mean over classes of the mean of f t_k over the class's images. Each of
`epochs` steps sees the whole support set: w and b move by descent with momentum at the rate
4 N / (largest eigenvalue of F' F), F: the N support features; a moves at every tenth step by the
rate N / (4 max_k sum_i (f_i t_k)^2). The step that does best on the few-shot validation set counts
(on a tie the latest), without one the last. There is no rate to choose.

Deviations from the released code:

| here | there |
|---|---|
| the dtype of the features | half precision |
| a's gradient is that of the step; `summed=true` as released | the sum of all gradients so far |
| b starts at 0 | at noise of at most d^-0.5 |
| min(k, 4) validation images per class | k of them, with repetition where there are fewer |
| the number of classes and their images by label, counts may differ | N / k classes |

Expected: ViT-B/16, mean of 11 datasets, 1/2/4/8/16 shots: 70.35 / 72.93 / 75.77 / 77.94 / 80.32 %
(CLIP-SVD's table), from more validation labels at 8 and 16 shots.

Source: Huang et al., LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP, CVPR 2024;
FereshteShakeri/FewShot-CLIP-Strong-Baseline @ f81054f.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _checks, _samples, _transfer
from adapters._settings import StoredCrops
from benchmark.api import Episode, ImageSet, Predictor, State, Target
from benchmark.training import loop
from benchmark.training.batches import Bank
from benchmark.training.optimisers import Update

ALPHA_EVERY = 10  # steps


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "LP++"
    paper: ClassVar[str] = "arXiv:2404.02285"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)

    epochs: int = 300
    momentum: float = 0.9
    alpha_factor: float = 250.0  # of a's start
    summed: bool = False  # a moves by the sum of its gradients so far
    crops: StoredCrops = StoredCrops(views=1, min_scale=0.5)

    def __post_init__(self) -> None:
        _checks.at_least(0, epochs=self.epochs, alpha_factor=self.alpha_factor)
        _checks.decay(momentum=self.momentum)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        weights_KX, text_KD = state["weights_KX"], target.text_features()

        def predict(images: ImageSet) -> Tensor:
            return logits(images.features().to(weights_KX.device), weights_KX, text_KD)

        return predict

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        runs = [_run(episode, self) for episode in episodes]
        weights_RKX = torch.stack([run.start_KX for run in runs])
        rate_TR = torch.stack([run.rate for run in runs]).expand(self.epochs, -1)
        best = _Best(runs, weights_RKX)
        update = _kept(_steps(runs, weights_RKX, self.momentum, self.summed), best)
        loss_TR = loop.train(weights_RKX, _loss(runs), rate_TR, update)
        for run, episode, loss_T in zip(runs, episodes, loss_TR.T, strict=True):
            loop.note_training(episode, run.start_KX.numel(), loss_T)
        best.note(episodes)
        return [{"weights_KX": weights_KX} for weights_KX in best.weights_RKX]


@dataclass(frozen=True, eq=False)
class _Run:
    """One run: X = D + 2 columns of weights hold w, b and a."""

    start_KX: Tensor
    bank: Bank
    rate: Tensor  # of w and b
    alpha_rate: Tensor
    text_KD: Tensor
    val: tuple[Tensor, Tensor] | None  # image_ND, labels_N


def _run(episode: Episode, settings: Adapter) -> _Run:
    bank, text_KD, val = _samples.views(episode, settings.crops), episode.text_features(), None
    if episode.val is not None:
        image_ND = episode.val.images.features().to(text_KD.device)
        val = image_ND, episode.val.labels_N.to(text_KD.device)
    cosine_MK = bank.image_MD @ text_KD.T
    rate, alpha_rate = step_sizes(bank.image_MD, cosine_MK)
    start_KX = start(bank, cosine_MK, settings.alpha_factor)
    return _Run(start_KX, bank, rate, alpha_rate, text_KD, val)


def step_sizes(image_MD: Tensor, cosine_MK: Tensor) -> tuple[Tensor, Tensor]:
    """The rate of w and b, and that of a."""
    samples = len(image_MD)
    largest = torch.linalg.eigvalsh(image_MD.T @ image_MD)[-1]
    return 4 * samples / largest, samples / (4 * cosine_MK.square().sum(0).max())


def start(bank: Bank, cosine_MK: Tensor, alpha_factor: float) -> Tensor:
    """weights_KX before the first step."""
    sum_KD, count_K = _samples.class_sums(bank, cosine_MK.shape[1])
    own_M = cosine_MK.gather(1, bank.labels_M[:, None])[:, 0]
    own_K = own_M.new_zeros(len(count_K)).index_add_(0, bank.labels_M, own_M)
    present_K = count_K > 0
    mean = (own_K / count_K.clamp_min(1)).sum() / present_K.sum()
    bias_K1, alpha_K1 = (
        sum_KD.new_zeros(len(sum_KD), 1),
        (alpha_factor * mean).expand(len(sum_KD), 1),
    )
    return torch.cat([sum_KD, bias_K1, alpha_K1], dim=1)


def logits(image_ND: Tensor, weights_KX: Tensor, text_KD: Tensor) -> Tensor:
    """logits_NK; a product with w_k + a_k t_k, which is one product per class."""
    weight_KD, bias_K, alpha_K = weights_KX[:, :-2], weights_KX[:, -2], weights_KX[:, -1]
    return image_ND @ (weight_KD + alpha_K[:, None] * text_KD).T + bias_K


def _loss(runs: Sequence[_Run]) -> loop.Loss:
    def loss_of(moving_RKX: Tensor, step: Tensor) -> Tensor:
        losses = [
            F.cross_entropy(logits(run.bank.image_MD, weights_KX, run.text_KD), run.bank.labels_M)
            for weights_KX, run in zip(moving_RKX, runs, strict=True)
        ]
        return torch.stack(losses)[None]

    return loss_of


def _steps(runs: Sequence[_Run], weights_RKX: Tensor, momentum: float, summed: bool) -> Update:
    """Descent with momentum for w and b; plain and rarer for a."""
    alpha_rate_R1 = torch.stack([run.alpha_rate for run in runs])[:, None]
    velocity_RKX = torch.zeros_like(weights_RKX[:, :, :-1])
    slope_RK = torch.zeros_like(weights_RKX[:, :, -1])
    count = torch.zeros((), dtype=torch.int64, device=weights_RKX.device)

    def update(weights_RKX: Tensor, gradient_RKX: Tensor, rate_R: Tensor) -> None:
        count.add_(1)
        velocity_RKX.mul_(momentum).add_(gradient_RKX[:, :, :-1])
        slope_RK.mul_(float(summed)).add_(gradient_RKX[:, :, -1])
        weights_RKX[:, :, :-1].sub_(rate_R[:, None, None] * velocity_RKX)
        weights_RKX[:, :, -1].sub_((count % ALPHA_EVERY == 0) * alpha_rate_R1 * slope_RK)

    return update


class _Best:
    """The weights of the step that does best on the validation set, the latest of equals. State:
    those weights, their counts and their steps so far."""

    def __init__(self, runs: Sequence[_Run], weights_RKX: Tensor) -> None:
        self.weights_RKX = weights_RKX.clone()
        self._runs = runs
        self._correct_R = torch.zeros(len(runs), dtype=torch.int64, device=weights_RKX.device)
        self._step_R, self._steps = self._correct_R.clone(), self._correct_R.clone()

    def look(self, weights_RKX: Tensor) -> None:
        """Keeps the weights of the runs that do as well as ever; reads nothing on the host."""
        pairs = zip(self._runs, weights_RKX, strict=True)
        correct_R = torch.stack([self._correct(run, head_KX) for run, head_KX in pairs])
        better_R = correct_R >= self._correct_R
        self._steps.add_(1)
        self._correct_R.copy_(torch.where(better_R, correct_R, self._correct_R))
        self._step_R.copy_(torch.where(better_R, self._steps, self._step_R))
        self.weights_RKX.copy_(torch.where(better_R[:, None, None], weights_RKX, self.weights_RKX))

    @staticmethod
    def _correct(run: _Run, head_KX: Tensor) -> Tensor:
        """Validation images right; 0 at every step without any, so that the last step counts."""
        if run.val is None:
            return torch.zeros((), dtype=torch.int64, device=head_KX.device)
        image_ND, labels_N = run.val
        return (logits(image_ND, head_KX, run.text_KD).argmax(1) == labels_N).sum()

    def note(self, episodes: Sequence[Episode]) -> None:
        numbers = zip(self._step_R.tolist(), self._correct_R.tolist(), strict=True)
        for episode, (step, correct) in zip(episodes, numbers, strict=True):
            episode.notes["step"] = step
            episode.notes["selection"] = "fixed" if episode.val is None else "val"
            if episode.val is not None:
                episode.notes["val_correct"] = correct


def _kept(update: Update, best: _Best) -> Update:
    def update_and_look(weights_RKX: Tensor, gradient_RKX: Tensor, rate_R: Tensor) -> None:
        update(weights_RKX, gradient_RKX, rate_R)
        best.look(weights_RKX)

    return update_and_look
