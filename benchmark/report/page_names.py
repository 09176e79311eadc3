"""Short names of rows, for tables whose rows are one line high. The long one is the heading."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from benchmark.report.headings import differences
from benchmark.report.short_names import cut
from benchmark.report.variants import MethodVariant

LONGEST = 30  # characters; a longer name gets a number instead of its differences
TITLE = 24  # characters of a title, which two lines of a phone hold with a number behind it


def short_names(variants: Iterable[MethodVariant]) -> dict[MethodVariant, str]:
    """Title alone where it is the only one; else with what tells it from rows of its title. A title
    too long is cut.
    """
    parts = differences(variants)
    by_title: dict[str, list[MethodVariant]] = defaultdict(list)
    for variant in parts:
        by_title[cut(variant.title, TITLE, "")].append(variant)
    return {
        variant: name
        for title, rows in by_title.items()
        for variant, name in zip(rows, _names(title, [parts[row] for row in rows]), strict=True)
    }


def _names(title: str, parts: Sequence[Sequence[str]]) -> list[str]:
    """Of rows with one title, each given by the parts of its heading: without what most of them
    have, or at least without what all of them have.
    """
    held = Counter(part for own in parts for part in set(own))
    for most in (len(parts) // 2, len(parts) - 1):
        told = [[part for part in own if held[part] <= most] for own in parts]
        names = [", ".join([title, *own]) for own in told]
        if len(set(names)) == len(names):
            return [
                name if len(name) <= LONGEST else f"{title} #{number}"
                for number, name in enumerate(names, 1)
            ]
    return [f"{title} #{number}" for number, _ in enumerate(parts, 1)]
