"""Real weights on real photographs: EfficientNet-Lite0 on Caltech101, as recorded in results/real.

Needs the dependency group `real` and the data; `nox -s real` runs all shots and all test images,
elsewhere a part of them is enough (`--real-shots`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmark import Cell, Store, data, few_shot, run
from benchmark.records.record import Record
from testbed import real_weights

RECORDED = Path(__file__).resolve().parent.parent / "results" / "real"
METHODS = ("nearest_mean", "linear_probe")
SHOTS = (1, 2, 4, 8, 16)
SEEDS = (1, 2, 3)
TOLERANCE = 0.003  # of an accuracy, in [0, 1]
APART = 2  # test images on which an independent extraction may decide otherwise


def recorded() -> dict[tuple[str, int, int], Record]:
    """The committed records, by method, shots and seed."""
    records = Store(RECORDED).records()
    return {(r.identity.method, r.identity.shots, r.identity.seed): r for r in records}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip(real_weights.PACKAGE, reason="needs the dependency group 'real'")
    file = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    real_weights.write(file)
    return file


@pytest.fixture(scope="module")
def shots(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return tuple(int(each) for each in request.config.getoption("--real-shots").split(","))


@pytest.fixture(scope="module")
def results(
    weights: Path,
    shots: tuple[int, ...],
    data_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Store:
    """Records and predictions of both methods, computed here."""
    if not (data_root / "caltech-101" / "101_ObjectCategories").is_dir():
        pytest.skip("the data root has no Caltech101")
    cells = [
        Cell(
            method=method,
            dataset="caltech101",
            shots=given,
            seed=seed,
            backbone=f"timm:{real_weights.ARCH}/{weights}",
        )
        for method in METHODS
        for given in shots
        for seed in SEEDS
    ]
    store = Store(tmp_path_factory.mktemp("real"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FSBENCH_CACHE", str(tmp_path_factory.mktemp("real-cache")))
        patch.setattr("benchmark.features.encoding.THREADS", 2)
        failures = [each.error for each in run(cells, store, root=data_root) if not each.record]
    assert failures == []
    return store


def means(records: dict[tuple[str, int, int], Record]) -> dict[tuple[str, int], float]:
    accuracies: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for (method, given, _), record in records.items():
        accuracies[method, given].append(record.accuracy)
    return {name: fmean(values) for name, values in accuracies.items()}


def test_the_records_are_whole() -> None:
    records = recorded()
    assert set(records) == {(m, k, seed) for m in METHODS for k in SHOTS for seed in SEEDS}
    for record in records.values():
        assert sum(record.counts.total) == 2465
        assert not record.provenance["changed_data"]
        assert not record.provenance["dirty"]


def test_the_page_beside_the_records_says_what_is_in_them() -> None:
    lines = (RECORDED / "README.md").read_text().splitlines()
    shown_rows = [line for line in lines if re.match(r"\| .* \| \d\d\.", line)]
    rows = dict(zip(METHODS, shown_rows, strict=True))
    for method, row in rows.items():
        shown = [float(value) for value in re.findall(r"(\d\d\.\d) ±", row)]
        assert shown == [round(100 * means(recorded())[method, given], 1) for given in SHOTS]


def test_accuracies_are_those_on_record(results: Store, shots: tuple[int, ...]) -> None:
    now = {(r.identity.method, r.identity.shots, r.identity.seed): r for r in results.records()}
    before = means(recorded())
    for name, mean in means(now).items():
        assert abs(mean - before[name]) <= TOLERANCE, f"{name}: {mean} now, {before[name]} then"


def test_the_weights_are_whole_under_their_new_names(weights: Path) -> None:
    import timm

    model = timm.create_model(real_weights.ARCH)
    assert not any(model.load_state_dict(load_file(weights), strict=True))


# --- an extraction that shares no code with the suite


def independent_features(weights: Path, root: Path, keys: list[str]) -> Tensor:
    """image_ND by timm's own model and timm's own transform, one picture at a time."""
    import timm
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    model = timm.create_model(real_weights.ARCH, checkpoint_path=str(weights)).eval()
    transform = create_transform(**resolve_data_config({}, model=model))
    rows = []
    for key in keys:
        with Image.open(root / "caltech-101" / key) as picture, torch.no_grad():
            pixels_1CHW = transform(picture.convert("RGB"))[None]
            rows.append(model.forward_head(model.forward_features(pixels_1CHW), pre_logits=True)[0])
    image_ND = torch.stack(rows).double()
    return image_ND / image_ND.norm(dim=1, keepdim=True)


@pytest.mark.filterwarnings("ignore:The number of unique classes")  # one image of each
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # as on record
def test_an_independent_extraction_decides_the_same(
    results: Store, shots: tuple[int, ...], weights: Path, data_root: Path
) -> None:
    """Of one shot and the first seed; by scikit-learn's regression at the C on record."""
    from sklearn.linear_model import LogisticRegression

    dataset = data.load("caltech101", data_root)
    support, _ = few_shot(dataset.train.labels, dataset.val.labels, shots[0], seed=1)
    tested = range(0, len(dataset.test), 1 if shots == SHOTS else 5)
    keys = [dataset.train.keys[i] for i in support] + [dataset.test.keys[i] for i in tested]
    image_ND = independent_features(weights, data_root, keys).numpy()
    labels = np.array([dataset.train.labels[i] for i in support])
    train, test = image_ND[: len(support)], image_ND[len(support) :]
    means_KD = np.stack([train[labels == label].mean(0) for label in range(100)])
    decided = {
        "nearest_mean": (test @ (means_KD / np.linalg.norm(means_KD, axis=1)[:, None]).T).argmax(1)
    }
    for record in results.records():
        named = record.identity
        if (named.shots, named.seed) != (shots[0], 1):
            continue
        if named.method == "linear_probe":
            model = LogisticRegression(C=record.notes["C"], max_iter=1000).fit(train, labels)
            decided["linear_probe"] = model.predict(test)
        predicted = results.predictions(record.key)[list(tested)]
        apart = int((decided[named.method] != predicted).sum())
        assert apart <= APART, f"{named.method}: {apart} of {len(predicted)} images apart"
