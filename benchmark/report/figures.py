"""The figures of a paper: accuracy against shots, against cost, and differences to a baseline. PDF
and PNG, as wide as one or two columns of a page, safe for colour-blind eyes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import UserError
from benchmark.protocols import FEW_SHOT
from benchmark.report import figure_style
from benchmark.report.figure_cost import cost, points_of
from benchmark.report.figure_curves import curves
from benchmark.report.figure_differences import baseline, differences, others_than, require_baseline
from benchmark.report.figure_numbers import Shown, shown
from benchmark.report.grouping import GroupedRecords
from benchmark.report.variants import EvaluationSetting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS = 200  # per inch of a PNG
MANY = 8  # methods that colours alone tell apart


def write_figures(
    folder: Path,
    groups: GroupedRecords,
    wanted_baseline: str | None = None,
    width: str = figure_style.USUAL_WIDTH,
    notes: list[str] | None = None,
) -> list[Path]:
    """Draw all figures of all settings into `folder`; returns the files. What is not drawn, and
    why, is added to `notes`. Raises UserError for a baseline that no setting has.
    """
    import matplotlib

    notes = [] if notes is None else notes
    found_of = [shown(setting, variants) for setting, variants in groups.items()]
    settings = [each for each in found_of if each.shots]
    bare = [each for each in found_of if not each.shots]
    notes += [f"{_stem(each.setting)}: no figures, since no row has shots" for each in bare]
    if not settings:
        raise UserError("there is nothing to draw: no few-shot results among these records")
    if wanted_baseline is not None:
        require_baseline(settings, wanted_baseline)
    paths: list[Path] = []
    with matplotlib.rc_context(figure_style.SETTINGS):
        for found in settings:
            stem = _stem(found.setting)
            notes += _left_out(found, stem)
            for kind, figure in _figures(found, wanted_baseline, width, notes):
                paths += _save(figure, folder / f"{kind}-{stem}")
    return paths


def _figures(
    found: Shown, wanted: str | None, width: str, notes: list[str]
) -> Iterator[tuple[str, Figure]]:
    stem, against = _stem(found.setting), baseline(found, wanted)
    yield "curves", curves(found, width)
    points = points_of(found)
    if points:
        yield "cost", cost(found, points, width)
    else:
        notes.append(f"{stem}: no figure of cost, since no trained method has all datasets")
    others = others_than(found, against) if against else []
    if against and others:
        yield "differences", differences(found, against, others, width)
    else:
        why = f"no trained method has results beside {against}"
        if not against:
            why = f"no row is {wanted or 'of a method without shots'}"
        notes.append(f"{stem}: no figure of differences, since {why}")


def _left_out(found: Shown, stem: str) -> Iterator[str]:
    """Methods that means lack, and more methods than a figure should hold."""
    for name, records in found.records.items():
        lacking = [each for each in found.covered.datasets if not records.get(each)]
        if lacking:
            yield f"{stem}: {name} is in no mean, since it lacks {', '.join(lacking)}"
    if len(found.accuracies) > MANY:
        yield (
            f"{stem}: {len(found.accuracies)} methods in one figure are hard to tell apart; "
            "--method chooses some"
        )


def _stem(setting: EvaluationSetting) -> str:
    """What tells the files of one setting from those of others."""
    protocol = [] if setting.evaluation == FEW_SHOT else [setting.evaluation, setting.learned_on]
    names = [setting.suite, setting.backbone, setting.weights_digest[:8], *protocol]
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join([*filter(None, names), setting.classes]))


def _save(figure: Figure, path: Path) -> list[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files = [path.with_name(f"{path.name}.pdf"), path.with_name(f"{path.name}.png")]
        figure.savefig(files[0], metadata={"CreationDate": None})
        figure.savefig(files[1], dpi=DOTS)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); choose another folder or free it"
        ) from error
    return files
