"""ConES as a prior for fine-tuning: concepts are found first, then they and the last blocks of the
image tower are tuned together.

    1. e = concepts of ConES level A (adapters/cones.py), searched for without running an encoder
    2. min over blocks and e of  CE(s f(x; blocks) e_k / |e_k|, y), from there, at a small rate

`start="words"` leaves out the first stage and fine-tunes from the class names: the control that
shows what the concepts add. The blocks below the tuned ones are frozen and run once per view. AdamW
as in adapters/apt.py; concepts move `concept_pace` times as fast as weights, since a step of a
weight's size would not move them. The backbone itself is never touched.

Deviations: the paper fine-tunes detectors and generators whole; how much of an image tower to tune
on a few images is ours. Expected: nothing published. At 16 shots above ConES where the domain is
far from CLIP's, at 1 shot no better than it. Source: Yi et al., ConES: Concept Embedding Search for
Parameter Efficient Tuning Large Vision Language Models, 2023 (abstract).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.func import functional_call

from adapters import _blocks, _checks, _concepts, _in_the_loop
from adapters._checks import part
from benchmark.api import Episode, ImageSet, Predictor, VisionTower, unit

WAY_OUT = "take a ViT backbone, or cones, which needs no tower"


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "ConES + fine-tuning"
    paper: ClassVar[str] = "arXiv:2305.18993"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0", "tune_epochs": "0"}

    start: str = "concepts"  # or words
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

    layers: int = 1  # blocks tuned, from the top; 0: all
    tune_epochs: str = "20"
    tune_batch_size: int = 32
    tune_lr: float = 1e-4
    concept_pace: float = 10.0  # how much faster than a weight a concept's coordinate moves
    tune_warmup: float = 0.1  # share of the steps
    tune_weight_decay: float = 0.0
    tune_view_seed: int = 1  # other crops than the concepts are searched on
    keep_mb: int = 4096  # for what the first tuned block reads; moves no number

    def __post_init__(self) -> None:
        part(_concepts.Cones, self), self._optimiser(), self._views()
        _checks.one_of(("concepts", "words"), start=self.start)
        _checks.above_zero(concept_pace=self.concept_pace)
        _checks.at_least(0, layers=self.layers)

    def fit(self, episode: Episode) -> Predictor:
        tower = _blocks.vision(episode, "cones_finetune", WAY_OUT)
        first = _blocks.first_of(self.layers, len(tower.blocks))
        begin_KD = self._begin(episode)
        start = _weights(tower, first) | {"moved_KD": begin_KD.new_zeros(begin_KD.shape)}
        scale = episode.backbone.logit_scale

        def logits_of(parts: Mapping[str, Tensor], x_BLE: Tensor) -> Tensor:
            concept_KD = begin_KD + self.concept_pace * parts["moved_KD"]
            return scale * _features(tower, first, parts, x_BLE) @ unit(concept_KD).T

        optimiser, views = self._optimiser(), self._views()
        read = _in_the_loop.Inputs(
            episode.support.images, tower, first, views, episode.backbone.device
        )
        parts = _in_the_loop.learn(
            episode,
            _in_the_loop.Schedule.of(episode, optimiser, views),
            optimiser,
            start,
            read,
            logits_of,
        )
        episode.notes["trainable_params"] = sum(
            each.numel() for each in start.values()
        )  # concepts are trained twice, but counted once

        def predict(images: ImageSet) -> Tensor:
            return _blocks.in_batches(
                images,
                episode.backbone.device,
                lambda pixels: logits_of(parts, _blocks.below(tower, first, pixels)),
            )

        return predict

    def _begin(self, episode: Episode) -> Tensor:
        """Where the concepts stand before tuning, sqrt(D) long."""
        if self.start == "words":
            return _concepts.lengthened(episode.text_features(), 1.0)
        return part(_concepts.Cones, self).find([episode], _concepts.per_class("text"))[0]

    def _optimiser(self) -> _in_the_loop.Optimiser:
        rate = (self.tune_lr, self.tune_warmup, self.tune_weight_decay)
        return _in_the_loop.Optimiser(
            self.tune_epochs, self.tune_batch_size, *rate, self.beta1, self.beta2, self.epsilon
        )

    def _views(self) -> _in_the_loop.Views:
        return _in_the_loop.Views(self.views, self.tune_view_seed, self.min_scale, self.keep_mb)


def _weights(tower: VisionTower, first: int) -> dict[str, Tensor]:
    """The weights of the tuned blocks, named by block."""
    return {
        f"{i}/{name}": weight.detach()
        for i in range(first, len(tower.blocks))
        for name, weight in tower.blocks[i].named_parameters()
    }


def _features(tower: VisionTower, first: int, parts: Mapping[str, Tensor], x_NLE: Tensor) -> Tensor:
    """image_ND with the tuned weights in the places of the tower's own, for this call alone."""
    for i in range(first, len(tower.blocks)):
        own = {
            name.split("/")[1]: weight for name, weight in parts.items() if name.startswith(f"{i}/")
        }
        x_NLE = functional_call(tower.blocks[i], own, (x_NLE,))
    return unit(tower.finish(x_NLE))
