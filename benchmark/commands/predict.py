"""`predict`: what a kept adapter says of new pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import warn
from benchmark.errors import UserError

if TYPE_CHECKING:
    from benchmark.compute.loaded_adapters import Prediction

Key = Annotated[
    str,
    typer.Argument(metavar="KEY", help="Key of a record made with --keep, or its first digits."),
]
Pictures = Annotated[
    list[Path],
    typer.Argument(
        parser=opt.path,
        metavar="PICTURES...",
        help="Folders with all below them, files, or lists of paths (.csv with a column path,"
        " .txt).",
    ),
]
Features = Annotated[
    Path | None,
    typer.Option(
        "--features",
        parser=opt.path,
        metavar="FILE",
        help="Write the backbone's features as well: .safetensors, .npz or .parquet.",
        show_default=False,
    ),
]
Top = Annotated[
    int, typer.Option("--top", metavar="NUMBER", min=1, help="So many classes per picture.")
]
Backbone = Annotated[
    str,
    typer.Option(
        "--backbone",
        "-b",
        metavar="NAME",
        help="Where the weights lie, as ARCH/path/to/file.",
        show_default="as in the record",
    ),
]


def predict(
    key: Key,
    pictures: Pictures,
    results: opt.Results = opt.DEFAULT,
    out: opt.Output = None,
    features: Features = None,
    top: Top = 1,
    backbone: Backbone = "",
    device: opt.Device = "auto",
    method: opt.Trusted = opt.NOTHING,
) -> None:
    """Predict the class of new pictures with what `run --keep` has kept.

    A CSV with path, class, probability and label, the number of the class.
    Exit code 1 where a picture cannot be read; the rest goes on.
    """
    from benchmark.commands.prediction_files import as_csv, as_feature_file, require_kind
    from benchmark.compute.loaded_adapters import load_adapter
    from benchmark.features.given_pictures import find_pictures
    from benchmark.paths import write_atomic

    if features:
        require_kind(features)
        _require_another(features, out)
    found = find_pictures(pictures)
    adapter = load_adapter(key, results, device=device, backbone=backbone, trusted=method)
    said = adapter.predict(found.paths, with_features=features is not None)
    text = as_csv(said, min(top, len(said.class_names)))
    if features:
        write_atomic(features, as_feature_file(said, features.suffix.lower()))
    if out:
        write_atomic(out, text.encode())
    else:
        sys.stdout.write(text)
    warn(_remarks(said, found.others))
    raise typer.Exit(1 if said.unreadable else 0)


def _require_another(features: Path, out: Path | None) -> None:
    if out and out.resolve() == features.resolve():
        raise UserError(
            f"--output and --features both name {out}, and one would be written over the other;"
            " name two files"
        )


def _remarks(said: Prediction, others: int) -> list[str]:
    files = "1 file whose name is" if others == 1 else f"{others} files whose names are"
    passed_over = [f"{files} not of a picture passed over"] if others else []
    return [*said.unreadable.values(), *passed_over]
