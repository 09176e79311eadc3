"""What is wrong with a grid file, in a sentence that names the place."""

from __future__ import annotations

import re

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from benchmark.errors import nearest

SHOWN = 60  # characters of a value
WANTED = {  # by pydantic's kind of error; others speak for themselves
    "missing": "is missing",
    "too_short": "is empty; name what you want, or leave the line out",
    "string_type": "takes text",
    "list_type": "takes a list",
    "model_type": "takes a table",
    "int_type": "takes a whole number",
}
NUMBERS = (
    'takes whole numbers, or a range as "1-10" from a smaller to a larger number, 10,000 at most'
)


def sentence(
    error: ValidationError, text: str, whole: type[BaseModel], part: type[BaseModel]
) -> str:
    """', line 7: grid 2 has no key 'shot'; did you mean 'shots'?', to go behind the file's name."""
    first = error.errors(include_url=False, include_context=True)[0]
    place = [each for each in first["loc"] if isinstance(each, (int, str))]
    number = place[1] + 1 if len(place) > 1 and isinstance(place[1], int) else 0
    keys = [each for each in place[2 if number else 0 :] if isinstance(each, str)]
    owner = f"grid {number}" if number else "the file"
    line = _line(text, number, keys[0] if keys else "")
    where = f", line {line}" if line else ""
    if first["type"] == "extra_forbidden":
        known = part if number else whole
        return f"{where}: {owner} has no key '{keys[-1][:SHOWN]}'; {_known(keys[-1], known)}"
    if not keys:
        return f'{where}: {owner} takes keys, as in methods = ["coop"]'
    if first["type"] == "list_type" and isinstance(first["input"], dict) and keys == ["grid"]:
        return f"{where}: a grid has double brackets, [[grid]], and not [grid] (docs/grids.md)"
    if keys == ["grid"]:
        return f"{where}: it has no grid; begin one with a line [[grid]] (docs/grids.md)"
    name = ".".join(keys) if keys[0] == "saved" else keys[0]  # others end with names of types
    return f"{where}: {name} of {owner} {_wrong(first, keys[0])}"


def _known(key: str, model: type[BaseModel]) -> str:
    return nearest(key, list(model.model_fields))


def _wrong(error: ErrorDetails, key: str) -> str:
    kind, value = error["type"], error["input"]
    if kind == "literal_error":
        wanted = f"takes {error['ctx']['expected']}"
    elif key in ("shots", "seeds") and kind != "too_short":
        wanted = NUMBERS
    elif kind == "value_error":
        return str(error["ctx"]["error"])
    elif kind == "greater_than_equal":
        wanted = f"takes a number of {error['ctx']['ge']} or more"
    else:
        wanted = WANTED.get(kind, f"will not do ({error['msg']})")
    return wanted if kind in ("missing", "too_short") else f"{wanted}, not {value!r:.{SHOWN}}"


def _line(text: str, number: int, key: str) -> int:
    """The line of a key in the `number`-th [[grid]], or before the first; 0 where none is found."""
    named = re.compile(rf"""\s*(\[\s*(grid\s*\.\s*)?)?["']?{re.escape(key)}["']?\s*[=.\]]""")
    grids = 0
    for line, content in enumerate(text.splitlines(), 1):
        if re.match(r"\s*\[\[\s*grid\s*\]\]", content):
            grids += 1
            if grids == number and not key:
                return line
        elif key and grids == number and named.match(content):
            return line
    return 0
