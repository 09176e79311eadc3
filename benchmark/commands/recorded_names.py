"""Datasets and backbones as records name them, however they were given."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

from benchmark import data
from benchmark.backbones import weights
from benchmark.errors import UserError


@cache
def dataset_name(given: str) -> str:
    """The name of a dataset, which its file says; UserError for an unknown one."""
    return data.read_spec(given).name


@cache
def backbone_name(given: str) -> str:
    """The name of a backbone; a file of weights that is not here keeps its own."""
    name = weights.canonical(given)
    with suppress(UserError):
        return weights.recorded(name)
    return name
