"""The contract between the harness and a method. Read this file first.

An adapter is a frozen dataclass of hyper-parameters with one method, `fit(episode) -> predict`;
`predict(images)` returns logits. Images carry no labels, so a method cannot tune itself on what it
will be tested on. `fit` may be made of two more methods, `learn(episode) -> state` and
`predictor(state, target) -> predict`: then what is learned can be kept (Keepable), and serves other
classes where it holds nothing of those it was learned on (Transferable).

Shape suffixes are part of every name: N images, S support, Q query, K classes, V views, T
templates, D joint embedding, L tokens, E token width, P soft prompts, C H W pixels. Features are
unit-length outputs of the backbone, logits are scaled.
"""

from benchmark.api.adapters import (
    Adapter,
    Batchable,
    Keepable,
    Predictor,
    Pretrainable,
    Transferable,
)
from benchmark.api.backbones import (
    Backbone,
    ClassPrompts,
    FeatureBackbone,
    Later,
    SideTerm,
    TextTower,
    Tower,
    VisionTower,
)
from benchmark.api.episodes import Episode, State, Target
from benchmark.api.images import Crop, ImageSet, Labelled, unit
from benchmark.api.texts import class_means, class_texts, sentence_features, template_mean
from benchmark.errors import UserError

__all__ = [
    "Adapter",
    "Backbone",
    "Batchable",
    "ClassPrompts",
    "Crop",
    "Episode",
    "FeatureBackbone",
    "ImageSet",
    "Keepable",
    "Labelled",
    "Later",
    "Predictor",
    "Pretrainable",
    "SideTerm",
    "State",
    "Target",
    "TextTower",
    "Tower",
    "Transferable",
    "UserError",
    "VisionTower",
    "class_means",
    "class_texts",
    "sentence_features",
    "template_mean",
    "unit",
]
