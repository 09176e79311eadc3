"""What a shell offers for the values of options. Imports little, and that only when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmark.protocols import PROTOCOLS

Complete = Callable[[str], list[str]]


def _of_list(known: Callable[[], Iterable[str]]) -> Complete:
    """Completes the last name of a list with commas."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [
            f"{before}{comma}{name}"
            for name in known()
            if name.startswith(last) and name not in taken
        ]

    return complete


def _one_of(known: Callable[[], Iterable[str]]) -> Complete:
    """Completes a word of those known."""
    return lambda incomplete: [word for word in known() if word.startswith(incomplete)]


def _methods() -> list[str]:
    from benchmark import methods

    return methods.names()


def _datasets() -> Iterable[str]:
    from benchmark import data

    return data.names()


def _suites() -> Iterable[str]:
    from benchmark import data

    return data.suites()


def _backbones() -> Iterable[str]:
    from benchmark.backbones import weights

    return weights.NAMED


def _of_grid(name: str) -> Complete:
    """The words of a constant of benchmark/grid.py."""

    def known() -> Iterable[str]:
        from benchmark import grid

        words: tuple[str, ...] = getattr(grid, name)
        return words

    return _one_of(known)


def _precisions() -> Iterable[str]:
    from benchmark.backbones.precision import AUTO, PRECISIONS

    return (AUTO, *PRECISIONS)


def _presets() -> Iterable[str]:
    from benchmark.presets import PRESETS

    return PRESETS


lists = _one_of(lambda: ("methods", "datasets", "suites", "backbones"))
protocols, presets = _one_of(lambda: PROTOCOLS), _one_of(_presets)
precisions, executors = _one_of(_precisions), _one_of(lambda: ("serial", "ray"))
val_policies, samplers = _of_grid("VAL_POLICIES"), _of_grid("SAMPLERS")
classes = _of_grid("CLASSES")
methods, datasets = _of_list(_methods), _of_list(_datasets)
suites, backbones = _of_list(_suites), _of_list(_backbones)


def settings(incomplete: str) -> list[str]:
    """METHOD., and after it the hyper-parameters of the method."""
    from benchmark.methods import card

    method, dot, key = incomplete.rpartition(".")
    if not dot:
        return [f"{name}." for name in methods(incomplete)]
    if method not in _methods():
        return []
    return [f"{method}.{name}=" for name in card(method).defaults if name.startswith(key)]


def names_of(what: str, incomplete: str) -> list[str]:
    """The names that `list WHAT` has."""
    known = {"methods": methods, "datasets": datasets, "suites": suites, "backbones": backbones}
    return known[what](incomplete) if what in known else []
