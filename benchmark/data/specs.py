"""Dataset specs: the checked contents of a TOML, and the digest that names them."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections import Counter
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from posixpath import normpath
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from benchmark.data import catalog
from benchmark.data.sources import (
    STRICT,
    ClassFolders,
    CoopFolder,
    Generated,
    Part,
    Source,
    SplitSizes,
    Texts,
    possible,
    stays_below,
)
from benchmark.errors import UserError, nearest
from benchmark.records.record import Name

# Keys that change no picture, label or prompt. Where the files lie and how they are fetched is
# among them: what is read is checked against the keys that remain.
COSMETIC: dict[str, Any] = {
    "title": True,
    "domain": True,
    "licence": True,
    "licence_seen": True,
    "registration": True,
    "parts": True,
    "file": True,
    "source": {"folder", "sample_sha256", "content_sha256"},
}
MAX_GENERATED = 1_000_000  # pictures of a generator, whose list is held in memory


class Spec(BaseModel):
    """One dataset: names, prompts, expected sizes, how it is read and where it can be fetched."""

    model_config = STRICT
    name: Name
    title: str
    domain: str
    templates: Texts
    class_names: Texts  # in label order; need not be unique
    licence: str
    licence_seen: str = ""  # where the licence was read, and how sure that is
    registration: bool = False  # whether its owner asks for an account
    protocol: str = "coop"  # names rules of splitting and ordering that are not CoOp's
    counts: SplitSizes | None = None  # None only for people's own data
    parent: str | None = None  # the dataset whose labels these are
    parent_labels: Annotated[tuple[int, ...], Field(strict=False)] = ()  # label here -> label there
    source: Source
    parts: Annotated[tuple[Part, ...], Field(strict=False)] = ()
    file: Path | None = None  # where the TOML lies, for one that is not shipped

    @field_validator("templates")
    @classmethod
    def _have_one_slot(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count("{") != 1 or template.count("}") != 1 or "{}" not in template:
                raise ValueError(f"'{template}' needs exactly one {{}} for the class name")
        return templates

    @model_validator(mode="after")
    def _lengths_fit(self) -> Spec:
        classes = len(self.class_names)
        if isinstance(self.source, Generated):
            sizes = {split: per_class * classes for split, per_class in self.source.per_class}
            fit = self.counts is not None and sizes == dict(self.counts)
            if not fit or sum(sizes.values()) > MAX_GENERATED:
                raise ValueError(
                    f"counts are not source.per_class times {classes} classes, "
                    f"at most {MAX_GENERATED} in all"
                )
        if isinstance(self.source, ClassFolders) and len(self.folders) != classes:
            raise ValueError(
                f"source.class_folders has {len(self.folders)} entries for {classes} class names"
            )
        self._check_labels_are_apart()
        label_names: tuple[str, ...] = getattr(self.source, "label_names", ())
        if label_names and len(label_names) != classes:
            raise ValueError(
                f"source.label_names has {len(label_names)} entries for {classes} class names"
            )
        return self

    def _check_labels_are_apart(self) -> None:
        """Raises ValueError where two labels would mean the same images.

        A name may stand for two classes, as "missile" does in ImageNet, which then need folders or
        numbers of their own.
        """
        listed = isinstance(self.source, CoopFolder) and self.source.lists
        by_name = bool(listed) or isinstance(self.source, Generated)
        by_folder = isinstance(self.source, ClassFolders)
        places = [normpath(name) for name in self.folders] if by_folder else self.class_names
        repeated = [place for place, count in Counter(places).items() if count > 1]
        if repeated and (by_name or by_folder):
            labels = [str(label) for label, place in enumerate(places) if place == repeated[0]]
            own = "a folder of its own with source.class_folders" if by_folder else "its own name"
            raise ValueError(
                f"the labels {', '.join(labels)} mean the same images, '{repeated[0]}'; "
                f"give each class {own}"
            )

    @model_validator(mode="after")
    def _folders_are_its_own(self) -> Spec:
        """A stranger's TOML must not choose where fetched files are written.

        Files that are only read may lie anywhere.
        """
        folder: str = getattr(self.source, "folder", ".")
        if not possible(folder) or (self.parts and not stays_below(folder)):
            raise ValueError(
                f"source.folder '{folder[:60]}' is not below the TOML, "
                f"where alone 'parts' may be fetched to"
            )
        named = self.folders if isinstance(self.source, ClassFolders) else ()
        outside = [name for name in named if not stays_below(name)]
        if outside:
            raise ValueError(
                f"class '{outside[0][:60]}' cannot be the name of a folder; "
                f"give source.class_folders"
            )
        return self

    @property
    def key(self) -> str:
        """Names this dataset among files of ours: two people's "pets.toml" are not the same."""
        if not self.file:
            return self.name
        return f"{self.name}-{hashlib.sha256(str(self.file).encode()).hexdigest()[:8]}"

    @property
    def named_by_content(self) -> bool:
        """Whether every picture is part of the dataset's digest, because nobody else has named
        these pictures: those of any TOML that is not shipped.
        """
        return self.file is not None and not isinstance(self.source, Generated)

    @property
    def own(self) -> bool:
        """Whether these are a user's own pictures, which may change: nothing of them is fetched."""
        return self.named_by_content and not self.parts

    @property
    def folders(self) -> tuple[str, ...]:
        """The folder of every class, in label order, for a source that is one folder per class."""
        named: tuple[str, ...] | str = getattr(self.source, "class_folders", "names")
        if isinstance(named, tuple):
            return named
        return (
            tuple(str(label) for label in range(len(self.class_names)))
            if named == "index"
            else self.class_names
        )

    @cached_property
    def digest(self) -> str:
        """sha256 over everything here that can change a number; a default written out changes
        nothing.
        """
        facts: dict[str, Any] = self.model_dump(
            mode="json", exclude=COSMETIC, exclude_defaults=True
        )
        if isinstance(self.source, Generated):
            facts["generator_version"] = generator(self.source).VERSION
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def read_spec(name: str) -> Spec:
    """The spec of a shipped dataset, or of any TOML on disk where `name` is a path ending in .toml.

    Raises UserError naming the file and the key for an unknown key or a wrong type, and the nearest
    name for an unknown name.
    """
    if not name.endswith(".toml"):
        return _shipped(name)
    values = catalog.parse(catalog.find(name))
    file = Path(name).resolve()
    return _checked(file.name, {"name": file.stem, "file": file, **values})


def spec_of(text: str, file: Path) -> Spec:
    """The spec that a TOML with this text would be; UserError for mistakes in it."""
    file = file.resolve()
    return _checked(file.name, {"name": file.stem, "file": file, **tomllib.loads(text)})


def generator(source: Generated) -> Any:
    """The module that draws a generated dataset: `VERSION` and `image(class_name, split, index,
    seed)`.
    """
    try:
        module = import_module(f"benchmark.tiny.{source.generator}")
    except ModuleNotFoundError:
        module = None
    if not hasattr(module, "image"):
        raise UserError(
            f"there is no generator '{source.generator}' in benchmark.tiny; "
            f"correct source.generator"
        )
    return module


@cache
def _shipped(name: str) -> Spec:
    return _checked(
        f"datasets_cfg/{name}.toml", {"name": name, **catalog.parse(catalog.find(name))}
    )


def _checked(file: str, values: dict[str, Any]) -> Spec:
    try:
        return Spec.model_validate(_with_parent(file, values))
    except ValidationError as error:
        raise UserError(f"{file}: {_sentence(error)}") from error


def _with_parent(file: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values with class names and labels of the parent dataset, where the TOML leaves them out.

    A list of class folders is looked up among the parent's: for ImageNet and its offspring these
    are WordNet ids, so a 200-class subset needs no table of label numbers that nobody can check by
    eye.
    """
    name, source = values.get("parent"), values.get("source", {})
    if not isinstance(name, str) or not isinstance(source, dict):
        return values
    if "class_names" in values:
        return values | _labels_by_name(file, values)
    parent, source = _shipped(name), dict(source)  # not just any file, which could name itself
    folders = source.get("class_folders", "parent")
    if folders == "parent":
        source["class_folders"] = list(parent.folders)
    if isinstance(folders, str):
        folders = list(parent.folders)
    if not isinstance(folders, list) or not all(isinstance(each, str) for each in folders):
        return values  # which the checks of the values will refuse
    labels = _parent_labels(file, folders, parent)
    names = [parent.class_names[label] for label in labels]
    return values | {"source": source, "class_names": names, "parent_labels": labels}


def _labels_by_name(file: str, values: dict[str, Any]) -> dict[str, Any]:
    """The labels of a generated dataset's class names in its parent, where they are not given."""
    names = values["class_names"]
    generated = values["source"].get("kind") == "generated"
    if not generated or "parent_labels" in values or not isinstance(names, list):
        return {}
    parent = _shipped(values["parent"])
    unknown = [name for name in names if name not in parent.class_names]
    if unknown:
        raise UserError(
            f"{file}: key 'class_names' names '{str(unknown[0])[:60]}', "
            f"which {parent.name} does not have"
        )
    return {"parent_labels": [parent.class_names.index(name) for name in names]}


def _parent_labels(file: str, folders: list[str], parent: Spec) -> list[int]:
    unknown = sorted(set(folders) - set(parent.folders))
    if unknown:
        raise UserError(
            f"{file}: key 'source.class_folders' names {unknown[0]}, "
            f"which {parent.name} does not have"
        )
    label_of = {folder: label for label, folder in enumerate(parent.folders)}
    return [label_of[folder] for folder in folders]


def _sentence(error: ValidationError) -> str:
    """The first error, in words that name the key."""
    first = error.errors()[0]
    key = _key_of(first["loc"])
    match first["type"]:
        case "extra_forbidden":
            return f"unknown key '{key}'; {nearest(key, tuple(Spec.model_fields))}"
        case "missing":
            return f"key '{key}' is missing"
        case "union_tag_invalid":
            kind, kinds = first["input"].get("kind"), first["ctx"]["expected_tags"]
            return f"source.kind is {kind!r}, but the kinds are {kinds}"
        case "union_tag_not_found":
            return "key 'source.kind' is missing"
        case "value_error" if not isinstance(first["input"], str):
            return str(first["ctx"]["error"])  # about several keys, which the message names
    message = first["msg"].removeprefix("Value error, ")
    return f"key '{key}': {message}, found {_short(first['input'])}"


def _key_of(location: tuple[int | str, ...]) -> str:
    """A key as it stands in the TOML: pydantic puts the kind of a source into its path."""
    path = [str(part) for part in location]
    kinds = {"generated", "folder", "image_folder", "table"}
    if len(path) > 1 and path[0] == "source" and path[1] in kinds:
        del path[1]
    return ".".join(path) or "the file"


def _short(value: Any) -> str:
    # Python refuses to write such a number out.
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a number of {value.bit_length()} bits"
    return f"{str(value)[:60]!r}"
