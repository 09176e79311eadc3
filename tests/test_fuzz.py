"""Hostile files, the short form: some mutated inputs for every parser, and by name what was found.
The long form is testbed/fuzz.py.
"""

from __future__ import annotations

import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark import data
from benchmark.data import parquet, unpack
from benchmark.errors import UserError
from benchmark.records import combine
from benchmark.records.store import Store
from benchmark.report import grouping, page
from benchmark.report.image_results import ImageResults
from testbed.mutation import (
    MEMORY_MB,
    PATHS,
    TRAP,
    TRAP_AT,
    TRAP_CODE,
    Target,
    Trap,
    Verdict,
    bounded_memory,
    interrupted,
    json_text,
    judge,
    smaller,
    toml_text,
)
from testbed.synthetic import identity, record
from testbed.targets import (
    TARGETS,
    archives,
    arrays,
    datasets,
    flags,
    inputs,
    network,
    pictures,
    records,
    weights,
)

INPUTS = 50  # mutated ones per parser


@pytest.fixture(autouse=True)
def _bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(TRAP_AT, str(tmp_path / TRAP))
    with bounded_memory(), interrupted(20):  # a pipe that is read would block for good
        yield
    assert not (tmp_path / TRAP).exists(), "foreign code has run"


def target(name: str) -> Target:
    (matching,) = (each for each in TARGETS if each.name == name)
    return matching


def judged(name: str, content: Any, folder: Path) -> Verdict:
    return judge(target(name), content, folder / "box")


def refused(name: str, content: Any, folder: Path) -> str:
    """The sentence with which a parser refuses an input."""
    with pytest.raises(UserError) as caught:
        target(name).parse(folder, content)
    return str(caught.value)


# --- the harness itself


def planted(parse: Callable[[Path, Any], object]) -> Target:
    return Target("planted", lambda rng: rng.randbytes(8), parse, bytes)


def escape(folder: Path, content: Any) -> None:
    (folder / ".." / "escaped").write_bytes(content)


def grow(folder: Path, content: Any) -> None:
    bytearray(b"x") * ((MEMORY_MB + 100) << 20)


def dawdle(folder: Path, content: Any) -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("parse", "crash"),
    [
        (lambda folder, content: {}["x"], "KeyError at ?: \"'x'\""),
        (escape, "written outside of its folder"),
        (lambda folder, content: exec(TRAP_CODE), "foreign code has run"),
        (grow, "memory grew by"),
        (lambda folder, content: [0] * 10**12, "MemoryError"),
        (dawdle, "TooSlow"),
        (
            lambda folder, content: (_ for _ in ()).throw(UserError("")),
            "a UserError without a word",
        ),
    ],
)
def test_the_harness_catches_a_planted_crash(
    parse: Any, crash: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if parse is dawdle:  # a loaded machine needs longer than a second to fill its memory
        monkeypatch.setattr("testbed.mutation.HANG_S", 1)
    verdict = judge(planted(parse), b"x", tmp_path / "box")
    assert crash in verdict.crash
    assert not verdict.accepted or "written" in crash or "run" in crash or "grew" in crash


def test_a_crash_is_reported_with_a_small_input(tmp_path: Path) -> None:
    def parse(folder: Path, content: bytes) -> None:
        if b"\xff" in content:
            raise ValueError

    content = bytes(500) + b"\xff" + bytes(500)
    crash = judge(planted(parse), content, tmp_path / "box").crash
    assert smaller(planted(parse), content, tmp_path / "box", crash) == b"\xff"


def test_the_same_seed_gives_the_same_inputs() -> None:
    for each in TARGETS:
        first, second = (
            [each.make(rng) for _ in range(5)] for rng in (random.Random(7), random.Random(7))
        )
        assert first == second, each.name


@pytest.mark.parametrize("each", TARGETS, ids=lambda each: each.name)
def test_an_honest_file_is_accepted(each: Target, tmp_path: Path) -> None:
    assert judge(each, each.honest(), tmp_path / "box") == Verdict(True)


@pytest.mark.parametrize("each", TARGETS, ids=lambda each: each.name)
def test_no_parser_stumbles_over_mutated_files(each: Target, tmp_path: Path) -> None:
    rng = random.Random(f"short {each.name}")
    for _ in range(INPUTS):
        content = each.make(rng)
        assert judge(each, content, tmp_path / "box").crash == "", content


# --- nothing foreign is executed


@pytest.mark.parametrize("name", ["weights, torch", "weights, timm"])
def test_no_pickle_of_a_checkpoint_is_run(name: str, tmp_path: Path) -> None:
    trapped = [content for content in weights.crafted_torch() if TRAP_CODE.encode() in content]
    assert len(trapped) > 10
    for content in trapped:
        assert any(
            words in refused(name, content, tmp_path)
            for words in ("cannot be loaded", "is damaged", "holds a name")
        )
    assert not (tmp_path / TRAP).exists()


def test_the_trap_would_spring(tmp_path: Path) -> None:
    torch.load(inputs.written(tmp_path / "w.pt", weights.torch_bytes(Trap())), weights_only=False)
    assert (tmp_path / TRAP).exists()
    (tmp_path / TRAP).unlink()


def test_a_model_of_the_hub_cannot_bring_its_tokenizer_as_code(tmp_path: Path) -> None:
    content = weights.crafted_hub_models()[0]
    assert "asks for 'trust_remote_code' beyond what is safe" in refused(
        "hub model", content, tmp_path
    )


def test_a_model_of_the_hub_cannot_ask_for_layers_without_end(tmp_path: Path) -> None:
    vision = weights.CONFIG["vision_cfg"] | {"layers": 10**9}  # type: ignore[operator]
    content = json_text({"model_cfg": weights.CONFIG | {"vision_cfg": vision}})
    assert "asks for 'layers' beyond what is safe" in refused("hub model", content, tmp_path)


def test_a_postscript_file_is_no_picture_whatever_its_name(tmp_path: Path) -> None:
    """Pillow would hand it to an interpreter."""
    assert "cannot be decoded" in refused("image", pictures.POSTSCRIPT, tmp_path)


@pytest.mark.parametrize("content", flags.crafted_sources()[:2])
def test_the_file_of_a_method_is_parsed_and_not_run(content: bytes, tmp_path: Path) -> None:
    assert "gives plain values to its fields" in refused("method file", content, tmp_path)
    # with the trap at its end
    assert judged("method file", flags.sources()[3], tmp_path) == Verdict(True)


def test_a_module_that_fails_on_import_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_lab").mkdir()
    (tmp_path / "their_lab" / "broken.py").write_text("1 / 0")
    (tmp_path / "their_lab" / "garbled.py").write_text("class Adapter(:")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("broken", "garbled"):
        assert f"cannot import method 'their_lab.{name}'" in refused(
            "flags", {"methods": [f"their_lab.{name}"]}, tmp_path / "x"
        )


# --- nothing leaves its folder


@pytest.mark.parametrize("content", datasets.crafted_specs())
def test_a_toml_of_a_stranger_names_nothing_outside(content: bytes, tmp_path: Path) -> None:
    verdict = judged("dataset TOML", content, tmp_path)
    assert verdict.crash == ""
    # which is only what the download would be called
    assert not verdict.accepted or b"http://h/.." in content


@pytest.mark.parametrize("name", [*PATHS[:5], "/../../../../escaped"])
def test_a_record_cannot_name_a_file_outside_of_a_report(name: str, tmp_path: Path) -> None:
    """Its key fits, so only the name itself gives it away."""
    for file, text in records.forged(dataset=name):
        inputs.written(tmp_path / "records" / f"{file}.json", text)
    notes: list[str] = []
    assert len(list(Store(tmp_path).records(notes))) == len(records.record_trees())
    assert "identity.dataset" in notes[0]


def test_a_merge_carries_no_other_file_along(tmp_path: Path) -> None:
    secret = inputs.written(tmp_path / "secret", b"the owner's")
    (name, text), *_ = records.forged()
    inputs.written(tmp_path / "theirs" / "records" / f"{name}.json", text)
    (tmp_path / "theirs" / "records" / f"{name}.npz").symlink_to(secret)
    merged = combine.combine([Store(tmp_path / "theirs")], Store(tmp_path / "ours"))
    assert (merged.added, len(merged.passed_over)) == (1, 1)
    assert "the record is taken without them" in merged.passed_over[0]
    assert [path.name for path in (tmp_path / "ours" / "records").iterdir()] == [f"{name}.json"]


def test_the_key_of_a_record_is_no_path(tmp_path: Path) -> None:
    for name in ("../secret", "/etc/x", "*", "", "a" * 5000):
        assert "is no key of a record" in refused("key of a record", name, tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_nothing_of_a_crafted_archive_gets_out(kind: str, tmp_path: Path) -> None:
    crafted = {"zip": archives.crafted_zips, "tar": archives.crafted_tars}[kind]()
    for content in crafted:
        assert judged(kind, content, tmp_path).crash == ""


# --- nothing grows without end


@pytest.mark.parametrize("kind", [b"x", b"L", b"g"])
def test_a_header_without_end_is_not_read(kind: bytes, tmp_path: Path) -> None:
    bomb = archives.bomb_of_header(kind)
    assert len(bomb) < 4 << 20
    assert "grows beyond" in refused("tar", bomb, tmp_path)


@pytest.mark.parametrize("name", ["set/images/bomb", "elsewhere/bomb"])
def test_zeros_without_end_are_not_unpacked_even_where_nobody_wants_them(
    name: str, tmp_path: Path
) -> None:
    assert "grows beyond" in refused("tar", archives.bomb_of_zeros(name), tmp_path)


def test_members_without_end_are_not_counted_to_the_end(tmp_path: Path) -> None:
    assert "grows beyond" in refused("tar", archives.bomb_of_members(), tmp_path)


def test_the_names_of_passed_members_are_not_kept(tmp_path: Path) -> None:
    archive = inputs.written(tmp_path / "set.tar", archives.tars()[0])
    with unpack._opened(archive, 1 << 30) as (members, _):
        list(members)
    assert not judged("tar", archives.bomb_of_members(100_000), tmp_path).crash


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    bomb = inputs.zipped({"images/bomb": bytes(64 << 20)})
    assert "grows beyond" in refused("zip", bomb, tmp_path)
    small = bomb.replace((64 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    assert small != bomb
    assert "is damaged" in refused("zip", small, tmp_path / "lying")


def test_rows_without_bytes_are_no_table_of_pictures(tmp_path: Path) -> None:
    assert "more rows than bytes" in refused("parquet", datasets.bomb_of_rows(), tmp_path)


def test_fewer_rows_than_a_file_states_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = inputs.written(tmp_path / "test-0.parquet", datasets.parquets()[0])
    monkeypatch.setattr(parquet, "_row_group_ends", lambda *_: [99])
    with pytest.raises(UserError, match=r"row 50 of .* cannot be read"):
        parquet._read_cell(table, "image", 50)


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1)])
def test_a_strip_of_pixels_is_no_picture(size: tuple[int, int], tmp_path: Path) -> None:
    content = pictures.png(*size, bytes((size[0] + 1) * size[1]))
    assert "pixels are no picture" in refused("image", content, tmp_path)


def test_a_picture_of_four_hundred_million_pixels_is_refused(tmp_path: Path) -> None:
    assert "decompression bomb" in refused(
        "image", pictures.png(20_000, 20_000, bytes(1000)), tmp_path
    )


@pytest.mark.parametrize("name", ["weights, torch", "weights, timm"])
def test_a_checkpoint_that_grows_is_refused(name: str, tmp_path: Path) -> None:
    assert "would grow to" in refused(name, weights.torch_bomb(), tmp_path)


def test_a_checkpoint_with_endless_names_is_refused(tmp_path: Path) -> None:
    """Torch would search its own complaint about one for minutes, for hours where it is longer."""
    called = b"\x80\x02c" + b"[" * 50_000 + b"\nx\n."
    for content in (
        called,
        inputs.zipped({"archive/data.pkl": called, "archive/version": b"3"}, zipfile.ZIP_STORED),
    ):
        assert "holds a name of 500" in refused("weights, torch", content, tmp_path)


def test_more_drawn_pictures_than_memory_are_refused(tmp_path: Path) -> None:
    each = {"train": 10**7, "val": 10**7, "test": 10**7}
    generated = {"kind": "generated", "generator": "shapes", "seed": 1, "per_class": each}
    content = datasets.HEAD | {
        "counts": {split: 2 * count for split, count in each.items()},
        "source": generated,
    }
    assert "at most 1000000 in all" in refused("dataset TOML", toml_text(content), tmp_path)


@pytest.mark.parametrize("kind", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_a_device_is_no_data(kind: Callable[[Path], None], tmp_path: Path) -> None:
    datasets.dataset_folder(tmp_path / "pets")
    for path in (
        tmp_path / "pets" / "split.json",
        tmp_path / "pets" / "images" / "test" / "cat.jpg",
    ):
        whole = path.read_bytes()
        path.unlink()
        kind(path)
        with pytest.raises(UserError, match="no regular file"):
            datasets.loaded(tmp_path, datasets.FOLDER)
        path.unlink()
        path.write_bytes(whole)


# --- what was found, by parser


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("split JSON", b"[" * 100_000),
        ("split JSON", b'{"train": [[5, 0, "cat"]], "val": [], "test": []}'),
        ("split JSON", b'{"train": [["\\ud800/a.jpg", 0, "cat"]], "val": [], "test": []}'),
        ("split JSON", b'{"train": [], "val": [], "test": []}'),
        ("split lists", b"\xff cat\n"),
        ("file names", [b"\xff.jpg"]),
        ("file names", [b"a\nb.jpg"]),
        ("suites TOML", b"tiny = 5"),
        ("suites TOML", b"tiny = " + b"[" * 5000),
        ("suites TOML", b"tiny = " + b"9" * 5000),
        ("receipt", b"[" * 100_000),
        ("receipt", b'{"adopted": 5}'),
        ("receipt", b'{"adopted": "a\\u0000b"}'),
        ("golden CSV", b"method,dataset\n" + b"x" * 200_000),
        ("published CSV", b"method,params\nzero_shot"),
        ("backbone name", "a/" + "x" * 5000 + ".pt"),
        ("backbone name", "timm:test_vit._vit"),
        (
            "download",
            (
                json_text({"url": network.HERE, "validator": "x"}),
                network.ANSWERS[1].replace(b"llo", b"ll"),
            ),
        ),
        ("download", (b"{}", network.ANSWERS[3].replace(b"0\r\n\r\n", b"-1\r\n\r\n"))),
        ("zip", inputs.zipped({"images/\xe9.jpg": b"x"}).replace("\xe9".encode(), b"\xff\xff")),
        ("tar", archives.tarred("w", archives.special("set/images/a\udcff.jpg", b"0"))),
        *(("flags", content) for content in flags.crafted_flags()[:7]),
        *(("flags", {"methods": [name]}) for name in (".", "..", "a..b", "\0.a")),
        *(
            ("flags", {"methods": ["coop"], "datasets": ["tiny_digits"], kind: ["9" * 5000]})
            for kind in ("shots", "seeds")
        ),
        *(
            ("flags", {"methods": ["coop"], "datasets": ["tiny_digits"], "settings": [text]})
            for text in ("n_ctx=" + "9" * 5000, "lr=nan", "=")
        ),
    ],
)
def test_what_once_ended_in_a_traceback_is_refused(name: str, content: Any, tmp_path: Path) -> None:
    assert refused(name, content, tmp_path)


@pytest.mark.parametrize("content", datasets.memos()[2:])
def test_a_damaged_memory_of_checksums_is_no_memory(content: bytes, tmp_path: Path) -> None:
    assert judged("memory of checksums", content, tmp_path) == Verdict(True)


@pytest.mark.parametrize("params", [{"lr": None}, {"lr": 10**400}, {"n_ctx": 1e308}])
def test_parameters_of_a_forged_record_are_refused_like_any_others(
    params: dict[str, Any], tmp_path: Path
) -> None:
    assert judged("replay of a record", records.forged(params=params), tmp_path).crash == ""


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        ({"identity": {"params": {"lr": float("nan")}}}, "params"),
        ({"identity": {"seed": -1}}, "seed"),
        ({"identity": {"dataset_digest": "../../x"}}, "dataset_digest"),
        ({"counts": {"correct": [2], "total": [1]}}, "more images are right than there are"),
        ({"counts": {"correct": [-1], "total": [1]}}, "counts.correct.0"),
        ({"costs": {"fit_s": float("inf")}}, "fit_s"),
    ],
)
def test_a_record_of_impossible_numbers_is_passed_over(
    where: dict[str, Any], wrong: str, tmp_path: Path
) -> None:
    tree = records.record_trees()[0]
    tree = records.rekeyed(tree | {part: tree[part] | change for part, change in where.items()})
    assert wrong in refused("record", (tree["key"], json_text(tree)), tmp_path)


def test_counts_that_have_no_character_are_numbers_in_the_page(tmp_path: Path) -> None:
    """55,261 right of as many would be half a character, which no file can hold."""
    store, content = Store(tmp_path), record(identity(shots=4), [55_261, 3], [55_261, 5])
    store.put(content, np.zeros(3))
    groups = grouping.group_records(store.records())
    page.write_page(tmp_path / "page", groups, ImageResults(store), pictures=False)
    assert '"correct":[55261,3]' in next((tmp_path / "page" / "records").glob("*.js")).read_text()


def test_a_strangers_dataset_may_be_read_from_elsewhere_but_not_fetched_to_there(
    tmp_path: Path,
) -> None:
    datasets.dataset_folder(tmp_path / "data")
    (tmp_path / "mine").mkdir()
    toml = datasets.HEAD | {"source": datasets.IMAGES | {"folder": "../data"}}
    assert len(
        data.load(str(inputs.written(tmp_path / "mine" / "pets.toml", toml_text(toml)))).test
    )
    fetched = toml | {"parts": [datasets.PART | {"offers": datasets.OFFERS[:1]}]}
    with pytest.raises(UserError, match="is not below the TOML"):
        data.read_spec(str(inputs.written(tmp_path / "mine" / "fetched.toml", toml_text(fetched))))


def test_a_note_of_a_download_that_is_none_starts_it_anew(tmp_path: Path) -> None:
    for note in (
        b"[]",
        b"[" * 100_000,
        b'{"url": 5}',
        json_text({"url": network.HERE, "validator": "a\r\nX: b"}),
    ):
        assert judged("download", (note, network.ANSWERS[0]), tmp_path) == Verdict(True)


@pytest.mark.parametrize("answer", network.ANSWERS[-2:])
def test_a_length_that_is_no_number_is_no_length(answer: bytes, tmp_path: Path) -> None:
    refused = Verdict(accepted=False)
    assert judged("download", (b"{}", answer), tmp_path) == refused, "nothing tells its end"


# --- what the modules of others still have to learn


@pytest.mark.parametrize("content", arrays.crafted_npz())
def test_predictions_are_one_row_of_labels_and_nothing_else(content: bytes, tmp_path: Path) -> None:
    assert "cannot be read" in refused("predictions", content, tmp_path)


@pytest.mark.parametrize("content", arrays.crafted_confidences())
def test_confidences_are_probabilities_beside_as_many_answers(
    content: bytes, tmp_path: Path
) -> None:
    assert "cannot be read" in refused("predictions", content, tmp_path)
    assert len(Store(tmp_path).predictions("0123456789ab")) == 3


@pytest.mark.parametrize("kind", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_a_device_is_no_record(kind: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    kind(tmp_path / "records" / "0123456789ab.json")
    notes: list[str] = []
    assert list(Store(tmp_path).records(notes)) == []
    assert "is no file" in notes[0]


@pytest.mark.parametrize(
    ("rows", "facts"),
    [
        (torch.ones(3, 8), {}),
        (torch.ones(4), {}),
        (torch.ones(4, 8, dtype=torch.int64), {}),
        (torch.ones(4, 8), {"digests": "[[], [], [], []]"}),
        (torch.ones(4, 8), {"digests": "[" * 100_000}),
        (torch.ones(4, 8), {"seconds_per_row": "nan"}),
    ],
)
def test_a_shard_with_a_forged_checksum_is_dropped_all_the_same(
    rows: torch.Tensor, facts: dict[str, Any], tmp_path: Path
) -> None:
    target("feature shard").parse(tmp_path, arrays.shard_bytes(rows, facts))
    (left,) = tmp_path.rglob("*.safetensors")
    assert left.name != "0123456789abcdef.safetensors"


def test_features_of_different_lengths_are_named(tmp_path: Path) -> None:
    content = arrays.shard_bytes(torch.ones(2, 9), {"digests": json.dumps(arrays.DIGESTS[:2])})
    assert "remove them with `features --clear`" in refused("feature shard", content, tmp_path)


@pytest.mark.parametrize(
    "content", [*arrays.crafted_safetensors(), arrays.prior_files()[2], arrays.prior_files()[3]]
)
def test_a_damaged_prior_is_as_good_as_none(content: bytes, tmp_path: Path) -> None:
    assert judged("prior", content, tmp_path) == Verdict(True)


@pytest.mark.parametrize("content", arrays.crafted_safetensors())
def test_a_damaged_shard_is_listed_without_a_word(content: bytes, tmp_path: Path) -> None:
    assert judged("feature listing", content, tmp_path) == Verdict(True)


def test_a_sentence_is_one_line_whatever_it_quotes() -> None:
    text = str(UserError("a\nb\x1b[2J\x00" + "c" * 100_000))
    assert text.startswith("a b?[2J?c")
    assert text.isprintable()
    assert len(text) < 5000
