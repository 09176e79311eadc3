"""ConES, concept embedding search: what a class name would have been encoded to is searched for
directly, without a text encoder.

    e* = argmin over e of  CE(s f e_k / |e_k|, y) + mu mean_k |e_k / |e_k| - t_k|^2        logits =
    s f e_k / |e_k|

f: image feature, t_k: the text feature of class k. This is level A, one free vector per class;
level B (cones_tokens.py) has several per class, level C (cones_shared.py) one for all of them.
Concepts start at the text features (`init="text"`) or at noise of the same length ("random"); mu is
the anchor of `anchors` that does best on the few-shot validation set (on a tie the stronger), or
`anchor` where there is none. AdamW on the whole support set, a cosine to 0, the last step counts.
No gradient ever passes through an encoder, so a run takes seconds, and the runs of a dataset (shots
and seeds) are trained in lockstep.

Deviations: the paper reports detection, segmentation and image generation, and its code was not to
be found; all of classification is ours. CLIP's scoring part is a dot product, so level A is the
function class of a cosine classifier that starts at zero-shot: ZS-LP and CLAP (clap.py), TaskRes
(taskres.py) with alpha 1. It differs from them by optimiser, start and anchor only and is to be
read beside them, not as something new. Rates are shares of a coordinate's own size, so that they
mean the same at any width; rate, crops and anchors are one setting for all datasets, chosen on the
validation split of the tiny suite. Expected: nothing published for classification. On the tiny
suite more than 8 points above zero-shot at 16 shots, no worse at 1. Source: Yi et al., ConES:
Concept Embedding Search for Parameter Efficient Tuning Large Vision Language Models, 2023
(abstract).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adapters import _checks, _concepts
from adapters._checks import part
from benchmark.api import Episode, Predictor


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "ConES"
    paper: ClassVar[str] = "arXiv:2305.18993"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    zero_shot_at: ClassVar[dict[str, Any]] = {"epochs": "0"}

    init: str = "text"  # or random
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
        _checks.one_of(("text", "random"), init=self.init)

    def fit(self, episode: Episode) -> Predictor:
        return self.fit_batch([episode])[0]

    def fit_batch(self, episodes: Sequence[Episode]) -> list[Predictor]:
        form = _concepts.per_class(self.init)
        found = part(_concepts.Cones, self).find(episodes, form)
        return [
            _concepts.predictor(form, concept_KD, episode)
            for concept_KD, episode in zip(found, episodes, strict=True)
        ]
