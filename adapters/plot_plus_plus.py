"""PLOT++: prompts in both towers, those of an image matched to those of a class by transport.

    image m: [class token, V_m, patches] -> f_m,   m = 1 ... M;   text n: "[P_n][class k]" -> t_kn
    OT_k = s sum_mn T_mn f_m . t_kn,   T by optimal transport (adapters/_transport.py)
    1. min over V    of CE(s f . t_k + OT_k, y)
    2. min over V, P of CE(OT_k, y)

V_m: `n_image` rows that the first block of the image tower reads beside the patches, of M =
`image_prompts` such sets, each in a pass of its own through the tower; f_m: the image's feature of
that pass; P_n: the context that starts as the words of phrase n of N, t_kn: text feature of class k
in it; f, t_k: means of the f_m and the t_kn; all features of unit length; s: CLIP's scale, y:
label. The rows start as N(0, 0.02^2). Both stages draw the same batches, each by SGD with momentum
on CoOp's schedule, and the last step counts. 4 x 2 x 768 + 4 x 4 x 512 = 14,336 parameters in
ViT-B/16. With one prompt on each side OT_k is their cosine.

Deviations from the released code, and whether `--preset released` follows it instead:

| here | released | preset |
|---|---|---|
| stage 1 on the run's own support images | on seed 1's, also for seeds 2 and 3 | no |
| four plain phrases of four words | four of each dataset's own, of 3 to 6 words | yes, but (a) |
| 50 epochs from 500 classes on | on ImageNet | yes |
| `iterations` of Sinkhorn, always | until a batch's factors move by 0.01 in the mean | 100 |
| f, t_k: means of unit features | of those the encoders give | no |
| the rows stand behind the tower's first norm | before it | no |
| stored crops in turn | fresh crops in every epoch | yes |
| the backbone's precision | half | no |

Seeds 2 and 3 of the release have therefore seen seed 1's images as well as their own. The four
phrases are those it has for Caltech101, Cars and SUN397. Each stage takes CoOp's epochs, as its
train.py does: it overrides the 50 of its configuration and of the first stage in its README.
(a) Phrases have one length here. EuroSAT's two of six words lose the last one, which stays there as
a fixed word; ImageNet's third, of three words, is that of above: there its context takes in the end
token, and class names lose their first.

The released rate was kept: on validation images of the tiny suite at 8 shots, seed 1, it has 57.5 /
46.9 / 62.5 % on digits / shapes / textures, ten times the rate 47.5 / 39.1 / 56.2 %.

Memory and time: every image passes M times through the image tower, in training, of which M times
as many activations are kept, and in prediction. Stage 2 encodes N K texts at every step.

Expected: ViT-B/16, mean of 11 datasets and three seeds, 1/2/4/8/16 shots: 70.71 / 74.00 / 76.92 /
79.65 / 82.09 %. Tiny suite: 42.6 ± 1.1 % at 1 shot of seeds 1-3, 45.5 % at 16 shots of seed 1
alone, where zero-shot has 46.0: below it on digits (42.5, zero-shot 44.1) and shapes (36.6 and
38.1), above it on textures (57.5 and 55.8). With 50 epochs the latter two
have 37.5 and 58.9 %.

Source: Chen et al., PLOT: Prompt Learning with Optimal Transport for Vision-Language Models, ICLR
2023; CHENGY12/PLOT @ 728539f, plot-pp: trainers/plotpp.py, clip/model.py, train.py, README.md,
scripts/*.sh, configs/trainers/PLOTPP/vit.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from adapters import (
    _blocks,
    _checks,
    _in_the_loop,
    _optimisers,
    _prompts,
    _rows,
    _transfer,
    _transport,
    _views,
)
from adapters._in_the_loop import Parts, Run
from adapters._settings import Crops, PromptTraining, Sgd, Transport
from benchmark.api import (
    Backbone,
    ClassPrompts,
    Episode,
    Predictor,
    State,
    Target,
    UserError,
    VisionTower,
    unit,
)
from benchmark.training.noise import normal


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "PLOT++"
    paper: ClassVar[str] = "arXiv:2210.01253"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("prompts", "image blocks")
    tested_at: ClassVar[dict[str, Any]] = {"epochs": "6", "lr": 0.03}

    # what the contexts start from, of equal length; two that are alike would stay alike
    phrases: str = "a photo of a, this is a photo, this is picture of, one picture of a"
    image_prompts: int = 4  # sets of rows, M
    n_image: int = 2  # rows of a set
    init_std: float = 0.02  # of these rows
    transport: Transport = Transport()
    training: PromptTraining = PromptTraining()  # of each stage
    sgd: Sgd = Sgd()
    crops: Crops = Crops()
    keep_mb: int = 4096  # MiB for what the first block reads; changes no number

    def __post_init__(self) -> None:
        _checks.at_least(1, image_prompts=self.image_prompts, n_image=self.n_image)
        _checks.at_least(0, init_std=self.init_std, keep_mb=self.keep_mb)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        towers = Towers.of(target, state["ctx_NPE"].shape[1])
        with torch.no_grad():
            text_NKD = towers.text_features(state["ctx_NPE"])

        def logits(pixels_NCHW: Tensor) -> Tensor:
            x_NLU = _blocks.below(towers.vision, 0, pixels_NCHW)
            image_NMD = towers.image_features(x_NLU, state["image_MTU"])
            return towers.scale * matched(image_NMD, text_NKD, self.transport)

        return lambda images: _blocks.in_batches(images, text_NKD.device, logits)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        ctx_NPE = word_contexts(episodes[0].backbone, self.phrases)
        towers = Towers.of(episodes[0].target, ctx_NPE.shape[1])
        optimiser = _optimisers.sgd(self.sgd)
        runs = self._image_runs(episodes, towers, ctx_NPE)
        learned = _in_the_loop.learn(runs, towers.vision, optimiser)
        joint = [
            replace(run, start={"ctx_NPE": ctx_NPE, **parts}, loss_of=self._joint_loss(towers))
            for run, parts in zip(runs, learned, strict=True)
        ]
        states = _in_the_loop.learn(joint, towers.vision, optimiser)
        for run in joint:  # the image rows are trained twice, but counted once
            run.episode.notes["trainable_params"] = sum(map(torch.numel, run.start.values()))
        return [dict(state) for state in states]

    def _image_runs(
        self, episodes: Sequence[Episode], towers: Towers, ctx_NPE: Tensor
    ) -> list[Run]:
        """The first stage."""
        many, vision = len(episodes) > 1, towers.vision
        loss_of = self._image_loss(towers, ctx_NPE)
        return _in_the_loop.runs(
            episodes,
            lambda episode: _in_the_loop.by_epochs(
                episode, self.training, self.crops, self.sgd.warmup_lr
            ),
            self._start,
            _views.inputs_for(vision, 0, self.crops, self.keep_mb, must_fit=many),
            lambda _: loss_of,
        )

    def _start(self, episode: Episode) -> Parts:
        backbone = episode.backbone
        shape = [self.image_prompts, self.n_image, _rows.width(backbone.vision)]
        return {"image_MTU": self.init_std * normal(shape, episode.rng(), backbone)}

    def _image_loss(self, towers: Towers, ctx_NPE: Tensor) -> _in_the_loop.Loss:
        with torch.no_grad():
            text_NKD = towers.text_features(ctx_NPE)

        def logits_of(parts: Parts, x_BLU: Tensor, step: Tensor) -> Tensor:
            image_BMD = towers.image_features(x_BLU, parts["image_MTU"])
            similarity_BK = matched(image_BMD, text_NKD, self.transport)
            return towers.scale * (similarity_BK + pooled(image_BMD, text_NKD))

        return _in_the_loop.cross_entropy(logits_of)

    def _joint_loss(self, towers: Towers) -> _in_the_loop.Loss:
        def logits_of(parts: Parts, x_BLU: Tensor, step: Tensor) -> Tensor:
            image_BMD = towers.image_features(x_BLU, parts["image_MTU"])
            text_NKD = towers.text_features(parts["ctx_NPE"])
            return towers.scale * matched(image_BMD, text_NKD, self.transport)

        return _in_the_loop.cross_entropy(logits_of)


@dataclass(frozen=True, eq=False)
class Towers:
    """Both towers, and the names of some classes behind contexts of `n_ctx` vectors."""

    vision: VisionTower
    prompts: ClassPrompts
    scale: float

    @staticmethod
    def of(target: Target, n_ctx: int) -> Towers:
        vision = _rows.vision(target.backbone, "plot_plus_plus")
        prompts = target.backbone.class_prompts(target.class_names, n_ctx)
        return Towers(vision, prompts, target.backbone.logit_scale)

    def text_features(self, ctx_NPE: Tensor) -> Tensor:
        """text_NKD."""
        return _prompts.encoded(self.prompts, ctx_NPE)

    def image_features(self, x_BLU: Tensor, image_MTU: Tensor) -> Tensor:
        """image_BMD of what the first block reads, a pass for every set of rows."""
        changes = [_rows.Rows(row_TU[None]).changes() for row_TU in image_MTU]
        return torch.stack(
            [_blocks.image_features(self.vision, 0, x_BLU, each) for each in changes], dim=1
        )


def word_contexts(backbone: Backbone, phrases: str) -> Tensor:
    """ctx_NPE of phrases with commas between them; UserError where they differ in length."""
    parts = [phrase.strip() for phrase in phrases.split(",")]
    words = [backbone.text.words(phrase) for phrase in parts]
    lengths = [len(word_PE) for word_PE in words]
    if len(set(lengths)) > 1 or 0 in lengths:
        said = ", ".join(
            f"'{part}' has {count}" for part, count in zip(parts, lengths, strict=True)
        )
        raise UserError(f"phrases need equal numbers of tokens, at least one: {said}")
    return torch.stack(words).to(backbone.dtype)


def matched(image_BMD: Tensor, text_NKD: Tensor, transport: Transport) -> Tensor:
    """similarity_BK by the plan of every image and class."""
    return _transport.matched(image_BMD[None], text_NKD[None], transport)[0]


def pooled(image_BMD: Tensor, text_NKD: Tensor) -> Tensor:
    """similarity_BK of the means."""
    return unit(image_BMD.mean(1)) @ unit(text_NKD.mean(0)).T
