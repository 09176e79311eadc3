"""ConES, level B: several concepts per class, nearer to the paper, where a class is a sequence of
concept embeddings.

    logits_k = s / tau * log sum over m of exp(tau f e_km / |e_km|)

The paper's concepts are read by a fusion module, which CLIP does not have; a soft maximum takes its
place (tau to infinity: the nearest concept decides). Concept 0 of a class starts at its text
feature, the others at the text features of further templates, so that they differ. Everything else
as in adapters/cones.py: anchor on the validation set, AdamW on the whole support set.

Deviations: as in adapters/cones.py; the score is ours. Expected: nothing published; near level A.
Source: Yi et al., ConES: Concept Embedding Search for Parameter Efficient Tuning Large Vision
Language Models, 2023 (abstract).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from adapters import _checks, _concepts
from adapters._checks import part
from benchmark.api import Episode, Predictor, UserError, unit


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "ConES tokens"
    paper: ClassVar[str] = "arXiv:2305.18993"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0", "concepts": 1}

    concepts: int = 4  # per class
    tau: float = 10.0
    templates: str = (
        "itap of a {}.|a bad photo of the {}.|a origami {}.|a photo of the large {}.|art of the {}."
    )
    anchors: str = "0,1,10,100"  # tried on the validation set
    anchor: float = 10.0  # without one
    epochs: str = "4:100,16:200"  # up to so many shots: epochs
    batch_size: int = 0  # 0: the whole support set at every step
    lr: float = 0.02  # as a share of a coordinate's own size
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    views: int = 16  # stored random crops per image, in turn epoch by epoch
    view_seed: int = 0
    min_scale: float = 0.5  # smallest share of the area a crop keeps

    def __post_init__(self) -> None:
        part(_concepts.Cones, self)
        _checks.at_least(1, concepts=self.concepts)
        _checks.above_zero(tau=self.tau)
        if self.concepts - 1 > len(self.templates.split("|")):
            raise UserError(
                f"concepts={self.concepts} needs {self.concepts - 1} further templates to start from; add some, with | between"
            )

    def fit(self, episode: Episode) -> Predictor:
        return self.fit_batch([episode])[0]

    def fit_batch(self, episodes: Sequence[Episode]) -> list[Predictor]:
        form = several(self.templates.split("|")[: self.concepts - 1], self.tau)
        found = part(_concepts.Cones, self).find(episodes, form)
        return [
            _concepts.predictor(form, concept_MKD, episode)
            for concept_MKD, episode in zip(found, episodes, strict=True)
        ]


def several(templates: Sequence[str], tau: float) -> _concepts.Form:
    """Concepts as M rows of K; letters of this function: M concepts of a class."""

    def words(episode: Episode) -> Tensor:
        names = [name.replace("_", " ") for name in episode.class_names]
        further = [
            episode.backbone.encode_texts([template.format(name) for name in names])
            for template in templates
        ]
        return torch.stack([episode.text_features(), *further])

    def start(episode: Episode, rng: Generator) -> Tensor:
        word_MKD = words(episode)
        return word_MKD * word_MKD.shape[-1] ** 0.5

    def cosines(image_BD: Tensor, concept_AMKD: Tensor, text_KD: Tensor) -> Tensor:
        cosine_BAMK = (image_BD @ unit(concept_AMKD).flatten(0, 2).T).unflatten(
            1, concept_AMKD.shape[:3]
        )
        return (tau * cosine_BAMK).logsumexp(2) / tau

    def pull(concept_AMKD: Tensor, word_MKD: Tensor) -> Tensor:
        return (unit(concept_AMKD) - word_MKD).square().sum(-1).mean((-1, -2))

    def home(episode: Episode, image_MD: Tensor, labels_M: Tensor) -> Tensor:
        return words(episode)

    return _concepts.Form(start, cosines, pull, home)
