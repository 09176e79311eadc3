"""ConES, concept embedding search: search directly for what a class name would be encoded to.

    e* = argmin over e of CE(s f e_k / |e_k|, y) + mu mean_k |e_k / |e_k| - t_k|^2
    logits = s f e_k / |e_k|

f: image feature, s: CLIP's scale, y: label, e_k: concept of class k, t_k: its text feature, mu: the
regularisation weight. This is level A, one free vector per class; level B (cones_tokens.py) has
several per class, level C (cones_shared.py) one for all of them. Concepts start at the text
features (`init="text"`) or at noise of the same length ("random"). mu is the value of
`regularisation_grid` that does best on the few-shot validation set (on a tie the largest), or
`regularisation` where there is none. AdamW on the whole support set, a cosine to 0, the last step
counts. No gradient passes through an encoder, so a run takes seconds, and the runs of a dataset
(shots and seeds) are trained as a batch.

Deviations: the paper reports detection, segmentation and image generation, and its code is not
public; all of classification is ours. CLIP's scoring is a dot product, so level A has the function
class of a cosine classifier that starts at zero-shot: ZS-LP and CLAP (clap.py), TaskRes
(taskres.py) with alpha 1. It differs from them by optimiser, start and regularisation only; read it
beside them, not as something new. Rates are shares of a coordinate's own size, so that they mean
the same at any width; rate, crops and the grid are one setting for all datasets, chosen on the
validation split of the tiny suite.

Expected: nothing published for classification. On the tiny suite more than 8 points above zero-shot
at 16 shots, no worse at 1.

Source: Yi et al., ConES: Concept Embedding Search for Parameter Efficient Tuning Large Vision
Language Models, 2023 (abstract).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from adapters import _checks, _concepts, _transfer
from adapters._settings import Adam, ConceptTraining, Regularisation, StoredCrops
from benchmark.api import Episode, Predictor, State, Target

Init = Literal["text", "random"]


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "ConES"
    paper: ClassVar[str] = "arXiv:2305.18993"
    version: ClassVar[int] = 2
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0"}

    init: Init = "text"  # where concepts start
    regularisation: Regularisation = Regularisation()
    training: ConceptTraining = ConceptTraining()  # lr: as a share of a coordinate's own size
    adam: Adam = Adam()
    crops: StoredCrops = StoredCrops(min_scale=0.5)

    def __post_init__(self) -> None:
        _checks.one_of(get_args(Init), init=self.init)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        return _concepts.predictor(_concepts.per_class(self.init), state["concept_KD"], target)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        form = _concepts.per_class(self.init)
        recipe = _concepts.ConceptRecipe(self.training, self.crops)
        concepts = _concepts.search(episodes, form, recipe, self.adam, self.regularisation)
        return [{"concept_KD": concept_KD} for concept_KD in concepts]
