"""Parameters under which a method trains long enough to be recorded, and no longer."""

from __future__ import annotations

from typing import Any

UNTRAINED = {
    *("zero_shot", "linear_probe", "tip_adapter", "tip_adapter_vote", "cones_tip_adapter"),
    *("gda", "proker", "ss_text", "ape"),
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "apt": {"epochs": "30", "views": 2},
    "clip_lora": {"steps_per_shot": 15, "views": 2},
    "cones_finetune": {"epochs": "30", "tune_epochs": "30"},
    "lp_plus_plus": {"epochs": 30},
    "prompt_adapter": {"epochs": "30"},
    "prompt_adapter_f": {"epochs": "30", "tune_epochs": 30},
    "tip_adapter_f": {"tune_epochs": 30, "tune_min_steps": 0},
    "vpt": {"epochs": "30", "views": 2},
}


def parameters(method: str) -> dict[str, Any]:
    """What differs from the method's defaults."""
    return dict(PARAMETERS.get(method, {} if method in UNTRAINED else {"epochs": "30"}))
