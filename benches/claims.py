"""Claim, published figure, ours: what the papers say of themselves, measured here side by side.
`python -m benches.claims [--quick]`

Computation is counted, steps are timed in alternation at the shapes of ViT-B/16 with random weights
(benches/apt.py, benches/cones.py), accuracies come from whole cells of the tiny suite, kept in a
folder so that a second call is quick. A claim that does not hold here is said not to hold; the tiny
suite is no ImageNet, so that says something about us before it says something about the paper.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import torch
from rich.console import Console
from rich.table import Table

from benches import apt, cones
from benches.timing import machine
from benchmark.commands.cell_selection import select
from benchmark.commands.option_fields import Flags
from benchmark.compute import runner
from benchmark.errors import UserError
from benchmark.paths import cache_dir
from benchmark.records.record import Record
from benchmark.records.store import Store

SEEDS = ("1", "2", "3")


@dataclass(frozen=True)
class Claim:
    """One row; `holds` is None where there is a figure but nothing to hold it against."""

    what: str
    published: str
    ours: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        return {True: "reproduces", False: "DOES NOT REPRODUCE", None: "reported"}[self.holds]


def cells(
    folder: Path, methods: Sequence[str], shots: Sequence[str], settings: Sequence[str] = ()
) -> list[Record]:
    """Records of the tiny suite, computed where they are not there yet."""
    flags = Flags(methods=methods, suites=("tiny",), shots=shots, seeds=SEEDS, settings=settings)
    outcomes = list(runner.run(select(flags).cells, Store(folder)))
    failed = [outcome for outcome in outcomes if outcome.record is None]
    if failed:
        raise UserError(f"{failed[0].cell}: {failed[0].error}")
    return [outcome.record for outcome in outcomes if outcome.record is not None]


def means(records: Sequence[Record]) -> dict[int, dict[int, float]]:
    """shots -> seed -> mean accuracy over the datasets."""
    accuracies: dict[tuple[int, int], list[float]] = defaultdict(list)
    for record in records:
        accuracies[record.identity.shots, record.identity.seed].append(record.accuracy)
    table: dict[int, dict[int, float]] = defaultdict(dict)
    for (shots, seed), values in accuracies.items():
        table[shots][seed] = fmean(values)
    return table


def paired(a: Sequence[Record], b: Sequence[Record]) -> dict[int, tuple[float, float]]:
    """shots -> mean and spread, over seeds, of a's lead over b in points."""
    first, second = means(a), means(b)
    leads = {
        shots: [100 * (first[shots][seed] - second[shots][seed]) for seed in first[shots]]
        for shots in sorted(first)
    }
    return {shots: (fmean(each), stdev(each)) for shots, each in leads.items()}


def points(leads: dict[int, tuple[float, float]]) -> str:
    return ", ".join(
        f"{shots} shots {mean:+.1f}±{spread:.1f}" for shots, (mean, spread) in leads.items()
    )


def floors(folder: Path) -> list[Claim]:
    """Both methods against zero-shot."""
    zero = fmean(record.accuracy for record in cells(folder, ["zero_shot"], ["1"]))
    claims = []
    for name in ("apt", "cones"):
        at = means(cells(folder, [name], ["1", "16"]))
        few, many = (100 * (fmean(at[shots].values()) - zero) for shots in (1, 16))
        claims.append(
            Claim(
                f"{name}, 16 shots above zero-shot ({100 * zero:.1f} %)",
                "at least +8 (ours)",
                f"{many:+.1f}",
                many >= 8,
            )
        )
        claims.append(
            Claim(
                f"{name}, 1 shot against zero-shot", "at least -1 (ours)", f"{few:+.1f}", few >= -1
            )
        )
    return claims


def apt_counts() -> list[Claim]:
    claims = []
    for length in (16, 200):
        ratio = apt.added("apt", length) / apt.added("vpt", length)
        claims.append(
            Claim(
                f"APT's added computation, share of deep VPT's, T={length}",
                "0.18 on METER",
                f"{ratio:.3f}",
                ratio <= 0.2,
            )
        )
    return claims


def apt_accuracy(folder: Path) -> list[Claim]:
    """Same towers, same prompts, same recipe."""
    ours = cells(folder, ["apt"], ["16"], ["apt.side=vision"])
    lead = paired(ours, cells(folder, ["vpt"], ["16"]))
    return [
        Claim(
            "APT's lead over deep VPT, image tower, T=16, points",
            "+7.0 on VQA with METER",
            points(lead),
            lead[16][0] > 0,
        )
    ]


def apt_times(batch: int, rounds: int) -> list[Claim]:
    times = {name: timing.cpu_s for name, timing in apt.step_times(batch, rounds).items()}
    claims = []
    for length, bound in ((16, 1.05), (200, 0.6)):
        ratio = times[f"apt T={length}"] / times[f"vpt T={length}"]
        claims.append(
            Claim(
                f"APT's training step, share of deep VPT's, T={length}",
                f"at most {bound} (ours)",
                f"{ratio:.2f}",
                ratio <= bound,
            )
        )
    for name in ("apt", "vpt"):
        ratio = times[f"{name} T=16"] / times[f"{name} T=16, blocks 6-11, kept"]
        claims.append(
            Claim(
                f"{name}, blocks 6-11 from kept inputs against all blocks",
                "at least 2x (ours)",
                f"{ratio:.1f}x",
                ratio >= 2,
            )
        )
    return claims


def approximation(images: int, steps: int) -> list[Claim]:
    what = "distance to exact prompt attention, T={}: same prompts / fitted / spread of lambda"
    return [
        Claim(
            what.format(gap.n_prompts),
            "-",
            f"{gap.same_prompts:.2f} / {gap.fitted:.2f} / {gap.shrinkage:.2f}",
            None,
        )
        for gap in apt.gaps(images, steps)
    ]


def cones_times(rounds: int) -> list[Claim]:
    times = cones.run_times(rounds, fixed=False)
    single, all_ = times["one run, 16 shots"], times["15 runs together"]
    claims = [
        Claim(
            "ConES, 100 x 16 x 512, 200 epochs, four regularisation weights",
            "at most 5 s (ours)",
            f"{single.cpu_s:.1f} processor s",
            single.cpu_s <= 5,
        ),
        Claim(
            "15 runs together, in runs",
            "at most 3x (ours)",
            f"{all_.cpu_s / single.cpu_s:.1f}x",
            all_.cpu_s <= 3 * single.cpu_s,
        ),
    ]
    steps = cones.coop_step_times(rounds)
    references = {
        "our CoOp": steps["ours"].cpu_s,
        "reference CoOp, features given": steps["reference"].cpu_s,
    }
    for name, step_s in references.items():
        ratio = cones.COOP_STEPS * step_s / single.cpu_s
        claims.append(
            Claim(
                f"ConES faster than {name}",
                "6x (an hour to ten minutes)",
                f"{ratio:,.0f}x",
                ratio >= 6,
            )
        )
    return claims


def cones_accuracy(folder: Path) -> list[Claim]:
    concepts, prompts = (cells(folder, [name], ["1", "16"]) for name in ("cones", "coop"))
    lead = paired(concepts, prompts)
    fit = fmean(r.costs.fit_s for r in prompts) / fmean(r.costs.fit_s for r in concepts)
    claims = [
        Claim(
            "ConES's lead over CoOp, points",
            "better on its own tasks",
            points(lead),
            all(mean > 0 for mean, _ in lead.values()),
        ),
        Claim(
            "ConES faster than our CoOp, whole fits of the tiny suite",
            "6x",
            f"{fit:.0f}x",
            fit >= 6,
        ),
    ]
    pairs = (
        ("cones_tip_adapter", "tip_adapter", ()),
        ("cones_finetune", "cones_finetune", ("cones_finetune.start=words",)),
    )
    for name, other, settings in pairs:
        lead = paired(
            cells(folder, [name], ["1", "16"]), cells(folder, [other], ["1", "16"], settings)
        )
        holds = all(mean > 0 for mean, _ in lead.values())
        claims.append(
            Claim(
                f"{name} over the same from words, points",
                "concepts help a later stage",
                points(lead),
                holds,
            )
        )
    return claims


def prompt_adapter(folder: Path) -> list[Claim]:
    """Leave-one-out: the target dataset is never among the sources of its prompt."""
    shots = ["1", "2", "4", "8"]
    lead = paired(
        cells(folder, ["prompt_adapter_f"], shots), cells(folder, ["tip_adapter_f"], shots)
    )
    published = "+5.1, +4.1, +2.2, +0.8 (its target among the sources)"
    return [
        Claim(
            "Prompt-Adapter-F's lead over Tip-Adapter-F, points",
            published,
            points(lead),
            all(mean > 0 for mean, _ in lead.values()),
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small batches, few rounds")
    parser.add_argument(
        "--only",
        default="",
        help="sections, comma-separated: those whose name contains one of these words",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=cache_dir() / "claims",
        help="where the cells of the tiny suite are kept",
    )
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    quick, folder = given.quick, given.results
    sections: dict[str, Callable[[], list[Claim]]] = {
        "floors": lambda: floors(folder),
        "apt counts": apt_counts,
        "apt times": lambda: apt_times(2 if quick else 8, 2 if quick else 5),
        "apt approximation": lambda: approximation(16 if quick else 64, 50 if quick else 300),
        "apt accuracy": lambda: apt_accuracy(folder),
        "cones times": lambda: cones_times(1 if quick else 3),
        "cones accuracy": lambda: cones_accuracy(folder),
        "prompt-adapter": lambda: prompt_adapter(folder),
    }
    console = Console(width=170)
    wanted = [word.strip() for word in given.only.split(",") if word.strip()]
    for name, section in sections.items():
        if not wanted or any(word in name for word in wanted):
            table = Table("claim", "published", "ours", "", title=f"{name}; {machine()}")
            for claim in section():
                table.add_row(claim.what, claim.published, claim.ours, claim.verdict)
            console.print(table)


if __name__ == "__main__":
    main()
