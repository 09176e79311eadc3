"""Datasets: TOML specs, one reader per kind of source, preparation, and few-shot sampling.

In: a dataset's name or the path of a TOML. Out: `load(name)` gives a `Dataset` of three
`ImageTable`s, whose pictures are decoded when they are opened. Uses `tiny` and `records` only.
Importing this package costs no torch, numpy, Pillow or hub library.
"""

from benchmark.data.catalog import names, suites
from benchmark.data.image_table import Dataset, ImageTable
from benchmark.data.reading import digest, load, prepared, train_labels
from benchmark.data.specs import Spec, read_spec

__all__ = [
    "Dataset",
    "ImageTable",
    "Spec",
    "digest",
    "load",
    "names",
    "prepared",
    "read_spec",
    "suites",
    "train_labels",
]
