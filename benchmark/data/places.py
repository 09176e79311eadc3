"""Where a dataset lies: below the data root, beside its own TOML, or in a folder its owner already had."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.data.specs import Spec
from benchmark.errors import MISSING, UserError
from benchmark.paths import data_dir, write_atomic

NOTES = ".fsbench"  # folder below the data root: receipts, locks, unfinished downloads


@dataclass(frozen=True)
class Receipt:
    """What `prepare` found and wrote down: later readings are held against it."""

    adopted: str | None = None  # the folder of a dataset that was adopted where it lay
    listing: str | None = None  # digest of keys and labels
    sample: str | None = None  # digest of 32 images
    broken: str | None = None  # what the last verification found wrong

    def text(self) -> str:
        return json.dumps(asdict(self), indent=1)

    licence: str | None = None  # as it was accepted


@dataclass(frozen=True)
class Place:
    """The folders a dataset may lie in, the first before the second, and the receipt of its preparation."""

    folders: tuple[Path, ...]
    receipt: Receipt

    def find(self, relative: str) -> Path:
        """The path itself where it exists in one of the folders, else where it ought to be."""
        return next((path for folder in self.folders if (path := folder / relative).exists()), self.folders[0] / relative)

    def holding(self, relative: str) -> Path:
        """The folder that has `relative`, else the one that ought to."""
        return next((folder for folder in self.folders if (folder / relative).exists()), self.folders[0])


def place(promise: Spec, root: Path | None = None) -> Place:
    """Where a dataset lies or would lie. A TOML that is not shipped counts its folder from where it lies itself."""
    receipt = read_receipt(promise, root)
    below: str = getattr(promise.source, "folder", ".")
    own = (promise.file.parent if promise.file else root or data_dir()) / below
    return Place((own, Path(receipt.adopted)) if receipt.adopted else (own,), receipt)


def read_receipt(promise: Spec, root: Path | None = None) -> Receipt:
    """The receipt of a dataset; an empty one where it was never prepared."""
    file = receipt_file(promise, root)
    if not file.is_file():
        return Receipt()
    try:
        return Receipt(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({error}); delete it and prepare {promise.name} again", exit_code=MISSING) from error


def write_receipt(promise: Spec, receipt: Receipt, root: Path | None = None) -> None:
    """Keep a receipt. Raises UserError where the data root cannot be written."""
    write_atomic(receipt_file(promise, root), receipt.text().encode())


def receipt_file(promise: Spec, root: Path | None = None) -> Path:
    """Where a receipt is kept."""
    return (root or data_dir()) / NOTES / f"{promise.key}.json"
