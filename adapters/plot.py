"""PLOT: several contexts per class, each matched to places of the image by optimal transport.

    logit_k = s sum_pn T_pn x_p . t_kn (+ s f . t_k)
    T = argmin over plans of  sum_pn T_pn (1 - x_p . t_kn) - epsilon H(T)
    min over V_1..V_N of CE(logits, y)

x_p: feature of place p of the image's P places (49 in RN50, 196 in ViT-B/16), t_kn: text feature of
the prompt "[V_n][class k]", V_n: one of N = `prompts` contexts of `n_ctx` vectors, shared by all
classes, all features of unit length; T: a plan of P x N shares, 1 / P for every place and 1 / N for
every prompt, H: entropy; f: image feature, t_k: unit mean of the t_kn, both only with
`whole_image`; s: CLIP's scale, y: label. The plan comes of Sinkhorn's algorithm, for every image
and class by itself, and is held fixed in the gradient (adapters/_transport.py). SGD with momentum,
CoOp's schedule; the last step counts. With one prompt, one place and no whole image it is CoOp.

Deviations from the released code, and whether `--preset released` follows it instead:

| here | released | preset |
|---|---|---|
| the logits of the whole image are added | on ImageNet only | yes |
| t_k: mean of unit text features | of those the encoder gives | no |
| `iterations` of Sinkhorn, always | until a batch's factors move by 0.01 in the mean | 100 |
| batches of 32 | of 128; of 32 on Flowers, Aircraft and Cars | yes |
| `views` stored crops in turn | fresh crops in every epoch | 16 stored |
| 50 epochs from 500 classes on | on ImageNet | yes |
| the backbone's precision | half | no |

The release stops by what is in the batch (and at 100), so that an image's logits depend on its
neighbours. On random features 20 iterations differ from that by less than 0.001 of a cosine.
`whole_image` was chosen on validation images of the tiny suite, whose backbone says little by
single places: 16 shots, seed 1, digits / shapes / textures 55.0 / 35.9 / 70.3 % with it and 32.5 /
12.5 / 32.8 % without. All other defaults are CoOp's, but for fewer views.

Memory: a support image takes views x P x D numbers of 2 bytes, 0.4 MB in RN50 and 0.8 MB in
ViT-B/16, on the device and on the disk: 6.4 GB and 12.8 GB for 16 shots of ImageNet, and with the
preset's 16 views 26 GB and 51 GB. Every run of a batch holds its own once in training, and all that
up to three times while it is gathered. ImageNet's 50,000 test images take 5 and 10 GB. Nothing asks
beforehand whether that fits: where it does not, take fewer `views`. Similarities are B K P N
numbers a step, five tensors of that size (ImageNet, B = 32, ViT-B/16: 100 MB each), and come in
parts in prediction: of 2^21 on a CPU and 2^27 on a GPU, where each tensor then takes 0.5 GB.

Time: the text side costs N times CoOp's, and every image N K P similarities and K plans: 0.03 s of
one Xeon core for ImageNet on ViT-B/16 (random features), so 25 minutes for its test images. A part
is about 170 kernels on a GPU: 50,000 there with parts as above. No GPU was tried.

Expected: the repository, which alone was read, states no numbers of RN50.
Tiny suite, seeds 1-3: 42.8 ± 1.6 / 46.0 ± 1.1 / 53.2 ± 0.8 % at 1 / 4 / 16 shots (zero-shot 46.0).

Source: Chen et al., PLOT: Prompt Learning with Optimal Transport for Vision-Language Models, ICLR
2023; CHENGY12/PLOT @ 728539f, plot-coop: trainers/plot.py, clip/model.py; train.py @ c8d1a35.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import ClassVar

import torch
from torch import Generator, Tensor

from adapters import _checks, _prompts, _transfer, _transport
from adapters._settings import Context, Crops, PromptTraining, Sgd, StoredCrops, Transport
from benchmark.api import Crop, Episode, ImageSet, Predictor, State, Target, UserError, unit
from benchmark.training.batches import Bank

# similarities at once in prediction, 8 MB and 512 MB in float32; changes no number
CPU_NUMBERS, GPU_NUMBERS = 2**21, 2**27


@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "PLOT"
    paper: ClassVar[str] = "arXiv:2210.01253"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("prompts", "local")

    prompts: int = 4  # contexts, N
    whole_image: bool = True  # add the logits of the pooled feature and the prompts' mean
    transport: Transport = Transport()
    context: Context = Context()
    training: PromptTraining = PromptTraining()
    sgd: Sgd = Sgd()
    crops: StoredCrops = StoredCrops(views=4)

    def __post_init__(self) -> None:
        _checks.at_least(1, prompts=self.prompts)
        if self.context.ctx_init and self.prompts > 1:
            raise UserError(
                "ctx_init starts all prompts from the same words, so that they would stay the same;"
                " leave it out, or set prompts=1"
            )

    fit, fit_batch, learn = _transfer.fit, _transfer.fit_batch, _transfer.learn

    def predictor(self, state: State, target: Target) -> Predictor:
        text_1NKD = text_features(state["ctx_NPE"], target, self.context)[None]
        per_place, scale = text_1NKD.shape[:3].numel(), target.backbone.logit_scale

        @torch.no_grad()
        def predict(images: ImageSet) -> Tensor:
            image_1QPD = images.local()[None]
            at_once = images_at_once(text_1NKD.device, per_place * image_1QPD.shape[2])
            wholes: Iterable[Tensor | None] = repeat(None)
            if self.whole_image:
                wholes = images.features()[None].split(at_once, 1)
            pairs = zip(image_1QPD.split(at_once, 1), wholes, strict=False)
            return torch.cat([self._logits(*pair, text_1NKD, scale)[0] for pair in pairs])

        return predict

    def _learn(self, episodes: Sequence[Episode]) -> list[State]:
        recipe = _prompts.PromptRecipe(self.context, self.training, self.sgd, self.crops)
        states = _prompts.learn(
            episodes, recipe, self._objective, start=self._start, bank=self._bank
        )
        return [{"ctx_NPE": state["ctx_PE"]} for state in states]

    def _start(self, episode: Episode, context: Context, rng: Generator) -> Tensor:
        """ctx_NPE."""
        if context.ctx_init:
            return _prompts.from_words(episode, context, rng)[None]
        return _prompts.several(self.prompts, episode, context, rng)

    def _bank(
        self, episode: Episode, crops: Crops | StoredCrops, epochs: int, rng: Generator
    ) -> Bank:
        images, labels_N = episode.support.images, episode.support.labels_N
        drawn = crops.views, crops.view_seed, Crop(crops.min_scale)
        view_VNPD = images.local_views(*drawn) if epochs else images.local()[None]
        whole_VND = None
        if self.whole_image:
            whole_VND = images.views(*drawn) if epochs else images.features()[None]
        return Bank.of(view_VNPD, labels_N, episode.backbone.device, whole_VND)

    def _objective(self, batch: _prompts.Batch) -> Tensor:
        logits_RBK = self._logits(batch.image_RBD, batch.whole_RBD, batch.text_RKD, batch.scale)
        return _prompts.cross_entropy_of(logits_RBK, batch)[None]

    def _logits(
        self, image_RBPD: Tensor, whole_RBD: Tensor | None, text_RNKD: Tensor, scale: float
    ) -> Tensor:
        """logits_RBK, of the places alone or with those of the whole image."""
        similarity_RBK = _transport.matched(image_RBPD.to(text_RNKD), text_RNKD, self.transport)
        if whole_RBD is not None:
            text_RKD = unit(text_RNKD.mean(1))
            similarity_RBK = whole_RBD.to(text_RNKD) @ text_RKD.mT + similarity_RBK
        return scale * similarity_RBK


def images_at_once(device: torch.device, per_image: int) -> int:
    """How many images are predicted at once, each of which has so many similarities."""
    return max(1, (CPU_NUMBERS if device.type == "cpu" else GPU_NUMBERS) // per_image)


@torch.no_grad()
def text_features(ctx_NPE: Tensor, target: Target, context: Context) -> Tensor:
    """text_NKD of the target's classes around each context."""
    return _prompts.encoded(_prompts.prompts_for(target, context), ctx_NPE)
