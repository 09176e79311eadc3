"""The figures of a paper: accuracy against shots, against cost, and differences to a baseline. PDF
and PNG, safe for colour-blind eyes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError, nearest
from benchmark.protocols import FEW_SHOT
from benchmark.report import significance
from benchmark.report.averages import (
    Average,
    MeanAccuracy,
    accuracies_by_shots,
    mean_over_datasets,
    mean_over_seeds,
)
from benchmark.report.grouping import GroupedRecords
from benchmark.report.headings import headings
from benchmark.report.variants import (
    DatasetRecords,
    EvaluationSetting,
    MethodVariant,
    VariantRecords,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours without their yellow, which is too pale on paper; markers and dashes tell
# the rest apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#808080")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
PANEL_IN = (2.5, 2.1)
ACROSS = 4  # panels in a row
GREY = "0.4"  # of methods that do not learn

# dataset -> shots -> seed -> accuracy
DatasetCurves = dict[str, dict[int, dict[int | None, float]]]


def write_figures(folder: Path, groups: GroupedRecords, baseline: str | None = None) -> list[Path]:
    """Draw all figures of all settings into `folder`; returns the files. Raises UserError for an
    unknown baseline.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "pdf.fonttype": 42,
    }
    paths = [
        path
        for setting, variants in groups.items()
        for path in _write(folder, setting, variants, baseline)
    ]
    if not paths:
        raise UserError("there is nothing to draw: no few-shot results among these records")
    return paths


def _write(
    folder: Path, setting: EvaluationSetting, variants: VariantRecords, baseline: str | None
) -> Iterator[Path]:
    heading_of = headings(variants)
    numbers = {
        heading_of[variant]: _numbers(setting, datasets)
        for variant, datasets in variants.items()
        if variant.ranked
    }
    shots = sorted(
        {
            shot
            for curves_of in numbers.values()
            for by_shots in curves_of.values()
            for shot in by_shots
            if shot
        }
    )
    if not shots:
        return
    stem = re.sub(
        r"[^A-Za-z0-9.]+",
        "-",
        "-".join([*_names_of(setting), setting.classes]),
    )
    yield from _save(curves(setting, numbers, shots), folder / f"curves-{stem}")
    costs = {
        heading_of[variant]: _cost_s(setting, datasets, shots[-1])
        for variant, datasets in variants.items()
        if variant.ranked
    }
    yield from _save(cost(setting, numbers, costs, shots[-1]), folder / f"cost-{stem}")
    against = _baseline(numbers, {heading_of[variant]: variant for variant in variants}, baseline)
    if against and len(numbers) > 1:
        yield from _save(
            differences(setting, numbers, against, shots[-1]), folder / f"differences-{stem}"
        )


def _save(figure: Figure, path: Path) -> list[Path]:
    from matplotlib import pyplot

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files = [path.with_name(f"{path.name}.pdf"), path.with_name(f"{path.name}.png")]
        figure.savefig(files[0], bbox_inches="tight", metadata={"CreationDate": None})
        figure.savefig(files[1], bbox_inches="tight", dpi=200)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); choose another folder or free it"
        ) from error
    finally:
        pyplot.close(figure)
    return files


def _names_of(setting: EvaluationSetting) -> list[str]:
    """What tells the files of one setting from those of others."""
    protocol = [] if setting.evaluation == FEW_SHOT else [setting.evaluation, setting.learned_on]
    names = [setting.suite, setting.backbone, setting.weights_digest[:8], *protocol]
    return list(filter(None, names))


def _title(setting: EvaluationSetting) -> str:
    task = f", {setting.task}" if setting.task else ""
    return f"suite {setting.suite}, backbone {setting.backbone}{task}"


def _numbers(setting: EvaluationSetting, datasets: DatasetRecords) -> DatasetCurves:
    return {dataset: accuracies_by_shots(datasets.get(dataset, ())) for dataset in setting.members}


def _values(numbers: DatasetCurves, dataset: str | None) -> dict[int, MeanAccuracy]:
    """shots -> score, of a dataset or (None) of the mean over all of them where none is missing."""
    shots = {shot for by_shots in numbers.values() for shot in by_shots}
    averages: dict[int, Average] = {}
    for shot in sorted(shots):
        at = [by_shots.get(shot) for by_shots in numbers.values()]
        by_seed = numbers[dataset].get(shot) if dataset else None
        averages[shot] = (
            (mean_over_seeds(by_seed) if by_seed else None) if dataset else mean_over_datasets(at)
        )
    return {shot: value for shot, value in averages.items() if isinstance(value, MeanAccuracy)}


def _style(index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
        "markersize": 4,
        "linewidth": 1.3,
    }


def curves(
    setting: EvaluationSetting, numbers: Mapping[str, DatasetCurves], shots: Sequence[int]
) -> Figure:
    """One panel for the mean, one per dataset; bars are 95 % t-intervals over seeds. Methods
    without shots are level variants.
    """
    from matplotlib import pyplot

    present = [
        dataset
        for dataset in setting.members
        if any(method[dataset] for method in numbers.values())
    ]
    panels: list[str | None] = [None, *present] if len(setting.members) > 1 else list(present)
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure, grid = pyplot.subplots(
        down,
        across,
        figsize=(PANEL_IN[0] * across, PANEL_IN[1] * down),
        squeeze=False,
        layout="constrained",
    )
    for axes, dataset in zip(grid.flat, panels, strict=False):
        _panel(axes, numbers, dataset, shots)
        axes.set_title(
            dataset or f"mean of {len(setting.members)} datasets",
            fontweight="normal" if dataset else "bold",
        )
    _finish(list(grid.flat), len(panels), across, "images per class")
    figure.supylabel("accuracy in %")
    _legend(figure, list(grid.flat))
    return figure


def _finish(panels: Sequence[Axes], used: int, across: int, label: str) -> None:
    """Hide panels that nothing was drawn in, and label the lowest of every column."""
    for place, axes in enumerate(panels):
        axes.set_visible(place < used)
        if used - across <= place < used:
            axes.set_xlabel(label)
            axes.tick_params(labelbottom=True)


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Every method once, though it may be missing from some panels."""
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False
    )


def _panel(
    axes: Axes, numbers: Mapping[str, DatasetCurves], dataset: str | None, shots: Sequence[int]
) -> None:
    places = {shot: place for place, shot in enumerate(shots)}
    for index, (name, method) in enumerate(numbers.items()):
        values = _values(method, dataset)
        if 0 in values:
            axes.axhline(100 * values[0].mean, color=GREY, linestyle=":", linewidth=1.5, label=name)
        trained = {shot: value for shot, value in values.items() if shot}
        if trained:
            shift = (index - len(numbers) / 2) * 0.02
            axes.errorbar(
                [places[shot] + shift for shot in trained],
                [100 * value.mean for value in trained.values()],
                yerr=[100 * _half(value) for value in trained.values()],
                elinewidth=0.7,
                label=name,
                **_style(index),
            )
    axes.set_xticks(range(len(shots)), [str(shot) for shot in shots])
    axes.grid(axis="y", color="0.9", linewidth=0.6)


def _half(value: MeanAccuracy) -> float:
    """Half the interval over seeds; no bar for one seed."""
    return (
        significance.half_width(value.std, value.count)
        if value.std is not None and value.count > 1
        else 0.0
    )


def _cost_s(setting: EvaluationSetting, datasets: DatasetRecords, shots: int) -> float:
    """Mean seconds of training (pretraining included) per cell at these shots, or of whatever there
    is without shots.
    """
    records = [
        record
        for name in setting.members
        for record in datasets.get(name, ())
        if record.identity.shots in (shots, 0)
    ]
    return (
        sum(record.costs.pretrain_s + record.costs.fit_s for record in records) / len(records)
        if records
        else 0.0
    )


def cost(
    setting: EvaluationSetting,
    numbers: Mapping[str, DatasetCurves],
    costs: Mapping[str, float],
    shots: int,
) -> Figure:
    """Accuracy against seconds of training, one point per method at the most shots there are."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(4.6, 3.2), layout="constrained")
    whole = None if len(setting.members) > 1 else setting.members[0]
    for index, (name, one) in enumerate(numbers.items()):
        values = _values(one, whole)
        value = values.get(shots) or values.get(0)
        if value:
            style = (
                _style(index)
                | {"linestyle": "none", "markersize": 6}
                | ({} if shots in values else {"color": GREY})
            )
            axes.errorbar(
                max(costs[name], 1e-3),
                100 * value.mean,
                yerr=100 * _half(value),
                elinewidth=0.8,
                label=name,
                **style,
            )
    axes.set_xscale("log")
    axes.set_xlabel("seconds of training per run; without any at the left edge")
    axes.set_ylabel("accuracy in %" + ("" if whole else f", mean of {len(setting.members)}"))
    axes.set_title(f"{shots}-shot, {_title(setting)}")
    axes.grid(color="0.9", linewidth=0.6)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _baseline(
    numbers: Mapping[str, DatasetCurves], variants: Mapping[str, MethodVariant], wanted: str | None
) -> str | None:
    """The heading of the baseline: the one asked for by method or heading, else the first method
    that needs no shots.
    """
    if wanted is None:
        return next((name for name in numbers if variants[name].sampler == "none"), None)
    matching = [name for name in numbers if wanted in (name, variants[name].method)]
    if not matching:
        raise UserError(
            f"no row has the method '{wanted}' to be a baseline; {nearest(wanted, list(numbers))}"
        )
    return matching[0]


def differences(
    setting: EvaluationSetting, numbers: Mapping[str, DatasetCurves], baseline: str, shots: int
) -> Figure:
    """Points gained over a baseline per dataset, a panel per method; bars are 95 % t-intervals of
    paired differences.
    """
    from matplotlib import pyplot

    others = [
        name
        for name in numbers
        if name != baseline and any(by_shots.get(shots) for by_shots in numbers[name].values())
    ]
    across = min(ACROSS, max(1, len(others)))
    down = max(1, -(-len(others) // across))
    present = list(setting.members)
    size = (PANEL_IN[0] * across, (0.6 + 0.2 * len(present)) * down + 0.6)
    figure, grid = pyplot.subplots(
        down, across, figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    for axes, name in zip(grid.flat, others, strict=False):
        _bars(axes, present, numbers[name], numbers[baseline], shots)
        axes.set_title(name)
    _finish(list(grid.flat), len(others), across, "points")
    figure.suptitle(f"Points over {baseline}, {shots}-shot, {_title(setting)}")
    return figure


def _bars(
    axes: Axes, datasets: Sequence[str], one: DatasetCurves, other: DatasetCurves, shots: int
) -> None:
    for place, dataset in enumerate(reversed(datasets)):
        first, second = (
            numbers[dataset].get(shots) or numbers[dataset].get(0) for numbers in (one, other)
        )
        if first and second:
            gaps = list(significance.seed_gaps(first, second).values())
            found = significance.paired_t(gaps)
            half = 100 * (found.high - found.mean) if found else 0.0
            mean = 100 * sum(gaps) / len(gaps) if gaps else 0.0
            axes.barh(
                place,
                mean,
                xerr=half,
                color=COLOURS[0] if mean > 0 else COLOURS[1],
                alpha=0.75,
                error_kw={"elinewidth": 0.8},
            )
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(datasets)), list(reversed(datasets)))
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
