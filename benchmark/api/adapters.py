"""A method: what it must offer, and what it may."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from benchmark.api.episodes import Episode, State, Target
from benchmark.api.images import ImageSet

# images -> logits_QK, floating point, no gradient; calibration reads their softmax as probabilities
Predictor = Callable[[ImageSet], Tensor]


@runtime_checkable
class Adapter(Protocol):
    """A method: a frozen dataclass whose fields are its hyper-parameters, with defaults.

    A field is a JSON scalar, optional, a Literal, or a group: a frozen dataclass of such fields.
    One whose predictor classifies all test images together, so that an answer depends on the images
    beside it, says `transductive: ClassVar[bool] = True`; it is ranked among its like.
    """

    title: ClassVar[str]  # row heading in tables, "Tip-Adapter-F"
    paper: ClassVar[str]  # "arXiv:2207.09519"
    version: ClassVar[int]  # raise it when numbers may change: old records become superseded
    few_shot: ClassVar[bool]  # False: ignores the support set, so it runs once, at 0 shots

    def fit(self, episode: Episode) -> Predictor:
        """Learn from one episode; leave episode.backbone exactly as it was."""


@runtime_checkable
class Keepable(Adapter, Protocol):
    """An adapter whose learned state is tensors, from which alone it predicts: `fit(episode)` is
    `predictor(learn(episode), episode.target)`, notes included, also after the state was stored.

    Where the state belongs to the classes it was learned on, as a cache or a row per class does,
    the class variable `transfers` is False; without it the adapter is Transferable.
    """

    def learn(self, episode: Episode) -> State:
        """Finite tensors without gradient."""

    def predictor(self, state: State, target: Target) -> Predictor:
        """A predictor for the target's classes; `state` lies on the backbone's device."""


@runtime_checkable
class Transferable(Keepable, Protocol):
    """A Keepable adapter whose learned state holds nothing of the classes it was learned on.

    So it becomes a predictor for other classes and datasets, and no shape of the state depends on
    the number of classes. Where this holds for some hyper-parameters only, the class variable
    `transfers_at` gives them, as {"rank": 0}. `per_class`, another, names parts of a state with a
    row per learned class, which serve those classes alone. Which methods are, `methods.card` knows:
    in Python's eyes every Keepable has the two methods.
    """


@runtime_checkable
class Pretrainable(Adapter, Protocol):
    """An adapter that may first learn from several source problems.

    The harness chooses the sources, and the record names them; the class variables are defaults.
    """

    # "others": every dataset but the target; "all": the target's support set as well
    sources: ClassVar[str]
    # 0: as many as the cell has; -1: full training sets (a diagnostic run, never ranked)
    source_shots: ClassVar[int]

    def pretraining(self) -> Mapping[str, Any]:
        """Everything that pretraining depends on; adapters that agree in it share their priors."""

    def pretrain(self, episodes: Sequence[Episode]) -> State:
        """The state that `fit` receives as `episode.prior`; sources hold support sets only."""


@runtime_checkable
class Batchable(Adapter, Protocol):
    """An adapter that can train several runs of one dataset and backbone in one batch.

    A batch may add in another order than one run alone: in float64 the counts must be the same and
    losses agree to 1e-9 of their size, in lower precisions a few counts may move.
    """

    def fit_batch(self, episodes: Sequence[Episode]) -> list[Predictor]: ...
