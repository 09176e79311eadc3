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

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

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
]

# What pretraining or learning leaves behind.
State = Mapping[str, Tensor]
# (layer, attention input, attention output) -> new attention output, in float32 where its numbers
# need that room; it works token by token.
SideTerm = Callable[[int, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Crop:
    """A random training view: a resized crop of `min_scale` to all of the area."""

    min_scale: float = 0.08
    flip: bool = True


def _no_projection(*_: object) -> Any:
    raise UserError(
        "this episode was built from features, so what its image tower's projection reads is not "
        "known; use a method that reads features only"
    )


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images without labels, decoded and encoded only when asked for.

    `encode(None)` gives features image_ND of the centre crop, `encode((count, seed, crop))`
    features image_VND of random views, `decode(index_N, crop, seeds)` pixels_NCHW (the centre crop
    where `crop` is None); `encode_unprojected` is as `encode`, for what the image tower's last
    projection reads. The methods below are the interface.
    """

    size: int
    encode: Callable[[tuple[int, int, Crop] | None], Tensor] = field(repr=False)
    decode: Callable[[Tensor, Crop | None, Sequence[int] | None], Tensor] = field(repr=False)
    encode_unprojected: Callable[[tuple[int, int, Crop] | None], Tensor] = field(
        default=_no_projection, repr=False
    )

    def __len__(self) -> int:
        return self.size

    def features(self) -> Tensor:
        """image_ND, unit length, of the centre crop; cached on disk."""
        return self.encode(None)

    def views(self, count: int, seed: int = 0, crop: Crop = Crop()) -> Tensor:
        """image_VND, unit length, of `count` random views each; a view depends on its image and
        `seed` alone; cached.
        """
        return self.encode((count, seed, crop))

    def unprojected(self) -> Tensor:
        """image_NW of the centre crop, of any length: what `Backbone.projection` reads; cached."""
        return self.encode_unprojected(None)

    def unprojected_views(self, count: int, seed: int = 0, crop: Crop = Crop()) -> Tensor:
        """image_VNW of the same random views as `views`; cached."""
        return self.encode_unprojected((count, seed, crop))

    def pixels(self, batch_size: int) -> Iterator[Tensor]:
        """pixels_NCHW of the centre crops, in order."""
        for index_N in torch.arange(self.size).split(batch_size):
            yield self.decode(index_N, None, None)

    def augmented(self, index_N: Tensor, rng: Generator, crop: Crop = Crop()) -> Tensor:
        """pixels_NCHW of fresh random views of the chosen images."""
        seeds = torch.randint(2**62, (len(index_N),), generator=rng).tolist()
        return self.decode(index_N, crop, seeds)

    def crops(self, index_N: Tensor, seeds: Sequence[int], crop: Crop = Crop()) -> Tensor:
        """pixels_NCHW of one random view of each chosen image, which depends on the image and its
        seed alone."""
        return self.decode(index_N, crop, seeds)

    @staticmethod
    def from_features(image_ND: Tensor) -> ImageSet:
        """Images known by their features alone: every view is the same and there are no pixels.

        Rows are brought to unit length.
        """
        image_ND = unit(image_ND.detach())

        def encode(views: tuple[int, int, Crop] | None) -> Tensor:
            return image_ND if views is None else image_ND.expand(views[0], -1, -1)

        return ImageSet(len(image_ND), encode, _no_pixels)


def unit(x_ND: Tensor) -> Tensor:
    """Rows brought to unit length, in float32 at least."""
    x_ND = x_ND.to(torch.promote_types(x_ND.dtype, torch.float32))
    return x_ND / x_ND.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _no_pixels(*_: object) -> Tensor:
    raise UserError(
        "this episode was built from features, so it has no pixels;"
        " use a method that reads features only"
    )


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images and their labels (labels_N, int64 in [0, K)): what a method may learn from."""

    images: ImageSet
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    def epoch(self, batch_size: int, rng: Generator) -> Tensor:
        """index_TB: the positions in every batch of one epoch, in random order.

        A short last batch is dropped unless it is the only one, as by Dassl's train loader
        (KaiyangZhou/Dassl.pytorch, `drop_last`).
        """
        order_N = torch.randperm(len(self), generator=rng)
        size = min(batch_size, len(self))
        return order_N[: len(self) - len(self) % size].view(-1, size)

    def batches(self, batch_size: int, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch in random order as (positions, labels); see `epoch`."""
        for index_B in self.epoch(batch_size, rng):
            yield index_B, self.labels_N[index_B]


class Tower(Protocol):
    """One transformer encoder, open between its blocks: start -> blocks -> finish."""

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The real modules: x_NLE = block(x_NLE, attn_mask=tower.mask)."""

    @property
    def dtype(self) -> torch.dtype:
        """What the blocks compute in; below float32 where the backbone's precision says so."""

    @property
    def mask(self) -> Tensor | None:
        """Additive mask_LL, causal for text, None for vision."""

    def start(self, inputs: Tensor) -> Tensor:
        """pixels_NCHW or ids_NL -> x_NLE, what the first block reads."""

    def finish(self, x_NLE: Tensor, ids_NL: Tensor | None = None) -> Tensor:
        """Pool and project -> ND, not normalised."""


class VisionTower(Tower, Protocol):
    """The image side; its first token is the class token where `reads_first` says so."""

    @property
    def reads_first(self) -> bool:
        """True where `finish` reads the first token only: the last block needs no other row."""

    def pool(self, x_NLE: Tensor) -> Tensor:
        """What `finish` projects, NE: what is read out, after the tower's last norm."""


class TextTower(Tower, Protocol):
    """The text side, open for learnable prompts as well."""

    @property
    def width(self) -> int:
        """E."""

    @property
    def context_length(self) -> int:
        """The most tokens a text may have."""

    @property
    def position_LE(self) -> Tensor: ...

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """ids_NL padded to the context length; a text that does not fit raises a UserError."""

    def embed(self, ids_NL: Tensor) -> Tensor:
        """token_NLE without positions."""

    def words(self, text: str) -> Tensor:
        """ctx_WE: the embeddings of the W tokens of `text` itself, in float32 at least, to start a
        context from. Underscores are read as spaces.
        """

    def project(self, x_NE: Tensor) -> Tensor:
        """Final norm and projection of the rows read out -> ND, not normalised."""


class ClassPrompts(Protocol):
    """Prompts "context + class name" of K classes with learnable context vectors."""

    def encode(self, ctx_PE: Tensor | None = None, side: SideTerm | None = None) -> Tensor:
        """text_KD, unit length, differentiable in ctx_PE (ctx_KPE where class-specific) and in what
        `side` closes over.
        """


class Backbone(Protocol):
    """A frozen CLIP. Gradients may flow through it, never into it."""

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int:
        """D."""

    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype:
        """Of features and pixels, and of whatever is trained on them: float32, or float64 where the
        towers compute in it.
        """

    @property
    def logit_scale(self) -> float:
        """exp() already taken: 100 for the released CLIP weights."""

    @property
    def vision(self) -> VisionTower: ...
    @property
    def text(self) -> TextTower: ...
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """text_ND, unit length, no gradient."""

    def raw_texts(self, texts: Sequence[str]) -> Tensor:
        """text_ND as long as the encoder makes them, no gradient."""

    def encode_pixels(self, pixels_NCHW: Tensor) -> Tensor:
        """image_ND, unit length."""

    @property
    def projection(self) -> tuple[Tensor, Tensor | None]:
        """weight_WD and bias_D (None without one) of the image tower's last linear map."""

    def encode_unprojected(self, pixels_NCHW: Tensor) -> Tensor:
        """image_NW, what `projection` reads: unit(image_NW @ weight_WD + bias_D) is the feature."""

    def class_prompts(
        self,
        class_names: Sequence[str],
        n_ctx: int,
        position: str = "end",
        *,
        class_specific: bool = False,
        precision: str = "float32",
    ) -> ClassPrompts:
        """Prompts around `n_ctx` learnable vectors; `precision` "bfloat16" computes in bfloat16
        under float32 parameters.
        """

    def whole_prompts(self, texts: Sequence[str]) -> ClassPrompts:
        """Texts as they are, without a context, for methods that learn inside the blocks:
        `encode(side=...)`.
        """

    def copy(self) -> Backbone:
        """A private twin whose weights are yours to change."""


@dataclass(frozen=True)
class FeatureBackbone:
    """The backbone of an episode built from plain features: it cannot encode anything."""

    dim: int
    logit_scale: float
    device: torch.device
    dtype: torch.dtype = torch.float32
    name: str = "features"

    @property
    def vision(self) -> VisionTower:
        return self._absent("image tower")

    @property
    def text(self) -> TextTower:
        return self._absent("text tower")

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return self._absent("text tower")

    def raw_texts(self, texts: Sequence[str]) -> Tensor:
        return self._absent("text tower")

    def encode_pixels(self, pixels_NCHW: Tensor) -> Tensor:
        return self._absent("image tower")

    @property
    def projection(self) -> tuple[Tensor, Tensor | None]:
        return self._absent("image tower")

    def encode_unprojected(self, pixels_NCHW: Tensor) -> Tensor:
        return self._absent("image tower")

    def class_prompts(self, *_: object, **__: object) -> ClassPrompts:
        return self._absent("text tower")

    def whole_prompts(self, texts: Sequence[str]) -> ClassPrompts:
        return self._absent("text tower")

    def copy(self) -> Backbone:
        return self

    @staticmethod
    def _absent(part: str) -> Any:
        raise UserError(
            f"this episode was built from features, so it has no {part};"
            " use a method that reads features only"
        )


@dataclass(frozen=True, eq=False)
class Target:
    """Classes to tell apart, of which no image is known: an episode without its support set."""

    dataset: str
    class_names: tuple[str, ...]  # K, in label order
    templates: tuple[str, ...]
    backbone: Backbone
    seed: int
    text_KD: Tensor | None = None  # the zero-shot classifier where it is already known
    underscores: bool = False  # of class names are left in texts; else they are read as spaces
    texts: tuple[tuple[str, ...], ...] = ()  # of every class, in place of the filled templates
    text_KTD: tuple[Tensor, ...] | None = None  # what `sentence_features` gives, where known

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        """The texts of every class: its own, or the templates filled with its name."""
        if self.texts:
            return self.texts
        by_template = [
            class_texts(self.class_names, template, self.underscores) for template in self.templates
        ]
        return tuple(zip(*by_template, strict=True))

    def sentence_features(self) -> tuple[Tensor, ...]:
        """text_TD of every class, unit length: a row per sentence, of which classes may have
        different numbers. Where only features are known, a class's text feature is its one row.
        """
        if self.text_KTD is not None:
            return self.text_KTD
        if isinstance(self.backbone, FeatureBackbone):
            return tuple(self.text_features()[:, None])
        return sentence_features(self.backbone, self.sentences())

    def text_features(self) -> Tensor:
        """Zero-shot classifier text_KD: every sentence's feature normalised, averaged over those of
        a class, normalised again.
        """
        if self.text_KD is not None:
            return self.text_KD
        if self.texts:
            return class_means(self.sentence_features())
        return template_mean(
            self.backbone, self.class_names, self.templates, underscores=self.underscores
        )


@dataclass(frozen=True, eq=False)
class Episode:
    """Everything an adapter may know about one few-shot problem."""

    dataset: str
    class_names: tuple[str, ...]  # K, in label order; not always unique (ImageNet's are not)
    templates: tuple[str, ...]
    support: Labelled
    val: Labelled | None  # None unless the cell grants one
    backbone: Backbone
    seed: int
    prior: State | None = None
    text_KD: Tensor | None = None  # the zero-shot classifier where it is already known
    underscores: bool = False  # of class names are left in texts; else they are read as spaces
    texts: tuple[tuple[str, ...], ...] = ()  # of every class, in place of the filled templates
    text_KTD: tuple[Tensor, ...] | None = None  # what `sentence_features` gives, where known
    # A labelled set that released code selects on beside its validation set. None but under a
    # preset that says so: then it is the test set, and the record is marked as a diagnostic.
    selection: Labelled | None = None
    # Scalars that an adapter wants in the record: trainable_params, alpha, ...
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """The episode's own classes, as a predictor is made for them."""
        return Target(
            self.dataset,
            self.class_names,
            self.templates,
            self.backbone,
            self.seed,
            self.text_KD,
            self.underscores,
            self.texts,
            self.text_KTD,
        )

    def text_features(self) -> Tensor:
        """Zero-shot classifier text_KD; see `Target.text_features`."""
        return self.target.text_features()

    def sentence_features(self) -> tuple[Tensor, ...]:
        """text_TD of every class; see `Target.sentence_features`."""
        return self.target.sentence_features()

    @property
    def shots(self) -> int:
        """Support images per class: their mean where classes differ, rounded, 1 at least."""
        return max(1, round(len(self.support) / len(self.class_names)))

    def text_lengths(self) -> Tensor:
        """length_K: how long each class's text feature is before it is brought to unit length, of
        several sentences that of their mean; 1 where only features are known.
        """
        if isinstance(self.backbone, FeatureBackbone):
            return self.text_features().new_ones(len(self.class_names))
        if self.texts:
            parts = _by_class(self.backbone.raw_texts, self.texts)
            return torch.stack([text_TD.mean(0) for text_TD in parts]).norm(dim=-1)
        per_template_TKD = [
            self.backbone.raw_texts(class_texts(self.class_names, template, self.underscores))
            for template in self.templates
        ]
        return torch.stack(per_template_TKD).mean(0).norm(dim=-1)

    def rng(self) -> Generator:
        """A fresh CPU generator at the episode's seed: the source of initial values, batch order
        and augmentation.
        """
        return torch.Generator().manual_seed(self.seed)

    @staticmethod
    def from_features(
        *,
        class_names: Sequence[str],
        text_KD: Tensor,
        support_ND: Tensor,
        support_labels_N: Tensor,
        val_ND: Tensor | None = None,
        val_labels_N: Tensor | None = None,
        logit_scale: float = 100.0,
        seed: int = 1,
    ) -> Episode:
        """An episode from plain tensors, for people with features of their own: every feature-only
        adapter fits on it.

        `text_KD` (K x D), `support_ND` and `val_ND` (N x D) are brought to unit length; labels are
        integers in [0, K). Raises UserError where shapes or labels do not fit together.
        """
        size = (len(class_names), text_KD.shape[-1])
        support = _labelled("support", support_ND, support_labels_N, *size)
        val = None if val_ND is None else _labelled("val", val_ND, val_labels_N, *size)
        if tuple(text_KD.shape) != size:
            raise UserError(
                f"text_KD has shape {tuple(text_KD.shape)},"
                f" but {size[0]} class names need {size[0]} rows"
            )
        image_ND = support.images.features()
        backbone = FeatureBackbone(size[1], float(logit_scale), image_ND.device, image_ND.dtype)
        text_KD = unit(text_KD.detach()).to(image_ND.dtype)
        return Episode(
            "features", tuple(class_names), ("{}",), support, val, backbone, seed, text_KD=text_KD
        )


def template_mean(
    backbone: Backbone,
    class_names: Sequence[str],
    templates: Sequence[str],
    *,
    underscores: bool = False,
) -> Tensor:
    """text_KD: unit features per template, averaged over templates, at unit length again.

    Underscores in class names are read as spaces, or left where `underscores` is true.
    """
    per_template_TKD = [
        backbone.encode_texts(class_texts(class_names, template, underscores))
        for template in templates
    ]
    return unit(torch.stack(per_template_TKD).mean(0))


def sentence_features(backbone: Backbone, texts: Sequence[Sequence[str]]) -> tuple[Tensor, ...]:
    """text_TD of every class, unit length: a row per sentence."""
    return _by_class(backbone.encode_texts, texts)


def class_means(text_KTD: Sequence[Tensor]) -> Tensor:
    """text_KD: the mean of every class's rows, at unit length."""
    return unit(torch.stack([text_TD.mean(0) for text_TD in text_KTD]))


def _by_class(
    encode: Callable[[Sequence[str]], Tensor], texts: Sequence[Sequence[str]]
) -> tuple[Tensor, ...]:
    """All sentences encoded at once, each different one once, and given back class by class."""
    place = {text: row for row, text in enumerate(dict.fromkeys(chain.from_iterable(texts)))}
    text_ND = encode(list(place))
    return tuple(text_ND[[place[text] for text in of_class]] for of_class in texts)


def class_texts(class_names: Sequence[str], template: str, underscores: bool = False) -> list[str]:
    """The template filled with each class name, whose underscores are read as spaces, or left."""
    names = class_names if underscores else [name.replace("_", " ") for name in class_names]
    return [template.format(name) for name in names]


def _labelled(
    what: str, image_ND: Tensor, labels_N: Tensor | None, classes: int, dim: int
) -> Labelled:
    if labels_N is None or image_ND.ndim != 2 or tuple(labels_N.shape) != (len(image_ND),):
        raise UserError(
            f"{what} needs features of shape (N, D) and N labels;"
            f" got {tuple(image_ND.shape)} features"
        )
    if image_ND.shape[1] != dim:
        raise UserError(
            f"{what} features have width {image_ND.shape[1]} but text features {dim};"
            " use the same backbone for both"
        )
    if labels_N.is_floating_point() or (
        len(labels_N) and not 0 <= int(labels_N.min()) <= int(labels_N.max()) < classes
    ):
        raise UserError(
            f"{what} labels must be integers in [0, {classes}); check the order of class_names"
        )
    return Labelled(ImageSet.from_features(image_ND), labels_N.to(image_ND.device, torch.int64))


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
    `predictor(learn(episode), episode.target)`, also after the state was stored.

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
