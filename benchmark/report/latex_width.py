"""How wide a text is in LaTeX: Computer Modern's widths, so that a table can be made to fit."""

from __future__ import annotations

from collections.abc import Mapping

# characters by their width in thousandths of an em, as cmr10 has them; what LaTeX draws by other
# means (\_, \{, \textbar, \textless) is at the width of that
BY_WIDTH: Mapping[int, str] = {
    277: "!',.:;[]`il|",
    305: "fj",
    333: "- ",
    361: "I_",
    388: "()t",
    391: "r",
    394: "s",
    444: "cez",
    472: "?",
    500: '"$*/0123456789^ago{}~†',
    513: "J",
    527: "kqvxy",
    555: "Sbdhnpu",
    611: "Z",
    625: "L",
    652: "F",
    680: "EP",
    708: "B",
    722: "CTw",
    736: "R",
    750: "AHNUVXY",
    763: "D",
    777: "&+=@KOQ<>",
    784: "G",
    833: "#%m\\",
    916: "M",
    1027: "W",
    1111: "±",  # with a thin space on either side
}
WIDTHS = {
    character: width / 1000 for width, characters in BY_WIDTH.items() for character in characters
}
WIDEST = 1.03  # of any character that is not known
BOLD = 1.16  # cmbx10 beside cmr10, digits and letters


def ems(text: str, *, bold: bool = False) -> float:
    """The width of a text without commands, in em of its font; kerning is left out."""
    return sum(WIDTHS.get(character, WIDEST) for character in text) * (BOLD if bold else 1)
