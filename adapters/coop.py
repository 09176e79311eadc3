"""CoOp: the words around a class name are vectors, learned from the support set.

    min over V of CE(s f . t_c(V), y)

f: image feature, t_c(V): text feature of the prompt "[V][class c]", both of unit length, s: CLIP's
scale, y: label, V: `n_ctx` context vectors, shared by all classes or one set per class. Only V is
trained, through the frozen text tower. SGD with momentum, one warm-up epoch at a tiny rate, then
half a cosine per epoch; 50, 100 or 200 epochs by shots, and 50 from 500 classes on (CoOp's
exception for ImageNet and its base half, as a property of the problem). The last step counts. With
0 epochs and the start "a photo of a" it is zero-shot CLIP with that template.

Deviations from the released code, and whether `--preset released` follows it instead:

| here | released | preset | moved |
|---|---|---|---|
| stored crops in turn, shared by all runs | fresh crops in every epoch | yes | not measured |
| 50 epochs from 500 classes on | on ImageNet, base half included | yes | nothing: the same cells |
| 50 to 200 epochs by shots | on base halves 200 at any number | yes | not measured |
| float32 context, the backbone's precision | all is half | no | not measured |

Both encoders are frozen, so image features are computed before the first step either way.
`precision="bfloat16"` computes the text tower in bfloat16.

Expected: mean of 11 datasets and three seeds, 1/2/4/8/16 shots, RN50: class name at the end
59.59 / 62.32 / 66.77 / 69.89 / 73.42 %, in the middle 59.07 / 61.75 / 66.52 / 70.04 / 73.35 %,
class-specific at the end 44.90 / 52.02 / 60.08 / 65.89 / 71.41 %. Re-runs of the released code
differ by up to 1.5 points at 16 shots and 3 at 1.

Source: Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022;
KaiyangZhou/CoOp @ ff61507.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adapters import _prompts, _transfer
from adapters._settings import Context, Crops, PromptTraining, Sgd
from benchmark.api import Episode, Predictor, State, Target, UserError


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "CoOp"
    paper: ClassVar[str] = "arXiv:2109.01134"
    version: ClassVar[int] = 3
    few_shot: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("prompts",)
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0", "ctx_init": "a photo of a", "n_ctx": 4}
    transfers_at: ClassVar[dict[str, Any]] = {"class_specific": False}

    context: Context = Context()
    class_specific: bool = False  # a context for every class
    training: PromptTraining = PromptTraining()
    sgd: Sgd = Sgd()
    crops: Crops = Crops()

    def __post_init__(self) -> None:
        if self.context.ctx_init and self.class_specific:
            raise UserError(
                "ctx_init starts all classes from the same words, which class_specific is meant to"
                " avoid; leave one of them out"
            )

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        return _prompts.predictor(state, target, self.context, class_specific=self.class_specific)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        recipe = _prompts.PromptRecipe(self.context, self.training, self.sgd, self.crops)
        start = _prompts.noise_per_class if self.class_specific else _prompts.from_words
        return _prompts.learn(episodes, recipe, start=start, class_specific=self.class_specific)
