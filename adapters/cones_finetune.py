"""ConES as a prior for fine-tuning: concepts first, then they and the last image blocks together.

    1. e = concepts of ConES level A (adapters/cones.py), searched for without running an encoder
    2. min over blocks and e of CE(s f(x; blocks) e_k / |e_k|, y), from there, at a small rate

x: image, f(x; blocks): its feature, s: CLIP's scale, e_k: concept of class k, y: label.
`start="words"` leaves out the first stage and fine-tunes from the class names: the control that
shows what the concepts add. The blocks below the tuned ones are frozen and run once per view. AdamW
as in adapters/apt.py; concepts move `concept_rate` times as fast as weights, since a step of a
weight's size would hardly move them. The backbone itself never changes.

Deviations: the paper fine-tunes detectors and generators whole; how much of an image tower to tune
on a few images is ours.

Expected: nothing published. At 16 shots above ConES where the domain is far from CLIP's, at 1 shot
no better than it.

Source: Yi et al., ConES: Concept Embedding Search for Parameter Efficient Tuning Large Vision
Language Models, 2023 (abstract).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from adapters import (
    _blocks,
    _checks,
    _concepts,
    _in_the_loop,
    _optimisers,
    _transfer,
    _views,
    _weights,
)
from adapters._settings import (
    Adam,
    ConceptTraining,
    Crops,
    Regularisation,
    StoredCrops,
    TowerTuning,
)
from benchmark.api import Episode, Predictor, State, Target, VisionTower, unit

ADVICE = "take a ViT backbone, or cones, which needs no tower"

Start = Literal["concepts", "words"]


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "ConES + fine-tuning"
    paper: ClassVar[str] = "arXiv:2305.18993"
    version: ClassVar[int] = 2
    few_shot: ClassVar[bool] = True
    transfers: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text", "image blocks")
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0", "tune_epochs": "0"}

    start: Start = "concepts"  # where fine-tuning starts
    regularisation: Regularisation = Regularisation()
    training: ConceptTraining = ConceptTraining()  # of the concepts before fine-tuning
    adam: Adam = Adam()  # of both stages
    crops: StoredCrops = StoredCrops(min_scale=0.5)
    layers: int = 1  # blocks tuned, from the output of the tower; 0: all
    tuning: TowerTuning = TowerTuning()
    concept_rate: float = 10.0  # steps of a concept's coordinate, in steps of a weight
    keep_mb: int = 4096  # MiB for what the first tuned block reads; changes no number

    def __post_init__(self) -> None:
        _checks.one_of(get_args(Start), start=self.start)
        _checks.above_zero(concept_rate=self.concept_rate)
        _checks.at_least(0, layers=self.layers, keep_mb=self.keep_mb)

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        tower = _blocks.vision(target.backbone, "cones_finetune", ADVICE)
        first, device = self._first(tower), state["change_KD"].device
        logits_of = self._logits_of(tower, state["begin_KD"], target.backbone.logit_scale)
        over = torch.zeros(1, dtype=torch.int64, device=device)  # no step is looked at

        def logits(pixels_NCHW: Tensor) -> Tensor:
            return logits_of(state, _blocks.below(tower, first, pixels_NCHW), over)

        return lambda images: _blocks.in_batches(images, device, logits)

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        tower = _blocks.vision(episodes[0].backbone, "cones_finetune", ADVICE)
        begins = self._concepts(episodes)
        runs = self._runs(dict(zip(episodes, begins, strict=True)), tower)
        optimiser = _optimisers.adamw(self.adam, self.tuning.tune_weight_decay)
        learned = _in_the_loop.learn(runs, tower, optimiser)
        for run in runs:  # concepts are trained twice, but counted once
            trained = sum(part.numel() for part in run.start.values())
            run.episode.notes["trainable_params"] = trained
        pairs = zip(learned, begins, strict=True)
        return [{**parts, "begin_KD": begin_KD} for parts, begin_KD in pairs]

    def _concepts(self, episodes: Sequence[Episode]) -> list[Tensor]:
        """The concepts of every run before tuning, of length sqrt(D)."""
        if self.start == "words":
            return [_concepts.lengthened(each.text_features(), 1.0) for each in episodes]
        form = _concepts.per_class("text")
        recipe = _concepts.ConceptRecipe(self.training, self.crops)
        return _concepts.search(episodes, form, recipe, self.adam, self.regularisation)

    def _runs(
        self, begin_of: Mapping[Episode, Tensor], tower: VisionTower
    ) -> list[_in_the_loop.Run]:
        first, many = self._first(tower), len(begin_of) > 1
        crops = Crops(self.crops.views, self.tuning.tune_view_seed, self.crops.min_scale)
        weights = _weights.own("vision", tower.blocks, lambda _: True, first)

        def loss_of(episode: Episode) -> _in_the_loop.Loss:
            scale = episode.backbone.logit_scale
            return _in_the_loop.cross_entropy(self._logits_of(tower, begin_of[episode], scale))

        return _in_the_loop.runs(
            list(begin_of),
            lambda episode: _in_the_loop.schedule(episode, self.tuning.training, crops),
            lambda episode: {**weights, "change_KD": torch.zeros_like(begin_of[episode])},
            _views.inputs_for(tower, first, crops, self.keep_mb, must_fit=many),
            loss_of,
        )

    def _logits_of(self, tower: VisionTower, begin_KD: Tensor, scale: float) -> _in_the_loop.Logits:
        first = self._first(tower)

        def logits_of(parts: Mapping[str, Tensor], x_BLE: Tensor, step: Tensor) -> Tensor:
            concept_KD = begin_KD + self.concept_rate * parts["change_KD"]
            return scale * _weights.image_features(tower, first, x_BLE, parts) @ unit(concept_KD).T

        return logits_of

    def _first(self, tower: VisionTower) -> int:
        return _blocks.first_of(self.layers, len(tower.blocks))
