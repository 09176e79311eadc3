"""Files of Hugging Face repositories and backbone weights, from a local stand-in for the hub."""

import io
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from benchmark import data
from benchmark.backbones import hub as weights_hub
from benchmark.backbones import weights
from benchmark.backbones.download import prepare_backbone
from benchmark.data.http_download import RetryPolicy
from benchmark.data.preparation import prepare_datasets
from benchmark.data.prepare_events import PrepareEvent
from benchmark.errors import MISSING, UserError
from testbed.data_layouts import jpeg
from testbed.targets.inputs import zipped
from tests.data_server import COMMIT, Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests put the hub library offline for the whole process."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


@pytest.fixture
def hub(server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server in the place of the hub."""
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        server.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    return server


OWN_FOLDER = """
title = "Pets"
domain = "pets"
templates = ["a photo of a {{}}."]
class_names = ["cat"]
licence = "for tests only"

[source]
kind = "image_folder"
folder = "pets"
test = "test"

[[parts]]
gives = ["test"]

[[parts.offers]]
repo = "someone/pets"
file = "{file}"
"""
ZIP = zipped({f"test/cat/{i}.jpg": jpeg(i) for i in range(40)})


def prepare(folder: Path, file: str, attempts: int = 1) -> PrepareEvent:
    """The last event of preparing a dataset whose archive lies on the hub."""
    (folder / "pets.toml").write_text(OWN_FOLDER.format(file=file))
    quick = RetryPolicy(attempts, 0.0, 0.5)
    return list(prepare_datasets([str(folder / "pets.toml")], folder, ("all",), retries=quick))[-1]


@pytest.mark.parametrize("lfs", [False, True])
def test_a_file_of_a_repository_is_fetched(hub, tmp_path, lfs):
    hub.hub_file("someone/pets", "data/pets.zip", ZIP, repo_type="dataset", lfs=lfs)
    text = prepare(tmp_path, "data/pets.zip").text
    assert text.startswith(f"0 train / 0 val / 40 test in {tmp_path / 'pets'}")
    assert not (tmp_path / "pets" / ".fetching").exists()


def test_a_file_of_a_repository_goes_on_where_an_earlier_command_stopped(hub, tmp_path):
    stored = hub.hub_file("someone/pets", "large.zip", ZIP, repo_type="dataset", lfs=True)
    stored.cut_after, stored.cuts = 5000, 1
    assert "5000 bytes are kept for the next attempt" in prepare(tmp_path, "large.zip").text
    assert prepare(tmp_path, "large.zip").step == "ready"
    assert stored.asked_ranges == ["", "bytes=5000-"]


def test_a_login_is_shown_to_the_hub_and_to_no_other_host(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_me")
    stored = hub.hub_file("someone/pets", "own.zip", ZIP, repo_type="dataset", lfs=True)
    assert prepare(tmp_path, "own.zip").step == "ready"
    first = hub.files["/datasets/someone/pets/resolve/main/own.zip"]
    assert first.authorizations == ["Bearer hf_me"]
    assert stored.authorizations == [""]


@pytest.mark.parametrize(
    ("code", "status", "complaint"),
    [
        ("GatedRepo", 403, "asks for an account: accept its terms on its page"),
        ("RepoNotFound", 401, "is not on the hub, or not for you"),
        ("EntryNotFound", 404, "is not in its repository on the hub"),
    ],
)
def test_a_refusal_of_the_hub_is_explained(hub, tmp_path, code, status, complaint):
    served = hub.hub_file("someone/pets", "refused.zip", ZIP, repo_type="dataset")
    served.first_status, served.headers = (status,), {"X-Error-Code": code}
    assert f"/refused.zip {complaint}" in prepare(tmp_path, "refused.zip").text


def test_a_pattern_fetches_what_it_matches_at_one_commit_and_resumes(hub, tmp_path):
    names = ["data/train-0.parquet", "data/test-0.parquet", "README.md"]
    stored = {
        name: hub.hub_file(
            "someone/pets", name, name.encode() * 900, COMMIT, "dataset", lfs=name != "README.md"
        )
        for name in names
    }
    hub.hub_listing("someone/pets", {name: 900 * len(name) for name in names})
    stored[names[0]].cut_after, stored[names[0]].cuts = 2000, 1
    text = OWN_FOLDER.format(file="data/*.parquet").replace('gives = ["test"]', 'gives = ["data"]')
    toml = tmp_path / "pets.toml"
    toml.write_text(text)
    once = RetryPolicy(1, 0.0, 0.5)
    for _ in range(2):
        last = list(prepare_datasets([str(toml)], tmp_path, ("all",), retries=once))
    assert last[-1].step == "failed", "these are no parquet files"
    assert sorted(path.name for path in (tmp_path / "pets" / "data").iterdir()) == [
        "test-0.parquet",
        "train-0.parquet",
    ]
    assert [stored[name].asked_ranges for name in names] == [["", "bytes=2000-"], [""], []]


def test_a_pattern_that_lacks_a_part_is_named_and_what_it_gave_is_kept(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tests.test_data_hub.OWN_FOLDER",
        OWN_FOLDER.replace('gives = ["test"]', 'gives = ["test", "labels"]'),
    )
    pictures = {f"test/cat/{i}.jpg": jpeg(i) for i in range(2)}
    hub.hub_listing("someone/pets", {name: len(body) for name, body in pictures.items()})
    for name, body in pictures.items():
        hub.hub_file("someone/pets", name, body, COMMIT, "dataset")
    end = prepare(tmp_path, "test/*")
    assert "test/* of someone/pets holds no labels; use another --source" in end.text
    assert {file.name for file in tmp_path.rglob("*.jpg")} == {"0.jpg", "1.jpg"}


def test_a_file_that_is_not_there_is_named(hub, tmp_path):
    last = prepare(tmp_path, "other.zip")
    assert "/datasets/someone/pets/resolve/main/other.zip answers 404" in last.text
    assert last.error.exit_code == MISSING


def test_an_offline_hub_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    text = prepare(tmp_path, "pets.zip").text
    assert (
        "pets.zip of someone/pets cannot be fetched while HF_HUB_OFFLINE is set; unset it" in text
    )


def test_weights_are_fetched_once_and_then_found_without_a_network(server, tmp_path, monkeypatch):
    server.hub_file(
        "timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors", b"weights"
    )
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        server.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    file = prepare_backbone("ViT-B/32")
    assert file.read_bytes() == b"weights"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert prepare_backbone("ViT-B/32") == file
    assert weights.locate("ViT-B-32/openai").file == file


def test_weights_that_cannot_be_had_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as caught:
        prepare_backbone("ViT-B/32")
    assert str(caught.value) == (
        "the weights of ViT-B-32/openai could not be fetched (HF_HUB_OFFLINE is set); "
        "try again with a network"
    )
    assert caught.value.exit_code == MISSING


@pytest.mark.parametrize("name", ["ViT-B/32", "hf-hub:someone/clip"])
def test_a_network_that_fails_is_said_once_and_shortly(name, tmp_path, monkeypatch, caplog):
    closed = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", closed)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    with pytest.raises(UserError, match=r"fetched \(the network says: Connection refused\); "):
        prepare_backbone(name)
    assert not caplog.records, "no attempt is logged"


@pytest.fixture
def swallowed() -> Iterator[str]:
    """The address of a host that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("name", ["ViT-B/32", "hf-hub:someone/clip"])
@pytest.mark.parametrize("answers", ["refuses", "hangs"])
def test_without_a_network_it_is_said_in_seconds(name, answers, swallowed, tmp_path, monkeypatch):
    url = swallowed if answers == "hangs" else "http://127.0.0.1:9"
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.5)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it tries again"))
    began = time.monotonic()
    with pytest.raises(UserError, match="the network says: "):
        prepare_backbone(name)
    assert time.monotonic() - began < 20, "imports included"


def test_a_slow_hub_has_the_time_that_its_library_gives_it(monkeypatch):
    asked = []
    session = SimpleNamespace(head=lambda url, timeout: asked.append(timeout))
    monkeypatch.setattr("huggingface_hub.get_session", lambda: session)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 60)
    assert weights_hub.unreachable("someone/clip") is None
    assert asked == [60]


def test_weights_that_are_here_need_no_network(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for revision in ("main", COMMIT):
        hub.hub_file("someone/clip", "open_clip_config.json", b"{}", revision)
        hub.hub_file("someone/clip", "open_clip_model.safetensors", b"weights", revision)
    fetched = prepare_backbone("hf-hub:someone/clip")
    closed = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", closed)
    assert prepare_backbone("hf-hub:someone/clip") == fetched
    assert fetched.read_bytes() == b"weights"


def test_embedded_weights_are_there_and_unknown_ones_suggest_a_name():
    assert prepare_backbone("tiny").suffix == ".safetensors"
    with pytest.raises(UserError, match="did you mean 'ViT-B-16/openai'"):
        prepare_backbone("ViT-B-16/openia")


def test_only_one_module_downloads_weights():
    """The other one that asks open_clip for weights has put the hub library offline before."""
    package = Path(weights.__file__).parent
    asking = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "download_pretrained(" in path.read_text()
    }
    assert asking == {"weights.py", "download.py"}


OWN_TABLE = """
title = "Pets"
domain = "pets"
templates = ["a photo of a {}."]
class_names = ["cat", "dog"]
licence = "for tests only"

[source]
kind = "table"
folder = "pets-table"
train = "data/train-*.parquet"
test = "data/test-*.parquet"
held_out = { val = 1 }

[[parts]]
gives = ["data"]

[[parts.offers]]
repo = "someone/pets-table"
file = "data/*.parquet"
"""


def parquet_bytes(labels: list[int]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(
        pa.table({"image": [{"bytes": jpeg(i), "path": None} for i in labels], "label": labels}),
        stream,
    )
    return stream.getvalue()


def test_ones_own_toml_over_a_hub_table_is_prepared_and_read(hub, tmp_path):
    server = hub
    tables = {
        "data/train-0.parquet": parquet_bytes([0, 1, 0, 1]),
        "data/test-0.parquet": parquet_bytes([1, 0]),
    }
    for name, body in tables.items():
        for revision in ("main", COMMIT):
            server.hub_file(
                "someone/pets-table", name, body, revision=revision, repo_type="dataset"
            )
    server.hub_listing("someone/pets-table", {name: len(body) for name, body in tables.items()})
    toml = tmp_path / "pets.toml"
    toml.write_text(OWN_TABLE)
    events = list(prepare_datasets([str(toml)], tmp_path, ("pets",)))
    (end,) = [event.text for event in events if event.step in {"failed", "ready"}]
    assert end.startswith(f"2 train / 2 val / 2 test in {tmp_path / 'pets-table'}")
    dataset = data.load(str(toml), tmp_path)
    assert dataset.test.labels == (1, 0)
    assert dataset.test.open(0).size == (8, 8)
