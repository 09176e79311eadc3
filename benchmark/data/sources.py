"""The kinds of source a dataset can be read from, and the parts it can be fetched in: the checked tables of a TOML."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)
Texts = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


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
    """CoOp's JSON list of images: its name below the dataset's folder, and its sha256 where one is known."""

    model_config = STRICT
    file: str
    sha256: Sha256 | None = None


class SplitLists(BaseModel):
    """One text file per split with lines 'image-id class name', as FGVC Aircraft has them; `suffix` completes an id."""

    model_config = STRICT
    train: str
    val: str
    test: str
    suffix: str = ""


class Folder(BaseModel):
    """A folder in CoOp's layout: `images` below `folder`, listed by one split file or by one list per split."""

    model_config = STRICT
    kind: Literal["folder"]
    folder: str
    images: str
    split: SplitFile | None = None
    lists: SplitLists | None = None
    sample_sha256: Sha256 | None = None  # of 32 images, checked whenever the dataset is read
    content_sha256: Sha256 | None = None  # of all images, checked by `prepare --verify`

    @model_validator(mode="after")
    def _one_listing(self) -> Folder:
        if (self.split is None) == (self.lists is None):
            raise ValueError("needs either 'split' or 'lists'")
        return self


class Cut(BaseModel):
    """Images of every class taken out of the training folder, evenly spaced over the sorted file names."""

    model_config = STRICT
    val: int = Field(default=0, ge=0)
    test: int = Field(default=0, ge=0)


class ImageFolder(BaseModel):
    """One folder per class; `train`, `val`, `test` are folders of such folders below `folder`, file names sorted.

    `class_folders` gives the folder of every class in label order: "names" where it is called like the class, "index" where
    it is the label's number, "parent" where it is as in the parent dataset, or the list itself.
    """

    model_config = STRICT
    kind: Literal["image_folder"]
    folder: str
    train: str | None = None
    val: str | None = None
    test: str | None = None
    cut: Cut = Cut()
    class_folders: Literal["names", "index", "parent"] | Texts = "names"

    @model_validator(mode="after")
    def _something_to_test_on(self) -> ImageFolder:
        if not self.test and not self.cut.test:
            raise ValueError("needs 'test', a folder, or cut.test, a number of images per class taken from 'train'")
        if (self.val and self.cut.val) or (self.test and self.cut.test) or ((self.cut.val or self.cut.test) and not self.train):
            raise ValueError("'cut' takes images from 'train' and stands instead of a folder of its own")
        return self


class HubTable(BaseModel):
    """Parquet files as the Hugging Face hub holds them, one glob per split; pictures are bytes in a column."""

    model_config = STRICT
    kind: Literal["table"]
    folder: str
    train: str | None = None
    val: str | None = None
    test: str
    cut: Cut = Cut()
    image: str = "image"
    label: str = "label"


Source = Annotated[Generated | Folder | ImageFolder | HubTable, Field(discriminator="kind")]


class Offer(BaseModel):
    """One place a part can be had from: a url, or a file of a Hugging Face repository at a revision."""

    model_config = STRICT
    label: str = "official"
    url: str | None = Field(default=None, pattern=r"^https?://")
    repo: str | None = None
    repo_type: Literal["dataset", "model"] = "dataset"
    revision: str | None = None
    file: str | None = None  # within the repository; "*" patterns fetch several
    md5: Md5 | None = None
    sha256: Sha256 | None = None
    inner: str | None = None  # an archive within the archive
    holds: Annotated[tuple[str, ...], Field(strict=False)] = ()  # what the part's `gives` are called there, where it differs
    opt_in: bool = False  # used only where asked for by label
    doubt: str = ""  # what one should know before trusting it

    @model_validator(mode="after")
    def _one_place(self) -> Offer:
        if (self.url is None) == (self.repo is None) or (self.repo is not None and self.file is None):
            raise ValueError("needs either 'url', or 'repo' and 'file'")
        return self


class Part(BaseModel):
    """Something a dataset is made of. It is there when everything in `gives` is, below the dataset's folder."""

    model_config = STRICT
    gives: Texts
    offers: Annotated[tuple[Offer, ...], Field(strict=False)] = ()
    by_hand: str = ""  # how a person gets it
    unpacked_bytes: int | None = None

    @field_validator("gives")
    @classmethod
    def _stay_below(cls, gives: tuple[str, ...]) -> tuple[str, ...]:
        for path in gives:
            if path.startswith("/") or ".." in path.split("/"):
                raise ValueError(f"'{path}' is not below the dataset's folder")
        return gives

    @model_validator(mode="after")
    def _holds_match(self) -> Part:
        if any(offer.holds and len(offer.holds) != len(self.gives) for offer in self.offers):
            raise ValueError("an offer's 'holds' needs as many entries as the part's 'gives'")
        return self
