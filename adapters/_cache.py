"""The cache model of Tip-Adapter: few labelled images as keys, their labels as values.

    logits(f) = s f W^T + alpha * sum over the keys k of each class of exp(-beta (1 - f k))

f: image feature, W: text classifier, s: CLIP's scale. Keys lie class by class, padded to the
largest class, so that the sum over one-hot values is a sum over one dimension.
Letters of this file: J keys of one class, A alphas, B betas (in training: images of a batch),
M all keys (of a bank: rows of all views), T steps, R runs, all else as in benchmark.api.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters._settings import CacheModel, KeyTuning
from benchmark.api import Crop, Episode, ImageSet, Labelled, Predictor, State, unit
from benchmark.training import batches, loop, optimisers
from benchmark.training.choose import choose_by_counts

# Images scored at once: 64 stay in the cache of a core. Changes no number.
CPU_BLOCK, GPU_BLOCK = 64, 2048


def block(device: torch.device) -> int:
    """Images scored at once."""
    return CPU_BLOCK if device.type == "cpu" else GPU_BLOCK


@dataclass(frozen=True, eq=False)
class Cache:
    """Keys and a text classifier; `shift_KJ` is -1 for a key and -inf for padding."""

    key_KJD: Tensor
    shift_KJ: Tensor
    text_KD: Tensor
    scale: float

    @property
    def keys(self) -> int:
        """How many there are."""
        return int(self.shift_KJ.isfinite().sum())


def learn(
    episodes: Sequence[Episode],
    texts: Sequence[Tensor],
    model: CacheModel,
    tuning: KeyTuning | None = None,
) -> list[State]:
    """The whole method around a text classifier: build keys, perhaps tune them, choose a pair. The
    keys of several runs are tuned as a batch; `texts` holds text_KD of each.
    """
    caches = [build(*given, model) for given in zip(episodes, texts, strict=True)]
    if tuning is not None:
        caches = tune(caches, episodes, model, tuning)
    pairs = zip(caches, episodes, strict=True)
    if tuning is not None and episodes[0].selection is not None:
        return [scored(cache, *better_pair(cache, episode, model)) for cache, episode in pairs]
    return [scored(cache, *choose(cache, episode, model)) for cache, episode in pairs]


def scored(cache: Cache, alpha: float, beta: float) -> State:
    """The state of a cache with its pair."""
    return to_state(cache) | {"alpha": number(alpha), "beta": number(beta)}


def to_state(cache: Cache) -> dict[str, Tensor]:
    """The tensors of a cache; `present_KJ` tells keys from padding."""
    present_KJ = cache.shift_KJ.isfinite()
    return {"key_KJD": cache.key_KJD, "present_KJ": present_KJ, "text_KD": cache.text_KD}


def from_state(state: State, scale: float) -> Cache:
    """The cache of a state."""
    shift_KJ = torch.zeros_like(state["key_KJD"][..., 0])
    shift_KJ = (shift_KJ - 1).masked_fill(~state["present_KJ"], -torch.inf)
    return Cache(state["key_KJD"], shift_KJ, state["text_KD"], scale)


def number(value: float) -> Tensor:
    """A setting as a tensor, to the last digit."""
    return torch.tensor(value, dtype=torch.float64)


def build(episode: Episode, text_KD: Tensor, model: CacheModel) -> Cache:
    """One key per support image: the mean of its views at unit length."""
    view_VND = episode.support.images.views(
        model.key_views, model.key_view_seed, Crop(model.key_min_scale)
    )
    device, classes = text_KD.device, len(text_KD)
    labels_S = episode.support.labels_N.to(device)
    key_SD = unit(view_VND.to(device).mean(0))
    counts_K = labels_S.bincount(minlength=classes)
    order_S = labels_S.argsort(stable=True)
    sorted_S = labels_S[order_S]
    column_S = (
        torch.arange(len(labels_S), device=device) - (counts_K.cumsum(0) - counts_K)[sorted_S]
    )
    key_KJD = key_SD.new_zeros(classes, int(counts_K.max()), key_SD.shape[1])
    shift_KJ = key_SD.new_full(key_KJD.shape[:2], -torch.inf)
    key_KJD[sorted_S, column_S] = key_SD[order_S]
    shift_KJ[sorted_S, column_S] = -1.0
    return Cache(key_KJD, shift_KJ, text_KD, episode.backbone.logit_scale)


def closeness(cache: Cache, image_ND: Tensor) -> Tensor:
    """f k - 1 as close_NKJ, for every image and key."""
    close_NM = torch.addmm(cache.shift_KJ.flatten(), image_ND, cache.key_KJD.flatten(0, 1).T)
    return close_NM.view(-1, *cache.shift_KJ.shape)


def logits(cache: Cache, image_ND: Tensor, alpha: float, beta: float) -> Tensor:
    """logits_NK of the text classifier and the cache together."""
    affinity_NK = (beta * closeness(cache, image_ND)).exp().sum(2)
    return cache.scale * image_ND @ cache.text_KD.T + alpha * affinity_NK


def predictor(state: State, scale: float) -> Predictor:
    """Logits of images by their features, block by block."""
    cache, alpha, beta = from_state(state, scale), float(state["alpha"]), float(state["beta"])

    def predict(images: ImageSet) -> Tensor:
        image_QD = images.features().to(cache.text_KD.device)
        parts = image_QD.split(block(image_QD.device))
        return torch.cat([logits(cache, part_ND, alpha, beta) for part_ND in parts])

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
    alpha_A = torch.tensor(alphas, dtype=image_ND.dtype, device=device)
    correct_AB = torch.zeros(len(alphas), len(betas), dtype=torch.int64, device=device)
    size = block(device)
    for part_ND, label_N in zip(image_ND.split(size), labels_N.split(size), strict=True):
        gap_NK = _gap(cache.scale * part_ND @ cache.text_KD.T, label_N)
        close_NKJ = closeness(cache, part_ND)
        for b, beta in enumerate(betas):
            sum_NK = (beta * close_NKJ).exp_().sum(2)
            low_N, high_N = _interval(gap_NK, sum_NK.gather(1, label_N[:, None]) - sum_NK)
            correct_AB[:, b] += ((low_N < alpha_A[:, None]) & (alpha_A[:, None] < high_N)).sum(1)
    return correct_AB


def _gap(text_NK: Tensor, label_N: Tensor) -> Tensor:
    """The lead of each class over the true one, which is no rival of itself.

    On a tie argmax takes the earlier class.
    """
    gap_NK = text_NK - text_NK.gather(1, label_N[:, None])
    class_K = torch.arange(text_NK.shape[1], device=text_NK.device)
    gap_NK = gap_NK.masked_fill((gap_NK == 0) & (class_K > label_N[:, None]), -1e-30)
    return gap_NK.scatter(1, label_N[:, None], -1.0)


def _interval(gap_NK: Tensor, gain_NK: Tensor) -> tuple[Tensor, Tensor]:
    """The alphas (low, high) that beat every other class.

    Empty where a class leads whose cache term equals that of the true class.
    """
    cut_NK = gap_NK / gain_NK
    low_N = cut_NK.masked_fill(gain_NK <= 0, -torch.inf).amax(1)
    high_N = cut_NK.masked_fill(gain_NK >= 0, torch.inf).amin(1)
    beaten_N = ((gain_NK == 0) & (gap_NK >= 0)).any(1)
    return low_N, high_N.masked_fill(beaten_N, -torch.inf)


def choose(cache: Cache, episode: Episode, model: CacheModel) -> tuple[float, float]:
    """alpha and beta by accuracy on the validation set, or the fixed pair where there is none.

    On a tie the smaller alpha, then the smaller beta, or the other way round (`model.ties`).
    """
    pairs = [{"alpha": alpha, "beta": beta} for alpha in model.alphas for beta in model.betas]
    if model.ties == "beta":
        pairs.sort(key=lambda pair: (pair["beta"], pair["alpha"]))

    def count(val: Labelled) -> Tensor:
        correct_AB = correct(cache, val, model.alphas, model.betas)
        return correct_AB if model.ties == "alpha" else correct_AB.T

    chosen = choose_by_counts(episode, pairs, {"alpha": model.alpha, "beta": model.beta}, count)
    return chosen["alpha"], chosen["beta"]


def better_pair(cache: Cache, episode: Episode, model: CacheModel) -> tuple[float, float]:
    """The chosen pair or that of training, whichever gets more of the selection set right: the
    release prints the larger of the two test accuracies.
    """
    alpha, beta = choose(cache, episode, model)
    assert episode.selection is not None, "only a run with a selection set compares them"
    searched = int(correct(cache, episode.selection, [alpha], [beta]))
    if searched <= _right(cache, episode.selection, model):
        alpha, beta = model.alpha, model.beta
    episode.notes.update(alpha=alpha, beta=beta)
    return alpha, beta


def _right(cache: Cache, labelled: Labelled, model: CacheModel) -> int:
    """How many images the pair of training gets right."""
    return int(correct(cache, labelled, [model.alpha], [model.beta]))


@dataclass(frozen=True, eq=False)
class _Run:
    """One run as tables: which rows of its bank each step sees, and the learning rate."""

    cache: Cache
    bank: batches.Bank
    rows_TB: Tensor
    rate_T: Tensor

    def loss(self, key_KJD: Tensor, step: Tensor, model: CacheModel) -> Tensor:
        """Cross-entropy of the images of a step; keys beyond the run's own are padding."""
        image_BD, labels_B = self.bank.batch(self.rows_TB.index_select(0, step)[0])
        moved = replace(self.cache, key_KJD=key_KJD[:, : self.cache.key_KJD.shape[1]])
        logits_BK = logits(moved, image_BD, model.alpha, model.beta)
        return F.cross_entropy(logits_BK, labels_B, ignore_index=batches.ABSENT)

    def epochs(self, count: int) -> list[_Run]:
        """The run in so many equal parts."""
        parts = zip(self.rows_TB.chunk(count), self.rate_T.chunk(count), strict=True)
        return [replace(self, rows_TB=rows_TB, rate_T=rate_T) for rows_TB, rate_T in parts]


def _run(cache: Cache, episode: Episode, model: CacheModel, tuning: KeyTuning) -> _Run:
    support, device = episode.support, cache.text_KD.device
    view_VND = support.images.views(
        tuning.tune_views, tuning.tune_view_seed, Crop(model.key_min_scale)
    )
    epochs, size = tuning.epochs_for(len(support)), tuning.tune_batch_size
    rows_TB, _ = batches.draw(
        support,
        epochs,
        size,
        tuning.tune_views,
        episode.rng(),
        keep_short=tuning.tune_short_batch,
    )
    rate_T = optimisers.cosine(tuning.tune_lr, torch.arange(len(rows_TB)), len(rows_TB))
    bank = batches.Bank.of(view_VND, support.labels_N, device)
    return _Run(cache, bank, rows_TB.to(device), rate_T)


def tune(
    caches: Sequence[Cache], episodes: Sequence[Episode], model: CacheModel, tuning: KeyTuning
) -> list[Cache]:
    """The caches with their keys trained by cross-entropy at the fixed pair, as a batch; the last
    step's keys. The keys of all runs are padded to the most that a class has in any. With a
    selection set each run is tuned by itself, and the keys of its best epoch are kept."""
    if episodes[0].selection is not None:
        pairs = zip(caches, episodes, strict=True)
        return [tune_to_best_epoch(cache, episode, model, tuning) for cache, episode in pairs]
    runs = [_run(*given, model, tuning) for given in zip(caches, episodes, strict=True)]
    order = loop.longest_first([run.rate_T for run in runs])
    most = max(cache.key_KJD.shape[1] for cache in caches)
    keys = [caches[r].key_KJD for r in order]
    key_RKJD = torch.stack([F.pad(each, (0, 0, 0, most - each.shape[1])) for each in keys])
    rate_TR = loop.together([runs[r].rate_T for r in order])

    def loss_of(moving_RKJD: Tensor, step: Tensor) -> Tensor:
        pairs = zip(moving_RKJD, order, strict=False)
        return torch.stack([runs[r].loss(key_KJD, step, model) for key_KJD, r in pairs])[None]

    update = _optimiser(key_RKJD, tuning)
    loss_TR = loop.train(key_RKJD, loss_of, rate_TR, update)
    for column, r in enumerate(order):
        trained = caches[r].keys * caches[r].text_KD.shape[1]
        loop.note_training(episodes[r], trained, loss_TR[: len(runs[r].rate_T), column])
    tuned = dict(zip(order, key_RKJD, strict=True))
    return [
        replace(cache, key_KJD=tuned[r][:, : cache.key_KJD.shape[1]])
        for r, cache in enumerate(caches)
    ]


def tune_to_best_epoch(
    cache: Cache, episode: Episode, model: CacheModel, tuning: KeyTuning
) -> Cache:
    """The keys of the epoch that gets most of the selection set right, on a tie of the first."""
    assert episode.selection is not None, "without a selection set the last epoch counts"
    key_1KJD = cache.key_KJD[None].clone()
    update = _optimiser(key_1KJD, tuning)
    epochs = tuning.epochs_for(len(episode.support))
    losses: list[Tensor] = []
    kept, most = cache, -1
    whole = _run(cache, episode, model, tuning)
    for number, run in enumerate(whole.epochs(epochs) if epochs else [], start=1):
        loss_of = _alone(run, model)
        losses.append(loop.train(key_1KJD, loss_of, run.rate_T[:, None], update)[:, 0])
        moved = replace(cache, key_KJD=key_1KJD[0].clone())
        right = _right(moved, episode.selection, model)
        if right > most:
            kept, most = moved, right
            episode.notes["best_epoch"] = number
    loss_T = torch.cat(losses) if losses else torch.zeros(0)
    loop.note_training(episode, cache.keys * cache.text_KD.shape[1], loss_T)
    return kept


def _alone(run: _Run, model: CacheModel) -> loop.Loss:
    return lambda key_1KJD, step: run.loss(key_1KJD[0], step, model).view(1, 1)


def _optimiser(key_RKJD: Tensor, tuning: KeyTuning) -> optimisers.Update:
    make = optimisers.adamw_half if tuning.tune_optimiser == "adamw_half" else optimisers.adamw
    return make(
        key_RKJD,
        tuning.tune_weight_decay,
        tuning.adam_epsilon,
        tuning.adam_beta1,
        tuning.adam_beta2,
    )
