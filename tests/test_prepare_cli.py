"""`prepare` and `features` at the command line: what is printed where, and which exit code says
what.
"""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmark.api import Crop
from benchmark.cli import execute
from benchmark.data.prepare_events import PrepareEvent
from benchmark.features import inventory
from benchmark.features.feature_store import Stopwatch, open_store, space
from testbed.data_layouts import miniature
from tests.data_server import Server, serving

Captured = pytest.CaptureFixture[str]

OWN = """
title = "My pets"
domain = "pets"
class_names = ["cat", "dog"]
templates = ["a photo of a {}."]
licence = "mine"

[source]
kind = "image_folder"
folder = "pictures"
train = "train"
test = "test"
held_out = { val = 1 }
"""


def own_dataset(folder: Path, per_class: int = 4) -> Path:
    """Two classes of plain colours in an image folder, and the TOML beside it."""
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            below = folder / "pictures" / split / name
            below.mkdir(parents=True)
            for i in range(per_class):
                Image.new("RGB", (40, 36), (200 * label, 20 * i, 90)).save(below / f"{i}.png")
    (folder / "my.toml").write_text(OWN)
    return folder / "my.toml"


def test_without_arguments_it_says_what_to_name(capsys: Captured) -> None:
    assert execute(["prepare"]) == 2
    assert (
        "prepare what? Name datasets, suites (tiny, tiny_shift, classic, imagenet_shift), all, "
        "or a --backbone" in capsys.readouterr().err
    )


def test_generated_data_are_ready_and_json_stands_alone_on_stdout(
    capsys: Captured, tmp_path: Path
) -> None:
    assert (
        execute(
            [
                "prepare",
                "--suite",
                "tiny",
                "--backbone",
                "tiny",
                "--json",
                "--data-root",
                str(tmp_path),
            ]
        )
        == 0
    )
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["tiny_digits", "tiny_shapes", "tiny_textures", "tiny"]
    assert all(row["ready"] for row in rows)


def test_what_is_missing_ends_with_exit_code_4_after_everything_else_was_done(
    capsys: Captured, tmp_path: Path
) -> None:
    assert (
        execute(
            ["prepare", "imagenet", "dtd", "tiny_shapes", "--offline", "--data-root", str(tmp_path)]
        )
        == 4
    )
    shown = capsys.readouterr().err
    assert (
        shown.index("licence of dtd: ")
        < shown.index("dtd: failed, see below")
        < shown.index("tiny_shapes: ready")
        < shown.index("2 not ready")
    )
    assert execute(["prepare", "imagenet", "--data-root", str(tmp_path)]) == 4
    assert "by hand: " in capsys.readouterr().err


def test_a_licence_is_shown_before_it_must_be_accepted(capsys: Captured, tmp_path: Path) -> None:
    assert execute(["prepare", "caltech101", "--data-root", str(tmp_path)]) == 4
    shown = capsys.readouterr().err
    assert shown.index("licence of caltech101: CC BY 4.0") < shown.index(
        "if you accept it, add --accept-licence caltech101"
    )


def test_a_dataset_is_fetched_with_its_licence_accepted(capsys: Captured, tmp_path: Path) -> None:
    toml = own_dataset(tmp_path / "there")
    with serving() as server:
        wanted = offered(server, tmp_path, toml)
        assert execute(["prepare", str(wanted), "--data-root", str(tmp_path)]) == 4
        assert (
            execute(
                [
                    "prepare",
                    str(wanted),
                    "--data-root",
                    str(tmp_path),
                    "--accept-licence",
                    "all",
                    "--verify",
                ]
            )
            == 0
        )
    shown = capsys.readouterr().err
    assert "my: download http://127.0.0.1" in shown
    assert "my: verify every image (16 of 16 images)" in shown
    assert "my: ready 6 train / 2 val / 8 test in " in shown


def offered(server: Server, folder: Path, toml: Path) -> Path:
    """The same dataset where its images have to be fetched first."""

    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for file in sorted((toml.parent / "pictures").rglob("*.png")):
            archive.write(file, file.relative_to(toml.parent / "pictures").as_posix())
    url = server.offer("pets.zip", stream.getvalue())
    part = f'\n[[parts]]\ngives = ["train", "test"]\n[[parts.offers]]\nurl = "{url}"\n'
    (folder / "my.toml").write_text(OWN + part)
    return folder / "my.toml"


def test_a_folder_is_adopted_and_status_says_so(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    miniature("dtd", tmp_path / "mine")
    toml = (tmp_path / "mine" / "dtd.toml").rename(tmp_path / "dtd.toml")
    assert (
        execute(
            ["prepare", str(toml), "--from", str(tmp_path / "mine"), "--data-root", str(tmp_path)]
        )
        == 0
    )
    assert f"dtd: adopted {tmp_path / 'mine' / 'dtd'}" in capsys.readouterr().err
    assert execute(["prepare", "--status", "--json", "--data-root", str(tmp_path)]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["tiny_shapes"]["state"] == "generated"
    assert (
        rows["imagenet"]["registration"],
        rows["imagenet"]["from"],
        rows["imagenet"]["accepted"],
    ) == (True, "by hand", False)
    assert execute(["prepare", "--status", "--data-root", str(tmp_path)]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "state", "images", "from", "licence"]
    (imagenet,) = [line for line in lines if line.startswith("imagenet ")]
    assert "1,331,167  by hand" in imagenet
    assert "registration needed: terms of access" in imagenet


def test_unknown_names_are_refused_before_anything_is_done(
    capsys: Captured, tmp_path: Path
) -> None:
    assert execute(["prepare", "clasic", "--data-root", str(tmp_path)]) == 2
    assert "did you mean 'classic'" in capsys.readouterr().err
    assert execute(["prepare", "--backbone", "ViT-B-16/openia", "--offline"]) == 2
    assert "ViT-B-16/openia" in capsys.readouterr().err


def test_ones_own_image_folder_runs_from_its_toml(capsys: Captured, tmp_path: Path) -> None:
    toml = own_dataset(tmp_path)
    flags = [
        "--method",
        "linear_probe",
        "--shots",
        "1",
        "--seed",
        "1",
        "--backbone",
        "tiny",
        "--json",
    ]
    assert (
        execute(["run", "--dataset", str(toml), "--results", str(tmp_path / "results"), *flags])
        == 0
    )
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["status"], row["total"]) == ("computed", 8)


def test_a_run_says_how_a_checkpoint_given_as_a_file_is_read(
    capsys: Captured, tmp_path: Path
) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"not looked at by a plan")
    flags = ["--dataset", "tiny_shapes", "--method", "zero_shot", "--results", str(tmp_path)]
    backbone = f"ViT-L-14/{tmp_path / 'w.safetensors'}"
    assert execute(["run", "--dry-run", *flags, "--backbone", backbone]) == 0
    assert "with GELU; those trained with QuickGELU" in capsys.readouterr().err


def test_an_image_encoder_runs_what_needs_no_text_and_refuses_the_rest(
    capsys: Captured, tmp_path: Path
) -> None:
    import timm

    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    backbone = f"timm:test_vit/{tmp_path / 'w.safetensors'}"
    flags = [
        "--dataset",
        str(own_dataset(tmp_path)),
        "--shots",
        "1",
        "--seed",
        "1",
        "--backbone",
        backbone,
        "--json",
    ]
    run = ["run", "--results", str(tmp_path / "results"), *flags, "--method"]
    assert execute([*run, "linear_probe,zero_shot"]) == 2
    assert "zero_shot needs a text side, which timm:test_vit" in capsys.readouterr().err
    assert execute([*run, "linear_probe"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["method"]: row["status"] for row in rows} == {"linear_probe": "computed"}


def test_progress_is_a_few_lines_without_a_terminal_and_a_bar_on_one() -> None:
    from rich.console import Console

    from benchmark.commands import prepare_view

    events = [
        PrepareEvent("pets", "download", "http://x/pets.zip", done, 1000)
        for done in range(0, 1001, 10)
    ]
    console = Console(record=True, width=200, file=io.StringIO())
    with prepare_view.lines(console) as show:
        for event in [*events, PrepareEvent("pets", "ready", "2 train")]:
            show(event)
    shown = console.export_text().splitlines()
    assert shown[0] == "pets: download http://x/pets.zip (0 of 1,000 bytes)"
    assert shown[-1] == "pets: ready 2 train"
    assert len(shown) == prepare_view.LINES + 2
    terminal = Console(record=True, width=200, force_terminal=True, file=io.StringIO())
    with prepare_view.bars(terminal) as show:
        for event in [
            *events,
            PrepareEvent("pets", "note", "[red] herring"),
            PrepareEvent("pets", "ready", "2 train"),
        ]:
            show(event)
    assert "pets: note [red] herring" in terminal.export_text()


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with features of two backbones, one of them old."""
    monkeypatch.setenv("FSBENCH_CACHE", str(tmp_path))
    store = open_store(tmp_path / "features")
    for name, views in (("tiny", None), ("tiny", (4, 0, Crop())), ("RN50/openai", None)):
        shape = (2, 8) if views is None else (2, 4, 8)
        store.rows(
            space(f"{name:->64}"[::-1].replace("/", "-"), views, name),
            ["a", "b"],
            lambda chosen, s=shape: iter([torch.zeros(s)]),
            Stopwatch(),
        )
    for path in tmp_path.rglob("*.safetensors"):
        if path.parent.parent.name.startswith("ianepo"):
            os.utime(path, (time.time() - 9 * 86400,) * 2)
    return tmp_path / "features"


def test_stored_features_are_shown_by_backbone_and_view(stored: Path, capsys: Captured) -> None:
    assert execute(["features", "--json"]) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert [(row["backbone"], row["views"], row["rows"]) for row in rows] == [
        ("RN50/openai", "centre", 2),
        ("tiny", "centre", 2),
        ("tiny", "views4-seed0-scale0.08-flip", 2),
    ]
    assert "6 rows, " in captured.err


def test_stored_features_are_cleared_by_backbone_and_by_age(stored: Path, capsys: Captured) -> None:
    assert execute(["features", "--clear", "--older-than", "30"]) == 0
    assert len(inventory.list_files(stored)) == 3
    assert execute(["features", "--clear", "--older-than", "7"]) == 0
    assert {file.backbone for file in inventory.list_files(stored)} == {"tiny"}
    assert execute(["features", "--clear", "--backbone", "RN50"]) == 0
    assert len(inventory.list_files(stored)) == 2
    assert execute(["features", "--clear"]) == 0
    assert "4 rows, " in capsys.readouterr().err
    assert not any(stored.iterdir())
    assert execute(["features"]) == 0
    assert capsys.readouterr().out == ""


def test_a_damaged_file_is_listed_without_a_backbone(stored: Path) -> None:
    (stored / "x").mkdir()
    (stored / "x" / "cut.safetensors").write_bytes(b"\x08\x00")
    (stored / "x" / "odd.safetensors").write_bytes(b"\x02" + bytes(7) + b"[]" + bytes(9))
    save_file({"other": torch.zeros(1)}, stored / "x" / "other.safetensors")
    damaged = [shard for shard in inventory.list_files(stored) if shard.space == "x"]
    assert [(shard.backbone, shard.rows) for shard in damaged] == [("", 0)] * 3
