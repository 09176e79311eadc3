"""The TOML of a user's own pictures, written from what a folder holds, and what was seen."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.data import catalog, proposals, verification
from benchmark.data.duplicates import duplicates
from benchmark.data.image_rows import SPLITS, ImageRows
from benchmark.data.layouts import Draft
from benchmark.data.leftovers import leftovers
from benchmark.data.locations import dataset_location
from benchmark.data.reading import read_rows
from benchmark.data.specs import Spec, spec_of
from benchmark.errors import MISSING, UserError
from benchmark.toml_text import toml_value, unwritable_line

DECODED = 1000  # pictures that are decoded, evenly spaced, unless all are asked for
MOST_SHOTS = 16  # that the field asks for
LICENCE = "not stated; whoever publishes numbers should know it"


@dataclass(frozen=True)
class Survey:
    """The text of a TOML and what was seen of the pictures it describes."""

    text: str
    spec: Spec
    counts: Mapping[str, list[int]]  # split -> pictures of every class
    remarks: tuple[str, ...]


def survey(draft: Draft, folder: Path, file: Path, domain: str, *, every: bool = False) -> Survey:
    """The TOML `file` for `folder`, read back and tried; nothing is written.

    `every` decodes all pictures instead of a thousand.
    """
    text = toml_text(draft, folder, file, domain)
    _require_unicode(text, folder)
    spec = spec_of(text, file)
    location = dataset_location(spec)
    rows = read_rows(spec, location)
    remarks = [
        *draft.notes,
        *rows.problems,
        *_short(spec, rows),
        *duplicates(rows).sentences(),
        *_within(rows),
        *_undecoded(rows, every=every),
        *leftovers(spec, rows, location),
    ]
    counts = {split: _per_class(spec, rows, split) for split in SPLITS}
    shown = [remark.replace(str(location.own), str(folder)) for remark in remarks]
    return Survey(text, spec, counts, tuple(shown))


def _require_unicode(text: str, folder: Path) -> None:
    """UserError for a name that no TOML can hold."""
    if bad := unwritable_line(text):
        raise UserError(
            f"a name in {folder} is not UTF-8, which a TOML is: {bad}; rename that folder"
        )


def _per_class(spec: Spec, rows: ImageRows, split: str) -> list[int]:
    counts = Counter(label for _, label in rows.by_split[split])
    return [counts[label] for label in range(len(spec.class_names))]


def _short(spec: Spec, rows: ImageRows) -> Iterator[str]:
    """The smallest class to learn from says how many shots there can be."""
    counts = _per_class(spec, rows, "train")
    fewest = min(counts)
    few = [name for name, count in zip(spec.class_names, counts, strict=True) if count == fewest]
    if fewest < MOST_SHOTS:
        yield (
            f"the fewest pictures to learn from are {fewest}, of {proposals.listed(few)}: take"
            f" --shots up to {fewest}, or --sampler coop-short"
        )


def _within(rows: ImageRows) -> Iterator[str]:
    """Equal pictures within one split."""
    for split in SPLITS:
        keys = [key for key, _ in rows.by_split[split]]
        spare = len(keys) - len({rows.contents[key] for key in keys})
        if spare:
            yield f"pictures of {split} that are there once more, byte for byte: {spare}"


def _undecoded(rows: ImageRows, *, every: bool) -> Iterator[str]:
    keys = rows.keys()
    count = len(keys) if every else min(DECODED, len(keys))
    images = list(verification.examined(rows, [keys[i * len(keys) // count] for i in range(count)]))
    fault = verification.faults(images)
    if fault and all(each.fault for each in images):
        raise UserError(f"{fault}; nothing is written", exit_code=MISSING)
    yield from filter(None, [fault])
    yield from verification.remarks(images, rows.pictures.exif)
    if count < len(keys):
        yield f"{count:,} of {len(keys):,} pictures were decoded; --verify decodes all of them"


# --- the file


def place_for(folder: Path, out: Path | None) -> Path:
    """Where the TOML goes: beside the folder under its name, unless said otherwise. UserError where
    a file is there already.
    """
    stem = re.sub(r"[^\w.-]+", "_", folder.absolute().name).strip("._") or "pictures"
    stem = f"my_{stem}" if stem in catalog.names() else stem
    file = out or folder.absolute().parent / f"{stem}.toml"
    if file.suffix != ".toml":
        raise UserError(f"--output takes a file that ends with .toml, not {file.name}")
    if not file.absolute().parent.is_dir():
        raise UserError(f"there is no folder {file.parent} for --output {file.name}; make it first")
    if file.exists():
        raise UserError(
            f"{file} is there already and is not written over; name another as --output"
        )
    return file


def toml_text(draft: Draft, folder: Path, file: Path, domain: str) -> str:
    """The TOML: a comment for what was guessed, and all that `prepare` and `run` need."""
    guessed = domain or proposals.domain_of(folder.absolute().name, draft.class_names)
    proposed = proposals.template_for(guessed)
    templates = [proposed if domain else proposals.PLAIN]
    better = [] if domain or proposed == proposals.PLAIN else [
        f"# perhaps better for {guessed}: templates = {toml_value([proposed])}"
    ]  # fmt: skip
    beside = os.path.relpath(folder.absolute(), file.absolute().parent)
    source = {"kind": draft.source["kind"], "folder": Path(beside).as_posix(), **draft.source}
    lines = [
        f"# {draft.layout}; written by init-dataset, yours to edit",
        f"title = {toml_value(folder.absolute().name)}",
        f"domain = {toml_value(guessed or 'pictures')}",
        f"licence = {toml_value(LICENCE)}",
        f"templates = {toml_value(templates)}",
        *better,
        "# in label order; underscores are read as spaces",
        f"class_names = {toml_value(draft.class_names)}",
        "",
        "[source]",
        *(f"{key} = {toml_value(value)}" for key, value in source.items()),
    ]
    return "\n".join(lines) + "\n"


def write_new(file: Path, text: str) -> None:
    """Write a file that is not there yet; UserError where it is, or cannot be written."""
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise UserError(f"{file} is there already and is not written over") from error
    except OSError as error:
        raise UserError(
            f"{file} cannot be written ({error.strerror}); name another place as --output"
        ) from error
