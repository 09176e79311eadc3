"""Reference numbers that are shipped with the package: what results are compared with.

GOLDEN holds counts of the embedded suite for the regression check, PUBLISHED accuracies from papers
and repositories, BASE_TO_NEW published means of base, new and H, in percent, over CoOp's eleven
datasets at 16 shots. Out: the paths. May use: nothing. GOLDEN.md and PUBLISHED.md describe the
columns.
"""

from __future__ import annotations

from pathlib import Path

GOLDEN = Path(__file__).parent / "golden.csv"
PUBLISHED = Path(__file__).parent / "published.csv"
BASE_TO_NEW = Path(__file__).parent / "base_to_new.csv"
