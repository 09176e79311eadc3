"""Names, cards and parameters of methods, ours and other people's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import methods
from benchmark.errors import UserError

PLUGIN = '''"""My method.\n"""
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Mine"
    paper: ClassVar[str] = "none yet"
    version: ClassVar[int] = 3
    few_shot: ClassVar[bool] = True
    rate: float = 0.5
    wide: bool = False

    def fit(self, episode):
        return lambda images: images.features() @ episode.text_features().T
'''


@pytest.mark.parametrize("name", [name for name in methods.names() if "." not in name])
def test_a_card_read_without_running_says_what_the_class_says(name: str) -> None:
    read = methods.card(name)
    imported = methods._card_of(name, type(methods.load(name)))
    assert read == imported


def test_listing_and_reading_cards_imports_no_torch() -> None:
    code = "import sys; from benchmark import methods; [methods.card(n) for n in methods.names()]; print('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )


def test_an_unknown_method_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="unknown method 'cooop'; did you mean 'coop'"):
        methods.card("cooop")


def test_an_unknown_parameter_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="no parameter 'n_ctxx'; did you mean 'n_ctx'"):
        methods.load("coop", {"n_ctxx": 4})


@pytest.mark.parametrize(
    ("text", "message"), [("four", "takes a int"), ("1.5", "takes a int"), ("", "takes a int")]
)
def test_a_parameter_of_the_wrong_type_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        methods.checked(methods.card("coop"), {"n_ctx": text})


def test_text_from_the_command_line_becomes_the_type_of_the_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "__init__.py").write_text("")
    (tmp_path / "lab" / "mine.py").write_text(PLUGIN)
    adapter = methods.load("lab.mine", {"rate": "1e-3", "wide": "true"})
    assert (adapter.rate, adapter.wide) == (1e-3, True)
    assert methods.card("lab.mine").version == 3
    for nonsense in ("nan", "inf", "fast"):
        with pytest.raises(UserError, match=r"lab\.mine\.rate takes a float"):
            methods.load("lab.mine", {"rate": nonsense})


def test_a_plugin_without_an_adapter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty_lab").mkdir()
    (tmp_path / "empty_lab" / "__init__.py").write_text("")
    (tmp_path / "empty_lab" / "nothing.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"module 'empty_lab\.nothing' has no class Adapter"):
        methods.card("empty_lab.nothing")
    with pytest.raises(UserError, match=r"cannot import method 'empty_lab\.absent'"):
        methods.card("empty_lab.absent")


def test_a_plugin_that_says_too_little_of_itself_is_told_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shy_lab").mkdir()
    (tmp_path / "shy_lab" / "__init__.py").write_text("")
    (tmp_path / "shy_lab" / "mine.py").write_text(
        PLUGIN.replace('    paper: ClassVar[str] = "none yet"\n', "")
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="does not say its paper"):
        methods.card("shy_lab.mine")
