"""Data as scripts, which a page opened from disk may load, unlike JSON; counts as short text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

FIRST_CHARACTER = 35  # a count is one character of text: compact, and readable by charCodeAt
LARGEST_CHARACTER = 50_000  # beyond 55,260 come characters that cannot stand alone


def script(function: str, *values: Any) -> str:
    """A JavaScript file that hands data to the page. No '</' can end the script early."""
    words = ",".join(
        json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
        for value in values
    )
    return f"{function}({words});\n"


def packed(counts: Sequence[int]) -> str | list[int]:
    """Text; numbers where one is too large for a character of its own."""
    if max(counts, default=0) > LARGEST_CHARACTER:
        return list(counts)
    return "".join(chr(FIRST_CHARACTER + count) for count in counts)
