"""IVLP, independent vision-language prompting: rows of their own in the blocks of both towers.

    text:   [start, P_1 ... P_T, class name] -> block j;  the outputs at P_j give way to P_{j+1}
    image:  [class token, V_1 ... V_T, patches] -> block j, likewise
    min over P, V of CE(s f(x; V) . t_c(P), y)

f: image feature, t_c: text feature of class c, both of unit length, s: CLIP's scale, y: label. Each
of the first `depth` blocks of a tower has rows of its own. The first text rows start as the words
"a photo of a", with their positions; all others as N(0, 0.02^2). Nothing links the two towers but
the loss. J (T E_text + T E_image) parameters: 46,080 for 4 + 4 rows in 9 blocks of ViT-B/16.

It is the baseline of PromptSRC (adapters/promptsrc.py) and the first step of MaPLe.

Deviations from the released code:
- Epochs by shots as VPT here (5 to 50), where the release trains 50 at any number of shots, and
  batches of 16, where it has 4. The rate is the released one; nothing was chosen on our data.
- The first image rows stand behind the tower's first norm, as in VPT here; there they pass through
  it. The first block normalises what it reads in both cases.
- A tower of fewer than 9 blocks has rows in all of them.
- Stored crops in turn, where the release cuts fresh ones; the backbone's precision, where it has
  half.

Expected: ViT-B/16, base-to-new, 20 epochs: 84.21 % on base, 71.79 % on new classes. Tiny suite,
seeds 1-3: 44.3 / 42.7 / 48.5 % at 1 / 4 / 16 shots. Zero-shot has 46.0: it starts below it and
needs images.

Source: Rasheed et al., Fine-tuned CLIP Models are Efficient Video Learners, CVPR 2023, as in
Khattak et al., PromptSRC, ICCV 2023; muzairkhattak/PromptSRC @ bb95c77.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adapters import _checks, _prompted_towers, _transfer
from adapters._prompted_towers import Recipe
from adapters._settings import Crops, PromptedBlocks, PromptTraining, Sgd
from benchmark.api import Episode, Predictor, State, Target


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "IVLP"
    paper: ClassVar[str] = "arXiv:2212.03640"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("prompts", "image blocks")
    tested_at: ClassVar[dict[str, Any]] = {"epochs": "6", "lr": 0.03}

    n_text: int = 4  # rows of a block
    n_image: int = 4
    blocks: PromptedBlocks = PromptedBlocks()
    training: PromptTraining = PromptTraining(
        epochs="1:5,2:10,4:20,8:30,16:50", batch_size=16, lr=0.0025
    )
    sgd: Sgd = Sgd()
    crops: Crops = Crops()
    keep_mb: int = 4096  # MiB for what the first block reads; changes no number

    def __post_init__(self) -> None:
        _checks.at_least(1, n_text=self.n_text, n_image=self.n_image)
        _checks.at_least(0, keep_mb=self.keep_mb)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        return _prompted_towers.predictor(
            _prompted_towers.independent(state), target, self._recipe()
        )

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        return _prompted_towers.learn(
            episodes, self._recipe(), self._start, _prompted_towers.independent
        )

    def _start(self, episode: Episode) -> _prompted_towers.Parts:
        return _prompted_towers.fresh(episode, self.blocks, self.n_text, self.n_image)

    def _recipe(self) -> Recipe:
        return Recipe(
            "ivlp", self.n_text, self.blocks, self.training, self.sgd, self.crops, self.keep_mb
        )
