"""The page in a real browser, opened from disk: the matrix and its files, the address, records,
images, keyboard, narrow screens, paper; and no error.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import data, methods
from benchmark.errors import UserError
from benchmark.records.record import Record, Scalar, key
from benchmark.records.store import Store
from benchmark.report import grouping, page, page_data, page_names, page_script, page_views
from benchmark.report.calibration import Calibrations
from benchmark.report.image_results import ImageResults
from testbed import chromium
from testbed.study import study
from testbed.synthetic import (
    CLASSIC,
    TINY,
    digest,
    grid,
    guesses,
    identity,
    scored,
    with_predictions,
)

needs_browser = pytest.mark.skipif(
    not chromium.browser_path(), reason="no Chromium here: apt-get install chromium"
)


def judged(method: str, seed: int, hit: float, store: Store) -> Record:
    """A record on tiny_digits with predictions beside it."""
    named = identity(method, shots=16, seed=seed)
    return with_predictions(named, guesses("tiny_digits", hit, seed), store, {"alpha": 1.5})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two suites. Of the tiny one: a hole, an attack in a name, images of one dataset. Of
    the classic one: a study of 17 rows with a hole, and one dataset alone with another backbone.
    """
    base = tmp_path_factory.mktemp("page")
    store = Store(base / "store")
    some = [
        record
        for record in grid(["coop", "linear_probe"], shots=(1, 16))
        if (record.identity.dataset, record.identity.shots) != ("tiny_digits", 16)
    ]
    records = [
        *some,
        *(
            judged(method, seed, hit, store)
            for method, hit in (("coop", 0.8), ("linear_probe", 0.5))
            for seed in (1, 2, 3)
        ),
    ]
    records += grid(["coop", "gda"], ["dtd"], backbones=("ViT-B-16/openai",))
    records = [record.model_copy(update={"identity": now(record)}) for record in records]
    records += [
        scored(identity("evil.</script><script>alert(1)</script>", name), 0.5) for name in TINY
    ]
    records += [
        record
        for record in study(16, 1, missing=0, shots=(1, 16), seeds=(1, 2))
        if (record.identity.method, record.identity.dataset) != ("gda", "dtd")
    ]
    page.write_page(base / "page", grouping.group_records(records), ImageResults(store))
    return base / "page"


def now(record: Record):  # type: ignore[no-untyped-def]
    return record.identity.model_copy(
        update={"dataset_digest": data.read_spec(record.identity.dataset).digest}
    )


@pytest.fixture(scope="module")
def tab(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.tab(folder / "index.html", tmp_path_factory.mktemp("profile")) as opened:
        opened.screen(1280, 900)
        yield opened
        assert opened.errors == []  # over everything the tests below did


NOTHING = "\N{EN DASH}"
CLASSIC_16 = "suite=classic&backbone=RN50/openai&shots=16"
TINY_16 = "suite=tiny&shots=16"


def go(tab: chromium.Tab, address: str) -> None:
    """What somebody who was sent this address sees."""
    tab.ask(f"location.hash = {json.dumps(address)}")
    tab.until("location.hash.includes('protocol=')")  # the page has made it whole


def column(tab: chromium.Tab, name: str, table: str = "matrix", body: str = "tbody") -> list[str]:
    """The texts of a column, without what only screen readers say."""
    return list(
        tab.ask(
            f"Array.from(document.querySelectorAll('#{table} {body} [data-label=\"{name}\"]'),"
            " (cell) => { const copy = cell.cloneNode(true);"
            " copy.querySelectorAll('.quiet').forEach((one) => one.remove());"
            " return copy.textContent.trim(); })"
        )
    )


def press(tab: chromium.Tab, heading: str, table: str = "matrix") -> str:
    """Click a heading; returns how its column is sorted afterwards."""
    button = f"document.querySelector('#{table} [data-column=\"{heading}\"]')"
    tab.ask(f"{button}.click()")
    return str(tab.ask(f"{button}.parentElement.getAttribute('aria-sort')"))


def set_field(tab: chromium.Tab, which: str, value: str) -> None:
    tab.ask(
        f"(() => {{ const field = document.getElementById('f-{which}'); "
        f"field.value = {json.dumps(value)}; "
        "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind)); })()"
    )


def choose(tab: chromium.Tab, which: str, label: str) -> None:
    wanted = json.dumps(label)
    tab.ask(
        f"(() => {{ const s = document.getElementById('{which}'); "
        f"s.value = Array.from(s.options).find((o) => o.textContent.includes({wanted})).value; "
        "s.dispatchEvent(new Event('change')); })()"
    )


def number(text: str) -> float:
    found = re.match(r"[\d.]+", text)
    return float(found[0]) if found else float("-inf")


@needs_browser
def test_headings_sort_and_what_is_missing_stands_last(tab: chromium.Tab) -> None:
    go(tab, CLASSIC_16)
    assert press(tab, "dtd") == "descending"
    for order in ("descending", "ascending"):
        texts = column(tab, "dtd", body="tbody:nth-of-type(1)")
        assert texts[-1] == NOTHING
        numbers = [number(text) for text in texts[:-1]]
        assert numbers == sorted(numbers, reverse=order == "descending")
        press(tab, "dtd")
    assert press(tab, "method") == "ascending"
    names = column(tab, "method", body="tbody:nth-of-type(1)")
    assert names == sorted(names, key=str.lower)
    assert press(tab, "mean") == "descending"
    means = column(tab, "mean", body="tbody:nth-of-type(1)")
    assert sum("★" in text for text in means) == 1


@needs_browser
def test_rows_of_other_coverage_and_rows_that_are_not_ranked_stand_apart(
    tab: chromium.Tab,
) -> None:
    go(tab, CLASSIC_16)
    bodies = [column(tab, "method", body=f"tbody:nth-of-type({at})") for at in (1, 2, 3)]
    assert [len(names) for names in bodies] == [15, 1, 1]
    assert bodies[1] == ["GDA"]
    assert bodies[2][0].startswith("Prompt-Adapter-F")
    assert "(10 of 11)" in column(tab, "mean", body="tbody:nth-of-type(2)")[0]
    assert not any("of" in text for text in column(tab, "mean", body="tbody:nth-of-type(1)"))
    assert "1 of 187 cells missing" in tab.ask("document.getElementById('status').textContent")
    assert column(tab, "missing").count("1") == 1
    assert "GDA" not in column(tab, "method", "board")  # a list of whole means


@needs_browser
def test_one_dataset_of_a_suite_is_shown_as_such(tab: chromium.Tab) -> None:
    go(tab, f"{CLASSIC_16}&precision=float32")
    set_field(tab, "backbone", "ViT-B-16/openai")  # other weights and precision follow
    assert tab.ask("document.getElementById('not-here').textContent") == ""
    heads = tab.ask("document.querySelector('#matrix thead').textContent")
    assert "dtd" in heads
    assert "mean" not in heads, "it would say the same numbers again"
    assert tab.ask("document.getElementById('partial').hidden")
    assert column(tab, "method") == column(tab, "method", "board"), "sorted by the dataset"
    assert "mean" not in tab.ask("document.getElementById('f-dataset').textContent")
    assert tab.ask("document.querySelectorAll('#curves polyline').length") == 2
    go(tab, CLASSIC_16)
    assert tab.ask("document.getElementById('partial').hidden")


@needs_browser
def test_a_view_can_be_sent(tab: chromium.Tab, folder: Path) -> None:
    go(tab, CLASSIC_16)
    set_field(tab, "shots", "1")
    set_field(tab, "methods", "coop, PROMPT_adapter")
    tab.until("chosen.methods !== ''")
    set_field(tab, "show", "per-class")
    set_field(tab, "dataset", "dtd")
    press(tab, "eurosat")
    shown = tab.ask("document.querySelector('main').innerText")
    names = column(tab, "method")
    assert len(names) == 5  # KgCoOp as well
    sent = tab.ask("location.href")
    assert sent.startswith("file://")
    tab.call("Page.navigate", url="about:blank")
    tab.call("Page.navigate", url=sent)
    tab.until("document.readyState === 'complete' && typeof chosen === 'object'")
    assert tab.ask("document.querySelector('main').innerText") == shown
    assert column(tab, "method") == names
    assert tab.ask("document.querySelector('#matrix [aria-sort=descending]').textContent") == (
        "eurosat"
    )
    go(tab, "suite=gone&shots=1")
    told = tab.ask("document.getElementById('not-here').textContent")
    assert "suite “gone”" in told
    assert column(tab, "method")


def downloaded(tab: chromium.Tab, button: str) -> str:
    """The text of the file that a click would save."""
    return str(
        tab.ask(
            "(async () => { const real = URL.createObjectURL; let blob;"
            " URL.createObjectURL = (given) => { blob = given; return real(given); };"
            f" document.getElementById('{button}').click(); URL.createObjectURL = real;"
            " return blob.text(); })()"
        )
    )


@needs_browser
def test_csv_and_latex_hold_what_the_matrix_shows(tab: chromium.Tab) -> None:
    go(tab, f"{CLASSIC_16}&sort=-dtd&spread=yes")
    rows = list(csv.DictReader(io.StringIO(downloaded(tab, "csv"))))
    assert [row["Method"] for row in rows] == column(tab, "method")
    latex = [line for line in downloaded(tab, "latex").splitlines() if line.endswith(r" \\")]
    latex = [line for line in latex if line.count("&") == 13][1:]
    for at, name in ((1, "mean of 11"), *enumerate(CLASSIC, 2)):
        label = "mean" if at == 1 else name
        texts = [re.sub(r"^\(.*?\) ", "", text) for text in column(tab, label)]
        for row, tex, text in zip(rows, latex, texts, strict=True):
            assert row[name] == ("" if text == NOTHING else text.split()[0].rstrip("★≈†"))
            assert (name in row["best"].split("; ")) == ("★" in text)
            assert (name in row["tied"].split("; ")) == ("≈" in text)
            deviation = re.search(r"± ([\d.]+)", text)
            assert row[f"{name} deviation"] == (deviation[1] if deviation else "")
            cell = tex.removesuffix(r" \\").split(" & ")[at]
            assert (row[name] or "--") in cell
            assert ("textbf" in cell, "textit" in cell) == ("★" in text, "≈" in text)
    assert [row["missing"] for row in rows].count("1") == 1


@needs_browser
def test_costs_are_views_and_calibration_where_it_is_kept(tab: chromium.Tab) -> None:
    go(tab, f"{CLASSIC_16}&show=train&sort=mean")
    assert set(column(tab, "mean")) >= {"2.00"}
    assert not any("★" in text for text in column(tab, "dtd"))
    offered = tab.ask("Array.from(document.getElementById('f-show').options, (o) => o.value)")
    assert "ece" not in offered  # no confidences beside these records
    assert {"accuracy", "per-class", "memory", "trainable"} <= set(offered)


@needs_browser
def test_names_are_short_and_long_on_demand(tab: chromium.Tab) -> None:
    go(tab, CLASSIC_16)
    names = column(tab, "method")
    assert max(map(len, names)) <= 30
    assert len(set(names)) == 17
    go(tab, f"{CLASSIC_16}&names=yes")
    assert any(
        "tune_min_steps" in name or "bottleneck=64" in name for name in column(tab, "method")
    )


@needs_browser
def test_whiskers_end_within_the_axes(tab: chromium.Tab) -> None:
    go(tab, f"{CLASSIC_16}&dataset=eurosat")
    assert tab.ask("document.querySelectorAll('#curves .whisker').length") > 8
    points = [{"shots": 1, "y": 0.5, "spread": 0.3}, {"shots": 16, "y": 0.6, "spread": 0.01}]
    curve = {"name": "x", "colour": "red", "dash": "", "shape": "circle", "points": points}
    ends, height = tab.ask(
        f"(() => {{ const picture = chart([{json.dumps(curve)}], 'x');"
        " return [Array.from(picture.querySelectorAll('.whisker'),"
        " (one) => [Number(one.getAttribute('y1')), Number(one.getAttribute('y2'))]),"
        " picture.viewBox.baseVal.height]; })()"
    )
    assert len(ends) == 2
    assert all(10 <= y <= height - 44 for pair in ends for y in pair)
    lengths = [abs(top - bottom) for top, bottom in ends]
    assert lengths[0] == pytest.approx(30 * lengths[1])  # whole, not cut to fit


@needs_browser
def test_a_cell_opens_its_records_with_classes_confusions_and_commands(tab: chromium.Tab) -> None:
    go(tab, f"{TINY_16}&methods=coop")
    tab.ask("document.querySelector('#matrix tbody [data-label=tiny_digits]').click()")
    tab.until("document.querySelectorAll('#r-body .fill').length === 10")
    text = tab.ask("document.getElementById('r-body').textContent")
    assert (
        "python -m benchmark run --method coop --dataset tiny_digits --backbone tiny"
        " --shots 16 --seed 1" in text
    )
    assert re.search(r"benchmark replay ([0-9a-f]{12})", text)
    assert "alpha1.5" in text
    assert tab.ask("document.querySelectorAll('#r-body table tbody tr').length") == 10
    tab.ask(
        "(() => { const s = document.getElementById('r-seed'); s.selectedIndex = 2;"
        " s.dispatchEvent(new Event('change')); })()"
    )
    assert "--shots 16 --seed 3" in tab.ask("document.getElementById('r-body').textContent")
    tab.press("Escape")
    tab.until("!document.getElementById('record').open")


@needs_browser
def test_records_are_loaded_when_they_are_asked_for_and_turned_over_in_pages(
    tab: chromium.Tab,
) -> None:
    go(tab, CLASSIC_16)
    assert column(tab, "key", "record-list") == []
    tab.ask("document.getElementById('records').open = true")
    tab.until("document.querySelectorAll('#record-list tbody tr').length === 100")
    count = 16 * 11 * 2 + 11 - 2
    status = "document.getElementById('records-status').textContent"
    assert tab.ask(status) == f"Records 1 to 100 of {count}."
    for _ in range(3):
        tab.ask("document.getElementById('later').click()")
    assert tab.ask(status) == f"Records 301 to {count} of {count}."
    assert tab.ask("document.getElementById('later').disabled")
    key = column(tab, "key", "record-list")[-1]
    tab.ask("Array.from(document.querySelectorAll('#record-list tbody button')).at(-1).click()")
    tab.until("document.querySelectorAll('#r-body .fill').length > 1")
    assert f"benchmark replay {key}" in tab.ask("document.getElementById('r-body').textContent")
    tab.ask(
        "document.getElementById('close').click(); document.getElementById('records').open = false"
    )


@needs_browser
def test_the_page_can_be_used_from_the_keyboard(tab: chromium.Tab) -> None:
    go(tab, CLASSIC_16)
    tab.ask("document.querySelector('#matrix th:last-child button').focus()")
    tab.press("Tab")
    assert tab.ask("document.activeElement.className") == "open"
    assert tab.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press("Enter")
    tab.until("document.getElementById('record').open")
    assert tab.ask("document.getElementById('record').contains(document.activeElement)")
    assert tab.ask("document.querySelectorAll('#r-body .members button').length") == 11
    tab.press("Escape")
    tab.until("!document.getElementById('record').open")
    assert tab.ask("document.activeElement.className") == "open"
    tab.ask("document.querySelector('#matrix [data-column=dtd]').focus()")
    tab.press("Enter")
    assert tab.ask("document.activeElement.textContent") == "dtd"
    assert tab.ask("document.activeElement.parentElement.getAttribute('aria-sort')") == "descending"
    tables = "Array.from(document.querySelectorAll('#matrix, #board'))"
    assert tab.ask(f"{tables}.every((one) => one.caption.textContent.includes('16-shot'))")
    assert tab.ask(
        f"{tables}.every((one) => one.querySelector('thead th[scope=col]')"
        " && one.querySelector('tbody th[scope=row]'))"
    )


@needs_browser
def test_costs_begin_with_the_least(tab: chromium.Tab) -> None:
    go(tab, f"{CLASSIC_16}&sort=-dtd")
    choose(tab, "f-show", "Seconds of training")
    sorted_by = "document.querySelector('#matrix [aria-sort=ascending]').textContent"
    assert tab.ask(sorted_by) == "dtd"
    choose(tab, "f-show", "Accuracy in %")
    assert tab.ask("document.querySelector('#matrix [aria-sort=descending]').textContent") == "dtd"


@needs_browser
def test_images_that_one_gets_right_and_another_wrong_are_shown(tab: chromium.Tab) -> None:
    tab.until("document.querySelectorAll('#gallery li').length > 0")
    tab.ask("document.getElementById('images').scrollIntoView()")
    tab.until(
        "Array.from(document.querySelectorAll('#gallery img')).slice(0, 3)"
        ".every((image) => image.naturalWidth > 0)"
    )
    shown = tab.ask("document.querySelectorAll('#gallery li').length")
    assert str(shown) == tab.ask("document.getElementById('v-status').textContent").split()[0]
    choose(tab, "v-right", "CoOp, 16-shot, seed 1")
    choose(tab, "v-wrong", "CoOp, 16-shot, seed 1")
    assert tab.ask("document.querySelectorAll('#gallery li').length") == 0


@needs_browser
def test_the_theme_follows_the_system_until_somebody_decides(tab: chromium.Tab) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    tab.screen(1280, 900, dark=True)
    dark = tab.ask(paper)
    tab.screen(1280, 900, dark=False)
    light = tab.ask(paper)
    assert dark != light
    tab.ask("document.getElementById('theme').click()")
    assert tab.ask(paper) == dark
    tab.ask("document.getElementById('theme').click()")
    assert tab.ask(paper) == light


@needs_browser
def test_rows_are_one_line_high_and_nothing_sticks_out(tab: chromium.Tab) -> None:
    go(tab, CLASSIC_16)
    tab.screen(1440, 900)
    for table in ("matrix", "board"):
        rows = f"Array.from(document.querySelectorAll('#{table} tbody tr'))"
        assert tab.ask(f"Math.max(...{rows}.map((row) => row.offsetHeight))") <= 44
        assert tab.ask(
            f"(() => {{ const box = document.getElementById('{table}').parentElement;"
            " return box.scrollWidth <= box.clientWidth; })()"
        )
    for width in (1440, 768, 390):
        tab.screen(width, 844, phone=width == 390)
        assert tab.ask("document.documentElement.scrollWidth") <= width
        room = tab.ask(
            "(() => { const box = document.getElementById('f-task');"
            " const pen = document.createElement('canvas').getContext('2d');"
            " pen.font = getComputedStyle(box).font;"
            " return box.clientWidth - pen.measureText('base-to-new, H of base and new').width;"
            " })()"
        )
        assert room > 30, "for the longest task and its arrow"
    tab.until("document.querySelector('#curves svg').viewBox.baseVal.width < 400")
    for table, main in (("matrix", "mean"), ("board", "accuracy")):
        tab.ask(f"document.getElementById('{table}').parentElement.scrollLeft = 10000")
        shown = {}
        for cell in ("method", main):
            left, right, cut = tab.ask(
                f"(() => {{ const one = document.querySelector('#{table} [data-label={cell}]');"
                " const box = one.getBoundingClientRect();"
                " return [box.left, box.right, one.scrollWidth > one.clientWidth]; })()"
            )
            assert not cut
            shown[cell] = (left, right)
        assert shown["method"][0] >= 0, "in sight wherever the others have gone"
        assert shown["method"][1] <= 390 / 2
        assert shown[main][1] < 390 / 2, "the mean makes room for the datasets"
    tab.ask("document.querySelector('#board .open').click()")
    openings = "Array.from(document.querySelectorAll('#r-body dd'))"
    assert tab.ask(f"Math.min(...{openings}.map((fact) => fact.clientWidth))") > 390 / 3
    tab.ask("document.getElementById('record').close()")
    tab.screen(1280, 900)


@needs_browser
def test_paper_gets_tables_and_no_fields(tab: chromium.Tab) -> None:
    go(tab, CLASSIC_16)
    tab.call("Emulation.setEmulatedMedia", media="print")
    shown = "getComputedStyle(document.getElementById('{}')).display"
    assert tab.ask(shown.format("filters")) == "none"
    assert tab.ask(shown.format("matrix")) == "table"
    assert tab.ask("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    tab.call("Emulation.setEmulatedMedia", media="")


# Without a browser


def test_names_cannot_break_out_of_the_page(folder: Path) -> None:
    text = (folder / "data.js").read_text()
    assert "</script>" not in text
    assert "evil.<\\/script>" in text


def test_a_page_is_written_over_itself_and_never_over_something_else(tmp_path: Path) -> None:
    groups = grouping.group_records(grid(["coop"], shots=(1,)))
    size = page.write_page(tmp_path / "page", groups, ImageResults(Store(tmp_path)))
    stale = tmp_path / "page" / "records" / "99-gone.js"
    stale.write_text("")
    assert page.write_page(tmp_path / "page", groups, ImageResults(Store(tmp_path))) == size
    assert not stale.exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    with pytest.raises(UserError, match="not a report"):
        page.write_page(tmp_path / "thesis", groups, ImageResults(Store(tmp_path)))
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_counts_survive_their_packing() -> None:
    counts = [0, 1, 57, 58, 92, 93, 300, 810, 2000]
    packed = json.loads(page_script.script("x", page_script.packed(counts))[2:-3])
    assert [ord(character) - page_script.FIRST_CHARACTER for character in packed] == counts


def test_ten_thousand_records_stay_under_five_megabytes(tmp_path: Path) -> None:
    methods = [f"method_{index}" for index in range(15)]
    records = [
        record
        for backbone in "abc"
        for record in grid(methods, CLASSIC, (1, 16), (1, 2, 3), (backbone,), classes=199)
    ]
    per_record = page.write_page(
        tmp_path / "page",
        grouping.group_records(records),
        ImageResults(Store(tmp_path)),
        pictures=False,
    ) / len(records)
    assert per_record * 10_000 < 5e6


def test_a_changed_dataset_shows_numbers_for_classes() -> None:
    groups = grouping.group_records([scored(identity(dataset_digest=digest("before")), 0.5)])
    known = page_data.index(groups, ImageResults(Store(Path("nowhere")))).classes
    assert known == {"tiny_digits": [f"class {label}" for label in range(10)]}


def test_of_a_dataset_under_two_digests_the_images_that_are_here_are_shown(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    now = [judged("coop", 1, 0.8, store), judged("linear_probe", 1, 0.5, store)]
    old = [
        each.model_copy(
            update={"identity": each.identity.model_copy(update={"dataset_digest": digest("old")})}
        )
        for each in now
    ]
    old = [each.model_copy(update={"key": key(each.identity)}) for each in old]
    for each, same in zip(old, now, strict=True):
        store.put(each, store.predictions(same.key))
    page.write_page(tmp_path / "page", grouping.group_records([*now, *old]), ImageResults(store))
    names = {path.name for path in (tmp_path / "page" / "images").iterdir()}
    assert names == {"tiny_digits", "tiny_digits.js"}
    assert "tiny_digits@" in (tmp_path / "page" / "data.js").read_text()


def test_a_page_that_cannot_be_made_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    groups = grouping.group_records([judged("coop", 1, 0.8, store)])
    page.write_page(tmp_path / "page", groups, ImageResults(store))
    before = sorted(path for path in (tmp_path / "page").rglob("*"))

    def fails(*_: object) -> None:
        raise UserError("no")

    monkeypatch.setattr(page, "details", fails)
    for folder in ("page", "new"):
        with pytest.raises(UserError, match="no"):
            page.write_page(tmp_path / folder, groups, ImageResults(store))
    assert sorted(path for path in (tmp_path / "page").rglob("*")) == before
    assert not (tmp_path / "new").exists()


def test_published_values_that_disagree_stand_on_pages_of_their_datasets(tmp_path: Path) -> None:
    for backbone, shown in (("ViT-B-16/openai", True), ("RN50/openai", False)):
        groups = grouping.group_records(grid(["coop"], ("eurosat",), backbones=(backbone,)))
        folder = tmp_path / backbone.replace("/", "-")
        page.write_page(folder, groups, ImageResults(Store(tmp_path)))
        text = (folder / "index.html").read_text(encoding="utf-8")
        assert ("Published values that disagree" in text) == shown
        assert ("MaPLe (run by TCP&#39;s authors)" in text) == shown
        assert ">oxford_pets<" not in text


def test_methods_without_a_support_set_stand_in_every_protocol_with_a_mean_of_its_datasets(
    tmp_path: Path,
) -> None:
    records = [scored(identity("zero_shot", name, 0, val="none"), 0.5) for name in TINY]
    records += [scored(identity("coop", name), 0.75) for name in TINY]
    records += [scored(identity("coop", TINY[0], seed=seed, val="none"), 0.7) for seed in (1, 2)]
    ((setting, variants),) = grouping.group_records(records).items()
    results = page_views.Results(setting, variants, page_views.mean_score(variants))
    views = {view.protocol: view for view in page_views.views(results)}
    assert set(views) == {"min(shots, 4) validation images", "no validation images"}
    images, found = ImageResults(Store(tmp_path)), Calibrations(Store(tmp_path))
    rows = {name: view.described(0, images, found)["rows"] for name, view in views.items()}
    assert rows["min(shots, 4) validation images"]["mean"] == [0.5, 0.75]
    assert rows["no validation images"]["mean"] == [0.5, 0.7]
    assert rows["no validation images"]["have"] == [3, 1]
    assert rows["no validation images"]["seeds"] == [1, 2]


def test_what_is_not_ranked_adds_columns_but_no_dataset_to_the_means() -> None:
    full = {name: digest(name) for name in TINY}
    records = [scored(identity("coop", name), 0.5) for name in TINY[:2]]
    records += [
        scored(identity("prompt_adapter", name, sources=full, source_shots=-1), 0.9)
        for name in TINY
    ]
    ((setting, variants),) = grouping.group_records(records).items()
    results = page_views.Results(setting, variants, page_views.mean_score(variants))
    (view,) = page_views.views(results)
    assert view.shown == list(TINY)
    assert view.averaged == list(TINY[:2])
    assert len(view.rows) == 2


def test_long_titles_are_cut_before_what_tells_them_apart() -> None:
    title = "lab.experiments.prompt_tuning_with_a_name_that_goes_on"
    rows: list[tuple[str, dict[str, Scalar]]] = [(title, {"w": 1}), (title, {"w": 2})]
    rows += [(f"{title}_and_on", {}), ("lab.short", {})]
    records = [scored(identity(name, params=params), 0.5) for name, params in rows]
    (variants,) = grouping.group_records(records).values()
    names = sorted(page_names.short_names(variants).values())
    cut = "lab.experiments.prompt_…"
    assert names == [cut, f"{cut}, w=1", f"{cut}, w=2", "lab.short"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ([{}], ["CoOp"]),
        ([{"class_specific": True}], ["CoOp"]),
        ([{}, {"n_ctx": 4}, {"n_ctx": 8}], ["CoOp", "CoOp, n_ctx=4", "CoOp, n_ctx=8"]),
        (
            [{"n_ctx": 4, "class_specific": True}, {"class_specific": True}],
            ["CoOp, n_ctx=4", "CoOp"],
        ),
        ([{"n_ctx": 4, "lr": 0.1, "class_specific": True}, {}], ["CoOp #2", "CoOp"]),
    ],
)
def test_a_short_name_is_the_title_and_what_tells_it_apart(
    params: list[dict[str, Scalar]], expected: list[str]
) -> None:
    defaults = methods.card("coop").defaults
    records = [scored(identity("coop", params=defaults | each), 0.5) for each in params]
    (variants,) = grouping.group_records(records).values()
    names = page_names.short_names(variants)
    by_params = {variant.params: name for variant, name in names.items()}
    assert [by_params[tuple(sorted((defaults | each).items()))] for each in params] == expected
