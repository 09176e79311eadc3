"""The classifier matrix of a kept adapter, where its method is one.

    logits = f W' + b

f: the backbone's image feature of unit length. The predictor itself is asked, at the unit vectors e
of all coordinates and at their negatives: W e = (logits(e) - logits(-e)) / 2, b is the mean of the
two. What it says of random features, and of some near each row of W, where images of the class lie,
must then be W f + b to rounding, or the method is no matrix.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from benchmark.api import ImageSet, UserError, unit
from benchmark.compute.loaded_adapters import LoadedAdapter

TRIED = 64  # random features
ROUNDINGS = 1000  # of a class's largest logit: how far W f + b may be off
KINDS = (".csv", ".safetensors", ".npz")


@dataclass(frozen=True, eq=False)
class ClassifierMatrix:
    """Logits are f weight_KD' + bias_K of a unit feature f; `scale` is CLIP's, and part of both."""

    class_names: tuple[str, ...]  # K
    weight_KD: Tensor
    bias_K: Tensor
    scale: float


def classifier_matrix(adapter: LoadedAdapter) -> ClassifierMatrix:
    """UserError where the method is no matrix behind the image encoder."""
    backbone = adapter.resources.backbone(adapter.backbone, adapter.precision)
    basis_DD = torch.eye(backbone.dim, dtype=backbone.dtype, device=backbone.device)
    method = adapter.kept.identity.method
    try:
        plus_DK, minus_DK = (_logits(adapter, sign * basis_DD) for sign in (1, -1))
        weight_KD = (plus_DK / 2 - minus_DK / 2).T
        # no mean: the sum of the least logits of a class that is never predicted has no room
        bias_K = (plus_DK / 2 + minus_DK / 2).median(0).values
        feature_ND = _tried(weight_KD).to(basis_DD)
        wanted_NK = _logits(adapter, feature_ND)
    except UserError as error:
        raise UserError(f"{method} has no classifier matrix: {error}") from error
    found_NK = feature_ND.cpu() @ weight_KD.T + bias_K
    room_K = ROUNDINGS * torch.finfo(wanted_NK.dtype).eps * wanted_NK.abs().amax(0)
    if bool(((found_NK - wanted_NK).abs() > room_K).any()):
        raise UserError(
            f"{method} is not linear in the image feature, so it has no classifier matrix;"
            f" `predict {adapter.kept.key}` applies it as it is"
        )
    return ClassifierMatrix(adapter.class_names, weight_KD, bias_K, backbone.logit_scale)


def _tried(weight_KD: Tensor) -> Tensor:
    """feature_ND of unit length, in random directions and between these and the rows of W."""
    rng = torch.Generator().manual_seed(0)
    noise_ND = torch.randn(TRIED, weight_KD.shape[1], generator=rng, dtype=torch.float64)
    noise_ND, row_KD = unit(noise_ND), unit(weight_KD.double())
    nearby_ND = row_KD + 0.5 * noise_ND[torch.arange(len(row_KD)) % TRIED]
    return torch.cat([noise_ND, unit(nearby_ND)])


def _logits(adapter: LoadedAdapter, feature_ND: Tensor) -> Tensor:
    return adapter.logits(ImageSet.from_features(feature_ND))


def require_kind(path: Path | None) -> str:
    """Which of KINDS a file asks for by its ending, a table where there is none; UserError for
    others.
    """
    kind = path.suffix.lower() if path else ".csv"
    if kind not in KINDS:
        raise UserError(
            f"a classifier matrix with its class names is written as {', '.join(KINDS)}, not as"
            f" '{kind}'; give --output one of these endings"
        )
    return kind


def as_bytes(matrix: ClassifierMatrix, kind: str) -> bytes:
    """The content of a file of one of KINDS."""
    if kind == ".csv":
        return _as_csv(matrix).encode()
    if kind == ".npz":
        return _as_npz(matrix)
    from safetensors.torch import save

    facts = {"class_names": json.dumps(matrix.class_names), "scale": repr(matrix.scale)}
    tensors = {"weight_KD": matrix.weight_KD.contiguous(), "bias_K": matrix.bias_K.contiguous()}
    return save(tensors, facts)


def _as_npz(matrix: ClassifierMatrix) -> bytes:
    import numpy as np

    packed = BytesIO()
    np.savez(
        packed,
        weight_KD=matrix.weight_KD.numpy(),
        bias_K=matrix.bias_K.numpy(),
        scale=np.float64(matrix.scale),
        class_names=np.array(matrix.class_names, dtype=np.str_),
    )
    return packed.getvalue()


def _as_csv(matrix: ClassifierMatrix) -> str:
    """A row per class: its name, its bias and its weights."""
    import pandas

    columns = [f"weight_{i}" for i in range(matrix.weight_KD.shape[1])]
    frame = pandas.DataFrame(matrix.weight_KD.numpy(), columns=columns)
    frame.insert(0, "class", list(matrix.class_names))
    frame.insert(1, "bias", matrix.bias_K.numpy())
    return str(frame.to_csv(index=False, lineterminator="\n"))
