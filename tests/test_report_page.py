"""The page in a real browser, opened from disk: sorting, filtering, records, images, keyboard,
phone; and no error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark import data
from benchmark.errors import UserError
from benchmark.records.record import Record, key
from benchmark.records.store import Store
from benchmark.report import grouping, page, page_data
from testbed.synthetic import CLASSIC, TINY, digest, grid, identity, record, scored
from tests import chromium

needs_browser = pytest.mark.skipif(
    not chromium.browser_path(), reason="no Chromium here: apt-get install chromium"
)


def judged(method: str, seed: int, hit: float, store: Store) -> Record:
    """A record on tiny_digits with predictions beside it."""
    labels = np.array(data.load("tiny_digits").test.labels)
    guesses = np.where(
        np.random.default_rng(seed).random(len(labels)) < hit, labels, (labels + 1) % 10
    )
    named = identity(
        method, shots=16, seed=seed, dataset_digest=data.read_spec("tiny_digits").digest
    )
    correct = [int((guesses[labels == label] == label).sum()) for label in range(10)]
    stored = record(
        named, correct, [int((labels == label).sum()) for label in range(10)], notes={"alpha": 1.5}
    )
    store.put(stored, guesses)
    return stored


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two suites, four methods, a hole, an attack in a name, images of one dataset."""
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
    records = [record.model_copy(update={"identity": now(record)}) for record in records]
    records += [
        scored(identity("evil.</script><script>alert(1)</script>", name), 0.5) for name in TINY
    ]
    records += [*grid(["coop"], CLASSIC[:10], backbones=("RN50/openai",))]
    page.write_page(base / "page", grouping.group_records(records), store)
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


def column(tab: chromium.Tab, number: int) -> list[str]:
    return list(
        tab.ask(
            f"Array.from(document.querySelectorAll('#board tbody tr td:nth-child({number})'),"
            " (cell) => cell.textContent)"
        )
    )


def choose(tab: chromium.Tab, which: str, label: str) -> None:
    wanted = json.dumps(label)
    tab.ask(
        f"(() => {{ const s = document.getElementById('{which}'); "
        f"s.value = Array.from(s.options).find((o) => o.textContent.includes({wanted})).value; "
        "s.dispatchEvent(new Event('change')); })()"
    )


def setting(tab: chromium.Tab, label: str = "suite tiny") -> None:
    choose(tab, "f-setting", label)
    for which, any_word in (("f-dataset", "mean of"), ("f-shots", "any"), ("f-protocol", "any")):
        choose(tab, which, any_word)
    tab.ask(
        "(() => { const m = document.getElementById('f-method'); m.value = '';"
        " m.dispatchEvent(new Event('input')); })()"
    )


@needs_browser
def test_a_click_on_a_heading_sorts_and_another_turns_it_round(tab: chromium.Tab) -> None:
    setting(tab)
    tab.ask("document.querySelector('#board th:nth-child(1) button').click()")
    names = column(tab, 1)
    assert names == sorted(names, key=str.lower)
    assert (
        tab.ask("document.querySelector('#board th:nth-child(1)').getAttribute('aria-sort')")
        == "ascending"
    )
    tab.ask("document.querySelector('#board th:nth-child(1) button').click()")
    assert column(tab, 1) == sorted(names, key=str.lower, reverse=True)
    tab.ask("document.querySelector('#board th:nth-child(2) button').click()")
    numbers = [float(text.split()[0]) for text in column(tab, 2)]
    assert numbers == sorted(numbers, reverse=True)


@needs_browser
def test_filters_leave_what_was_asked_for(tab: chromium.Tab) -> None:
    setting(tab)
    choose(tab, "f-shots", "16")
    assert set(column(tab, 3)) == {"16"}
    choose(tab, "f-dataset", "tiny_shapes")
    assert set(column(tab, 4)) == {"tiny_shapes"}
    tab.ask(
        "(() => { const m = document.getElementById('f-method'); m.value = 'PROBE';"
        " m.dispatchEvent(new Event('input')); })()"
    )
    assert column(tab, 1) == ["Linear probe"]
    assert "1 rows" in tab.ask("document.getElementById('status').textContent")
    assert tab.ask("document.querySelectorAll('#curves .legend li').length") == 1


@needs_browser
def test_settings_are_never_shown_together_and_a_mean_with_a_hole_is_no_number(
    tab: chromium.Tab,
) -> None:
    setting(tab, "suite classic")
    assert set(column(tab, 2)) == {"10/11"}
    assert "Nothing to draw" in tab.ask("document.getElementById('curves').textContent")
    choose(tab, "f-dataset", "dtd")
    assert tab.ask("document.querySelectorAll('#curves polyline').length") == 1


@needs_browser
def test_a_row_opens_its_records_with_classes_confusions_and_commands(tab: chromium.Tab) -> None:
    setting(tab)
    choose(tab, "f-dataset", "tiny_digits")
    choose(tab, "f-shots", "16")
    tab.ask(
        "Array.from(document.querySelectorAll('button.open'))"
        ".find((b) => b.textContent === 'CoOp').click()"
    )
    tab.until("document.querySelectorAll('#r-body .fill').length === 10")
    text = tab.ask("document.getElementById('r-body').textContent")
    assert (
        "python -m benchmark run --method coop --dataset tiny_digits --backbone tiny"
        " --shots 16 --seed 1" in text
    )
    key = re.search(r"benchmark replay ([0-9a-f]{12})", text)
    assert key
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
def test_a_mean_leads_to_its_datasets(tab: chromium.Tab) -> None:
    setting(tab)
    tab.ask("document.querySelector('#board button.open').click()")
    tab.until("document.querySelectorAll('#r-body button.open').length === 3")
    tab.ask("document.querySelectorAll('#r-body button.open')[1].click()")
    tab.until("document.querySelectorAll('#r-body .fill').length === 10")
    tab.ask("document.getElementById('close').click()")


@needs_browser
def test_the_page_can_be_used_from_the_keyboard(tab: chromium.Tab) -> None:
    setting(tab)
    tab.ask("document.querySelector('#board th:last-child button').focus()")
    tab.press("Tab")
    assert tab.ask("document.activeElement.className") == "open"
    tab.press("Enter")
    tab.until("document.getElementById('record').open")
    assert tab.ask("document.getElementById('record').contains(document.activeElement)")
    tab.press("Escape")
    tab.until("!document.getElementById('record').open")
    assert tab.ask("document.activeElement.className") == "open"
    tab.ask("document.querySelector('#board th:nth-child(3) button').focus()")
    tab.press("Enter")
    assert (
        tab.ask("document.querySelector('#board th:nth-child(3)').getAttribute('aria-sort')")
        == "descending"
    )
    assert tab.ask("document.activeElement.textContent") == "Shots"


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
def test_nothing_sticks_out_on_a_phone(tab: chromium.Tab) -> None:
    setting(tab)
    tab.screen(390, 844, phone=True)
    assert tab.ask("document.documentElement.scrollWidth") <= 390
    assert tab.ask("getComputedStyle(document.querySelector('th.minor')).display") == "none"
    # the accuracy is in sight
    assert (
        tab.ask("document.querySelector('#board td:nth-child(2)').getBoundingClientRect().right")
        <= 390
    )
    tab.until("document.querySelector('#curves svg').viewBox.baseVal.width < 400")
    tab.screen(1280, 900)


@needs_browser
def test_the_whole_leaderboard_is_in_sight_on_a_wide_screen(tab: chromium.Tab) -> None:
    setting(tab)
    tab.screen(1440, 900)
    around = "document.querySelector('#board').closest('table').parentElement"
    beyond = tab.ask(f"{around}.scrollWidth - {around}.clientWidth")
    tab.screen(1280, 900)
    assert beyond <= 0


# Without a browser


def test_names_cannot_break_out_of_the_page(folder: Path) -> None:
    text = (folder / "data.js").read_text()
    assert "</script>" not in text
    assert "evil.<\\/script>" in text


def test_a_page_is_written_over_itself_and_never_over_something_else(tmp_path: Path) -> None:
    groups = grouping.group_records(grid(["coop"], shots=(1,)))
    size = page.write_page(tmp_path / "page", groups, Store(tmp_path))
    stale = tmp_path / "page" / "records" / "99-gone.js"
    stale.write_text("")
    assert page.write_page(tmp_path / "page", groups, Store(tmp_path)) == size
    assert not stale.exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    with pytest.raises(UserError, match="not a report"):
        page.write_page(tmp_path / "thesis", groups, Store(tmp_path))
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_counts_survive_their_packing() -> None:
    counts = [0, 1, 57, 58, 92, 93, 300, 810, 2000]
    packed = json.loads(page_data.script("x", page_data._packed(counts))[2:-3])
    assert [ord(character) - page_data.FIRST_CHARACTER for character in packed] == counts


def test_ten_thousand_records_stay_under_five_megabytes(tmp_path: Path) -> None:
    methods = [f"method_{index}" for index in range(15)]
    records = [
        record
        for backbone in "abc"
        for record in grid(methods, CLASSIC, (1, 16), (1, 2, 3), (backbone,), classes=199)
    ]
    per_record = page.write_page(
        tmp_path / "page", grouping.group_records(records), Store(tmp_path), images=False
    ) / len(records)
    assert per_record * 10_000 < 5e6


def test_a_changed_dataset_shows_numbers_for_classes() -> None:
    assert (
        page_data.class_names(scored(identity(dataset_digest=digest("before")), 0.5))[0]
        == "class 0"
    )


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
    page.write_page(tmp_path / "page", grouping.group_records([*now, *old]), store)
    names = {path.name for path in (tmp_path / "page" / "images").iterdir()}
    assert names == {"tiny_digits", "tiny_digits.js"}
    assert "tiny_digits@" in (tmp_path / "page" / "data.js").read_text()


def test_a_page_that_cannot_be_made_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    groups = grouping.group_records([judged("coop", 1, 0.8, store)])
    page.write_page(tmp_path / "page", groups, store)
    before = sorted(path for path in (tmp_path / "page").rglob("*"))

    def fails(*_: object) -> None:
        raise UserError("no")

    monkeypatch.setattr(page_data, "details", fails)
    for folder in ("page", "new"):
        with pytest.raises(UserError, match="no"):
            page.write_page(tmp_path / folder, groups, store)
    assert sorted(path for path in (tmp_path / "page").rglob("*")) == before
    assert not (tmp_path / "new").exists()


def test_published_values_that_disagree_stand_on_pages_of_their_datasets(tmp_path: Path) -> None:
    for backbone, shown in (("ViT-B-16/openai", True), ("RN50/openai", False)):
        groups = grouping.group_records(grid(["coop"], ("eurosat",), backbones=(backbone,)))
        folder = tmp_path / backbone.replace("/", "-")
        page.write_page(folder, groups, Store(tmp_path))
        text = (folder / "index.html").read_text(encoding="utf-8")
        assert ("Published values that disagree" in text) == shown
        assert ("MaPLe (run by TCP&#39;s authors)" in text) == shown
        assert ">oxford_pets<" not in text
