"""What a lower precision of the towers changes, against float64, and what it leaves alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from benchmark.backbones import clip
from benchmark.backbones.clip import OpenClip
from benchmark.backbones.precision import PRECISIONS, arithmetic, tower_dtype
from benchmark.errors import UserError
from testbed import naive_clip

NAMES = ("cat", "old dog", "house plant")
# precision -> largest 1 - cosine of features, largest relative error of the context's gradient
BOUNDS = {"float32": (1e-6, 1e-5), "float16": (1e-5, 0.02), "bfloat16": (1e-2, 0.2)}


def backbone(precision: str) -> OpenClip:
    return clip.from_model(naive_clip.small_clip(), "small", precision=precision)


def features(model: OpenClip) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """image_ND, text_KD, the gradient of a sum over text_KD in the context, hand-made text_KD."""
    rng = torch.Generator().manual_seed(0)
    pixels_NCHW = torch.randn(5, 3, 16, 16, generator=rng)
    ctx_PE = (0.1 * torch.randn(4, 32, generator=rng)).to(model.dtype).requires_grad_()
    slope_KD = torch.randn(len(NAMES), model.dim, generator=rng)
    text_KD = model.class_prompts(NAMES, 4).encode(ctx_PE)
    (gradient_PE,) = torch.autograd.grad((text_KD * slope_KD).sum(), ctx_PE)
    return (
        model.encode_pixels(pixels_NCHW),
        text_KD.detach(),
        gradient_PE,
        model.encode_texts(NAMES),
    )


@pytest.mark.parametrize("precision", BOUNDS)
def test_features_and_gradients_stay_within_the_precision(precision: str) -> None:
    exact, ours = features(backbone("float64")), features(backbone(precision))
    apart, slope = BOUNDS[precision]
    for mine, reference in zip(ours, exact, strict=True):
        assert mine.dtype == torch.float32  # what leaves a tower
        assert reference.dtype == torch.float64
    for i in (0, 1, 3):
        assert float((1 - (ours[i].double() * exact[i]).sum(-1)).abs().max()) < apart
    assert float((ours[2].double() - exact[2]).norm() / exact[2].norm()) < slope


@pytest.mark.parametrize("precision", BOUNDS)
def test_the_logit_scale_is_never_rounded(precision: str) -> None:
    model = naive_clip.small_clip()
    expected = math.exp(float(model.logit_scale))
    assert clip.from_model(copy.deepcopy(model), "x", precision=precision).logit_scale == expected


def test_tf32_is_a_matter_of_products_and_ends_with_its_scope() -> None:
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    assert tower_dtype("tf32") == torch.float32
    for precision in PRECISIONS:
        with arithmetic(precision):
            expected = precision == "tf32"
            assert (products.allow_tf32, convolutions.allow_tf32) == (expected, expected)
    assert (products.allow_tf32, convolutions.allow_tf32) == before


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UserError, match="unknown precision 'float8'; take one of float64"):
        tower_dtype("float8")
