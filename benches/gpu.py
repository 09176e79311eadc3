"""What a card makes of the suite: `python -m benches.gpu [--quick] [--json FILE]`

Prints, for the machine it runs on: the card's own rates; a training step of CoOp, alone and in
batches of runs, beside the released style (77 whole tokens, half precision, one run, nothing
recorded); whole cells; how busy the card is; pictures from disk to stored features; and the time
that the 165 CoOp cells of a ViT-B/16 grid (11 datasets, 5 shots, 3 seeds) would take by these
figures. Weights are random, at true shapes. At most 4 minutes on one card; `--quick` runs every
part small, on a CPU, in about a minute.
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benches import pixels
from benches.timing import machine
from benchmark import methods
from benchmark.api import Crop, Episode, ImageSet, Labelled, unit
from benchmark.backbones import clip
from benchmark.backbones.clip import OpenClip
from benchmark.backbones.precision import arithmetic
from benchmark.errors import UserError
from testbed import naive_clip

SPECS = Path(__file__).resolve().parents[1] / "datasets_cfg"
CLASSIC = (
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101",
    "fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101",
)  # fmt: skip
SHOTS, SEEDS, BATCH, N_CTX = (1, 2, 4, 8, 16), 3, 32, 16
EPOCHS = {1: 50, 2: 100, 4: 100, 8: 200, 16: 200}  # CoOp's; ImageNet takes 50 at any shots
MOST_CLASSES_AT_ONCE = 6000  # classes times runs of one measurement
Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much of everything is measured, and on what."""

    device: str
    precision: str
    classes: tuple[int, ...]
    runs: tuple[int, ...]
    steps: int  # between the two lengths of training whose difference is timed
    cell_classes: int
    cells: tuple[tuple[str, int, dict[str, Any]], ...]  # method, shots, parameters
    busy: tuple[str, ...]
    figures: dict[str, list[Row]] = field(default_factory=dict)  # of the parts measured so far


def whole() -> Size:
    return Size(
        device="cuda",
        precision="float16",
        classes=(10, 47, 100, 397, 1000),
        runs=(1, 3, 15),
        steps=150,
        cell_classes=100,
        cells=(
            ("linear_probe", 16, {}),
            ("tip_adapter_f", 16, {}),
            ("taskres", 16, {}),
            ("clap", 16, {}),
            ("cones", 16, {}),
            ("coop", 16, {}),
            ("apt", 4, {}),
            ("vpt", 4, {}),
            ("clip_lora", 1, {}),
        ),
        busy=("coop", "cones", "taskres"),
    )


def quick() -> Size:
    return Size(
        device="cpu",
        precision="float32",
        classes=(3,),
        runs=(1, 2),
        steps=20,
        cell_classes=3,
        cells=(
            ("linear_probe", 2, {}),
            ("coop", 1, {"epochs": "2"}),
            ("apt", 1, {"epochs": "2", "views": 1}),
            ("clip_lora", 1, {"steps_per_shot": 2, "views": 1}),
        ),
        busy=("coop",),
    )


def main() -> None:
    """Measure, print, and write the JSON where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benches.gpu")
    parser.add_argument("--quick", action="store_true", help="everything small, on a CPU")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    if not options.quick and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here; --quick runs every part small on a CPU")
    size, console, start = quick() if options.quick else whole(), Console(width=120), time.time()
    console.print(described(size.device))
    with arithmetic(size.precision):
        for title, part in PARTS.items():
            size.figures[title] = measured(part, size)
            show(title, size.figures[title], console)
            console.print(f"{time.time() - start:.0f} s so far")
    if options.json:
        figures = {"machine": described(size.device), **size.figures}
        options.json.write_text(json.dumps(figures, indent=1))
    if any("failed" in row for rows in size.figures.values() for row in rows):
        raise SystemExit("some parts failed; their tables say why")


def measured(part: Callable[[Size], list[Row]], size: Size) -> list[Row]:
    """A part that fails says so in its table, and the others go on."""
    try:
        return part(size)
    except Exception as error:
        return [{"failed": f"{type(error).__name__}: {error}"}]


def described(device: str) -> str:
    card = torch.cuda.get_device_name() if device == "cuda" else "no card"
    return f"{card}; {machine()}"


def show(title: str, rows: Sequence[Row], console: Console) -> None:
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    console.print(table)


def settled_s(work: Callable[[], object], device: str) -> float:
    """Seconds until a device is done with `work`."""
    settle(device)
    start = time.perf_counter()
    work()
    settle(device)
    return time.perf_counter() - start


def settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# --- the card itself


def rates(size: Size) -> list[Row]:
    """What the matrix units do on large products."""
    edge, rows = (8192, []) if size.device == "cuda" else (256, [])
    for precision, dtype in (("float16", torch.float16), ("tf32", torch.float32)):
        a, b = (torch.randn(edge, edge, device=size.device).to(dtype) for _ in range(2))
        with arithmetic(precision):
            seconds = min(settled_s(partial(torch.mm, a, b), size.device) for _ in range(6))
        rows.append({"product": precision, "TFLOP/s": 2 * edge**3 / seconds / 1e12})
    return rows


# --- models and episodes


@cache
def towers(device: str) -> nn.Module:
    """ViT-B/16 at true shapes with random weights; a model of toy size on a CPU."""
    if device == "cpu":
        return naive_clip.small_clip()
    return open_clip.create_model("ViT-B-16-quickgelu", pretrained=None).to(device).eval()


@cache
def backbone(device: str, precision: str) -> OpenClip:
    """The towers as the suite runs them."""
    loaded = clip.from_model(towers(device), "bench").copy()
    return clip.from_model(loaded.model, "bench", precision=precision)


def class_names(count: int) -> tuple[str, ...]:
    """The first of ImageNet's names."""
    spec = tomllib.loads((SPECS / "imagenet.toml").read_text())
    return tuple(spec["class_names"][:count])


def episode(given: OpenClip, classes: int, shots: int, seed: int) -> Episode:
    """Random pictures of true size: the time does not depend on what they show."""
    rng = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(classes).repeat_interleave(shots)
    image_ND = unit(torch.randn(len(labels_N), given.dim, generator=rng)).to(given.device)

    def encode(views: tuple[int, int, Crop] | None) -> Tensor:
        return image_ND if views is None else image_ND.expand(views[0], -1, -1)

    def decode(index_N: Tensor, crop: Crop | None, seeds: Sequence[int] | None) -> Tensor:
        return torch.rand(len(index_N), 3, given.image_px, given.image_px, device=given.device)

    support = Labelled(ImageSet(len(labels_N), encode, decode), labels_N)
    names, templates = class_names(classes), ("a photo of a {}.",)
    return Episode("bench", names, templates, support, support, given, seed)


# --- a training step


def text_steps(size: Size) -> list[Row]:
    """ms per run and step of CoOp, batches of runs beside the released style."""
    given, rows = backbone(size.device, size.precision), []
    for classes in size.classes:
        row: Row = {"classes": classes, "released style": released_step_ms(size, classes)}
        for runs in size.runs:
            fits = classes * runs <= MOST_CLASSES_AT_ONCE
            row[f"{runs} runs"] = run_step_ms(given, classes, runs, size.steps) if fits else ""
        rows.append(row | {"ratio": row["released style"] / best_ms(row)})
    return rows


def best_ms(row: Row) -> float:
    return min(value for name, value in row.items() if name.endswith("runs") and value != "")


def run_step_ms(given: OpenClip, classes: int, runs: int, steps: int) -> float:
    """ms per run and step: two lengths of CoOp's training, so that what comes before cancels."""
    shots = -(-BATCH // classes)
    episodes = [episode(given, classes, shots, seed) for seed in range(runs)]
    per_epoch = max(1, classes * shots // BATCH)
    recorded = given.device.type == "cuda"  # its first steps are computed one by one
    short = -(-(30 if recorded else 1) // per_epoch)
    longer = short + -(-steps // per_epoch)
    seconds = [fit_s(given, episodes, epochs) for epochs in (short, short, longer)]
    return 1e3 * (seconds[2] - seconds[1]) / ((longer - short) * per_epoch * runs)


def fit_s(given: OpenClip, episodes: Sequence[Episode], epochs: int) -> float:
    parameters = {"epochs": str(epochs), "many_classes_epochs": epochs, "views": 1}
    adapter = methods.load("coop", parameters)
    return settled_s(partial(adapter.fit_batch, episodes), given.device.type)


def released_step_ms(size: Size, classes: int) -> float:
    """CoOp's step as released: one run, whole prompts of 77 tokens, half precision, eager."""
    dtype = torch.float16 if size.device == "cuda" else torch.float32
    model = clip.from_model(towers(size.device), "released").copy().model.to(dtype)
    step = released_step(model, classes, dtype)
    settled_s(lambda: [step() for _ in range(3)], size.device)
    count = 8 if size.device == "cuda" else 2
    return 1e3 * settled_s(lambda: [step() for _ in range(count)], size.device) / count


def released_step(model: Any, classes: int, dtype: torch.dtype) -> Callable[[], None]:
    rng, device = torch.Generator().manual_seed(0), model.logit_scale.device
    dim, width = model.text_projection.shape[1], model.token_embedding.weight.shape[1]
    image_BD = unit(torch.randn(BATCH, dim, generator=rng)).to(device, dtype)
    labels_B = torch.randint(classes, (BATCH,), generator=rng).to(device)
    ctx_PE = (0.02 * torch.randn(N_CTX, width, generator=rng)).to(device, dtype).requires_grad_()
    with torch.no_grad():
        prompts_KLE, ids_KL = naive_clip.prompt_tensor(model, class_names(classes), ctx_PE, "end")
    sgd = torch.optim.SGD([ctx_PE], lr=0.002, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        context_KPE = ctx_PE.expand(classes, -1, -1)
        whole_KLE = torch.cat([prompts_KLE[:, :1], context_KPE, prompts_KLE[:, 1 + N_CTX :]], 1)
        text_KD = unit(naive_clip.read_out(model, whole_KLE, ids_KL)).to(dtype)
        sgd.zero_grad()
        F.cross_entropy((100 * image_BD @ text_KD.T).float(), labels_B).backward()
        sgd.step()

    return step


# --- cells


def whole_cells(size: Size) -> list[Row]:
    """Seconds to fit one cell of each kind, alone, on pixels that are on the device already."""
    given, rows = backbone(size.device, size.precision), []
    for method, shots, parameters in size.cells:
        fit = methods.load(method, parameters).fit
        one = episode(given, size.cell_classes, shots, 1)
        row: Row = {"method": method, "shots": shots, "fit, s": "", "steps": ""}
        try:
            seconds = settled_s(partial(fit, one), size.device)
            row |= {"fit, s": seconds, "steps": one.notes.get("steps", "")}
        except UserError as error:
            row["failed"] = str(error)
        rows.append(row)
    return rows


def busy(size: Size) -> list[Row]:
    """Share of the clock in which kernels ran, while batches of 15 runs were fitted."""
    if size.device == "cpu":
        return [{"method": name, "card busy": "no card"} for name in size.busy]
    given, rows = backbone(size.device, size.precision), []
    for method in size.busy:
        adapter = methods.load(method, {})
        episodes = [episode(given, size.cell_classes, 4, seed) for seed in range(15)]
        settled_s(partial(adapter.fit_batch, episodes[:1]), size.device)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            seconds = settled_s(partial(adapter.fit_batch, episodes), size.device)
        kernels_s = sum(event.self_device_time_total for event in seen.key_averages()) / 1e6
        rows.append({"method": method, "runs": 15, "s": seconds, "card busy": kernels_s / seconds})
    return rows


# --- the grid


def projected(size: Size) -> list[Row]:
    """The 165 CoOp cells by the measured steps, between which time grows linearly.

    A batch of all shots and seeds begins with 15 runs and ends with the three of 16 shots.
    """
    steps_title = next(title for title, part in PARTS.items() if part is text_steps)
    table = size.figures[steps_title]
    rows = []
    for name in CLASSIC:
        spec = tomllib.loads((SPECS / f"{name}.toml").read_text())
        classes = len(spec["class_names"])
        lengths = [epochs(classes, k) * max(1, classes * k // BATCH) for k in SHOTS]
        minutes = sum(
            (length - before) * live * step_ms(table, live, classes) / 6e4
            for before, length, live in phases(lengths)
        )
        steps = SEEDS * sum(lengths)
        rows.append({"dataset": name, "classes": classes, "steps": steps, "minutes": minutes})
    total = {key: sum(row[key] for row in rows) for key in ("classes", "steps", "minutes")}
    return [*rows, {"dataset": "all", **total}]


def phases(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first step, last step, live runs) of a batch of SEEDS runs of each length."""
    ends = sorted(lengths)
    live = [SEEDS * (len(ends) - i) for i in range(len(ends))]
    return list(zip([0, *ends], ends, live, strict=False))


def step_ms(table: Sequence[Row], live: int, classes: int) -> float:
    """ms per run and step of the largest measured batch that is no larger than the live runs."""
    measured_ms = []
    for row in table:
        sizes = {int(name.split()[0]): value for name, value in row.items() if "runs" in name}
        known = [runs for runs, value in sizes.items() if value != "" and runs <= live]
        measured_ms.append((row["classes"], sizes[max(known)]))
    if any(value <= 0 for _, value in measured_ms):
        raise ValueError("a step took no measurable time; measure again on an idle machine")
    return between(measured_ms, classes)


def epochs(classes: int, shots: int) -> int:
    return 50 if classes >= 1000 else EPOCHS[shots]


def between(measured: Sequence[tuple[int, float]], classes: int) -> float:
    """Linear interpolation; beyond the largest in proportion, below the smallest the smallest."""
    if classes >= measured[-1][0]:
        return measured[-1][1] * classes / measured[-1][0]
    if classes <= measured[0][0]:
        return measured[0][1]
    pairs = pairwise(measured)
    (low, low_ms), (high, high_ms) = next(p for p in pairs if p[0][0] <= classes < p[1][0])
    return low_ms + (high_ms - low_ms) * (classes - low) / (high - low)


def pictures(size: Size) -> list[Row]:
    """benches.pixels, whole on a card and in short on a CPU."""
    return [asdict(each) for each in pixels.figures(size.device, size.device == "cpu")]


PARTS: dict[str, Callable[[Size], list[Row]]] = {
    "Large products": rates,
    "CoOp, ms per run and step": text_steps,
    "165 CoOp cells, projected": projected,
    "Pictures": pictures,
    "Card busy": busy,
    "Fits of one cell, pictures apart": whole_cells,
}

if __name__ == "__main__":
    main()
