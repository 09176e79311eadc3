"""ConES, level B: several concepts per class, nearer to the paper.

    logits_k = s / tau * log sum over m of exp(tau f e_km / |e_km|)

f: image feature, s: CLIP's scale, e_km: concept m of class k, tau: sharpness. In the paper a class
is a sequence of concept embeddings, read by a fusion module that CLIP does not have; a soft maximum
takes its place (tau to infinity: the nearest concept decides). Concept 0 of a class starts at its
text feature, the others at the text features of further templates, so that they differ. Everything
else as in adapters/cones.py.

Deviations: as in adapters/cones.py; the score is ours.

Expected: nothing published; near level A.

Source: Yi et al., ConES: Concept Embedding Search for Parameter Efficient Tuning Large Vision
Language Models, 2023 (abstract).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from adapters import _checks, _concepts, _transfer
from adapters._settings import Adam, ConceptTraining, Regularisation, StoredCrops
from benchmark.api import Episode, Predictor, State, Target, UserError, class_texts, unit


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "ConES tokens"
    paper: ClassVar[str] = "arXiv:2305.18993"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0", "concepts": 1}

    concepts: int = 4  # per class
    tau: float = 10.0
    templates: str = (
        "itap of a {}.|a bad photo of the {}.|a origami {}.|a photo of the large {}.|art of the {}."
    )
    regularisation: Regularisation = Regularisation()
    training: ConceptTraining = ConceptTraining()  # lr: as a share of a coordinate's own size
    adam: Adam = Adam()
    crops: StoredCrops = StoredCrops(min_scale=0.5)

    def __post_init__(self) -> None:
        _checks.at_least(1, concepts=self.concepts)
        _checks.above_zero(tau=self.tau)
        further = self.concepts - 1
        if further > len(self.templates.split("|")):
            raise UserError(
                f"concepts={self.concepts} needs {further} further templates to start from;"
                " add some, with | between"
            )

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        return _concepts.predictor(self._form(), state["concept_MKD"], target)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        form = self._form()
        recipe = _concepts.ConceptRecipe(self.training, self.crops)
        concepts = _concepts.search(episodes, form, recipe, self.adam, self.regularisation)
        return [{"concept_MKD": concept_MKD} for concept_MKD in concepts]

    def _form(self) -> _concepts.Form:
        return several(self.templates.split("|")[: self.concepts - 1], self.tau)


def several(templates: Sequence[str], tau: float) -> _concepts.Form:
    """The weights are concept_MKD: M concepts of every class, the first from the own templates."""

    def starts(episode: Episode) -> Tensor:
        further = [
            episode.backbone.encode_texts(
                class_texts(episode.class_names, template, episode.underscores)
            )
            for template in templates
        ]
        return torch.stack([episode.text_features(), *further])

    def start(episode: Episode, rng: Generator) -> Tensor:
        start_MKD = starts(episode)
        return start_MKD * start_MKD.shape[-1] ** 0.5

    def cosines(image_BD: Tensor, concept_AMKD: Tensor, text_KD: Tensor) -> Tensor:
        cosine_BX = image_BD @ unit(concept_AMKD).flatten(0, 2).T
        cosine_BAMK = cosine_BX.unflatten(1, concept_AMKD.shape[:3])
        return (tau * cosine_BAMK).logsumexp(2) / tau

    def penalty(concept_AMKD: Tensor, start_MKD: Tensor) -> Tensor:
        return (unit(concept_AMKD) - start_MKD).square().sum(-1).mean((-1, -2))

    def target(episode: Episode, image_MD: Tensor, labels_M: Tensor) -> Tensor:
        return starts(episode)

    return _concepts.Form(start, cosines, penalty, target)
