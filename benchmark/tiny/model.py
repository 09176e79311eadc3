"""The tiny CLIP as a genuine open_clip model: 36-pixel images, 6-pixel patches, CLIP's own
tokenizer.

The weights file holds float16 numbers, and of the 49,408 rows of the token table only those that
training captions use; every other token gets the mean of these rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import open_clip
    import torch

FOLDER = Path(__file__).parent
CONFIG = FOLDER / "model.json"
WEIGHTS = FOLDER / "weights.safetensors"
PROVENANCE = FOLDER / "provenance.json"

TABLE = "token_embedding.weight"  # the only parameter that is not stored whole
TOKEN_IDS = "token_ids"  # which rows of it are stored


def untrained() -> open_clip.CLIP:
    """A freshly initialised model of the configured architecture."""
    import open_clip

    return open_clip.CLIP(**json.loads(CONFIG.read_text()))


def build(weights: Path = WEIGHTS) -> open_clip.CLIP:
    """The trained tiny CLIP: float32, evaluation mode, whole vocabulary; reads one local file."""
    from safetensors.torch import load_file

    model = untrained()
    model.load_state_dict(expanded(load_file(weights), model.vocab_size))
    return model.eval()


def expanded(stored: dict[str, torch.Tensor], vocab_size: int) -> dict[str, torch.Tensor]:
    """Stored tensors as a full float32 state dict."""
    state = {name: tensor.float() for name, tensor in stored.items() if name != TOKEN_IDS}
    rows_UE = state[TABLE]
    state[TABLE] = rows_UE.mean(0).repeat(vocab_size, 1)
    state[TABLE][stored[TOKEN_IDS].long()] = rows_UE
    return state


def compact(state: dict[str, torch.Tensor], token_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What to store of a state dict whose token table has one row for each of `token_ids`."""
    import torch

    stored = {
        name: tensor.detach().cpu().to(torch.float16).contiguous() for name, tensor in state.items()
    }
    return stored | {TOKEN_IDS: token_ids.to(torch.int32)}
