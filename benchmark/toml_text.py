"""Values as TOML writes them, and which texts a file can hold at all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

WIDEST = 80  # characters of a list on one line
BARE = re.compile(r"[A-Za-z0-9_-]+")  # keys that need no quotes


def is_text(text: str) -> bool:
    """Whether it can be encoded: JSON may hold halves of characters, and Python reads bytes that
    are no UTF-8, of arguments and of names of files, as such halves.
    """
    return not any("\ud800" <= character <= "\udfff" for character in text)


def unwritable_line(text: str) -> str:
    """The first line that cannot be encoded, its odd bytes escaped; '' where there is none."""
    bad = next((line for line in text.splitlines() if not is_text(line)), "")
    return "".join(each if is_text(each) else _byte(each) for each in bad.strip())[:100]


def _byte(character: str) -> str:
    """The byte that Python has read as this half of a character."""
    return f"\\x{ord(character) & 0xFF:02x}"


def toml_key(name: str) -> str:
    return name if BARE.fullmatch(name) else toml_value(name)


def toml_value(value: object) -> str:
    """A value as TOML writes it, long lists over several lines. None, of which TOML has no word,
    becomes the text that is read as it.
    """
    if isinstance(value, Mapping):
        pairs = (f"{toml_key(key)} = {toml_value(each)}" for key, each in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _list(list(map(toml_value, value)))
    if value is None:
        return '"none"'
    # JSON's texts, numbers, true and false are TOML's, but for one character
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(parts: Sequence[str]) -> str:
    line = f"[{', '.join(parts)}]"
    if len(line) <= WIDEST:
        return line
    return "[\n" + "\n".join(f"    {part}," for part in parts) + "\n]"
