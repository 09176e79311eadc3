"""What a lower precision of the towers changes, against float64, and what it leaves alone."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark import methods
from benchmark.api import unit
from benchmark.backbones import clip
from benchmark.backbones.clip import OpenClip
from benchmark.backbones.precision import PRECISIONS, arithmetic, tower_dtype
from benchmark.errors import UserError
from benchmark.training import capture
from testbed import naive_clip
from testbed.dispatch import refusing_narrow
from testbed.toy_on import Place
from tests.short_training import parameters

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


def context_gradient(precision: str, noise: float, class_specific: bool) -> tuple[float, Tensor]:
    """CoOp's loss and its gradient: 200 classes, a batch of 32 images near their classes' texts."""
    names, model = [f"thing number {k}" for k in range(200)], backbone(precision)
    prompts = model.class_prompts(names, 4, class_specific=class_specific)
    rng, exact = torch.Generator().manual_seed(1), backbone("float64")
    shape = (200, 4, 32) if class_specific else (4, 32)
    start = 0.1 * torch.randn(*shape, generator=rng, dtype=torch.float64)
    ctx = start.to(model.dtype).requires_grad_()
    with torch.no_grad():
        near = exact.class_prompts(names, 4, class_specific=class_specific).encode(start)[:32]
    near_BD = near + noise * torch.randn(near.shape, generator=rng, dtype=torch.float64)
    logits_BK = 100 * unit(near_BD).to(model.dtype) @ prompts.encode(ctx).T
    loss = F.cross_entropy(logits_BK, torch.arange(32))
    return float(loss.detach()), torch.autograd.grad(loss, ctx)[0].double()


@pytest.mark.parametrize(
    ("class_specific", "noise", "least", "most", "error"),
    [
        (False, 0.2, 1.0, 100.0, 0.04),
        (False, 0.06, 0.1, 3.0, 0.04),
        (True, 0.2, 1.0, 10.0, 0.04),
        (True, 0.06, 1e-6, 1e-3, 0.15),
    ],
)
def test_float16_needs_no_larger_loss_on_the_text_side(
    class_specific: bool, noise: float, least: float, most: float, error: float
) -> None:
    """What is too small for float16 belongs to classes that are told apart already: it is lost only
    where the loss has all but vanished, and what remains of its gradient with it."""
    loss, exact = context_gradient("float64", noise, class_specific)
    ours = context_gradient("float16", noise, class_specific)[1]
    print(loss, float((ours - exact).norm() / exact.norm()))
    assert least < loss < most
    assert float((ours - exact).norm() / exact.norm()) < error


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


@pytest.mark.parametrize("name", methods.own())
def test_in_float64_no_step_and_no_prediction_passes_through_a_narrower_type(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a GPU, which rounds that type in another order, would give other counts."""
    place, run_step, steps = Place("cpu", "float64"), capture.Steps.run, []

    def watched(given: capture.Steps, kind: capture.Kind) -> None:
        steps.append(kind)
        with refusing_narrow():
            run_step(given, kind)

    monkeypatch.setattr(capture.Steps, "run", watched)
    few = {"views": 2} if "views" in parameters(name) else {}
    predict = methods.load(name, few | _few_steps(name)).fit(place.episode())
    images = place.held_out()
    with refusing_narrow(), torch.no_grad():
        assert predict(images).dtype == torch.float64


def _few_steps(name: str) -> dict[str, Any]:
    fields = methods.card(name).parameters
    few = {"epochs": "2", "tune_epochs": 2, "tune_min_steps": 0, "steps_per_shot": 1}
    return {key: value for key, value in few.items() if key in fields}


def test_the_guard_sees_a_narrower_type() -> None:
    with refusing_narrow(), pytest.raises(AssertionError, match=r"gives torch\.float32"):
        torch.ones(2, dtype=torch.float64).float()
