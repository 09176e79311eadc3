"""The page: one folder that opens from disk, without a server and without anything fetched from
elsewhere.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from benchmark.errors import UserError
from benchmark.report import page_data, page_images
from benchmark.report.calibration import Calibrations
from benchmark.report.grouping import GroupedRecords
from benchmark.report.image_results import ImageResults
from benchmark.report.page_details import details, record_lists
from benchmark.report.page_script import script
from benchmark.report.published_table import PublishedResult, disputed, read_published

BROWSER = Path(__file__).parent / "browser"
CODE = (  # in this order
    *("elements", "texts", "choices", "measures", "tables", "matrix", "downloads"),
    *("curves", "ranking", "records", "details", "images", "start"),
)
MARK = '<meta name="generator" content="fsbench report">'


def write_page(
    folder: Path,
    groups: GroupedRecords,
    images: ImageResults,
    pictures: bool = True,
) -> int:
    """Write the page into `folder`, with `pictures` of test images; returns its bytes without them.
    Refuses a folder that holds something else.
    """
    _check(folder)
    found = Calibrations(images.store)
    index = page_data.index(groups, images, found)
    shown, thumbnails = page_images.pictured(groups, images) if pictures else ({}, {})
    files = {
        f"{kind}/{each.name}.js": script("detail", f"{kind}/{each.name}", each.content)
        for kind, made in (
            ("lists", record_lists(groups)),
            ("records", details(groups, images, found)),
        )
        for each in made
    }
    files |= {
        f"images/{dataset}.js": script("pictures", dataset, content)
        for dataset, content in shown.items()
    }
    files |= {
        "data.js": script("results", asdict(index) | {"pictured": sorted(shown)}),
        "index.html": _html(groups),
    }
    _clear(folder)  # only now, when nothing can be missing any more
    for name, png in thumbnails.items():
        _save(folder / "images" / name, png)
    for name, text in files.items():
        _save(folder / name, text.encode())
    return sum(len(text.encode()) for text in files.values())


def _check(folder: Path) -> None:
    """An own page may be written over; anything else in the way is left alone."""
    if not folder.exists():
        return
    page = folder / "index.html"
    ours = page.is_file() and MARK in page.read_text(encoding="utf-8", errors="replace")
    if not folder.is_dir() or (any(folder.iterdir()) and not ours):
        raise UserError(
            f"{folder} holds something that is not a report; give --html a new or empty folder"
        )


def _clear(folder: Path) -> None:
    """Remove the parts of an earlier page."""
    for stale in [
        *folder.glob("lists/*.js"),
        *folder.glob("records/*.js"),
        *folder.glob("images/*.js"),
        *folder.glob("images/*/*.png"),
    ]:
        stale.unlink()


def _save(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); choose another folder or free it"
        ) from error


def _html(groups: GroupedRecords) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(BROWSER), autoescape=True, undefined=StrictUndefined
    )
    records = sum(
        len(records)
        for variants in groups.values()
        for datasets in variants.values()
        for records in datasets.values()
    )
    style = (BROWSER / "page.css").read_text(encoding="utf-8")
    code = "\n".join((BROWSER / f"{name}.js").read_text(encoding="utf-8") for name in CODE)
    return environment.get_template("page.html.j2").render(
        mark=MARK, style=style, code=code, records=records, disputed=_disputed(groups)
    )


def _disputed(groups: GroupedRecords) -> list[list[PublishedResult]]:
    """The disputed published cells on datasets and backbones of this page."""
    shown = {
        (dataset, setting.backbone)
        for setting, variants in groups.items()
        for datasets in variants.values()
        for dataset in datasets
    }
    cells = disputed(read_published())
    return [rows for rows in cells if (rows[0].dataset, rows[0].backbone) in shown]
