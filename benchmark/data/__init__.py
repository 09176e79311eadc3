"""Datasets as data: a TOML in datasets_cfg/ says what a dataset is, and one reader per kind of
source knows how to read it.

`load(name)` gives a `Dataset` of three `ImageTable`s. Importing this package costs no torch, numpy,
Pillow or hub library.
"""

from benchmark.data.catalog import names, suites
from benchmark.data.image_table import Dataset, ImageTable
from benchmark.data.reading import digest, load, prepared
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
]
