"""TransCLIP against its description in numpy, and what `transductive` means for a method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from adapters import transclip
from benchmark import methods
from benchmark.api import Episode, ImageSet, Predictor
from benchmark.conformance import checks, toy
from benchmark.conformance.subject import ContractViolation, Subject
from benchmark.report import grouping, ranking, tables
from benchmark.report.headings import headings
from testbed.synthetic import identity, scored
from tests import features64
from tests.test_closed_forms import Array, predicted, query, zero_shot


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def naive(given: Episode, gamma: float, lam: float = 0.5, tau: float = 50.0) -> tuple[Array, Array]:
    """Image by image and class by class: z and mu after ten rounds."""
    f, text = query(), given.text_features().numpy()
    s, labels = given.support.images.features().numpy(), given.support.labels_N.numpy()
    n, classes, dim = len(f), len(text), f.shape[1]
    y = softmax(features64.SCALE * f @ text.T)
    near = np.zeros((n, n))
    for q in range(n):
        others = [o for o in range(n) if o != q]
        for o in sorted(others, key=lambda o: -f[q] @ f[o])[:3]:
            near[q, o] = f[q] @ f[o]
    mu, variance, z = np.zeros((classes, dim)), np.full(dim, 1 / dim), y
    for k in range(classes):
        own = s[labels == k] if (labels == k).any() else f[np.argsort(-y[:, k])[:8]]
        mu[k] = own.mean(0) / np.linalg.norm(own.mean(0))
    for _ in range(10):
        for _ in range(5):
            score = np.zeros((n, classes))
            for q in range(n):
                for k in range(classes):
                    likely = -((f[q] - mu[k]) ** 2 / variance).sum() / 2
                    pull = sum((near[q, o] + near[o, q]) * z[o, k] for o in range(n))
                    score[q, k] = lam * np.log(y[q, k]) + (likely + tau / 6 * pull) / tau
            z = softmax(score)
        for k in range(classes):
            weights = [z[q, k] / n for q in range(n)] + [
                tau * gamma / len(s) * (label == k) for label in labels
            ]
            rows = np.concatenate([f, s])
            mu[k] = np.average(rows, axis=0, weights=weights)
        total, spread = 0.0, np.zeros(dim)
        for k in range(classes):
            for q in range(n):
                spread, total = spread + z[q, k] / n * (f[q] - mu[k]) ** 2, total + z[q, k] / n
            for row, label in zip(s, labels, strict=True):
                if label == k:
                    spread = spread + tau * gamma / len(s) * (row - mu[k]) ** 2
                    total += tau * gamma / len(s)
        variance = spread / total
    return z, mu


@pytest.mark.parametrize("counts", [(4, 1, 6), (4, 0, 2)])
def test_transclip_is_its_naive_twin(counts: tuple[int, ...]) -> None:
    given = features64.episode(counts, val=False)
    ours = predicted("transclip", given, support_weight=0.2)
    z, _ = naive(given, 0.2)
    np.testing.assert_allclose(softmax(ours), z, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(softmax(ours).sum(1), 1)


def test_without_neighbours_and_with_much_weight_on_the_text_it_is_zero_shot() -> None:
    given = features64.episode(val=False)
    ours = predicted("transclip", given, neighbours=0, text_weight=1e6)
    assert (ours.argmax(1) == zero_shot(given).argmax(1)).all()
    np.testing.assert_allclose(ours / 1e6, zero_shot(given), atol=1e-3)
    apart = predicted("transclip", given, text_weight=0.0)
    assert (apart.argmax(1) != zero_shot(given).argmax(1)).any()


def test_a_validation_image_stands_for_its_nearest_test_image() -> None:
    given = features64.episode((2, 2, 2))
    predicted("transclip", given, support_grid="0.002,0.5,5")
    assert given.val is not None
    nearest = (given.val.images.features().numpy() @ query().T).argmax(1)
    labels = given.val.labels_N.numpy()
    right = {
        gamma: int((naive(given, gamma)[0][nearest].argmax(1) == labels).sum())
        for gamma in (0.002, 0.5, 5.0)
    }
    assert given.notes["val_correct"] == max(right.values())
    assert right[given.notes["support_weight"]] == max(right.values())


def test_each_image_has_its_nearest_others_and_is_one_of_theirs() -> None:
    image_QD = features64.queries().features()
    near_QQ = transclip.affinity(image_QD, 3).to_dense()
    assert torch.equal(near_QQ, near_QQ.T)
    assert not near_QQ.diagonal().any()
    assert ((near_QQ != 0).sum(1) >= 3).all()
    assert not transclip.affinity(image_QD[:1], 3).to_dense().any()


def test_neighbours_are_looked_for_once_for_all_of_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, affinity = [], transclip.affinity
    monkeypatch.setattr(transclip, "affinity", lambda *each: calls.append(1) or affinity(*each))
    predicted("transclip", features64.episode((2, 2, 2)), support_grid="0.002,0.5,5")
    assert len(calls) == 1


# --- the tag


@dataclass(frozen=True)
class Centred:
    """Images less their mean: the least that is transductive, where it says so."""

    title: ClassVar[str] = "Centred"
    paper: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True
    transductive: ClassVar[bool] = True
    how: str = "mean"

    def fit(self, episode: Episode) -> Predictor:
        text_KD = episode.text_features()

        def predict(images: ImageSet) -> torch.Tensor:
            image_QD = images.features()
            mean_D = {"mean": image_QD.mean(0), "first": image_QD[0], "alone": 0.0}[self.how]
            return (image_QD - mean_D) @ text_KD.T

        return predict


@pytest.mark.parametrize(
    ("how", "problem"), [("mean", ""), ("first", "shuffled images"), ("alone", "leave `transd")]
)
def test_the_contract_asks_a_transductive_method_for_what_it_says(
    how: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject: Any = Subject("transclip")
    monkeypatch.setattr(methods, "load", lambda *_: Centred(how))
    if not problem:
        checks.of_the_whole_set(subject)
        with pytest.raises(ContractViolation, match="depend on the images beside it"):
            checks.image_by_image(subject)
        return
    with pytest.raises(ContractViolation, match=problem):
        checks.of_the_whole_set(subject)


def test_transductive_rows_are_named_come_last_and_are_ranked_among_themselves() -> None:
    methods_at = {"coop": 0.5, "kgcoop": 0.3, "transclip": 0.9}
    records = [
        scored(identity(method, seed=seed), accuracy + 0.01 * seed)
        for method, accuracy in methods_at.items()
        for seed in (1, 2, 3)
    ]
    other = [
        replace_record(scored(identity("lab.joint", seed=seed), 0.6 + 0.01 * seed))
        for seed in (1, 2, 3)
    ]
    groups = grouping.group_records([*records, *other])
    ((_, variants),) = groups.items()
    titles = headings(variants)
    assert [titles[each] for each in variants][:2] == ["CoOp", "KgCoOp"]
    (marks,) = ranking.column_marks(variants, [(4, ["tiny_digits"])])
    best = {titles[each] for each, mark in marks.items() if mark == "best"}
    assert best == {"CoOp", "TransCLIP, transductive"}
    (table,) = tables.tables(groups, "method-shots")
    assert any("all test images are classified together" in note for note in table.notes)


def replace_record(record: Any) -> Any:
    """As the harness marks a record of a method that says it is transductive."""
    return record.model_copy(update={"provenance": {**record.provenance, "transductive": True}})


def test_episodes_of_the_toy_are_answered_together() -> None:
    given = replace(toy.episode(), notes={})
    predict = methods.load("transclip").fit(given)
    predict(toy.held_out().images)
    assert given.notes["selection"] == "val"
