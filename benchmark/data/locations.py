"""Where a dataset lies: below the data root, beside its own TOML, or in an adopted folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.data.sources import possible
from benchmark.data.specs import Spec
from benchmark.errors import MISSING, UserError
from benchmark.paths import data_dir, write_atomic

NOTES = ".fsbench"  # folder below the data root: receipts, locks, unfinished downloads


@dataclass(frozen=True)
class Receipt:
    """What preparation recorded of a dataset; later readings are compared with it."""

    adopted: str | None = None  # the folder of a dataset that was adopted where it lay
    listing: str | None = None  # digest of keys and labels
    sample: str | None = None  # digest of 32 images
    content: str | None = None  # digest of all images, where they are a user's own
    broken: str | None = None  # why the last verification failed
    licence: str | None = None  # as it was accepted

    def text(self) -> str:
        """The receipt as JSON."""
        return json.dumps(asdict(self), indent=1)


@dataclass(frozen=True)
class DatasetLocation:
    """The folders a dataset may lie in, an adopted one first, and its receipt."""

    own: Path  # below the data root, or where the TOML says: the only one ever written to
    receipt: Receipt

    @property
    def folders(self) -> tuple[Path, ...]:
        return (Path(self.receipt.adopted), self.own) if self.receipt.adopted else (self.own,)

    def has(self, relative: str) -> bool:
        """Whether one of the folders has a path, or something that fits a pattern with '*'."""
        return any(there(folder, relative) for folder in self.folders)

    def holding(self, relative: str) -> Path:
        """The folder that has `relative`, else our own."""
        return next((folder for folder in self.folders if (folder / relative).exists()), self.own)

    def find(self, relative: str) -> Path:
        """`relative` in the folder that has it, else in our own."""
        return self.holding(relative) / relative


def there(folder: Path, path: str) -> bool:
    """Whether a path, or something that fits a pattern with '*', is below a folder."""
    return any(folder.glob(path)) if "*" in path else (folder / path).exists()


def dataset_location(spec: Spec, root: Path | None = None) -> DatasetLocation:
    """Where a dataset lies or would lie.

    The folder of a shipped dataset is relative to the data root, that of any other to its TOML.
    """
    base = spec.file.parent if spec.file else root or data_dir()
    folder: str = getattr(spec.source, "folder", ".")
    return DatasetLocation(base / folder, read_receipt(spec, root))


def read_receipt(spec: Spec, root: Path | None = None) -> Receipt:
    """The receipt of a dataset; an empty one where it was never prepared."""
    file = receipt_file(spec, root)
    if not file.is_file():
        return Receipt()
    try:
        receipt = Receipt(**json.loads(file.read_bytes()))
        _check_texts(receipt)
        return receipt
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{file} cannot be read ({error}); delete it and prepare {spec.name} again",
            exit_code=MISSING,
        ) from error


def _check_texts(receipt: Receipt) -> None:
    for name, value in asdict(receipt).items():
        if value is None:
            continue
        if not isinstance(value, str) or (name == "adopted" and not possible(value)):
            raise ValueError(f"'{name}' is not what was written down")


def write_receipt(spec: Spec, receipt: Receipt, root: Path | None = None) -> None:
    """Keep a receipt. Raises UserError where the data root cannot be written."""
    write_atomic(receipt_file(spec, root), receipt.text().encode())


def receipt_file(spec: Spec, root: Path | None = None) -> Path:
    """Where a receipt is kept."""
    return (root or data_dir()) / NOTES / f"{spec.key}.json"
