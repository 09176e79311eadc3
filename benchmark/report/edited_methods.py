"""Rows of methods from elsewhere whose file has been edited since: their records stay, and a note
says so. Files are read and none is run, so records of anybody may be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.errors import UserError
from benchmark.methods.code import code_digest
from benchmark.paths import require_regular
from benchmark.report.grouping import GroupedRecords
from benchmark.report.headings import headings
from benchmark.report.variants import MethodVariant, VariantRecords

Present = Mapping[str, tuple[str, str]]  # method -> its file, and the digest of the code there now


def with_edited_files(groups: GroupedRecords, files: Mapping[str, Path]) -> GroupedRecords:
    """The same groups, where rows name the file of their method if it has other code now.

    `files` are those of methods that somebody named; others are looked for in the working folder.
    """
    rows = {variant for variants in groups.values() for variant in variants if variant.code}
    found = {name: _present(name, files.get(name)) for name in {row.method for row in rows}}
    present = {name: state for name, state in found.items() if state}
    return {
        setting: {_marked(variant, present): datasets for variant, datasets in variants.items()}
        for setting, variants in groups.items()
    }


def _present(method: str, file: Path | None) -> tuple[str, str] | None:
    """The file of a method and the digest of its code; None where it is not here."""
    parts = method.split(".")
    if not all(part.isidentifier() for part in parts):  # a name of anybody's records
        return None
    place = file or Path(*parts).with_suffix(".py")
    try:
        require_regular(place)
        return str(place), code_digest(place, "" if file else method)
    except (UserError, OSError, ValueError, RecursionError, MemoryError):  # it holds anything
        return None


def _marked(variant: MethodVariant, present: Present) -> MethodVariant:
    file, code = present.get(variant.method, ("", ""))
    edited = variant.code and code and variant.code != code
    return replace(variant, edited_file=file) if edited else variant


def notes_of_edited(
    variants: VariantRecords, rows: Sequence[MethodVariant] | None = None
) -> tuple[str, ...]:
    """A sentence for every row, or every one of `rows`, whose method has other code now."""
    heading_of = headings(variants)
    return tuple(
        f"{heading_of[variant]}: made by other code than {variant.edited_file} holds now"
        for variant in (variants if rows is None else rows)
        if variant.edited_file
    )
