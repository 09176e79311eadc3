"""What a folder's names suggest: class names, a domain and a template for it, held-out images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.data.specs import read_spec

PLAIN = "a photo of a {}."
WORDNET = re.compile(r"n\d{8}")
NUMBERED = re.compile(r"\d+[ ._-]+(?=\D)")  # "001.Black_footed_Albatross"
# domain -> words that suggest it, and the template of CoOp's dataset of that kind
DOMAINS: Mapping[str, tuple[str, str]] = {
    "pets": (r"pets?|cats?|dogs?|breeds?", "a photo of a {}, a type of pet."),
    "flowers": (r"flowers?|blossoms?", "a photo of a {}, a type of flower."),
    "birds": (r"birds?|cub", "a photo of a {}, a type of bird."),
    "dishes": (r"foods?|dish(es)?|meals?", "a photo of {}, a type of food."),
    "aircraft": (r"aircrafts?|air ?planes?", "a photo of a {}, a type of aircraft."),
    "textures": (r"textures?|materials?|surfaces?", "{} texture."),
    "satellite images": (r"satellite|aerial|eurosat|sentinel", "a centered satellite photo of {}."),
    "human actions": (r"actions?|activit(y|ies)", "a photo of a person doing {}."),
    "scenes": (r"scenes?|places?|rooms?", "a photo of a {}."),
}
MOST_NAMED = 5
MOST_VAL = 4  # validation images per class that a method is ever shown


@dataclass(frozen=True)
class Names:
    """Class names in label order, and what to say of them."""

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def in_order(folders: Sequence[str]) -> list[str]:
    """Folders in the order of their labels: numbers by size, everything else by letters."""
    numbers = all(name.isdecimal() for name in folders)
    return sorted(folders, key=lambda name: (int(name) if numbers else 0, name))


def class_names(folders: Sequence[str]) -> Names:
    """What folders, or names in a table, call their classes."""
    if folders and all(WORDNET.fullmatch(name) for name in folders):
        return _of_wordnet(folders)
    cleaned = tuple(NUMBERED.sub("", name, count=1) for name in folders)
    if all(map(NUMBERED.match, folders)) and len(set(cleaned)) == len(cleaned):
        note = f"numbers before class names are left out: '{folders[0]}' is '{cleaned[0]}'"
        return Names(cleaned, (note, *_doubts(cleaned)))
    return Names(tuple(folders), tuple(_doubts(folders)))


def _of_wordnet(folders: Sequence[str]) -> Names:
    """The names that CoOp's ImageNet has for WordNet ids."""
    imagenet = read_spec("imagenet")
    names = dict(zip(imagenet.folders, imagenet.class_names, strict=True))
    unknown = [name for name in folders if name not in names]
    found = tuple(names.get(name, name) for name in folders)
    note = f"WordNet ids are named as ImageNet's classes: '{folders[0]}' is '{found[0]}'"
    if unknown:
        note = f"no ids of ImageNet, so write as class_names what they mean: {listed(unknown)}"
    return Names(found, (note,))


def _doubts(names: Sequence[str]) -> list[str]:
    """What a text encoder would read otherwise than a person."""
    underscored = [name for name in names if "_" in name]
    coded = [name for name in names if not re.search(r"[^\W\d_]{2}", name)]
    joined = [name for name in names if re.search(r"[a-z][A-Z]", name)]
    doubts = []
    if underscored:
        plain = underscored[0].replace("_", " ")
        doubts.append(f"underscores are read as spaces: '{underscored[0]}' as '{plain}'")
    if coded:
        doubts.append(
            f"no words, so write as class_names what a text encoder can read: {listed(coded)}"
        )
    if joined:
        doubts.append(f"words written together, in class_names put spaces: {listed(joined)}")
    return doubts


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def domain_of(folder: str, names: Sequence[str]) -> str:
    """The domain that a folder's name suggests, or else a third of the class names; '' where none
    does.
    """
    for domain, (pattern, _) in DOMAINS.items():
        if _has_word(folder, pattern):
            return domain
    for domain, (pattern, _) in DOMAINS.items():
        if 3 * sum(_has_word(name, pattern) for name in names) >= len(names):
            return domain
    return ""


def _has_word(text: str, pattern: str) -> bool:
    words = re.sub(r"[\W_\d]+", " ", text).casefold()
    return re.search(rf"\b({pattern})\b", words) is not None


def template_for(domain: str) -> str:
    """The template of a domain: CoOp's where it has such a dataset."""
    return DOMAINS[domain][1] if domain in DOMAINS else PLAIN


def held_out(fewest: int, *, test: bool, val: bool) -> dict[str, int]:
    """Images per class to take out of train, of which the smallest class has `fewest`: a third of
    them for testing, then up to a third of the rest for validation; one at least stays.
    """
    for_test = max(1, fewest // 3) if test else 0
    for_val = min(MOST_VAL, (fewest - for_test) // 3) if val else 0
    counts = {"val": for_val, "test": for_test}
    return {split: count for split, count in counts.items() if count}
