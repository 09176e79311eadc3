"""A cache on the channels that tell classes apart, each key weighed by how well CLIP reads it.

    logits(f) = s f T' + alpha * sum over the keys k of a class of exp(beta (f~ k~ - 1) + gamma D_k)

~: the Q channels kept, at unit length; D_k: bits that zero-shot CLIP on these channels needs for
the label of k. APE and APE-T share this file. Letters: J keys of one class, Q channels kept,
A alphas, B betas, G gammas, all else as in benchmark.api.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from adapters import _cache
from adapters._settings import CacheModel, Refinement
from benchmark.api import Episode, ImageSet, Labelled, Predictor, State, unit
from benchmark.training.choose import choose_by_counts


@dataclass(frozen=True, eq=False)
class Refined:
    """A cache whose keys have the kept channels only; `bits_KJ` is D, 0 for padding.

    Where it is trained, `residual_KQ` is added to the text's channels and to every key of its
    class, and `weight_KJ` multiplies what a key says.
    """

    cache: _cache.Cache
    channel_Q: Tensor
    bits_KJ: Tensor
    residual_KQ: Tensor | None = None
    weight_KJ: Tensor | None = None

    def terms(self, image_ND: Tensor) -> tuple[Tensor, Tensor]:
        """text_NK, and how near every key is as close_NKJ, -inf for padding."""
        kept_NQ = image_ND[:, self.channel_Q]
        text_NK = image_ND @ self.cache.text_KD.T
        close_NKJ = _cache.closeness(self.cache, unit(kept_NQ))
        if self.residual_KQ is not None:
            text_NK = text_NK + kept_NQ @ self.residual_KQ.T
            close_NKJ = close_NKJ + (unit(kept_NQ) @ self.residual_KQ.T)[:, :, None]
        return self.cache.scale * text_NK, close_NKJ

    def affinity(self, close_NKJ: Tensor, beta: float, gamma: float) -> Tensor:
        """affinity_NK: what the cache says for every class."""
        said_NKJ = (beta * close_NKJ + gamma * self.bits_KJ).exp()
        return (said_NKJ if self.weight_KJ is None else said_NKJ * self.weight_KJ).sum(2)

    def logits(self, image_ND: Tensor, alpha: float, beta: float, gamma: float) -> Tensor:
        """logits_NK of the text and the cache together."""
        text_NK, close_NKJ = self.terms(image_ND)
        return text_NK + alpha * self.affinity(close_NKJ, beta, gamma)


def build(episode: Episode, model: CacheModel, refinement: Refinement) -> Refined:
    """The cache of Tip-Adapter on the channels that `refinement` keeps."""
    text_KD = episode.text_features()
    whole = _cache.build(episode, text_KD, model)
    channel_Q = channels(whole, refinement)
    key_KJQ = unit(whole.key_KJD[..., channel_Q])
    bits_KJ = divergence(key_KJQ, unit(text_KD[:, channel_Q]))
    bits_KJ = bits_KJ.masked_fill(whole.shift_KJ.isinf(), 0.0)
    return Refined(replace(whole, key_KJD=key_KJQ), channel_Q, bits_KJ)


def channels(cache: _cache.Cache, refinement: Refinement) -> Tensor:
    """channel_Q, ascending: those that vary most between texts and are least alike between classes,
    by the weights of `refinement`.
    """
    quantity = max(1, math.ceil(refinement.channels * cache.text_KD.shape[1]))
    similarity = refinement.similarity_weight
    score_D = (1 - similarity) * cache.text_KD.var(0) - similarity * likeness(cache)
    return score_D.topk(quantity).indices.sort().values


def likeness(cache: _cache.Cache) -> Tensor:
    """likeness_D: the mean product of a channel over pairs of samples of different classes; samples
    are the keys and the text of every class.

    The sum over such pairs is that over all pairs less that within classes, so none is visited.
    """
    sum_KD = cache.key_KJD.sum(1) + cache.text_KD
    count_K = cache.shift_KJ.isfinite().sum(1) + 1
    pairs = count_K.sum() ** 2 - (count_K**2).sum()
    return (sum_KD.sum(0).square() - sum_KD.square().sum(0)) / pairs


def divergence(key_KJQ: Tensor, text_KQ: Tensor) -> Tensor:
    """bits_KJ: KL of a key's label, one-hot, to the softmax of its cosines with all texts."""
    log_KJK = (key_KJQ @ text_KQ.T).log_softmax(2)
    return -torch.diagonal(log_KJK, dim1=0, dim2=2).T / math.log(2)


@torch.no_grad()
def choose(
    refined: Refined, episode: Episode, model: CacheModel, refinement: Refinement
) -> tuple[float, float, float]:
    """alpha, beta and gamma by accuracy on the validation set, or the fixed ones where there is
    none. On a tie the smaller alpha, then beta, then gamma.
    """
    names, grid = ("alpha", "beta", "gamma"), (model.alphas, model.betas, refinement.gammas)
    chosen = choose_by_counts(
        episode,
        [dict(zip(names, values, strict=True)) for values in product(*grid)],
        {"alpha": model.alpha, "beta": model.beta, "gamma": refinement.gamma},
        lambda val: correct(refined, val, *grid),
    )
    return chosen["alpha"], chosen["beta"], chosen["gamma"]


def correct(
    refined: Refined,
    labelled: Labelled,
    alphas: tuple[float, ...],
    betas: tuple[float, ...],
    gammas: tuple[float, ...],
) -> Tensor:
    """correct_ABG: how many images every setting gets right."""
    device = refined.bits_KJ.device
    image_ND, labels_N = labelled.images.features().to(device), labelled.labels_N.to(device)
    alpha_A11 = refined.bits_KJ.new_tensor(alphas)[:, None, None]
    correct_ABG = labels_N.new_zeros(len(alphas), len(betas), len(gammas))
    block = _cache.block(device)
    for part_ND, label_N in zip(image_ND.split(block), labels_N.split(block), strict=True):
        text_NK, close_NKJ = refined.terms(part_ND)
        for (b, beta), (g, gamma) in product(enumerate(betas), enumerate(gammas)):
            cache_NK = refined.affinity(close_NKJ, beta, gamma)
            guess_AN = (text_NK + alpha_A11 * cache_NK).argmax(2)
            correct_ABG[:, b, g] += (guess_AN == label_N).sum(1)
    return correct_ABG


def scored(refined: Refined, alpha: float, beta: float, gamma: float) -> State:
    """The state of a refined cache with its setting."""
    trained = {"residual_KQ": refined.residual_KQ, "weight_KJ": refined.weight_KJ}
    return {
        **_cache.scored(refined.cache, alpha, beta),
        "gamma": _cache.number(gamma),
        "channel_Q": refined.channel_Q,
        "bits_KJ": refined.bits_KJ,
        **{name: tensor for name, tensor in trained.items() if tensor is not None},
    }


def predictor(state: State, scale: float) -> Predictor:
    """Logits of images by their features, block by block."""
    cache, trained = (
        _cache.from_state(state, scale),
        (state.get("residual_KQ"), state.get("weight_KJ")),
    )
    refined = Refined(cache, state["channel_Q"], state["bits_KJ"], *trained)
    alpha, beta, gamma = (float(state[name]) for name in ("alpha", "beta", "gamma"))

    @torch.no_grad()
    def predict(images: ImageSet) -> Tensor:
        image_QD = images.features().to(refined.bits_KJ.device)
        parts = image_QD.split(_cache.block(image_QD.device))
        return torch.cat([refined.logits(part_ND, alpha, beta, gamma) for part_ND in parts])

    return predict
