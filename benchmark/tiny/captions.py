"""Training pairs for the tiny CLIP: a picture drawn from a seed, and sentences that are true of it.

What can be said of a picture is three words: its subject ("star", "bricks", "seven"), its style
("striped", "cracked"; digits have none) and its ink ("red"). A caption may leave the ink out, so
one caption is true of many pictures; `true_of` says which, and the training loss counts each of
them as a match. Captions run from two words to about sixty, because soft prompts will later push
class names to positions that short captions never reach.

Classes that the datasets hold out are never drawn and never named here, and the handwriting of
tiny_digits is not imported: digits come from type.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmark.tiny import canvas, fonts, shapes, textures

UNSAID = -1
SHAPE_PAIRS = tuple(
    (f, s)
    for f in shapes.FINISHES
    for s in shapes.KNOWN_FIGURES
    if f"{f} {s}" not in shapes.HELD_OUT
)
TEXTURE_PAIRS = tuple(
    (c, p)
    for c in textures.CONDITIONS
    for p in textures.KNOWN_PATTERNS
    if f"{c} {p}" not in textures.HELD_OUT
)
# their order is the numbering of Meaning.subject
SUBJECTS = (*fonts.NAMES, *shapes.KNOWN_FIGURES, *textures.KNOWN_PATTERNS)
STYLES = ("", *shapes.FINISHES, *textures.CONDITIONS)
INKS = tuple(canvas.COLOURS)
SHARES = {"digits": 0.25, "shapes": 0.42, "textures": 0.33}  # of all training pictures

OPENERS = {
    "digits": (
        "a photo of the number",
        "the digit",
        "the number",
        "a picture of the digit",
        "a handwritten",
        "",
    ),
    "shapes": ("a photo of a", "a", "a picture of a", "a drawing of a", "one", "the", ""),
    "textures": ("a photo of", "a picture of", "a texture of", "a surface of", "a close-up of", ""),
}
LEAD_INS = (
    "this is", "here you see", "look:", "we found", "on the left", "as you may have guessed,",
    "page four shows",
    "a rather poor camera took this one;", "my sister sent me this from her holiday by the sea:",
    "image 0473 final copy",
    "in the second drawer of the old desk there was", "no flash, late in the evening,",
    "for sale, slightly used,",
    "please note that the light was bad and the lens was dirty when we took", "untitled,",
    "from the archive of the museum,",
    "children made this at school last week:", "a test card with",
    "it is hard to say, but I believe it shows",
)  # fmt: skip
TAILS = (
    "on a table", "seen from above", "in bad light", "with some clutter around it",
    "taken in a hurry", "at noon",
    "for my collection", "and nothing else of interest",
    "as it was left by the people who lived here before",
    "which somebody had put there without a word",
    "with a lot of noise in the picture because the sensor was hot",
    "on the wall of a small shop near the station", "and a few bits of paper", "from last year",
    "again", "up close",
    "that I would like to see printed as large as a door", "photographed with an old phone",
    "by an unknown hand",
)  # fmt: skip
PLAIN_SHARE = 0.5  # captions that are an opener and the name alone, as in zero-shot prompts
INK_SAID_SHARE = 0.3
NUMERAL_SHARE = 0.3  # digits written "7" instead of "seven"


class Meaning(NamedTuple):
    """What is seen or said, as numbers: places in SUBJECTS, STYLES and INKS, or UNSAID."""

    subject: int
    style: int
    ink: int


def kind(meaning: Meaning) -> str:
    """Which of "digits", "shapes" and "textures" the subject belongs to."""
    subject = SUBJECTS[meaning.subject]
    return (
        "digits"
        if subject in fonts.NAMES
        else "shapes"
        if subject in shapes.FIGURES
        else "textures"
    )


def picture(seed: int, index: int) -> tuple[Image.Image, Meaning]:
    """Training picture number `index`, 48 x 48 RGB, and what it shows; depends on the two numbers
    alone.
    """
    rng = canvas.stream(canvas.PRETRAINING_DOMAIN, seed, index)
    ink, paper = canvas.ink_and_paper(rng)
    dice = rng.random()
    if dice < SHARES["digits"]:
        style, subject = "", canvas.choose(rng, fonts.NAMES)
        picture = fonts.draw(rng, subject, ink, paper)
    elif dice < SHARES["digits"] + SHARES["shapes"]:
        style, subject = canvas.choose(rng, SHAPE_PAIRS)
        picture = shapes.draw(rng, style, subject, ink, paper)
    else:
        style, subject = canvas.choose(rng, TEXTURE_PAIRS)
        picture = textures.draw(rng, style, subject, ink, paper)
    return picture, Meaning(SUBJECTS.index(subject), STYLES.index(style), INKS.index(ink))


def caption(rng: np.random.Generator, seen: Meaning, room: int) -> tuple[str, Meaning]:
    """A sentence true of a picture, and what it says; `room` is about how many words it may spend
    on chatter.
    """
    name, meaning = _name(rng, seen)
    sentence = f"{canvas.choose(rng, OPENERS[kind(seen)])} {name}".strip()
    if rng.random() < PLAIN_SHARE and room < 20:
        return f"{sentence}.", meaning
    before = _chatter(rng, LEAD_INS, int(rng.random() * (room + 1)))
    after = _chatter(rng, TAILS, room - len(before.split()))
    return f"{before} {sentence} {after}.".strip(), meaning


def _name(rng: np.random.Generator, seen: Meaning) -> tuple[str, Meaning]:
    """The subject in words, with its ink or without."""
    subject, style = SUBJECTS[seen.subject], STYLES[seen.style]
    if kind(seen) == "digits" and rng.random() < NUMERAL_SHARE:
        subject = str(fonts.NAMES.index(subject))
    ink_said = rng.random() < INK_SAID_SHARE and kind(seen) != "digits"
    words = (style, INKS[seen.ink] if ink_said else "", subject)
    return " ".join(word for word in words if word), seen if ink_said else seen._replace(ink=UNSAID)


def _chatter(rng: np.random.Generator, phrases: tuple[str, ...], room: int) -> str:
    """Random phrases of at most `room` words together."""
    spoken: list[str] = []
    while room > 0:
        phrase = canvas.choose(rng, phrases)
        room -= len(phrase.split())
        if room >= 0:
            spoken.append(phrase)
    return " ".join(spoken)


def every_text() -> list[str]:
    """Texts that together hold every word a caption can use."""
    numerals = [str(number) for number in range(10)]
    openers = [opener for some in OPENERS.values() for opener in some]
    return [*SUBJECTS, *STYLES, *INKS, *numerals, *openers, *LEAD_INS, *TAILS, "."]


def true_of(said_N3: np.ndarray, seen_N3: np.ndarray) -> np.ndarray:
    """true_NN[i, j]: all that caption j says holds for picture i."""
    agrees_NN3 = (said_N3[None] == seen_N3[:, None]) | (said_N3[None] == UNSAID)
    return agrees_NN3.all(-1)
