"""From a spec to a dataset: one reader per kind of source, and the promises each dataset must keep."""

from __future__ import annotations

from pathlib import Path

from benchmark.data import coop
from benchmark.data.pictures import Drawn
from benchmark.data.specs import Folder, Generated, Spec, spec
from benchmark.data.tables import Dataset, Table
from benchmark.errors import MISSING, UserError
from benchmark.paths import data_dir

SPLITS = ("train", "val", "test")


def load(name: str, root: Path | None = None) -> Dataset:
    """A dataset by name, or by the path of a TOML; `root` is the data root, paths.data_dir() where it is None.

    Raises UserError for an unknown name, a spec with mistakes, data that is missing (exit code 4) and data that is not
    what the spec promises: another split file, renamed images, other counts.
    """
    promise = spec(name)
    tables = _tables(promise, root)
    _check_counts(promise, tables)
    return Dataset(promise.name, promise.class_names, promise.templates, promise.digest, *tables)


def prepared(name: str, root: Path | None = None) -> bool:
    """Whether the data of a dataset seem to be there: a glance, no count and no checksum."""
    promise = spec(name)
    match promise.source:
        case Generated():
            return True
        case Folder() as source:
            return coop.present(folder(promise, source.folder, root), source)


def folder(promise: Spec, below: str, root: Path | None) -> Path:
    """The dataset's folder: below the data root, or below the TOML's own folder where the TOML is not a shipped one."""
    return (promise.file.parent if promise.file else root or data_dir()) / below


def _tables(promise: Spec, root: Path | None) -> tuple[Table, Table, Table]:
    match promise.source:
        case Generated() as source:
            return _drawn(promise.class_names, source)
        case Folder() as source:
            return coop.read(promise, source, folder(promise, source.folder, root))


def _drawn(class_names: tuple[str, ...], source: Generated) -> tuple[Table, Table, Table]:
    pictures = Drawn(source)

    def table(split: str) -> Table:
        size = getattr(source.per_class, split)
        keys = tuple(f"{split}/{name}/{index}" for name in class_names for index in range(size))
        return Table(keys, tuple(label for label in range(len(class_names)) for _ in range(size)), pictures)

    return table("train"), table("val"), table("test")


def _check_counts(promise: Spec, tables: tuple[Table, Table, Table]) -> None:
    found = tuple(len(table) for table in tables)
    expected = (promise.counts.train, promise.counts.val, promise.counts.test)
    if found != expected:
        raise UserError(
            f"{promise.name} has {_listed(found)} images, but {_listed(expected)} are promised; prepare the dataset again",
            exit_code=MISSING,
        )


def _listed(counts: tuple[int, ...]) -> str:
    return " / ".join(f"{count} {split}" for count, split in zip(counts, SPLITS, strict=True))
