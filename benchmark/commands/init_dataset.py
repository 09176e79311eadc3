"""`init-dataset`: write the TOML of a folder of pictures, and say what is in it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.commands import options as opt
from benchmark.errors import MISSING, UserError

if TYPE_CHECKING:
    from benchmark.data.drafts import Survey

MOST_CLASSES = 20  # that are listed one by one
Folder = Annotated[
    str,
    typer.Argument(metavar="FOLDER", help="Class folders, CoOp's layout, or Parquet tables."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        *("--output", "--out"),
        parser=opt.path,
        metavar="FILE.toml",
        help="Where to write; never over a file.",
        show_default="FOLDER.toml beside the folder",
    ),
]
Domain = Annotated[
    str,
    typer.Option(
        "--domain",
        metavar="WORD",
        help="What the pictures show, as pets or flowers: chooses the template.",
        show_default="guessed from names",
    ),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Decode every picture, not a thousand of them.")
]


def init_dataset(
    folder: Folder, out: Out = None, domain: Domain = "", verify: Verify = False
) -> None:
    """Write the TOML of a folder of your own pictures, and say what was seen.

    `prepare` and `run` take the file at once; what was guessed in it is yours to edit.
    """
    from benchmark.data import drafts, layouts

    place = _existing(folder)
    file = drafts.place_for(place, out)
    draft = layouts.recognised(place)
    seen = drafts.survey(draft, place, file, domain, every=verify)
    drafts.write_new(file, seen.text)
    print(f"{folder}: {draft.layout}")
    print("\n".join(_table(seen)))
    for remark in seen.remarks:
        print(f"- {remark}")
    shown = shlex.quote(_shown(file))
    print(f"wrote {shown}; look at class_names and templates, then")
    print(f"  python -m benchmark prepare {shown}")
    fitting = _fitting(min(seen.counts["train"]))
    print(f"  python -m benchmark run --dataset {shown} --method zero_shot,tip_adapter{fitting}")


def _fitting(fewest: int) -> str:
    """The options of a `run` that needs no weights beyond those here, and in every class no more
    than the `fewest` pictures to learn from.
    """
    from benchmark import grid
    from benchmark.backbones import weights

    backbone = "" if weights.seem_here(weights.STANDARD) else " --backbone tiny"
    if fewest >= max(grid.SHOTS):
        return backbone
    shots = ",".join(str(shots) for shots in grid.SHOTS if shots <= fewest)
    return f"{backbone} --shots {shots}" if shots else f"{backbone} --sampler coop-short"


def _existing(folder: str) -> Path:
    """The folder; UserError for the name of a dataset on the hub, which needs a network."""
    place = opt.path(folder)
    if place.is_dir():
        return place
    if folder.startswith("hf-hub:") or (folder.count("/") == 1 and not place.parent.exists()):
        name = folder.removeprefix("hf-hub:")
        raise UserError(
            f"init-dataset asks no network for {name}; fetch its Parquet files first (hf download"
            f" --repo-type dataset {name} --local-dir {name.rpartition('/')[2]}), then name that"
            " folder",
            exit_code=MISSING,
        )
    raise UserError(f"{folder} is no folder; name one that holds pictures", exit_code=MISSING)


def _shown(file: Path) -> str:
    """The shorter of the two ways to write a path."""
    try:
        return str(file.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(file)


def _table(seen: Survey) -> list[str]:
    """Pictures per split, and per class where these are few."""
    names, counts = seen.spec.class_names, {k: v for k, v in seen.counts.items() if sum(v)}
    total = f"all {len(names)} classes"
    width = min(40, max(len(name) for name in (total, *names)))
    lines = [_row("", list(counts), width)]
    if len(names) <= MOST_CLASSES:
        for label, name in enumerate(names):
            lines.append(_row(name, [of[label] for of in counts.values()], width))
    else:
        lines.append(_row("smallest class", [min(of) for of in counts.values()], width))
        lines.append(_row("largest class", [max(of) for of in counts.values()], width))
    lines.append(_row(total, [sum(of) for of in counts.values()], width))
    return lines


def _row(name: str, cells: list[str] | list[int], width: int) -> str:
    return f"  {name[:width]:<{width}}" + "".join(f"{cell:>9}" for cell in cells)
