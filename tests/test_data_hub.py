"""Files of Hugging Face repositories and backbone weights, from a local stand-in for the hub."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from benchmark import data
from benchmark.backbones import weights
from benchmark.backbones.download import prepare_backbone
from benchmark.data import hub_download
from benchmark.data.preparation import prepare_datasets
from benchmark.data.sources import Offer
from benchmark.errors import MISSING, UserError
from testbed.data_layouts import jpeg
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


def test_a_file_of_a_repository_is_fetched(server, tmp_path):
    server.hub_file("someone/pets", "data/pets.zip", b"a zip", revision="v1", repo_type="dataset")
    offer = Offer(repo="someone/pets", revision="v1", file="data/pets.zip")
    assert hub_download.fetch(offer, tmp_path, server.url).read_bytes() == b"a zip"


def test_a_pattern_fetches_what_it_matches(server, tmp_path):
    names = ["data/train-0.parquet", "data/test-0.parquet", "README.md"]
    for name in names:
        for revision in ("main", COMMIT):
            server.hub_file(
                "someone/table", name, name.encode(), revision=revision, repo_type="dataset"
            )
    server.hub_listing("someone/table", {name: len(name) for name in names})
    folder = hub_download.fetch(
        Offer(repo="someone/table", file="data/*.parquet"), tmp_path, server.url
    )
    assert sorted(path.name for path in (folder / "data").glob("*.parquet")) == [
        "test-0.parquet",
        "train-0.parquet",
    ]
    assert not (folder / "README.md").exists()


def test_a_file_that_is_not_there_is_named(server, tmp_path):
    with pytest.raises(
        UserError, match=r"other\.zip of someone/pets is not on the hub, or not for you"
    ) as caught:
        hub_download.fetch(Offer(repo="someone/pets", file="other.zip"), tmp_path, server.url)
    assert caught.value.exit_code == MISSING


def test_an_offline_hub_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"could not be fetched: .* HF_HUB_OFFLINE is set"
    ) as caught:
        hub_download.fetch(Offer(repo="someone/pets", file="pets.zip"), tmp_path)
    assert "\n" not in str(caught.value)


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


def test_ones_own_toml_over_a_hub_table_is_prepared_and_read(server, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        server.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
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
    assert [event.text for event in events if event.step in {"failed", "ready"}] == [
        f"2 train / 2 val / 2 test in {tmp_path / 'pets-table'}"
    ]
    dataset = data.load(str(toml), tmp_path)
    assert dataset.test.labels == (1, 0)
    assert dataset.test.open(0).size == (8, 8)
