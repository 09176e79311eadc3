"""Names, cards and parameters of methods, ours and other people's."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark import methods
from benchmark.errors import UserError
from benchmark.methods import cards, places
from benchmark.methods.code import code_digest

PLUGIN = '''"""My method.\n"""
from dataclasses import dataclass
from typing import ClassVar, Literal

@dataclass(frozen=True)
class Training:
    lr: float = 1
    epochs: int | None = None

@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Mine"
    paper: ClassVar[str] = "none yet"
    version: ClassVar[int] = 3
    few_shot: ClassVar[bool] = True
    rate: float = 0.5
    wide: bool = False
    depth: int | None = None
    words: str = ""
    position: Literal["end", "front"] = "end"
    training: Training = Training(epochs=5)

    def fit(self, episode):
        return lambda images: images.features() @ episode.text_features().T
'''
POSTPONED = PLUGIN.replace(
    "from dataclasses", "from __future__ import annotations\nfrom dataclasses"
)


def written(folder: Path, name: str, text: str = PLUGIN) -> str:
    """The path of a file with a method."""
    (folder / f"{name}.py").write_text(text)
    return str(folder / f"{name}.py")


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(methods.FILES, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    methods.card.cache_clear()


# --- cards


@pytest.mark.parametrize("name", methods.own())
def test_a_card_read_from_the_fields_alone_is_that_of_the_class(name: str) -> None:
    read = cards.read_file(name, places.folder() / f"{name}.py")
    assert read == cards.described(name, methods._adapter(name))


def test_listing_and_reading_cards_imports_no_torch() -> None:
    code = (
        "import sys; from benchmark import methods;"
        " [methods.card(n) for n in methods.names()]; print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_nothing_of_a_file_but_its_fields_is_run(tmp_path: Path) -> None:
    file = Path(written(tmp_path, "mine", PLUGIN.split("@dataclass")[0] + "raise SystemExit\n"))
    body = "@dataclass(frozen=True)\nclass Adapter:" + PLUGIN.split("class Adapter:")[1]
    file.write_text(
        file.read_text() + body.replace("    training: Training = Training(epochs=5)\n", "")
    )
    assert cards.read_file("mine", file).defaults["rate"] == 0.5
    file.write_text(file.read_text().replace('"Mine"', "print()"))
    with pytest.raises(UserError, match="a value calls a function"):
        cards.read_file("mine", file)


# --- values


@pytest.mark.parametrize("source", [PLUGIN, POSTPONED], ids=["plain", "postponed"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"rate": "1e-3", "wide": "true"}, {"rate": 1e-3, "wide": True}),
        ({"rate": 2, "wide": "no"}, {"rate": 2.0, "wide": False}),
        ({"depth": "3"}, {"depth": 3}),
        ({"depth": "none"}, {"depth": None}),
        ({"depth": 4.0}, {"depth": 4}),
        ({"words": 20, "position": "front"}, {"words": "20", "position": "front"}),
        ({"lr": 1, "epochs": "none"}, {"lr": 1.0, "epochs": None}),
        ({"training": {"lr": "0.1", "epochs": 7}}, {"lr": 0.1, "epochs": 7}),
    ],
    ids=str,
)
def test_values_become_the_types_of_their_fields(
    source: str, given: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    card = methods.card(written(tmp_path, f"typed_{len(source)}", source))
    read = methods.checked(card, given)
    assert read == expected
    assert all(type(read[name]) is type(value) for name, value in expected.items())
    adapter = methods.load(str(tmp_path / f"{card.name}.py"), given)
    flat = {**vars(adapter), **vars(adapter.training)}
    assert {name: flat[name] for name in expected} == expected
    sys.modules.pop(f"fsbench_method_{card.name}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": "nan"}, "mine_wrong.rate takes a finite number, so 'nan' will not do"),
        ({"rate": float("inf")}, "rate takes a finite number"),
        ({"rate": True}, "rate takes a finite number, so 'True' will not do; its default is 0.5"),
        ({"depth": True}, "depth takes an integer or none"),
        ({"words": "a\x1b[2Jb"}, r"words takes printable text, so 'a\?\[2Jb' will not do"),
        ({"depth": "1.5"}, "depth takes an integer or none"),
        ({"depth": ""}, "depth takes an integer or none"),
        ({"wide": "perhaps"}, "wide takes true or false"),
        ({"position": "middle"}, "position takes end or front, so 'middle' will not do"),
        ({"training": {"rate": 1}}, "has no parameter 'rate' in a group 'training'"),
        ({"lr": 1, "training": {"lr": 1}}, "lr is given twice"),
        ({"ratee": 1}, "no parameter 'ratee'; did you mean 'rate'"),
    ],
    ids=str,
)
def test_a_value_that_will_not_do_is_named(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        methods.load(written(tmp_path, "mine_wrong"), given)
    sys.modules.pop("fsbench_method_mine_wrong")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('    paper: ClassVar[str] = "none yet"\n', "", "does not say its paper"),
        ("rate: float = 0.5", "rate: float = 'fast'", "rate of 'bad' takes a finite number"),
        ("rate: float = 0.5", "rate: list[int] = ()", "has the type list"),
        ("rate: float = 0.5", "lr: float = 0.5", "lr of 'bad' occurs twice"),
        ("rate: float = 0.5", "rate: 'Nothing' = 0.5", "annotations of 'bad' cannot be resolved"),
        ("@dataclass(frozen=True)\nclass Adapter", "class Adapter", "is not a dataclass"),
    ],
)
def test_a_method_that_cannot_be_read_is_told_what_to_mend(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        methods.card(written(tmp_path, "bad", PLUGIN.replace(old, new)))
    sys.modules.pop("fsbench_method_bad")


# --- where methods come from


def test_an_unknown_method_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="unknown method 'cooop'; did you mean 'coop'"):
        methods.card("cooop")


def test_a_method_is_a_file_a_module_or_a_module_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab").mkdir()
    written(tmp_path / "lab", "inner")
    written(tmp_path, "beside")
    monkeypatch.chdir(tmp_path)
    names = {"./beside.py": "beside", "beside": "beside", "lab.inner": "lab.inner"}
    for given, name in names.items():
        card = methods.card(given)
        assert (card.name, card.title, card.version) == (name, "Mine", 3)
        assert methods.load(given, {"rate": 2}).rate == 2.0


def test_workers_find_a_file_by_its_name(tmp_path: Path) -> None:
    card = methods.card(written(tmp_path, "far_away"))
    code = f"from benchmark import methods; print(methods.load({card.name!r}).title)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert run.stdout.strip() == "Mine"


def test_a_file_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'coop' is already the name of a method"):
        methods.card(written(tmp_path, "coop"))
    (tmp_path / "other").mkdir()
    methods.card(written(tmp_path, "twice"))
    with pytest.raises(UserError, match=r"two files are named twice\.py"):
        methods.card(written(tmp_path / "other", "twice"))
    with pytest.raises(UserError, match=r"there is no file '.*absent\.py'"):
        methods.card(str(tmp_path / "absent.py"))
    with pytest.raises(UserError, match="there is no method in the file"):
        methods.card(written(tmp_path, "a b"))


def test_only_what_the_user_named_is_trusted(tmp_path: Path) -> None:
    given = written(tmp_path, "my_own")
    methods.require_trusted(["coop", "my_own"], [given])
    for name in ("my_own", given, "json.tool"):
        with pytest.raises(UserError, match="whose code would run"):
            methods.require_trusted([name], [])
    methods.require_trusted([given], [given])
    (tmp_path / "theirs").mkdir()
    other = written(tmp_path / "theirs", "my_own")
    with pytest.raises(UserError, match=f"add --method {other}$"):
        methods.require_trusted([other], [given])


def test_a_plugin_without_an_adapter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty_lab").mkdir()
    written(tmp_path / "empty_lab", "nothing", "x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"module 'empty_lab\.nothing' has no class Adapter"):
        methods.card("empty_lab.nothing")
    with pytest.raises(UserError, match=r"cannot import method 'empty_lab\.absent'"):
        methods.card("empty_lab.absent")


def test_the_digest_of_training_code_is_of_what_methods_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "folder", lambda: tmp_path)
    digest = methods.training_digest.__wrapped__
    digests = [digest()]
    for name, text in [("_loss.py", "x = 1"), ("_loss.py", "x = 2"), ("mine.py", "x = 1")]:
        (tmp_path / name).write_text(text)
        digests.append(digest())
    assert len({len(each) for each in digests} | {12}) == 1
    assert len(set(digests[:3])) == 3
    assert digests[2] == digests[3], "a method's own file has a digest of its own"


def test_a_file_that_is_no_python_file_and_a_method_without_fit_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "my_method.txt"
    text.write_text("class Adapter: pass\n")
    with pytest.raises(UserError, match="is no Python file; give one that ends with"):
        methods.load(str(text))
    idle = tmp_path / "idle_method.py"
    idle.write_text("class Adapter:\n    title = paper = 'x'\n")
    with pytest.raises(UserError, match=r"has no fit\(episode\), which gives a predictor; add it"):
        methods.load(str(idle))


# --- the code of methods from elsewhere is part of what names their records


def code_of(given: str) -> str:
    """As a new process sees it."""
    methods.card.cache_clear()
    for name in list(sys.modules):
        if name.startswith(("fsbench_method_", "lab")):
            del sys.modules[name]
    return methods.card(given).code


def test_our_own_methods_are_named_by_their_version_alone() -> None:
    assert {methods.card(name).code for name in methods.own()} == {""}


def test_an_edited_file_and_what_it_imports_from_beside_it_have_another_code(
    tmp_path: Path,
) -> None:
    for name, text in (("_steps", "import math\nRATE = 0.5\n"), ("unrelated", "x = 1\n")):
        written(tmp_path, name, text)
    given = written(tmp_path, "edited", "from _steps import RATE\n" + PLUGIN)
    first = code_of(given)
    assert len(first) == 12
    written(tmp_path, "unrelated", "x = 2\n")
    assert code_of(given) == first
    written(tmp_path, "_steps", "import math\nRATE = 0.6\n")
    second = code_of(given)
    written(tmp_path, "edited", "from _steps import RATE\n" + PLUGIN.replace("rate: ", "rate : "))
    assert len({first, second, code_of(given)}) == 3


def test_a_link_out_of_the_folders_of_a_long_name_is_refused_in_a_sentence(tmp_path: Path) -> None:
    parts = ["a"] * (len(tmp_path.parts) + 2)
    link = tmp_path.joinpath(*parts).with_suffix(".py")
    link.parent.mkdir(parents=True)
    link.symlink_to(written(tmp_path, "shallow"))
    with pytest.raises(UserError, match=r"shallow\.py lies in too few folders to be a\.a\.a"):
        code_digest(link, ".".join(parts))


@pytest.mark.parametrize("lazily", [False, True])
def test_a_helper_of_another_folder_is_not_taken_for_the_one_beside_the_file(
    lazily: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    helper = f"shared_helper_{lazily}".lower()
    line = f"def late():\n    import {helper}\n" if lazily else f"import {helper}\n"
    given = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder, helper, f"X = '{folder}'\n")
        given.append(written(tmp_path / folder, f"of_{folder}_{lazily}", line + PLUGIN))
    importlib.invalidate_caches()
    methods.card(given[0])
    with pytest.raises(UserError, match=rf"imports '{helper}' from .*first/.* not from .*second/"):
        methods.card(given[1])


def test_a_module_of_python_is_not_taken_for_the_one_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    written(tmp_path, "zlib", "X = 1\n")
    given = written(tmp_path, "of_python", "import zlib\n" + PLUGIN)
    with pytest.raises(UserError, match=r"of_python\.py imports 'zlib' from .* not from "):
        methods.card(given)


def test_the_same_file_in_another_folder_has_the_same_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = []
    for folder in ("one", "two"):
        monkeypatch.delenv(methods.FILES, raising=False)
        (tmp_path / folder).mkdir()
        codes.append(code_of(written(tmp_path / folder, "moved")))
    assert codes[0] == codes[1]


def test_helpers_of_a_package_count_however_they_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab" / "parts").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("__init__", "parts/__init__", "parts/near", "parts/far", "loose"):
        written(tmp_path / "lab", name, "X = 1\n")
    imports = "from .parts import near\nimport lab.parts.far\nfrom . import loose\n"
    written(tmp_path / "lab", "helped", imports + PLUGIN)
    codes = [code_of("lab.helped")]
    for name in ("__init__", "parts/__init__", "parts/near", "parts/far", "loose"):
        written(tmp_path / "lab", name, "X = 2\n")
        codes.append(code_of("lab.helped"))
    assert len(set(codes)) == len(codes)


def test_a_release_is_named_by_its_version_and_an_editable_install_by_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab").mkdir()
    written(tmp_path / "lab", "released")
    folder = tmp_path / "released-1.0.dist-info"
    folder.mkdir()
    (folder / "RECORD").write_text("lab/released.py,,\n")
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: released\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[fsbench.adapters]\nreleased = lab.released:Adapter\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    places.plug_ins.cache_clear()
    try:
        assert code_of("released") == ""
        for origin in (
            '{"url": "x", "dir_info": {"editable": true}}',
            '{"url":"x","dir_info":{"editable":true}}',
            "no JSON",
        ):
            (folder / "direct_url.json").write_text(origin)
            assert len(code_of("released")) == 12
        (folder / "direct_url.json").write_text('{"url": "x", "dir_info": {"editable": false}}')
        assert code_of("released") == ""
        (folder / "RECORD").write_text("editable.pth,,\n")  # leads to the source tree
        assert len(code_of("released")) == 12
        (folder / "RECORD").unlink()  # as of `setup.py develop`, which writes no direct_url.json
        (folder / "direct_url.json").unlink()
        assert len(code_of("released")) == 12
    finally:
        places.plug_ins.cache_clear()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title: ClassVar[str] = "Mine"', 'title: ClassVar[str] = ""', "title of 'odd' is empty"),
        ("version: ClassVar[int] = 3", 'version: ClassVar[str] = "1"', "'1', which is no int"),
        ("version: ClassVar[int] = 3", "version: ClassVar[bool] = True", "which is no int"),
        ("version: ClassVar[int] = 3", "version: ClassVar[int] = -1", "count from 1"),
        ("    few_shot: ClassVar[bool] = True\n", "", "does not say its few_shot"),
        ("few_shot: ClassVar[bool] = True", "few_shot: ClassVar[int] = 1", "which is no bool"),
        ('paper: ClassVar[str] = "none yet"', "paper: ClassVar[None] = None", "which is no str"),
        (
            "    def fit",
            "    def pretrain(self, episodes): ...\n    def fit",
            "does not say its sources and source_shots",
        ),
        (
            "    def fit",
            "    sources: ClassVar[str] = 'others'\n    source_shots: ClassVar[int] = 0\n"
            "    def pretrain(self, episodes): ...\n    def fit",
            "has pretrain, but no pretraining",
        ),
        (
            "    def fit",
            "    sources: ClassVar[list] = ['a']\n    source_shots: ClassVar[int] = 0\n"
            "    def pretrain(self, episodes): ...\n    def pretraining(self): ...\n"
            "    def fit",
            "which is no str",
        ),
    ],
)
def test_class_variables_are_required_wherever_a_method_is_used(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        methods.card(written(tmp_path, "odd", PLUGIN.replace(old, new)))
    sys.modules.pop("fsbench_method_odd")


def test_class_variables_may_be_inherited(tmp_path: Path) -> None:
    base = PLUGIN.replace("class Adapter", "class Base")
    text = base + "\n@dataclass(frozen=True)\nclass Adapter(Base):\n    more: int = 1\n"
    assert methods.card(written(tmp_path, "heir", text)).title == "Mine"
