"""A method that misbehaves as it is told to."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmark.api import Episode, ImageSet, Predictor, State


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Moody"
    paper: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    sources: ClassVar[str] = "others"
    source_shots: ClassVar[int] = 0

    mood: str = "fine"
    on_seed: int = 0  # 0: always; else only on that seed
    diary: str = ""  # a file that gets one line per pretraining and per fit
    nap_s: float = 0.0  # what a fit takes at least; the diary then tells from when to when

    def fit(self, episode: Episode) -> Predictor:
        self._write(f"fit {episode.dataset} {episode.seed}")
        self._nap()
        mood = self.mood if self.on_seed in (0, episode.seed) else "fine"
        if mood == "raise":
            raise ValueError("in no mood to fit\nsecond line")
        if os.environ.get("MOODY_DIES_AT") == str(episode.seed):
            os.kill(os.getpid(), signal.SIGKILL)
        if mood == "interrupt":
            raise KeyboardInterrupt
        if episode.prior:
            episode.notes["prior"] = float(episode.prior["sum"])
        return lambda images: self._logits(images, episode, mood)

    def _logits(self, images: ImageSet, episode: Episode, mood: str) -> Tensor:
        logits_QK = images.features() @ episode.text_features().T
        if mood == "shape":
            return logits_QK[:, 1:]
        return logits_QK * torch.nan if mood == "nan" else logits_QK

    def pretraining(self) -> Mapping[str, Any]:
        return {"name": "moody"}

    def pretrain(self, episodes: Sequence[Episode]) -> State:
        self._write("pretrain " + " ".join(episode.dataset for episode in episodes))
        return {"sum": torch.tensor(float(sum(len(episode.support) for episode in episodes)))}

    def _nap(self) -> None:
        if self.nap_s:
            start = time.monotonic()
            time.sleep(self.nap_s)
            self._write(f"napped {start} {time.monotonic()}")

    def _write(self, line: str) -> None:
        if self.diary:
            with Path(self.diary).open("a") as file:
                file.write(line + "\n")
