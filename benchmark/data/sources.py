"""The tables of a dataset's TOML: kinds of source to read from, and parts to fetch."""

from __future__ import annotations

import re
from posixpath import normpath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from benchmark.data.rgb import Exif

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)
# Control characters and halves of characters, which no name needs.
NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
PATH_BYTES, PART_BYTES = 1000, 255
MOST_IMAGES = 100_000_000  # of a split: seventy times ImageNet


def possible(path: str) -> bool:
    """Whether a file system can have such a path; opening any other would raise an error."""
    sizes = [len(part.encode(errors="replace")) for part in (path, *path.split("/"))]
    return (
        bool(path)
        and not NO_TEXT.search(path)
        and sizes[0] <= PATH_BYTES
        and max(sizes[1:]) <= PART_BYTES
    )


def stays_below(path: str) -> bool:
    """Whether a stranger's path is possible and leads to something below its folder."""
    return possible(path) and not path.startswith("/") and ".." not in path.split("/")


def _below(path: str) -> str:
    # pathlib takes "**" as a whole part of a path only.
    wrong_pattern = any("**" in part and part != "**" for part in path.split("/"))
    if wrong_pattern or not stays_below(path):
        raise ValueError(f"'{path[:60]}' is not below the dataset's folder")
    return path


def _reachable(url: str) -> str:
    """Raises ValueError, as urlsplit does, for what the network library would stumble over."""
    _ = urlsplit(url).port
    return url


Texts = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
Below = Annotated[str, AfterValidator(_below)]
Belows = Annotated[tuple[Below, ...], Field(min_length=1, strict=False)]
Url = Annotated[
    str, Field(pattern=r"^https?://[!-~]+$", max_length=2000), AfterValidator(_reachable)
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class SplitSizes(BaseModel):
    """Images per split, which reading checks."""

    model_config = STRICT
    train: int = Field(ge=0, le=MOST_IMAGES)
    val: int = Field(ge=0, le=MOST_IMAGES)
    test: int = Field(ge=0, le=MOST_IMAGES)


class Generated(BaseModel):
    """Pictures of benchmark.tiny.<generator>, made from a seed, as many in every class."""

    model_config = STRICT
    kind: Literal["generated"]
    generator: str = Field(pattern=r"^[a-z_]+$")
    seed: int = Field(ge=0, lt=1 << 63)
    per_class: SplitSizes


class SplitFile(BaseModel):
    """CoOp's JSON list of images: its name below the dataset's folder, and its sha256 where one is
    known.
    """

    model_config = STRICT
    file: Below
    sha256: Sha256 | None = None


class ListDigests(BaseModel):
    """sha256 of the text file of every split."""

    model_config = STRICT
    train: Sha256
    val: Sha256
    test: Sha256


class SplitLists(BaseModel):
    """One text file per split with lines 'image-id class name', as FGVC Aircraft has them; `suffix`
    completes an id, `sha256` is that of the files where it is known.
    """

    model_config = STRICT
    train: Below
    val: Below
    test: Below
    suffix: str = ""
    sha256: ListDigests | None = None


class CoopFolder(BaseModel):
    """A folder in CoOp's layout: `images` below `folder`, listed by one split file or by one list
    per split.
    """

    model_config = STRICT
    kind: Literal["folder"]
    folder: str
    images: Below
    split: SplitFile | None = None
    lists: SplitLists | None = None
    sample_sha256: Sha256 | None = None  # of 32 images, checked whenever the dataset is read
    content_sha256: Sha256 | None = None  # of all images, checked likewise
    exif: Exif = "ignore"  # whether pictures are turned as their EXIF data say
    # Whether images of train that are in val or test too, byte for byte, are left out, and those of
    # val that are in test.
    drop_duplicates: bool = False

    @model_validator(mode="after")
    def _one_listing(self) -> CoopFolder:
        if (self.split is None) == (self.lists is None):
            raise ValueError("needs either 'split' or 'lists'")
        return self


class HeldOut(BaseModel):
    """Images per class moved out of the training folder, evenly spaced over sorted file names."""

    model_config = STRICT
    val: int = Field(default=0, ge=0)
    test: int = Field(default=0, ge=0)


class ClassFolders(BaseModel):
    """One folder per class; `train`, `val`, `test` are folders of such folders below `folder`, file
    names sorted.

    `class_folders` gives the folder of every class in label order: "names" where it is called like
    the class, "index" where it is the label's number, "parent" where it is as in the parent
    dataset, or the list itself.
    """

    model_config = STRICT
    kind: Literal["image_folder"]
    folder: str
    train: Below | None = None
    val: Below | None = None
    test: Below | None = None
    held_out: HeldOut = HeldOut()
    class_folders: Literal["names", "index", "parent"] | Belows = "names"
    exif: Exif = "ignore"
    drop_duplicates: bool = False

    @model_validator(mode="after")
    def _has_test_images(self) -> ClassFolders:
        _are_apart(self)
        if not self.test and not self.held_out.test:
            raise ValueError(
                "needs 'test', a folder, or held_out.test, a number of images per class taken from "
                "'train'"
            )
        twice = (self.val and self.held_out.val) or (self.test and self.held_out.test)
        if twice or ((self.held_out.val or self.held_out.test) and not self.train):
            raise ValueError(
                "'held_out' takes images from 'train' and stands instead of a folder of its own"
            )
        return self


def _are_apart(source: ClassFolders | HubTable) -> None:
    """Raises ValueError where two splits are the same folder or the same files."""
    places: dict[str, str] = {}
    for split in ("train", "val", "test"):
        place = getattr(source, split)
        other = place and places.setdefault(normpath(place), split)
        if other not in (None, split):
            raise ValueError(
                f"'{other}' and '{split}' are both '{place}', so pictures to learn from would be "
                f"tested; name two places, or take held_out images from 'train'"
            )


class HubTable(BaseModel):
    """Parquet files of the Hugging Face hub, one glob per split; pictures are bytes in a column."""

    model_config = STRICT
    kind: Literal["table"]
    folder: str
    train: Below | None = None
    val: Below | None = None
    test: Below
    held_out: HeldOut = HeldOut()
    image: str = "image"
    label: str = "label"
    # What the files call the classes, in label order, where it differs from class_names.
    label_names: Annotated[tuple[str, ...], Field(strict=False)] = ()
    exif: Exif = "ignore"
    drop_duplicates: bool = False

    @model_validator(mode="after")
    def _splits_are_apart(self) -> HubTable:
        _are_apart(self)
        if len(set(self.label_names)) < len(self.label_names):
            raise ValueError("'label_names' has a name twice, so rows with it fit two labels")
        return self


Source = Annotated[Generated | CoopFolder | ClassFolders | HubTable, Field(discriminator="kind")]


class Offer(BaseModel):
    """One source of a part: a url, or a file of a Hugging Face repository at a revision."""

    model_config = STRICT
    label: str = "official"
    url: Url | None = None
    repo: str | None = None
    repo_type: Literal["dataset", "model"] = "dataset"
    revision: str | None = None
    file: str | None = None  # within the repository; "*" patterns fetch several
    size: int | None = Field(default=None, ge=0, lt=1 << 50)  # bytes of the file
    md5: Md5 | None = None
    sha256: Sha256 | None = None
    inner: str | None = None  # an archive within the archive
    # What the part's `gives` are called there, where it differs.
    holds: Annotated[tuple[str, ...], Field(strict=False)] = ()
    opt_in: bool = False  # used only where its label is given
    doubt: str = ""  # what to know before trusting it

    @model_validator(mode="after")
    def _one_source(self) -> Offer:
        if (self.url is None) == (self.repo is None) or (
            self.repo is not None and self.file is None
        ):
            raise ValueError("needs either 'url', or 'repo' and 'file'")
        return self


class Part(BaseModel):
    """Files that are fetched together; `gives` lists their paths below the dataset's folder."""

    model_config = STRICT
    gives: Belows
    offers: Annotated[tuple[Offer, ...], Field(strict=False)] = ()
    by_hand: str = ""  # how a person gets it

    @model_validator(mode="after")
    def _holds_match(self) -> Part:
        if any(offer.holds and len(offer.holds) != len(self.gives) for offer in self.offers):
            raise ValueError("an offer's 'holds' needs as many entries as the part's 'gives'")
        return self
