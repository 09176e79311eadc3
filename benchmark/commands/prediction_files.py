"""Predictions as a table, and features as files."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import UserError

if TYPE_CHECKING:
    from benchmark.compute.loaded_adapters import Prediction

KINDS = (".safetensors", ".npz", ".parquet")  # of files of features
PLACES = 6  # of a probability


def in_unicode(path: str) -> str:
    """A path as files can hold it: a byte of its name that is not UTF-8 is written as \\xff."""
    return os.fsencode(path).decode(errors="backslashreplace")


def as_csv(said: Prediction, top: int = 1) -> str:
    """A row per picture: path, class, probability and label, then class_2, probability_2, ..."""
    labels, probabilities = (part.tolist() for part in said.most_probable(top))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ["", *(f"_{rank}" for rank in range(2, top + 1))]
    columns = [f"{name}{end}" for end in ends for name in ("class", "probability", "label")]
    writer.writerow(["path", *columns])
    for path, label_C, probability_C in zip(said.paths, labels, probabilities, strict=True):
        cells: list[str | int] = [in_unicode(path)]
        for label, probability in zip(label_C, probability_C, strict=True):
            cells += [said.class_names[label], f"{probability:.{PLACES}f}", label]
        writer.writerow(cells)
    return text.getvalue()


def require_kind(path: Path) -> None:
    """UserError where features cannot be written to such a file."""
    if path.suffix.lower() not in KINDS:
        raise UserError(
            f"--features writes {', '.join(KINDS)}, not '{path.name}'; give it one of these endings"
        )


def as_feature_file(said: Prediction, kind: str) -> bytes:
    """feature_ND and the paths, as a file of one of KINDS."""
    assert said.feature_ND is not None, "features were asked for"
    feature_ND, paths = said.feature_ND.contiguous(), list(map(in_unicode, said.paths))
    if kind == ".safetensors":
        from safetensors.torch import save

        return save({"feature_ND": feature_ND}, {"paths": json.dumps(paths)})
    packed = io.BytesIO()
    if kind == ".npz":
        import numpy as np

        np.savez(packed, feature_ND=feature_ND.numpy(), paths=np.array(paths, dtype=np.str_))
        return packed.getvalue()
    import pandas

    frame = pandas.DataFrame({"path": paths, "feature": list(feature_ND.numpy())})
    frame.to_parquet(packed, index=False)
    return packed.getvalue()
