"""Text sets: the sentences that describe each class, the same for every method of a comparison.

The usual ones are a dataset's own templates, filled with its class names ("hand"). Any other set is
a table class name -> sentences, shipped (datasets_cfg/texts/) or a JSON or TOML file of one's own:
CuPL's JSON is one (Pratt et al., ICCV 2023). A file for several datasets has a table for each under
its name. "hand+NAME" gives a class the filled templates first and the sentences of NAME after them.

In records a set has the name of its file and a digest of its contents, whatever their layout. Class
names are matched exactly, or with their underscores read as spaces. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, nearest
from benchmark.paths import require_regular
from benchmark.toml_text import is_text

HAND = "hand"
JOINED = f"{HAND}+"
FILES = (".json", ".toml")
MOST_BYTES = 256 << 20  # of a file: CuPL's for ImageNet has 3 MB
MOST_NAMED = 5  # classes without a sentence
MOST_NAME = 100  # characters of a file's name

Sentences = Mapping[str, tuple[str, ...]]  # by class name


@dataclass(frozen=True)
class TextSet:
    """Sentences by class name, for any dataset or for each by its name."""

    name: str  # as records say it, "hand+" included
    digest: str
    by_dataset: Mapping[str, Sentences]  # "" stands for any dataset

    @property
    def with_templates(self) -> bool:
        """Whether the filled templates come before these sentences."""
        return self.name.startswith(JOINED)

    def of(
        self, datasets: Sequence[str], class_names: Sequence[str]
    ) -> tuple[tuple[str, ...], ...]:
        """The sentences of every class, from the table of the first of `datasets` that has one.

        Raises UserError, which names them, for classes without a sentence.
        """
        table = next((self.by_dataset[name] for name in datasets if name in self.by_dataset), None)
        table = self.by_dataset.get("") if table is None else table
        if table is None:
            raise UserError(
                f"the texts '{self.name}' have no table for {datasets[0]}, only for "
                f"{', '.join(self.by_dataset)}; add [{datasets[0]}]"
            )
        found = [table.get(name) or table.get(name.replace("_", " ")) for name in class_names]
        lacking = [name for name, texts in zip(class_names, found, strict=True) if not texts]
        if lacking:
            raise UserError(_lacking(self.name, datasets[0], lacking, len(class_names)))
        return tuple(texts for texts in found if texts)


def _lacking(texts: str, dataset: str, names: Sequence[str], classes: int) -> str:
    named = ", ".join(f"'{name}'" for name in names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (
        f"the texts '{texts}' have no sentence for {len(names)} of {classes} classes of {dataset}: "
        f"{named}{more}; add some under exactly these names"
    )


def shipped() -> tuple[str, ...]:
    """Names of the text sets that come with the suite; all are of our own making."""
    return tuple(sorted(Path(file.name).stem for file in _folder().iterdir()))


def reference(given: str) -> str:
    """What a cell holds for a value of --texts: "" for the usual texts, a file by its whole path.

    Raises UserError for a name that is not known.
    """
    if given in ("", HAND):
        return ""
    joined, name = _parts(given)
    if name.endswith(FILES):
        return f"{joined}{_whole_path(name)}"
    if name not in shipped():
        raise UserError(
            f"--texts takes {HAND}, {', '.join(shipped())}, or a JSON or TOML file, not "
            f"'{name[:60]}'; {nearest(name, [HAND, *shipped()])}"
        )
    return given


def read(given: str) -> TextSet:
    """The text set of a reference; UserError where it is not there or no such table."""
    _, name = _parts(given)
    if not short(given).isprintable() or len(short(given)) > MOST_NAME:
        raise UserError(
            f"the name of the texts {name[-60:]} is too long for a table, or not printable; "
            "rename the file"
        )
    file: Traversable = Path(name) if name.endswith(FILES) else _folder() / f"{name}.toml"
    by_dataset = _tables(name, _contents(name, file))
    plain = {dataset: dict(table) for dataset, table in by_dataset.items()}
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return TextSet(short(given), digest, by_dataset)


def named(given: str) -> tuple[str, str]:
    """Name and digest of a text set, as they stand in records."""
    texts = read(given)
    return texts.name, texts.digest


def require_shipped(name: str) -> None:
    """UserError for the texts of a record that a file would have to be read for: a record leads to
    no file of its reader's.
    """
    if name and _parts(name)[1] not in shipped():
        raise UserError(
            f"the texts '{name[:60]}' of this record came from a file, which it does not name; run "
            "its cell with --texts FILE instead"
        )


def short(given: str) -> str:
    """The name of a reference, without the folder of a file."""
    joined, name = _parts(given)
    return f"{joined}{Path(name).stem if name.endswith(FILES) else name}"


def _parts(given: str) -> tuple[str, str]:
    """("hand+" or "", the rest)."""
    joined = JOINED if given.startswith(JOINED) else ""
    return joined, given.removeprefix(joined)


def _whole_path(name: str) -> Path:
    try:
        return Path(name).resolve()
    except (OSError, ValueError):  # no name that a file may have
        raise _not_here(name) from None


def _not_here(name: str) -> UserError:
    return UserError(
        f"there are no texts '{name[-60:]}' here; give the JSON or TOML file they lie in, as "
        "--texts my_texts.json"
    )


def _contents(name: str, file: Traversable) -> Any:
    try:
        if isinstance(file, Path) and require_regular(file).st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MB")
        text = file.read_bytes().decode()
        return tomllib.loads(text) if file.name.endswith(".toml") else json.loads(text)
    except FileNotFoundError:
        raise _not_here(name) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"the texts {name[-60:]} cannot be read ({error}); correct them") from error


def _tables(name: str, contents: Any) -> dict[str, Sentences]:
    """The contents of a file as sentences by dataset and class."""
    if not isinstance(contents, dict) or not contents:
        raise _no_table(name, "it holds no table of class names")
    by_dataset = all(isinstance(each, dict) for each in contents.values())
    tables = contents if by_dataset else {"": contents}
    return {
        dataset: {each: _sentences(name, each, texts) for each, texts in table.items()}
        for dataset, table in tables.items()
    }


def _sentences(name: str, class_name: str, texts: Any) -> tuple[str, ...]:
    whole = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    if not whole or not all(text.strip() and is_text(text) for text in texts):
        raise _no_table(name, f"'{class_name[:60]}' has no list of sentences, or an empty one")
    return tuple(texts)


def _no_table(name: str, why: str) -> UserError:
    return UserError(
        f"{name[-60:]} is no text set: {why}; write class names with lists of sentences, as "
        '{"cat": ["a cat has whiskers.", "a small furry animal."]}'
    )


def _folder() -> Traversable:
    return resources.files("datasets_cfg") / "texts"
