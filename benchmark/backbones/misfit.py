"""Why weights cannot be loaded, in a sentence: a package, names of tensors, shapes. Imports no
torch by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmark.errors import MISSING, UserError

MOST_NAMED = 3  # tensors of each kind
EXTRAS = {"transformers": "hf", "sentencepiece": "hf", "tokenizers": "hf"}  # of the project
Shape = tuple[int, ...]


def unloadable(name: str, file: Path, arch: str, error: Exception) -> UserError:
    """The error for weights that do not load: which package lacks, or what does not fit."""
    package = _missing_package(error)
    if package:
        extra = EXTRAS.get(package)
        command = f"pip install -e '.[{extra}]'" if extra else f"pip install {package}"
        return UserError(
            f"{name} needs the package {package}, which is not installed; `{command}` brings it",
            exit_code=MISSING,
        )
    return UserError(
        f"the weights of {name} in {file} cannot be loaded as {arch} ({_words(error)}); check both",
        exit_code=MISSING,
    )


def require_shapes(
    name: str, file: Path, stored: Mapping[str, Shape], built: Mapping[str, Shape]
) -> None:
    """UserError for tensors of another shape than the architecture's.

    Libraries resize patches and positions silently, which is another model than the one named.
    """
    odd = [key for key, shape in stored.items() if built.get(key, shape) != shape]
    odd = [key for key in odd if _whole(stored[key]) != _whole(built[key])]
    if odd:
        raise UserError(
            f"the weights of {name} in {file} are of another architecture: {odd[0]} has shape "
            f"{stored[odd[0]]} there and {built[odd[0]]} here; name the architecture they are of",
            exit_code=MISSING,
        )


def _whole(shape: Shape) -> Shape:
    """Without sides of one: a number may be stored with a dimension of its own."""
    return tuple(side for side in shape if side != 1)


def stored_shapes(file: Path) -> dict[str, Shape]:
    """Name -> shape of every tensor in a checkpoint; its values are not read."""
    if file.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(file, "pt") as opened:
            return {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    import torch

    state = torch.load(file, map_location="meta", weights_only=True)
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, dict) else {}
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    return {key.removeprefix("module."): tuple(value.shape) for key, value in tensors.items()}


def _missing_package(error: BaseException) -> str | None:
    for each in _chain(error):
        if isinstance(each, ModuleNotFoundError) and each.name:
            return each.name.partition(".")[0]
        asked = re.search(r"pip install ([A-Za-z][\w-]*)", str(each))
        if asked:
            return asked[1]
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _words(error: Exception) -> str:
    """The first line, or the names of tensors that torch complains of."""
    first, *rest = str(error).strip().split("\n") or [""]
    kinds = [_shortened(line) for line in rest if "key(s)" in line or "size mismatch" in line]
    first = first.partition(" Available: ")[0]  # all architectures there are
    return "; ".join(kinds[:MOST_NAMED]) or first or type(error).__name__


def _shortened(line: str) -> str:
    """'missing: a, b, c and 12 others', or what torch says of one tensor."""
    keys = re.findall(r'"([^"]+)"', line)
    if not keys:
        return line.strip()
    what = "missing" if "Missing" in line else "unexpected"
    return f"{what}: {listed(keys)}"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many others there are."""
    others = len(names) - MOST_NAMED
    shown = ", ".join(names[:MOST_NAMED])
    return f"{shown} and {others} other{'s' * (others > 1)}" if others > 0 else shown
