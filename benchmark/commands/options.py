"""The options that commands share, each written once. Lists take commas or repetition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmark.errors import UserError, guess
from benchmark.protocols import PROTOCOLS

DEFAULT = Path("results")
List = list[str]
NOTHING: List = []  # the default of every list: the choice is left to the suite
MOST_DIGITS = 9  # of a number of shots or a seed


def words(option: typer.CallbackParam, values: List) -> list[str]:
    """Commas and repetition mean the same: ['a,b', 'c'] -> ['a', 'b', 'c'], each once.

    Raises UserError for an empty value: an unset shell variable must not choose everything.
    """
    parts = [word.strip() for value in values for word in value.split(",")]
    if not all(parts):
        raise UserError(
            f"{option.opts[0]} has an empty value; name what you want, or leave the option out"
        )
    return list(dict.fromkeys(parts))


def whole_numbers(flag: str, values: Sequence[str]) -> list[int]:
    """A list of whole numbers, as --shots and --seed take it."""
    for value in values:
        if not value.isdecimal() or len(value) > MOST_DIGITS:
            raise UserError(
                f"--{flag} takes whole numbers separated by commas, not '{value[:60]}'; "
                f"for example --{flag} 1,2,4"
            )
    return [int(value) for value in values]


def one_of(flag: str, value: str, allowed: Sequence[str]) -> str:
    """`value`; UserError with the nearest allowed one where it is not allowed."""
    if value not in allowed:
        hint = guess(value, allowed)
        sentence = f"--{flag} takes {', '.join(allowed)}, not '{value}'"
        raise UserError(f"{sentence}; {hint}" if hint else sentence)
    return value


def known_protocol(name: str) -> str:
    """`name`, which may be empty; UserError where there is no such protocol."""
    return one_of("protocol", name, PROTOCOLS) if name else ""


def path(value: str | Path) -> Path:
    """A path as it was given; UserError for an empty one, which would mean the folder at hand."""
    if not str(value).strip():
        raise UserError(
            "a path is empty, as an unset shell variable is; name it, or leave the option out"
        )
    return Path(value)


def require_folder(flag: str, path: Path | None) -> None:
    """UserError where `path` is a file or lies below one; a folder may still have to be made."""
    if path is None:
        return
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not existing.is_dir():
        raise UserError(f"--{flag} takes a folder, and {existing} is a file; name another one")


Method = Annotated[
    List,
    typer.Option(
        "--method",
        "-m",
        callback=words,
        metavar="NAME,...",
        help="Methods: names of `list methods`, dotted modules, or plug-ins.",
    ),
]
Trusted = Annotated[
    List,
    typer.Option(
        "--method",
        "-m",
        callback=words,
        metavar="NAME,...",
        help="A plug-in that may run.",
        show_default=False,
    ),
]
Dataset = Annotated[
    List,
    typer.Option(
        "--dataset",
        "-d",
        callback=words,
        metavar="NAME,...",
        help="Datasets: names of `list datasets`, or TOML files.",
    ),
]
Protocol = Annotated[
    str,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="few-shot; base-to-new (learn on the first half of the classes, test on both); "
        "cross-dataset or domain (learn on one dataset, test on others or on shifted variants).",
    ),
]
OfProtocol = Annotated[
    str,
    typer.Option(
        "--protocol",
        metavar="NAME",
        callback=known_protocol,
        help=f"Only records of {', '.join(PROTOCOLS)}. [default: all, each by itself]",
        show_default=False,
    ),
]
LearnFrom = Annotated[
    str | None,
    typer.Option(
        "--learn-from",
        metavar="NAME",
        help="The dataset that cross-dataset and domain learn on. "
        "[default: imagenet; of the embedded suite tiny_shapes]",
        show_default=False,
    ),
]
Suite = Annotated[
    List,
    typer.Option(
        "--suite", callback=words, metavar="NAME,...", help="Suites: what of them is prepared."
    ),
]
Shots = Annotated[
    List,
    typer.Option(
        "--shots",
        callback=words,
        metavar="K,...",
        help="Images per class. [default: 1,2,4,8,16; of protocols other than few-shot 16]",
        show_default=False,
    ),
]
Seed = Annotated[
    List,
    typer.Option(
        "--seed",
        callback=words,
        metavar="N,...",
        help="Seeds. [default: 1,2,3]",
        show_default=False,
    ),
]
Backbone = Annotated[
    List,
    typer.Option(
        "--backbone",
        "-b",
        callback=words,
        metavar="NAME,...",
        help="tiny, ViT-B/16, or ARCH/TAG. [default: by suite]",
        show_default=False,
    ),
]
Val = Annotated[
    str,
    typer.Option(
        "--val", metavar="up-to-4|none", help="Validation images: min(shots, 4) per class, or none."
    ),
]
Sources = Annotated[
    str,
    typer.Option(
        "--sources",
        metavar="POLICY",
        help="What priors see: default, others, all, none, or datasets by name.",
    ),
]
SourceShots = Annotated[
    int | None,
    typer.Option(
        "--source-shots",
        metavar="NUMBER",
        min=-1,
        max=10**9,
        help="Images per class of each source: 0 as many as the cell, -1 full training sets. "
        "[default: each method's own]",
        show_default=False,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="Of the frozen backbone: float64, float32, tf32, bfloat16, float16; auto is float64 "
        "for tiny, float32 on a CPU, float16 on a GPU.",
    ),
]
Classes = Annotated[
    str,
    typer.Option(
        "--classes",
        metavar="all|base|new",
        help="Learn and test on all classes, on the first half, or on the second. What is learned "
        "on the first half is tested on the second by --protocol base-to-new.",
    ),
]
Sampler = Annotated[
    str,
    typer.Option(
        "--sampler",
        metavar="RULE",
        help="How the support set is drawn: coop, nested; coop-short: a class with fewer images "
        "than shots gives all it has; relaxed or realistic: in proportion to the training pool.",
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="released",
        help="Each method with the settings of its released code. Where that selects on the test "
        "set, rows are diagnostics. [default: one setting for all datasets]",
        show_default=False,
    ),
]
Set = Annotated[
    List,
    typer.Option(
        "--set",
        metavar="[METHOD.]KEY=VALUE",
        help="A hyper-parameter, of every chosen method or of one. Repeat for more.",
    ),
]
Results = Annotated[
    Path, typer.Option("--results", parser=path, metavar="DIR", help="Folder of records.")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        parser=path,
        metavar="DIR",
        help="Folder of datasets. [default: FSBENCH_DATA]",
        show_default=False,
    ),
]
AcceptChangedData = Annotated[
    bool,
    typer.Option(
        "--accept-changed-data",
        help="Go on with data that differ from their spec; every record is marked.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1; auto takes a GPU where there is one, but for the tiny backbone.",
    ),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Never ask a network; what is missing is an error at once."),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Compute again what is on record, priors and learned states included."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would run, and stop: the same as `plan`.")
]
Superseded = Annotated[
    bool, typer.Option("--superseded", help="Include records of older adapter versions.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Machine output on stdout; everything else goes to stderr.")
]
Plain = Annotated[
    bool,
    typer.Option(
        "--plain", help="Lines instead of a live view (by itself without a terminal, or with CI=1)."
    ),
]
Executor = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="serial|ray",
        help="Where cells run: in this process, or in Ray's workers.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT|auto",
        help="A Ray cluster to join. [default: workers on this machine]",
        show_default=False,
    ),
]
GpusPerCell = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-cell",
        metavar="SHARE",
        min=0,
        help="With ray: 0.25, 1, ... [default: from earlier records]",
        show_default=False,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only part I of N of the grid, as in a job array.",
        show_default=False,
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        metavar="SECONDS",
        min=0,
        help="For one cell; then it has failed.",
        show_default=False,
    ),
]
Batch = Annotated[
    bool | None,
    typer.Option(
        "--batch/--no-batch",
        help="Train shots and seeds in one batch wherever a method can (faster; rounding may "
        "differ), or nowhere. [default: on a GPU; of the tiny backbone the seeds]",
        show_default=False,
    ),
]
