"""Groups of hyper-parameters: frozen dataclasses that methods use as fields.

A group holds what belongs together and checks it. Names are flat outside Python: the command line,
records and `zero_shot_at` say `lr`, not `training.lr`, so a name occurs once per method. Defaults
stand here only where the methods agree on them. This file imports no torch, which lets the suite
list methods and their defaults quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from adapters import _checks

Position = Literal["end", "middle", "front"]
TextPrecision = Literal["float32", "bfloat16"]
Ties = Literal["alpha", "beta"]
KeyOptimiser = Literal["adamw", "adamw_half"]


@dataclass(frozen=True)
class Context:
    """The learnable context of class prompts, and where it starts."""

    n_ctx: int = 16  # vectors
    position: Position = "end"  # of the class name
    ctx_init: str = ""  # words to start from; empty: random
    init_std: float = 0.02  # of a random start
    precision: TextPrecision = "float32"  # of the text tower

    def __post_init__(self) -> None:
        _checks.at_least(1, n_ctx=self.n_ctx)
        _checks.at_least(0, init_std=self.init_std)
        _checks.one_of(get_args(Position), position=self.position)
        _checks.one_of(get_args(TextPrecision), precision=self.precision)


@dataclass(frozen=True)
class Crops:
    """The random crops that stand for a training image."""

    views: int = 16  # stored crops per image, in turn epoch by epoch; 0: fresh ones every epoch
    view_seed: int = 0
    min_scale: float = 0.08  # smallest share of the area a crop keeps

    def __post_init__(self) -> None:
        _checks.at_least(0, views=self.views, view_seed=self.view_seed)
        _checks.share(min_scale=self.min_scale)


@dataclass(frozen=True)
class StoredCrops:
    """The stored random crops that stand for a training image, where fresh ones are no option."""

    views: int = 16  # per image, in turn epoch by epoch
    view_seed: int = 0
    min_scale: float = 0.08  # smallest share of the area a crop keeps

    def __post_init__(self) -> None:
        _checks.at_least(1, views=self.views)
        _checks.at_least(0, view_seed=self.view_seed)
        _checks.share(min_scale=self.min_scale)


@dataclass(frozen=True)
class Sgd:
    """SGD with momentum, after a warm-up at a constant learning rate."""

    warmup_lr: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        _checks.above_zero(warmup_lr=self.warmup_lr)
        _checks.at_least(0, weight_decay=self.weight_decay)
        _checks.decay(momentum=self.momentum)


@dataclass(frozen=True)
class Adam:
    """The running means of Adam and AdamW."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _checks.above_zero(epsilon=self.epsilon)
        _checks.decay(beta1=self.beta1, beta2=self.beta2)


@dataclass(frozen=True)
class PromptTraining:
    """CoOp's training: a warm-up, then half a cosine per epoch."""

    epochs: str = "1:50,4:100,16:200"  # by shots: "up to so many shots:epochs,...", or one number
    many_classes: int = 500  # from so many classes on, at most `many_classes_epochs`
    many_classes_epochs: int = 50
    batch_size: int = 32
    lr: float = 0.002
    warmup_epochs: int = 1

    def __post_init__(self) -> None:
        _checks.at_least(1, batch_size=self.batch_size, many_classes=self.many_classes)
        _checks.at_least(0, many_classes_epochs=self.many_classes_epochs)
        _checks.at_least(0, warmup_epochs=self.warmup_epochs)
        _checks.above_zero(lr=self.lr)
        _checks.by_shots("epochs", self.epochs)

    def epochs_for(self, shots: int, classes: int) -> int:
        """The epochs of a support set of `shots` images per class."""
        epochs = _checks.value_at(_checks.by_shots("epochs", self.epochs), shots)
        return min(epochs, self.many_classes_epochs) if classes >= self.many_classes else epochs


@dataclass(frozen=True)
class Pretraining:
    """How a context shared by several source problems is trained."""

    pretrain_steps: int = 500
    pretrain_epochs: int = 0  # of all sources together, in place of steps, the first as warm-up
    pretrain_batch_size: int = 32
    pretrain_lr: float = 0.001
    pretrain_warmup_steps: int = 50

    def __post_init__(self) -> None:
        _checks.at_least(0, pretrain_steps=self.pretrain_steps)
        _checks.at_least(0, pretrain_epochs=self.pretrain_epochs)
        _checks.at_least(0, pretrain_warmup_steps=self.pretrain_warmup_steps)
        _checks.at_least(1, pretrain_batch_size=self.pretrain_batch_size)
        _checks.above_zero(pretrain_lr=self.pretrain_lr)


@dataclass(frozen=True)
class CacheModel:
    """How the keys of a cache are made, and how alpha and beta are chosen."""

    key_views: int = 10  # random crops averaged into a key
    key_view_seed: int = 0
    key_min_scale: float = 0.5  # smallest share of the area a crop keeps
    alpha_grid: str = "0,0.1,0.3,1,3,10,30"  # tried on the validation set
    beta_grid: str = "0.5,1,2,4,8,16,32"
    ties: Ties = "alpha"  # which of two pairs is taken on a tie: that of the smaller alpha, or beta
    alpha: float = 1.17  # while keys are fine-tuned, and without a validation set
    beta: float = 1.0

    def __post_init__(self) -> None:
        _checks.at_least(1, key_views=self.key_views)
        _checks.at_least(0, key_view_seed=self.key_view_seed, alpha=self.alpha)
        _checks.share(key_min_scale=self.key_min_scale)
        _checks.above_zero(beta=self.beta, beta_grid=min(self.betas))
        _checks.one_of(get_args(Ties), ties=self.ties)
        _checks.numbers("alpha_grid", self.alpha_grid, low=0)

    @property
    def alphas(self) -> tuple[float, ...]:
        """The grid of alphas, ascending."""
        return _checks.numbers("alpha_grid", self.alpha_grid, low=0)

    @property
    def betas(self) -> tuple[float, ...]:
        """The grid of betas, ascending."""
        return _checks.numbers("beta_grid", self.beta_grid, low=0)


@dataclass(frozen=True)
class Refinement:
    """Which channels a cache keeps, and how much it trusts keys that CLIP reads well or badly."""

    channels: float = 0.7  # share of the channels kept
    similarity_weight: float = 0.7  # against the variance between texts, in a channel's score
    gamma_grid: str = "0,0.1,0.3"  # tried on the validation set
    gamma: float = 0.1  # without one

    def __post_init__(self) -> None:
        _checks.share(channels=self.channels)
        _checks.at_least(0, similarity_weight=self.similarity_weight, gamma=self.gamma)
        _checks.at_most(1, similarity_weight=self.similarity_weight)
        _checks.numbers("gamma_grid", self.gamma_grid, low=0)

    @property
    def gammas(self) -> tuple[float, ...]:
        """The grid of gammas, ascending."""
        return _checks.numbers("gamma_grid", self.gamma_grid, low=0)


@dataclass(frozen=True)
class KeyTuning:
    """How the keys of a cache are fine-tuned: AdamW with a cosine per step down to 0."""

    tune_views: int = 10
    tune_view_seed: int = 1  # other crops than the keys are made from
    tune_epochs: int = 20
    tune_min_steps: int = 100  # more epochs where an epoch is a step or two
    tune_batch_size: int = 256
    tune_short_batch: bool = False  # keep a short last batch of an epoch
    tune_optimiser: KeyOptimiser = "adamw"  # adamw_half: weights and moments in half precision
    tune_lr: float = 0.001
    tune_weight_decay: float = 0.01
    adam_epsilon: float = 1e-4
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999

    def __post_init__(self) -> None:
        _checks.at_least(1, tune_views=self.tune_views, tune_batch_size=self.tune_batch_size)
        _checks.at_least(0, tune_view_seed=self.tune_view_seed, tune_epochs=self.tune_epochs)
        _checks.at_least(0, tune_min_steps=self.tune_min_steps)
        _checks.at_least(0, tune_weight_decay=self.tune_weight_decay)
        _checks.one_of(get_args(KeyOptimiser), tune_optimiser=self.tune_optimiser)
        _checks.above_zero(tune_lr=self.tune_lr, adam_epsilon=self.adam_epsilon)
        _checks.decay(adam_beta1=self.adam_beta1, adam_beta2=self.adam_beta2)

    def epochs_for(self, images: int) -> int:
        """`tune_epochs`, or as many as reach `tune_min_steps`; 0 where `tune_epochs` is 0."""
        rounded = -(-images // self.tune_batch_size)
        steps = rounded if self.tune_short_batch else max(1, images // self.tune_batch_size)
        return max(self.tune_epochs, -(-self.tune_min_steps // steps)) if self.tune_epochs else 0


@dataclass(frozen=True)
class ConceptTraining:
    """How vectors of the joint space are trained on stored features."""

    epochs: str = "4:100,16:200"  # by shots: "up to so many shots:epochs,...", or one number
    batch_size: int = 0  # 0: the whole support set at every step
    lr: float = 0.02

    def __post_init__(self) -> None:
        _checks.at_least(0, batch_size=self.batch_size)
        _checks.above_zero(lr=self.lr)
        _checks.by_shots("epochs", self.epochs)

    def epochs_for(self, shots: int) -> int:
        """The epochs of a support set of `shots` images per class."""
        return _checks.value_at(_checks.by_shots("epochs", self.epochs), shots)


@dataclass(frozen=True)
class WarmUp:
    """Epochs at a constant learning rate before the schedule begins."""

    warmup_epochs: int = 1
    warmup_lr: float = 1e-5

    def __post_init__(self) -> None:
        _checks.at_least(0, warmup_epochs=self.warmup_epochs)
        _checks.above_zero(warmup_lr=self.warmup_lr)


@dataclass(frozen=True)
class Regularisation:
    """The weight of the distance between concepts and where they started."""

    regularisation_grid: str = "0,1,10,100"  # tried on the validation set
    regularisation: float = 10.0  # without a validation set

    def __post_init__(self) -> None:
        _checks.at_least(0, regularisation=self.regularisation)
        _checks.numbers("regularisation_grid", self.regularisation_grid, low=0)

    @property
    def weights(self) -> tuple[float, ...]:
        """The grid, ascending."""
        return _checks.numbers("regularisation_grid", self.regularisation_grid, low=0)


@dataclass(frozen=True)
class TowerTraining:
    """AdamW through a tower: the rate rises over the first `warmup` share of the steps, then falls.

    Both ramps are linear.
    """

    epochs: str = "1:5,2:10,4:20,8:30,16:50"  # by shots, as in CoOp
    batch_size: int = 16
    lr: float = 0.01
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _checks.at_least(1, batch_size=self.batch_size)
        _checks.at_least(0, weight_decay=self.weight_decay)
        _checks.above_zero(lr=self.lr)
        _checks.decay(warmup=self.warmup)
        _checks.by_shots("epochs", self.epochs)

    def epochs_for(self, shots: int) -> int:
        """The epochs of a support set of `shots` images per class."""
        return _checks.value_at(_checks.by_shots("epochs", self.epochs), shots)


@dataclass(frozen=True)
class StepTraining:
    """AdamW through both towers for so many steps per shot, however many classes there are.

    The rate falls by half a cosine per step, to `final_lr`.
    """

    steps_per_shot: int = 500
    batch_size: int = 32
    short_batch: bool = False  # keep a short last batch of an epoch
    lr: float = 2e-4
    final_lr: float = 1e-6
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _checks.at_least(1, batch_size=self.batch_size)
        _checks.at_least(0, steps_per_shot=self.steps_per_shot, weight_decay=self.weight_decay)
        _checks.above_zero(lr=self.lr, final_lr=self.final_lr)


@dataclass(frozen=True)
class PromptedBlocks:
    """Which blocks of both towers have learned rows, and where these start."""

    depth: int = 9  # blocks, from the first on; all of a tower that has fewer
    ctx_init: str = "a photo of a"  # the text before a class name, whose first words are learned
    init_std: float = 0.02  # of all other rows

    def __post_init__(self) -> None:
        _checks.at_least(1, depth=self.depth)
        _checks.at_least(0, init_std=self.init_std)


@dataclass(frozen=True)
class TowerTuning:
    """TowerTraining as a second stage, with crops of its own."""

    tune_epochs: str = "20"
    tune_batch_size: int = 32
    tune_lr: float = 1e-4
    tune_warmup: float = 0.1  # share of the steps
    tune_weight_decay: float = 0.0
    tune_view_seed: int = 1  # other crops than those of the first stage

    def __post_init__(self) -> None:
        _checks.at_least(1, tune_batch_size=self.tune_batch_size)
        _checks.at_least(0, tune_weight_decay=self.tune_weight_decay)
        _checks.at_least(0, tune_view_seed=self.tune_view_seed)
        _checks.above_zero(tune_lr=self.tune_lr)
        _checks.decay(tune_warmup=self.tune_warmup)
        _checks.by_shots("tune_epochs", self.tune_epochs)

    @property
    def training(self) -> TowerTraining:
        """The same stage under the names of TowerTraining."""
        return TowerTraining(
            epochs=self.tune_epochs,
            batch_size=self.tune_batch_size,
            lr=self.tune_lr,
            warmup=self.tune_warmup,
            weight_decay=self.tune_weight_decay,
        )


@dataclass(frozen=True)
class Transport:
    """How the features of an image are spread over those of a class."""

    epsilon: float = 0.1  # of the entropy: the larger, the more evenly
    iterations: int = 20  # of Sinkhorn's algorithm

    def __post_init__(self) -> None:
        _checks.at_least(0.05, epsilon=self.epsilon)  # exp(-2 / epsilon) stays far above 0
        _checks.at_least(1, iterations=self.iterations)
