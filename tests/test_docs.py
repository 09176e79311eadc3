"""README and docs are run as a reader would: the blocks of a page from top to bottom, in a folder.

A block whose first line is a file name in a comment (`# class_mean.py`) is written to that file
first. Commands that need what no test may ask for (a network, a GPU's hours, an editor's patience)
are planned, or stand in `NOT_RUN` with the reason.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import methods
from benchmark.report.frames import load_results
from tests.conftest import Invoke
from tests.test_imports import ORDER

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
OTHER_PROGRAMS = ("pip ", "nox", "pytest ", "python -m benches", "python -m testbed")
NOT_RUN = {  # how a command begins -> why it is not run here
    "run --method prompt_adapter --shots 4": "takes a minute or two; its cells are planned",
    "prepare --backbone": "needs a network",
    "prepare caltech101 dtd --accept-licence": "needs a network",
    "status --watch": "does not end by itself",
    "run --suite tiny --executor ray": "the whole suite; its cells are planned",
    "export --to": "needs an extra",
}
# what is not here: these are planned, and end well or with the exit code of missing data
NOT_HERE = ("classic", "ViT-B/16", "--data-root", "--status", "--from /your", "--executor ray")
BLOCK = re.compile(r"^```(bash|python|toml)\n(.*?)^```$", re.S | re.M)


def steps(page: Path) -> Iterator[tuple[str, str]]:
    """(kind, text) of every block and, of those in bash, every command."""
    for kind, block in BLOCK.findall(page.read_text()):
        if kind == "bash" and not block.startswith("#!"):  # scripts: tests/test_slurm.py
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"(^|\s)#.*", "", line).strip()
                yield from [("bash", command)] if command else []
        elif kind != "bash":
            yield kind, block


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a reader, with pictures of three classes in it and no other data."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 5)):
        for shade, name in enumerate(("cat", "dog", "sea_horse")):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = (rng.integers(0, 90, (40, 50, 3)) + 80 * shade).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FSBENCH_DATA", str(tmp_path / "no data"))
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_works_from_top_to_bottom(page: Path, pictures: Path, invoke: Invoke) -> None:
    for kind, text in steps(page):
        named = re.match(r"# ([\w.]+)\n", text)
        if kind == "bash":
            run_command(text, invoke)
        elif named:
            (pictures / named[1]).write_text(text)
        elif kind == "python":
            exec(compile(text, page.name, "exec"), {"__name__": "block"})


def run_command(text: str, invoke: Invoke) -> None:
    """One command of a page, in this process; its output goes where the page sends it."""
    command, _, file = text.partition(" > ")
    ours = re.match(r"(?:python -m benchmark|fsbench) (.*)", command)
    if not ours:
        assert command.startswith(OTHER_PROGRAMS), f"neither ours nor known: {command}"
        return
    words = shlex.split(ours[1])
    excused = any(ours[1].startswith(start) for start in NOT_RUN)
    elsewhere = any(name in text for name in NOT_HERE)
    if excused and words[0] != "run":
        return
    words += ["--dry-run"] if words[0] == "run" and (excused or elsewhere) else []
    result = invoke(*[_known_key() if word == "KEY" else word for word in words])
    assert result.code in ({0, 4} if elsewhere else {0}), f"{text}\n{result.err}"
    if file:
        Path(file).write_text(result.out)


def _known_key() -> str:
    kept = sorted(Path("results", "adapters").glob("*.json"))
    return kept[0].stem if kept else str(load_results(Path("results"))["key"].iloc[0])


def test_a_kept_adapter_is_found_beside_records_without_one(pictures: Path, invoke: Invoke) -> None:
    one = ("--dataset", "tiny_shapes", "--shots", "1", "--seed", "1")
    assert invoke("run", "--method", "ape", *one).code == 0
    (page,) = (page for page in PAGES if page.stem == "adapters_kept")
    test_a_page_works_from_top_to_bottom(page, pictures, invoke)


def test_no_command_is_excused_that_no_page_gives() -> None:
    commands = [text for page in PAGES for kind, text in steps(page) if kind == "bash"]
    for start in NOT_RUN:
        assert any(f"benchmark {start}" in command for command in commands), start


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in TEXTS:
        for target, part in re.findall(
            r"\]\((?!https?:)([^)#]*)(?:#([\w-]+))?\)", page.read_text()
        ):
            goal = page.parent / target if target else page
            assert goal.exists(), f"{page.name} leads to {target}"
            heads = re.findall(r"^#+ (.*)$", goal.read_text(), re.M) if part else []
            assert not part or part in {_anchor(head) for head in heads}, f"{page.name}#{part}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_page_is_led_to_from_the_readme() -> None:
    readme = PAGES[0].read_text()
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme] == []


TREE = re.search(r"```text\n(benchmark/.*?)```", (ROOT / "docs/architecture.md").read_text(), re.S)
assert TREE, "docs/architecture.md has a tree"


def test_the_tree_names_what_is_there() -> None:
    folder = ROOT
    for line in TREE[1].splitlines():
        name = line.split()[0]
        folder = ROOT / name if not line.startswith(" ") else folder
        path = folder / name if line.startswith(" ") else folder
        assert path.exists(), f"the tree names {name}, which is not there"


def test_the_tree_is_the_drawn_order() -> None:
    wings = re.search(r"^benchmark/.*?\n(.*?)\nadapters/", TREE[1], re.S)
    assert wings
    names = [line.split()[0].rstrip("/").removesuffix(".py") for line in wings[1].splitlines()]
    assert tuple(names) == tuple(name for name in ORDER if name != "__main__")


def test_the_table_of_texts_names_every_method_that_learns_prompts() -> None:
    table = (ROOT / "docs/protocol.md").read_text().partition("| method | texts |\n")[2]
    rows = table.partition("\n\n")[0]
    learners = [card for card in map(methods.card, methods.own()) if "prompts" in card.needs]
    titles = [card.title.removesuffix("-F") for card in learners]
    assert [title for title in titles if not re.search(rf"(?<!\w){title}\b", rows)] == []


def test_no_line_is_longer_than_100_characters() -> None:
    for page in TEXTS:
        rows = [line for line in page.read_text().splitlines() if not line.startswith("|")]
        assert [line for line in rows if len(line) > 100] == [], page.name
