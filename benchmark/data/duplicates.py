"""Equal pictures in two splits, or under two labels: byte for byte, whatever their names are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchmark.data.image_rows import ImageRows
from benchmark.errors import counted

# Split -> the splits whose images it must not hold. Images of the test split are never left out.
APART_FROM = {"train": ("val", "test"), "val": ("test",)}


@dataclass(frozen=True)
class Duplicates:
    """How many images have an equal in a split or a class that they should be strangers to."""

    test: int  # test images that are in train or val as well
    val: int  # validation images that are in train as well
    labels: int  # images that stand under two labels
    images: int  # of the test split
    example: tuple[str, str] = ("", "")  # two keys of one picture

    def sentences(self) -> list[str]:
        """What a person should know; nothing where all is well."""
        found = []
        example = "{} and {}".format(*self.example)
        remedy = "drop_duplicates = true under [source] leaves such images out of train and val"
        if self.test:
            found.append(
                f"{self.test} of {self.images} test images are in train or val as well, byte for "
                f"byte, for instance {example}; {remedy}"
            )
        elif self.val:
            found.append(
                f"{self.val} validation images are in train as well, byte for byte, for instance "
                f"{example}; {remedy}"
            )
        if self.labels:
            verb = "stands" if self.labels == 1 else "stand"
            found.append(f"{counted(self.labels, 'image')} {verb} under two labels, byte for byte")
        return found


def duplicates(rows: ImageRows) -> Duplicates:
    """Counts over the contents of all images, which are read where they are not remembered."""
    in_split = {split: _by_content(rows, [split]) for split in rows.by_split}
    learned = _by_content(rows, ["train", "val"])
    both = [digest for digest in in_split["test"] if digest in learned]
    val = [digest for digest in in_split["val"] if digest in in_split["train"]]
    example = next(
        iter(
            [(in_split["test"][digest], learned[digest]) for digest in both]
            + [(in_split["val"][digest], in_split["train"][digest]) for digest in val]
        ),
        ("", ""),
    )
    return Duplicates(
        test=_count(rows, "test", both),
        val=_count(rows, "val", val),
        labels=_under_two_labels(rows),
        images=len(rows.by_split["test"]),
        example=example,
    )


def dropped(rows: ImageRows) -> ImageRows:
    """The rows without images of train that are in val or test, and of val that are in test."""
    kept = dict(rows.by_split)
    for split, others in APART_FROM.items():
        elsewhere = _by_content(rows, others)
        kept[split] = [row for row in kept[split] if rows.contents[row[0]] not in elsewhere]
    return replace(rows, by_split=kept)


def _by_content(rows: ImageRows, splits: Iterable[str]) -> dict[str, str]:
    """Digest of the content -> the first key that has it."""
    keys: dict[str, str] = {}
    for split in splits:
        for key, _ in rows.by_split[split]:
            keys.setdefault(rows.contents[key], key)
    return keys


def _count(rows: ImageRows, split: str, digests: Iterable[str]) -> int:
    wanted = frozenset(digests)
    return sum(rows.contents[key] in wanted for key, _ in rows.by_split[split])


def _under_two_labels(rows: ImageRows) -> int:
    labels: dict[str, set[int]] = {}
    for members in rows.by_split.values():
        for key, label in members:
            labels.setdefault(rows.contents[key], set()).add(label)
    return sum(len(found) > 1 for found in labels.values())
