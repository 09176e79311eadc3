"""The support set as samples of a closed form: every stored view of an image counts as one.

Letters of this file: M samples (views x images), all else as in benchmark.api.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adapters._settings import StoredCrops
from benchmark.api import Crop, Episode, ImageSet, Predictor, State, unit
from benchmark.training.batches import Bank


def views(episode: Episode, crops: StoredCrops) -> Bank:
    """All stored views of the support images, on the text features' device."""
    view_VND = _stored(episode, crops)
    return Bank.of(view_VND, episode.support.labels_N, view_VND.device)


def mean_views(episode: Episode, crops: StoredCrops) -> Bank:
    """One sample per support image: the mean of its views at unit length."""
    view_VND = unit(_stored(episode, crops).mean(0))[None]
    return Bank.of(view_VND, episode.support.labels_N, view_VND.device)


def centres(episode: Episode) -> Bank:
    """The centre crops of the support images."""
    image_ND = episode.support.images.features().to(episode.text_features().device)
    return Bank.of(image_ND[None], episode.support.labels_N, image_ND.device)


def _stored(episode: Episode, crops: StoredCrops) -> Tensor:
    view_VND = episode.support.images.views(crops.views, crops.view_seed, Crop(crops.min_scale))
    return view_VND.to(episode.text_features().device)


def freedom(episode: Episode, crops: StoredCrops) -> int:
    """Degrees of freedom of the samples' scatter: views times (images less classes that have any).

    Views of one image count as if they were independent, which they are not.
    """
    return crops.views * (len(episode.support) - len(episode.support.labels_N.unique()))


def class_sums(bank: Bank, classes: int) -> tuple[Tensor, Tensor]:
    """sum_KD and count_K (int64) of the samples of every class."""
    count_K = bank.labels_M.bincount(minlength=classes)
    sum_KD = bank.image_MD.new_zeros(classes, bank.image_MD.shape[1])
    return sum_KD.index_add_(0, bank.labels_M, bank.image_MD), count_K


def class_means(bank: Bank, text_KD: Tensor) -> Tensor:
    """mean_KD of the samples of every class; the text row of a class without any."""
    sum_KD, count_K = class_sums(bank, len(text_KD))
    mean_KD = sum_KD / count_K.clamp_min(1)[:, None]
    return torch.where(count_K[:, None] > 0, mean_KD, text_KD)


def one_hot(labels_M: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """label_MK."""
    class_K = torch.arange(classes, device=labels_M.device)
    return (labels_M[:, None] == class_K).to(dtype)


def discriminant(bank: Bank, text_KD: Tensor) -> tuple[Tensor, Tensor]:
    """weight_KD and bias_K of the shared-covariance discriminant of GDA (adapters/gda.py); zeros
    without any scatter.
    """
    mean_KD = class_means(bank, text_KD)
    centred_MD = bank.image_MD - mean_KD[bank.labels_M]
    samples, dim = centred_MD.shape
    rounding = (1000 * torch.finfo(centred_MD.dtype).eps) ** 2
    if float(centred_MD.square().sum()) <= rounding * samples:
        return torch.zeros_like(mean_KD), mean_KD.new_zeros(len(mean_KD))
    scatter_DD = centred_MD.T @ centred_MD
    shrinkage = scatter_DD.trace() / max(samples - 1, 1)
    scatter_DD.diagonal().add_(shrinkage)
    weight_KD = dim * torch.linalg.solve(scatter_DD, mean_KD.T).T
    return weight_KD, -(weight_KD * mean_KD).sum(1) / 2


def linear_predictor(state: State) -> Predictor:
    """logits_QK of the classifier weight_KD and bias_K, the state of such a method."""
    weight_KD, bias_K = state["weight_KD"], state["bias_K"]

    def predict(images: ImageSet) -> Tensor:
        return images.features().to(weight_KD.device) @ weight_KD.T + bias_K

    return predict
