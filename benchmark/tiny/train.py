"""Train the tiny CLIP on drawn pictures and written captions: python -m benchmark.tiny.train --seed
1 --out DIR

Writes DIR/weights.safetensors and DIR/provenance.json. The loss is CLIP's symmetric cross-entropy
with one change: a caption that leaves something unsaid is true of several pictures of a batch, and
the target is spread evenly over all of them. Pictures are drawn once, before the first step;
captions are written anew at every step.
"""

import argparse
import functools
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip import SimpleTokenizer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from benchmark.tiny import captions, exam, model

MAX_LOG_SCALE = math.log(100)  # CLIP's own cap on the temperature
FLAGS = ("seed", "steps", "batch", "pictures")  # parts of the plan that the command line sets
CHUNK = 500  # pictures drawn by a worker at a time


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides the weights."""

    seed: int = 1
    steps: int = 1600
    batch: int = 256
    pictures: int = 40_000
    lr: float = 2e-3
    weight_decay: float = 0.1
    warmup: int = 150  # steps
    zoom: float = 0.55  # least side of a training crop, share of the picture
    short_room: int = 10  # most words of chatter in a caption
    long_room: int = 40  # ... in a batch of long captions
    long_share: float = 0.2  # share of batches with long captions


@dataclass(frozen=True)
class Pool:
    """Training pictures, drawn: uint8 pixels_NCHW and what each shows, seen_N3."""

    pixels_NCHW: Tensor
    seen_N3: np.ndarray


def _drawn(seed: int, image_px: int, indices: range) -> tuple[np.ndarray, np.ndarray]:
    pictures, seen = zip(*(captions.picture(seed, index) for index in indices), strict=True)
    return exam.pixels(list(pictures), image_px), np.array(seen)


def draw_pool(plan: TrainingPlan, image_px: int, workers: int) -> Pool:
    """Draw the training pictures in `workers` processes (0: in this one); the number of them
    changes nothing.
    """
    chunks = [
        range(start, min(start + CHUNK, plan.pictures)) for start in range(0, plan.pictures, CHUNK)
    ]
    draw = functools.partial(_drawn, plan.seed, image_px)
    if workers:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(draw, chunks))
    else:
        parts = [draw(chunk) for chunk in chunks]
    pixels, seen = zip(*parts, strict=True)
    return Pool(torch.from_numpy(np.concatenate(pixels)), np.concatenate(seen))


class Words:
    """CLIP's tokenizer cut down to the tokens that captions use; keeps their order, so EOT stays
    the highest.
    """

    def __init__(self) -> None:
        self.tokenizer = SimpleTokenizer()
        used = {token for text in captions.every_text() for token in self.tokenizer.encode(text)}
        self.ids_U = torch.tensor(
            sorted({*used, self.tokenizer.sot_token_id, self.tokenizer.eot_token_id})
        )
        self.encode = functools.cache(self._encode)

    def _encode(self, word: str) -> list[int]:
        return torch.searchsorted(
            self.ids_U, torch.tensor(self.tokenizer.encode(word), dtype=torch.long)
        ).tolist()

    def matrix(self, texts: list[str], context_length: int) -> Tensor:
        """Rows of the small table, tokens_NL, as wide as the longest text: what follows EOT is
        never read.
        """
        rows = [
            [token for word in text.split() for token in self.encode(word)][: context_length - 2]
            for text in texts
        ]
        sot, eot = len(self.ids_U) - 2, len(self.ids_U) - 1
        tokens_NL = torch.zeros(len(rows), max(map(len, rows)) + 2, dtype=torch.long)
        for tokens_L, row in zip(tokens_NL, rows, strict=True):
            tokens_L[: len(row) + 2] = torch.tensor([sot, *row, eot])
        return tokens_NL


def encode_text(clip: open_clip.CLIP, tokens_NL: Tensor) -> Tensor:
    """CLIP's text tower on tokens_NL of any width, unit-length text_ND; exact, because the tower is
    causal.
    """
    length = tokens_NL.shape[1]
    x_NLE = clip.token_embedding(tokens_NL) + clip.positional_embedding[:length]
    x_NLE = clip.transformer(x_NLE, attn_mask=clip.attn_mask[:length, :length])
    x_NE = clip.ln_final(x_NLE)[torch.arange(len(x_NLE)), tokens_NL.argmax(1)]
    return F.normalize(x_NE @ clip.text_projection, dim=-1)


def varied(pixels_NCHW: Tensor, zoom: float, rng: torch.Generator) -> Tensor:
    """Crops of normalised pictures, mirrored half the time, digits too: methods will show the model
    such views of everything.
    """
    count, device = len(pixels_NCHW), pixels_NCHW.device
    side_N = 1 - (1 - zoom) * torch.rand(count, generator=rng)
    mirror_N = 1 - 2.0 * (torch.rand(count, generator=rng) < 0.5)
    shift_N2 = (2 * torch.rand(count, 2, generator=rng) - 1) * (1 - side_N)[:, None]
    affine_N23 = torch.zeros(count, 2, 3)
    affine_N23[:, 0, 0], affine_N23[:, 1, 1], affine_N23[:, :, 2] = (
        side_N * mirror_N,
        side_N,
        shift_N2,
    )
    grid = F.affine_grid(affine_N23.to(device), list(pixels_NCHW.shape), align_corners=False)
    return F.grid_sample(pixels_NCHW, grid, padding_mode="border", align_corners=False)


def batches(
    pool: Pool, plan: TrainingPlan, words: Words, context_length: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """`steps` times: pixels_NCHW, tokens_NL and target_NN, whose row i spreads 1 over the captions
    true of picture i.
    """
    chance, rng = np.random.default_rng(plan.seed), torch.Generator().manual_seed(plan.seed)
    for _ in range(plan.steps):
        rows_N = chance.choice(
            len(pool.seen_N3), plan.batch, replace=len(pool.seen_N3) < plan.batch
        )
        seen_N3 = pool.seen_N3[rows_N]
        room = plan.long_room if chance.random() < plan.long_share else plan.short_room
        captioned = [
            captions.caption(chance, captions.Meaning(*row), int(chance.random() * (room + 1)))
            for row in seen_N3
        ]
        texts, meanings = zip(*captioned, strict=True)
        pixels_NCHW = varied(exam.normalised(pool.pixels_NCHW[rows_N]), plan.zoom, rng)
        yield (
            pixels_NCHW,
            words.matrix(list(texts), context_length),
            torch.from_numpy(captions.true_of(np.array(meanings), seen_N3)),
        )


def contrast(logits_NN: Tensor, true_NN: Tensor) -> Tensor:
    """Cross-entropy from pictures to captions and back, averaged; true pairs share the target
    evenly.
    """
    true_NN = true_NN.float()
    to_text = -(F.log_softmax(logits_NN, 1) * F.normalize(true_NN, p=1, dim=1)).sum(1).mean()
    to_image = -(F.log_softmax(logits_NN, 0) * F.normalize(true_NN, p=1, dim=0)).sum(0).mean()
    return (to_text + to_image) / 2


def optimiser(
    clip: open_clip.CLIP, plan: TrainingPlan
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW that decays matrices only; its rate rises over the warm-up, then falls by a cosine."""
    parameters = list(clip.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": plan.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=plan.lr, betas=(0.9, 0.98))

    def share(step: int) -> float:
        return min((step + 1) / plan.warmup, 0.5 + 0.5 * math.cos(math.pi * step / plan.steps))

    return adamw, torch.optim.lr_scheduler.LambdaLR(adamw, share)


def fit(plan: TrainingPlan, device: str, workers: int) -> tuple[open_clip.CLIP, Words]:
    """The trained model with its small token table, and the words of that table."""
    torch.manual_seed(plan.seed)
    words, clip = Words(), model.untrained()
    width = clip.token_embedding.embedding_dim
    clip.token_embedding = torch.nn.Embedding(len(words.ids_U), width)
    torch.nn.init.normal_(clip.token_embedding.weight, std=0.02)
    clip.to(device).train()
    pool = draw_pool(plan, clip.visual.image_size[0], workers)
    adamw, schedule = optimiser(clip, plan)
    for step, (pixels_NCHW, tokens_NL, true_NN) in enumerate(
        batches(pool, plan, words, clip.context_length)
    ):
        image_ND = clip.encode_image(pixels_NCHW.to(device), normalize=True)
        logits_NN = clip.logit_scale.exp() * image_ND @ encode_text(clip, tokens_NL.to(device)).T
        loss = contrast(logits_NN, true_NN.to(device))
        adamw.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        adamw.step()
        schedule.step()
        clip.logit_scale.data.clamp_(max=MAX_LOG_SCALE)
        if step % 100 == 0 or step == plan.steps - 1:
            scale = clip.logit_scale.exp().item()
            print(f"step {step:5d}  loss {loss.item():.3f}  scale {scale:.1f}", flush=True)
    return clip, words


def save(clip: open_clip.CLIP, words: Words, folder: Path) -> Path:
    """Write the weights file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / model.WEIGHTS.name
    save_file(model.compact(clip.state_dict(), words.ids_U), path)
    return path


def provenance(plan: TrainingPlan, device: str, weights: Path, wall_s: float) -> dict[str, object]:
    """How a weights file came about and what it scores; accuracies are fractions, of the file as it
    will be loaded.
    """
    accuracies = exam.accuracies(model.build(weights))
    flags = " ".join(f"--{name} {getattr(plan, name)}" for name in FLAGS)
    return {
        "command": f"python -m benchmark.tiny.train {flags} --device {device} --out DIR",
        "plan": asdict(plan),
        "device": device,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "numpy": np.__version__,
        "wall_s": round(wall_s),
        "cpu_s": round(sum(os.times()[:4])),  # of all threads and drawing processes together
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "weights_bytes": weights.stat().st_size,
        "zero_shot": {dataset: round(accuracy, 4) for dataset, accuracy in accuracies.items()},
    }


def main() -> None:
    """Read the flags, train, save, report."""
    flags = argparse.ArgumentParser(
        description="Train the tiny CLIP on generated image-caption pairs."
    )
    for name in FLAGS:
        flags.add_argument(f"--{name}", type=int, default=getattr(TrainingPlan(), name))
    flags.add_argument("--device", default="cpu")
    flags.add_argument(
        "--workers", type=int, default=2, help="processes that draw pictures; 0 for none"
    )
    flags.add_argument("--out", type=Path, required=True)
    options = flags.parse_args()
    plan = TrainingPlan(**{name: getattr(options, name) for name in FLAGS})
    start = time.perf_counter()
    clip, words = fit(plan, options.device, options.workers)
    weights = save(clip, words, options.out)
    record = provenance(plan, options.device, weights, time.perf_counter() - start)
    (options.out / model.PROVENANCE.name).write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record["zero_shot"]))


if __name__ == "__main__":
    main()
