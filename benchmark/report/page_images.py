"""Test images on which methods disagree: thumbnails, true labels, and what every record said of
them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmark import data
from benchmark.errors import UserError
from benchmark.protocols import ALL
from benchmark.records.record import Record
from benchmark.report.grouping import GroupedRecords
from benchmark.report.image_results import ImageResults

if TYPE_CHECKING:
    import numpy as np

SIDE_PX = 96
PER_DATASET = 48


Thumbnails = dict[str, bytes]  # path below the page's folder of images -> PNG


def pictured(groups: GroupedRecords, results: ImageResults) -> tuple[dict[str, Any], Thumbnails]:
    """Dataset -> what the page shows of its images, and their thumbnails, a folder per dataset.

    Only of datasets that are here, with predictions beside at least two records, and unchanged
    since.
    """
    shown_by_dataset: dict[str, Any] = {}
    thumbnails: Thumbnails = {}
    for dataset, records in _by_dataset(groups).items():
        pngs: dict[int, bytes] = {}
        shown = _disagreements(records, results, pngs)
        if shown:
            shown_by_dataset[dataset] = shown
            thumbnails |= {f"{dataset}/{index}.png": png for index, png in pngs.items()}
    return shown_by_dataset, thumbnails


def _by_dataset(groups: GroupedRecords) -> dict[str, list[tuple[int, Record]]]:
    """dataset -> (variant's place in the index, record), of records on all classes: halves have
    test images of their own.
    """
    records_of: dict[str, list[tuple[int, Record]]] = {}
    number = 0
    for variants in groups.values():
        for by_dataset in variants.values():
            for dataset, records in by_dataset.items():
                whole = [each for each in records if each.identity.classes == ALL]
                records_of.setdefault(dataset, []).extend((number, each) for each in whole)
            number += 1
    return records_of


def _disagreements(
    records: Sequence[tuple[int, Record]], results: ImageResults, pngs: dict[int, bytes]
) -> dict[str, Any] | None:
    """What the page shows of the images of one dataset, whose thumbnails are added to `pngs`."""
    hits = {record.key: results.right_Q(record) for _, record in records}
    judged = [(variant, record) for variant, record in records if hits.get(record.key) is not None]
    if len(judged) < 2:
        return None
    chosen = _most_divided({key: hit for key, hit in hits.items() if hit is not None})
    table = results.images(judged[0][1])
    assert table is not None, "only records whose images are here are judged"
    pngs |= {index: png for index in chosen if (png := _thumbnail(table, index))}
    return {
        "images": [[index, int(table.labels[index])] for index in pngs],
        "said": [_answers(variant, record, list(pngs), results) for variant, record in judged],
    }


def _answers(
    variant: int, record: Record, shown: Sequence[int], results: ImageResults
) -> list[object]:
    """What one record's run predicted for each image that is shown."""
    predicted_Q = results.predicted_Q(record)
    assert predicted_Q is not None, "only records with predictions are shown"
    classes = [int(predicted_Q[index]) for index in shown]
    return [variant, record.identity.shots, record.identity.seed, classes]


def _most_divided(hits: Mapping[str, np.ndarray[Any, Any]]) -> list[int]:
    """The images that about half of the records get right, most divided first."""
    import numpy as np

    share_Q = np.mean(list(hits.values()), axis=0)
    divided_Q = share_Q * (1 - share_Q)
    order = np.argsort(-divided_Q, kind="stable")[:PER_DATASET]
    return [int(index) for index in order if divided_Q[index] > 0]


def _thumbnail(table: data.ImageTable, index: int) -> bytes:
    """A PNG; nothing where the picture cannot be read, which does not cost the page."""
    try:
        picture = table.open(index)
    except UserError:
        return b""
    picture.thumbnail((SIDE_PX, SIDE_PX))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()
