"""What a dataset promises to be: the checked contents of its TOML, and the digest that names them."""

from __future__ import annotations

import hashlib
import json
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from benchmark.data import catalog
from benchmark.errors import UserError, nearest

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)
COSMETIC = {"title", "domain", "licence", "file"}  # keys that change no picture, label or prompt
Names = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]


class Counts(BaseModel):
    """Images per split: a promise that reading checks."""

    model_config = STRICT
    train: int = Field(ge=0)
    val: int = Field(ge=0)
    test: int = Field(ge=0)


class Generated(BaseModel):
    """Pictures drawn by benchmark.tiny.<generator> from a seed; the same number in every class."""

    model_config = STRICT
    kind: Literal["generated"]
    generator: str = Field(pattern=r"^[a-z_]+$")
    seed: int
    per_class: Counts


class SplitFile(BaseModel):
    """The list of images: file name below the dataset's folder, and its sha256 where one is known."""

    model_config = STRICT
    file: str
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class Folder(BaseModel):
    """A folder in CoOp's layout: `images` below `folder`, listed by a split file."""

    model_config = STRICT
    kind: Literal["folder"]
    folder: str
    images: str
    split: SplitFile


class Spec(BaseModel):
    """One dataset: names and prompts, the counts it promises, and how it is read."""

    model_config = STRICT
    name: str
    title: str
    domain: str
    templates: Names
    class_names: Names  # in label order; need not be unique
    licence: str
    counts: Counts
    source: Annotated[Generated | Folder, Field(discriminator="kind")]
    file: Path | None = None  # where the TOML lies, for one that is not shipped

    @field_validator("templates")
    @classmethod
    def _have_one_slot(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.replace("{}", "", 1).count("{") or "{}" not in template:
                raise ValueError(f"'{template}' needs exactly one {{}} for the class name")
        return templates

    @model_validator(mode="after")
    def _counts_fit(self) -> Spec:
        if isinstance(self.source, Generated):
            for split, per_class in self.source.per_class:
                if per_class * len(self.class_names) != getattr(self.counts, split):
                    raise ValueError(f"counts.{split} is not source.per_class.{split} times {len(self.class_names)} classes")
        return self

    @cached_property
    def digest(self) -> str:
        """sha256 over everything here that can change a number."""
        facts: dict[str, Any] = self.model_dump(mode="json", exclude=COSMETIC)
        if isinstance(self.source, Generated):
            facts["generator_version"] = generator(self.source).VERSION
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def spec(name: str) -> Spec:
    """The spec of a shipped dataset, or of any TOML on disk where `name` is a path ending in .toml.

    Raises UserError naming the file and the key for an unknown key or a wrong type, and the nearest name for an unknown name.
    """
    if not name.endswith(".toml"):
        return _shipped(name)
    file = Path(name).resolve()
    return _checked(file.name, {"name": file.stem, "file": file, **catalog.parse(catalog.find(name))})


def generator(source: Generated) -> Any:
    """The module that draws a generated dataset: `VERSION` and `image(class_name, split, index, seed)`."""
    try:
        return import_module(f"benchmark.tiny.{source.generator}")
    except ModuleNotFoundError as error:
        raise UserError(f"there is no generator '{source.generator}' in benchmark.tiny; correct source.generator") from error


@cache
def _shipped(name: str) -> Spec:
    return _checked(f"datasets_cfg/{name}.toml", {"name": name, **catalog.parse(catalog.find(name))})


def _checked(file: str, values: dict[str, Any]) -> Spec:
    try:
        return Spec.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{file}: {_sentence(error)}") from error


def _sentence(error: ValidationError) -> str:
    """The first complaint, in words that name the key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part not in {"generated", "folder"}) or "the file"
    match first["type"]:
        case "extra_forbidden":
            return f"unknown key '{key}'; {nearest(key, tuple(Spec.model_fields))}"
        case "missing":
            return f"key '{key}' is missing"
        case "union_tag_invalid":
            return f"source.kind is {first['input'].get('kind')!r}, but the kinds are {first['ctx']['expected_tags']}"
    return f"key '{key}': {first['msg'].removeprefix('Value error, ')}, found {first['input']!r:.60}"
