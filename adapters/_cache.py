"""The cache model of Tip-Adapter: few labelled images as keys, their labels as values, beside a
text classifier.

    logits(f) = s f W^T + alpha * sum over the keys k of each class of exp(-beta (1 - f k))

Keys lie class by class, padded to the largest class, so that the sum over one-hot values is a sum
over one dimension. Letters of this file: J keys of one class, A alphas, B betas, G gap to another
class, all else as in benchmark.api.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _checks
from benchmark.api import Crop, Episode, ImageSet, Labelled, Predictor, unit
from benchmark.training import loop

CPU_BLOCK, GPU_BLOCK = 64, 2048  # images scored at once: 64 stay in a core's cache; moves no number


@dataclass(frozen=True)
class Search:
    """How keys are made, and how alpha and beta are found."""

    key_views: int
    key_view_seed: int
    key_min_scale: float
    alpha_grid: str
    beta_grid: str
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        _checks.at_least(1, key_views=self.key_views)
        _checks.at_least(0, key_view_seed=self.key_view_seed, alpha=self.alpha)
        _checks.share(key_min_scale=self.key_min_scale)
        _checks.above_zero(beta=self.beta, beta_grid=min(self.grids[1]))

    @property
    def grids(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Alphas and betas, ascending."""
        return _checks.numbers("alpha_grid", self.alpha_grid, low=0), _checks.numbers(
            "beta_grid", self.beta_grid, low=0
        )


@dataclass(frozen=True)
class Tuning:
    """How keys are fine-tuned: AdamW with a cosine per step down to 0."""

    tune_views: int
    tune_view_seed: int
    tune_epochs: int
    tune_min_steps: int  # where epochs are short, as many more as it takes
    tune_batch_size: int
    tune_lr: float
    tune_weight_decay: float
    adam_epsilon: float
    adam_beta1: float
    adam_beta2: float

    def __post_init__(self) -> None:
        _checks.at_least(1, tune_views=self.tune_views, tune_batch_size=self.tune_batch_size)
        _checks.at_least(0, tune_view_seed=self.tune_view_seed, tune_epochs=self.tune_epochs)
        _checks.at_least(
            0, tune_min_steps=self.tune_min_steps, tune_weight_decay=self.tune_weight_decay
        )
        _checks.above_zero(tune_lr=self.tune_lr, adam_epsilon=self.adam_epsilon)
        _checks.decay(adam_beta1=self.adam_beta1, adam_beta2=self.adam_beta2)

    def epochs_for(self, images: int) -> int:
        """`tune_epochs`, or what it takes to reach `tune_min_steps`; none where none are asked for."""
        steps = max(1, images // self.tune_batch_size)
        return max(self.tune_epochs, -(-self.tune_min_steps // steps)) if self.tune_epochs else 0


@dataclass(frozen=True, eq=False)
class Cache:
    """Keys and a text classifier. `shift_KJ` is -1 for a key and -inf for padding, which adds
    exp(-inf) = 0.
    """

    key_KJD: Tensor
    shift_KJ: Tensor
    text_KD: Tensor
    scale: float

    @property
    def keys(self) -> int:
        return int(self.shift_KJ.isfinite().sum())


def fit(
    episode: Episode, text_KD: Tensor, search: Search, tuning: Tuning | None = None
) -> Predictor:
    """The whole method around a text classifier: keys, perhaps fine-tuned, then alpha and beta."""
    cache = build(episode, text_KD, search)
    if tuning is not None:
        cache = tune(cache, episode, search, tuning)
    return predictor(cache, *choose(cache, episode, search))


def build(episode: Episode, text_KD: Tensor, search: Search) -> Cache:
    """One key per support image: the mean of its views at unit length."""
    view_VND = episode.support.images.views(
        search.key_views, search.key_view_seed, Crop(search.key_min_scale)
    )
    device, classes = text_KD.device, len(text_KD)
    labels_S = episode.support.labels_N.to(device)
    key_SD = unit(view_VND.to(device).mean(0))
    counts_K = labels_S.bincount(minlength=classes)
    order_S = labels_S.argsort(stable=True)
    sorted_S = labels_S[order_S]
    place_S = torch.arange(len(labels_S), device=device) - (counts_K.cumsum(0) - counts_K)[sorted_S]
    key_KJD = key_SD.new_zeros(classes, int(counts_K.max()), key_SD.shape[1])
    shift_KJ = key_SD.new_full(key_KJD.shape[:2], -torch.inf)
    key_KJD[sorted_S, place_S] = key_SD[order_S]
    shift_KJ[sorted_S, place_S] = -1.0
    return Cache(key_KJD, shift_KJ, text_KD, episode.backbone.logit_scale)


def closeness(cache: Cache, image_ND: Tensor) -> Tensor:
    """f k - 1 as close_NKJ."""
    close_NM = torch.addmm(cache.shift_KJ.flatten(), image_ND, cache.key_KJD.flatten(0, 1).T)
    return close_NM.view(-1, *cache.shift_KJ.shape)


def logits(cache: Cache, image_ND: Tensor, alpha: float, beta: float) -> Tensor:
    return cache.scale * image_ND @ cache.text_KD.T + alpha * (
        beta * closeness(cache, image_ND)
    ).exp().sum(2)


def predictor(cache: Cache, alpha: float, beta: float) -> Predictor:
    def predict(images: ImageSet) -> Tensor:
        image_QD = images.features().to(cache.text_KD.device)
        block = CPU_BLOCK if image_QD.device.type == "cpu" else GPU_BLOCK
        return torch.cat([logits(cache, part_ND, alpha, beta) for part_ND in image_QD.split(block)])

    return predict


@torch.no_grad()
def correct(
    cache: Cache, labelled: Labelled, alphas: Sequence[float], betas: Sequence[float]
) -> Tensor:
    """correct_AB: how many images each pair gets right, all pairs in one pass.

    An image is right iff alpha * gain > gap against every other class, gap being the other's lead
    in the text classifier and gain what one unit of alpha wins back from it; so for one beta the
    right alphas are an interval, and no pair needs logits of its own.
    """
    device = cache.text_KD.device
    image_ND, labels_N = labelled.images.features().to(device), labelled.labels_N.to(device)
    alpha_A = torch.tensor(alphas, device=device)
    correct_AB = torch.zeros(len(alphas), len(betas), dtype=torch.int64, device=device)
    block = CPU_BLOCK if device.type == "cpu" else GPU_BLOCK
    for part_ND, label_N in zip(image_ND.split(block), labels_N.split(block), strict=True):
        gap_NK = _gap(cache.scale * part_ND @ cache.text_KD.T, label_N)
        close_NKJ = closeness(cache, part_ND)
        for b, beta in enumerate(betas):
            sum_NK = (beta * close_NKJ).exp_().sum(2)
            low_N, high_N = _interval(gap_NK, sum_NK.gather(1, label_N[:, None]) - sum_NK)
            correct_AB[:, b] += ((low_N < alpha_A[:, None]) & (alpha_A[:, None] < high_N)).sum(1)
    return correct_AB


def _gap(text_NK: Tensor, label_N: Tensor) -> Tensor:
    """The lead of each class over the true one. The true class is no rival; on a tie argmax takes
    the earlier class.
    """
    gap_NK = text_NK - text_NK.gather(1, label_N[:, None])
    class_K = torch.arange(text_NK.shape[1], device=text_NK.device)
    gap_NK = gap_NK.masked_fill((gap_NK == 0) & (class_K > label_N[:, None]), -1e-30)
    return gap_NK.scatter(1, label_N[:, None], -1.0)


def _interval(gap_NK: Tensor, gain_NK: Tensor) -> tuple[Tensor, Tensor]:
    """The alphas (low, high) that beat every other class; empty where a class leads that the cache
    cannot tell apart.
    """
    cut_NK = gap_NK / gain_NK
    low_N = cut_NK.masked_fill(gain_NK <= 0, -torch.inf).amax(1)
    high_N = cut_NK.masked_fill(gain_NK >= 0, torch.inf).amin(1)
    beaten_N = ((gain_NK == 0) & (gap_NK >= 0)).any(1)
    return low_N, high_N.masked_fill(beaten_N, -torch.inf)


def best(
    correct_AB: Tensor, alphas: Sequence[float], betas: Sequence[float]
) -> tuple[float, float]:
    """The pair with most images right; on a tie the smaller alpha, then the smaller beta (both come
    ascending).
    """
    first = int(correct_AB.cpu().flatten().argmax())
    return alphas[first // len(betas)], betas[first % len(betas)]


def choose(cache: Cache, episode: Episode, search: Search) -> tuple[float, float]:
    """alpha and beta by accuracy on the few-shot validation set, or the fixed pair where there is
    none; noted either way.
    """
    alpha, beta = search.alpha, search.beta
    if episode.val is not None:
        correct_AB = correct(cache, episode.val, *search.grids)
        alpha, beta = best(correct_AB, *search.grids)
        episode.notes["val_correct"] = int(correct_AB.max())
    episode.notes.update(
        {"alpha": alpha, "beta": beta, "selection": "fixed" if episode.val is None else "val"}
    )
    return alpha, beta


def tune(cache: Cache, episode: Episode, search: Search, tuning: Tuning) -> Cache:
    """The cache with its keys, and nothing else, trained by cross-entropy at the fixed pair; the
    last step's keys.
    """
    view_VND = episode.support.images.views(
        tuning.tune_views, tuning.tune_view_seed, Crop(search.key_min_scale)
    )
    bank = loop.Bank.of(view_VND, episode.support.labels_N, cache.text_KD.device)
    rows_TB, _ = loop.plan(
        episode.support,
        tuning.epochs_for(len(episode.support)),
        tuning.tune_batch_size,
        tuning.tune_views,
        episode.rng(),
    )
    rows_TB = rows_TB.to(bank.labels_M.device)
    rate_TR = loop.cosine(tuning.tune_lr, torch.arange(len(rows_TB)), len(rows_TB))[:, None]

    def loss_of(key_RKJD: Tensor, step: Tensor) -> Tensor:
        rows_B = rows_TB.index_select(0, step)[0]
        logits_BK = logits(
            replace(cache, key_KJD=key_RKJD[0]), bank.image_MD[rows_B], search.alpha, search.beta
        )
        return F.cross_entropy(logits_BK, bank.labels_M[rows_B]).view(1, 1)

    key_RKJD = cache.key_KJD[None].clone()
    update = loop.adamw(
        key_RKJD,
        tuning.tune_weight_decay,
        tuning.adam_epsilon,
        tuning.adam_beta1,
        tuning.adam_beta2,
    )
    loss_TR = loop.descend(key_RKJD, loss_of, rate_TR, update)
    loop.note(episode, trainable=cache.keys * cache.text_KD.shape[1], loss_T=loss_TR[:, 0])
    return replace(cache, key_KJD=key_RKJD[0])
