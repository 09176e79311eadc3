"""A method that trains several runs in one batch, and breaks as it is told to on one seed."""

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from benchmark.api import Episode, Predictor


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Frail"
    paper: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True

    fault: str = "none"
    on_seed: int = 2
    diary: str = ""  # a file that gets a line per fit: the seeds that were fitted

    def fit(self, episode: Episode) -> Predictor:
        return self.fit_batch([episode])[0]

    def fit_batch(self, episodes: Sequence[Episode]) -> list[Predictor]:
        if self.diary:
            with Path(self.diary).open("a") as file:
                file.write(" ".join(str(episode.seed) for episode in episodes) + "\n")
        if self.fault == "memory for two runs" and len(episodes) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [self._fit(episode) for episode in episodes]

    def _fit(self, episode: Episode) -> Predictor:
        if episode.seed == self.on_seed:
            self._break(episode)
        return lambda images: images.features() @ episode.text_features().T

    def _break(self, episode: Episode) -> None:
        share = getattr(episode.backbone, "memory_share", 1.0)
        if self.fault == "raise":
            raise ValueError("too frail for this seed")
        if self.fault == "gpu memory" and share == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self.fault == "memory" and share == 1:
            torch.empty(2**60, dtype=torch.uint8)
        if self.fault == "memory for ever":
            raise MemoryError
        if self.fault == "hang":
            time.sleep(600)
        if self.fault == "hang in native code":
            lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
            lock(mutex)
            lock(mutex)  # for ever, whatever signal comes
        if self.fault == "print":
            print("a word to stdout from the method")
