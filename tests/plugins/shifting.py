"""A method that learns one shift of all text features: short enough to be worked out by hand."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmark.api import Episode, Predictor, State, Target, unit


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Shifting"
    paper: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True

    diary: str = ""  # a file that gets one line per learning

    def fit(self, episode: Episode) -> Predictor:
        return self.predictor(self.learn(episode), episode.target)

    def learn(self, episode: Episode) -> State:
        if self.diary:
            with Path(self.diary).open("a") as file:
                file.write(f"{episode.dataset} {len(episode.class_names)} {episode.seed}\n")
        image_ND, labels_N = episode.support.images.features(), episode.support.labels_N
        episode.notes["images"] = len(labels_N)
        return {"shift_D": (image_ND - episode.text_features()[labels_N]).mean(0)}

    def predictor(self, state: State, target: Target) -> Predictor:
        text_KD = unit(target.text_features() + state["shift_D"])
        return lambda images: target.backbone.logit_scale * images.features() @ text_KD.T
