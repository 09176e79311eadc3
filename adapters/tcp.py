"""TCP: CoOp with a memory of the class: inside the text tower the context gives way to rows that a
small net makes of the class's own text feature.

    [start, v_1..v_M, name, end] -> blocks -> [start, g_k, name, end] -> later blocks
    min over V, g of CE(s f . t_k, y) + regularisation * (1 - mean over k of t_k . w_k)

v: `n_ctx` context vectors, g_k = up(quick_gelu(down(w_k))): M rows of class k, which take the place
of the context's states before block `block` (the ninth of CLIP's twelve), w_k: the class's frozen
text feature, D, down: D -> D / 4, up: D / 4 -> M E, with biases and torch's initial weights, f:
image feature, t_k: text feature with both, s: CLIP's scale, y: label. The image tower is frozen, so
stored features are read. Adam with weight decay in the gradient, CoOp's schedule; the last step
counts. With the block's own states in place of g it is CoOp.

Deviations from the released code, and whether `--preset released` follows it instead:

| here | released | preset |
|---|---|---|
| w is the cell's own classifier | a template of its own for some datasets | no |
| the prompt is "[V] name." | "[V] name, a type of pet." and the like, by dataset | no |
| `views` stored crops in turn | fresh crops in every epoch | yes |
| the backbone's precision | half, in which Adam's steps are others | no |

Expected: ViT-B/16, mean of 11 datasets, 1/2/4/8/16 shots: 70.63 / 73.59 / 76.07 / 78.39 / 80.98 %;
base-to-new at 16 shots 84.13 / 75.36, H 79.51 %. 331,904 trained numbers there.
Tiny suite, seeds 1-3: 47.6 ± 0.4 / 49.3 ± 0.2 % at 1 / 16 shots (zero-shot 46.0).

Source: Yao et al., TCP: Textual-based Class-aware Prompt Tuning for Visual-Language Model, CVPR
2024; htyao89/Textual-based_Class-aware_prompt_tuning @ bd97bec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import _checks, _in_the_loop, _nets, _optimisers, _prompts, _transfer, _views
from adapters._settings import Adam, Crops, PromptTraining
from benchmark.api import (
    Backbone,
    ClassPrompts,
    Episode,
    Predictor,
    State,
    Target,
    UserError,
    class_texts,
)
from benchmark.training.noise import normal

NARROWER = 4  # times the features' width
SHARP = 1.702  # QuickGELU(x) = x sigmoid(1.702 x)


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "TCP"
    paper: ClassVar[str] = "arXiv:2311.18231"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("text", "text blocks", "prompts")
    tested_at: ClassVar[dict[str, Any]] = {"epochs": "8", "lr": 0.01}

    n_ctx: int = 4
    init_std: float = 0.02  # of the context
    block: int = 0  # that reads the class's rows, counted from 1; 0: the first of the last third
    regularisation: float = 8.0  # weight of the distance to the hand-written prompts
    training: PromptTraining = PromptTraining(epochs="50")
    warmup_lr: float = 1e-5
    weight_decay: float = 5e-4
    adam: Adam = Adam(epsilon=1e-3)
    crops: Crops = Crops()

    def __post_init__(self) -> None:
        _checks.at_least(1, n_ctx=self.n_ctx)
        _checks.at_least(0, block=self.block, init_std=self.init_std)
        _checks.at_least(0, regularisation=self.regularisation, weight_decay=self.weight_decay)
        _checks.above_zero(warmup_lr=self.warmup_lr)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        encode = self._encoder(target)
        with torch.no_grad():
            text_KD = encode(state)
        return _prompts.classifier(text_KD, target.backbone.logit_scale)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        backbone, hand_KD = episodes[0].backbone, episodes[0].text_features()
        encode = self._encoder(episodes[0].target)

        def loss_of(
            parts: Mapping[str, Tensor], image_BD: Tensor, labels_B: Tensor, step: Tensor
        ) -> Tensor:
            text_KD = encode(parts)
            logits_BK = backbone.logit_scale * image_BD @ text_KD.T
            far = 1 - (text_KD * hand_KD).sum(1).mean()
            return F.cross_entropy(logits_BK, labels_B) + self.regularisation * far

        runs = _in_the_loop.runs(
            episodes,
            lambda each: _in_the_loop.by_epochs(each, self.training, self.crops, self.warmup_lr),
            self._start,
            _views.stored_for(self.crops),
            lambda _: loss_of,
        )
        optimiser = _optimisers.adam_l2(self.adam, self.weight_decay)
        return _in_the_loop.learn(runs, backbone.text, optimiser)

    def _encoder(self, target: Target) -> Callable[[Mapping[str, Tensor]], Tensor]:
        """What is learned -> text_KD, unit length."""
        layer, hand_KD = self._layer(target.backbone), target.text_features()
        prompts = self._prompts(target)

        def encode(parts: Mapping[str, Tensor]) -> Tensor:
            row_KPE = self._rows(parts, hand_KD)
            return prompts.encode(parts["ctx_PE"].expand_as(row_KPE), later={layer: row_KPE})

        return encode

    def _prompts(self, target: Target) -> ClassPrompts:
        """The prompts "[V] name.", each with a context that from a block on is its own."""
        template = " ".join(["X"] * self.n_ctx) + " {}."
        texts = class_texts(target.class_names, template, target.underscores)
        return target.backbone.whole_prompts(texts, self.n_ctx, class_specific=True)

    def _layer(self, backbone: Backbone) -> int:
        """Of the block that reads the class's rows, from 0; UserError where there is none."""
        depth = len(backbone.text.blocks)
        if self.block > depth:
            raise UserError(
                f"block={self.block} but the text tower of {backbone.name} has {depth} blocks;"
                f" take at most {depth}, or 0 for the first of the last third"
            )
        return self.block - 1 if self.block else 2 * depth // 3

    def _rows(self, parts: Mapping[str, Tensor], hand_KD: Tensor) -> Tensor:
        """row_KPE of every class."""
        x_KM = _nets.apply("down", parts, hand_KD)
        row_KX = _nets.apply("up", parts, x_KM * (SHARP * x_KM).sigmoid())
        return row_KX.unflatten(1, (self.n_ctx, -1))

    def _start(self, episode: Episode) -> dict[str, Tensor]:
        backbone, rng = episode.backbone, episode.rng()
        dim, width = backbone.dim, backbone.text.width
        hidden = max(1, dim // NARROWER)
        return {
            "ctx_PE": self.init_std * normal((self.n_ctx, width), rng, backbone),
            **_nets.linear("down", dim, hidden, rng, backbone),
            **_nets.linear("up", hidden, self.n_ctx * width, rng, backbone),
        }
