"""How a value stands to the best of its column."""

from __future__ import annotations

from typing import Literal

Mark = Literal["best", "tied"]
BEST: Mark = "best"
TIED: Mark = "tied"  # cannot be told from the best
