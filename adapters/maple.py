"""MaPLe, multi-modal prompt learning: the image rows of a block are a linear map of its text rows.

    V_j = W_j P_j + b_j            for every block j of the first `depth`
    text:   [start, P_1 ... P_T, other words, class name] -> block j;  likewise with V_j for images
    min over P, W, b of CE(s f(x; V) . t_c(P), y)

f: image feature, t_c: text feature of class c, both of unit length, s: CLIP's scale, y: label. P:
T = 2 rows of every block, of which the first block's start as the words "a photo" ("of a" stays
fixed between them and the class name), all others as N(0, 0.02^2). W and b start as torch's Linear
does, U(-1/sqrt(E), 1/sqrt(E)). J (T E + (E + 1) U) parameters for text width E and image width U:
3,555,072 for 9 blocks of ViT-B/16.

Deviations from the released code, and whether `--preset released` follows it instead:

| here | released | preset |
|---|---|---|
| epochs by shots as VPT here, batches of 16 | 5 epochs of batches of 4, for base-to-new | yes |
| stored crops in turn | fresh crops in every epoch | yes |
| the maps are drawn one by one | 8 of the 9 are copies of one draw | no |
| the first image rows stand behind the tower's first norm | before it | no |
| the backbone's precision | half | no |

The settings of the release for all classes are not known. A tower of fewer than 9 blocks has rows
in all of them.

Expected: ViT-B/16, mean of 11 datasets and three seeds, 1/2/4/8/16 shots, by CLIP-SVD's authors:
69.27 / 72.58 / 75.37 / 78.89 / 81.79 %; base-to-new 82.28 % and 75.14 %. Tiny suite, seeds
1-3: 44.6 / 45.9 / 48.6 % at 1 / 4 / 16 shots (zero-shot 46.0).

Source: Khattak et al., MaPLe: Multi-modal Prompt Learning, CVPR 2023;
muzairkhattak/multimodal-prompt-learning @ 69bce21.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adapters import _checks, _prompted_towers, _rows, _transfer
from adapters._prompted_towers import Parts, Recipe, Rows
from adapters._settings import Crops, PromptedBlocks, PromptTraining, Sgd
from benchmark.api import Episode, Predictor, State, Target


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "MaPLe"
    paper: ClassVar[str] = "arXiv:2210.03117"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("prompts", "image blocks")
    tested_at: ClassVar[dict[str, Any]] = {"epochs": "6", "lr": 0.03}

    n_ctx: int = 2  # rows of a block, in each tower
    blocks: PromptedBlocks = PromptedBlocks()
    training: PromptTraining = PromptTraining(
        epochs="1:5,2:10,4:20,8:30,16:50", batch_size=16, lr=0.0035
    )
    sgd: Sgd = Sgd()
    crops: Crops = Crops()
    keep_mb: int = 4096  # MiB for what the first block reads; changes no number

    def __post_init__(self) -> None:
        _checks.at_least(1, n_ctx=self.n_ctx)
        _checks.at_least(0, keep_mb=self.keep_mb)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        return _prompted_towers.predictor(coupled(state), target, self._recipe())

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        return _prompted_towers.learn(episodes, self._recipe(), self._start, coupled)

    def _recipe(self) -> Recipe:
        return Recipe(
            "maple", self.n_ctx, self.blocks, self.training, self.sgd, self.crops, self.keep_mb
        )

    def _start(self, episode: Episode) -> Parts:
        """The text rows, and the maps from them to the image rows."""
        backbone, rng = episode.backbone, episode.rng()
        text, vision = backbone.text, backbone.vision
        depth = min(self.blocks.depth, len(text.blocks), len(vision.blocks))
        text_JTE = _prompted_towers.text_rows(backbone, self.blocks, self.n_ctx, depth, rng)
        inner, outer = _rows.width(text), _rows.width(vision)
        weight_JUE, bias_JU = _rows.linear_maps(backbone, depth, inner, outer, rng)
        return {"text_JTE": text_JTE, "weight_JUE": weight_JUE, "bias_JU": bias_JU}


def coupled(parts: Parts) -> Rows:
    """text_JTE, and image_JTU as the maps make it of them."""
    image_JTU = _rows.mapped(parts["text_JTE"], parts["weight_JUE"], parts["bias_JU"])
    return parts["text_JTE"], image_JTU
