"""Preparing datasets against a server on loopback: fetched, adopted, verified, and every failure
answered in one sentence.
"""

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmark import data
from benchmark.data import catalog
from benchmark.data.availability import availability
from benchmark.data.disk_space import RESERVE_BYTES
from benchmark.data.http_download import RetryPolicy
from benchmark.data.preparation import prepare_datasets
from benchmark.data.prepare_events import PrepareEvent
from benchmark.errors import MISSING, UserError
from testbed.data_layouts import jpeg, miniature
from testbed.targets.inputs import zipped
from tests.data_server import Served, Server, serving

QUICK = RetryPolicy(attempts=2, wait_s=0.0, timeout_s=0.5)
SPLIT = {
    "train": [[f"cat/{i}.jpg", 0, "cat"] for i in range(3)]
    + [[f"dog/{i}.jpg", 1, "dog"] for i in range(3)],
    "val": [["cat/3.jpg", 0, "cat"], ["dog/3.jpg", 1, "dog"]],
    "test": [["cat/4.jpg", 0, "cat"], ["dog/4.jpg", 1, "dog"]],
}
RAW_SPLIT = json.dumps(SPLIT).encode()
PICTURES = {
    f"pets/photos/{row[0]}": jpeg(i)
    for i, row in enumerate(row for rows in SPLIT.values() for row in rows)
}
HEAD = """
title = "Pets"
domain = "pets"
templates = ["a photo of a {}."]
class_names = ["cat", "dog"]
licence = "for tests only"
licence_seen = "in this file"
counts = { train = 6, val = 2, test = 2 }

[source]
kind = "folder"
folder = "pets"
images = "photos"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def tar_bytes(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return stream.getvalue()


def part(gives: str, *offers: str, by_hand: str = "") -> str:
    listed = "".join(f"\n[[parts.offers]]\n{offer}\n" for offer in offers)
    return (
        f'\n[[parts]]\ngives = ["{gives}"]\n'
        + (f'by_hand = "{by_hand}"\n' if by_hand else "")
        + listed
    )


def url(address: str, **more: str) -> str:
    return "\n".join([f'url = "{address}"', *(f'{key} = "{value}"' for key, value in more.items())])


@dataclass(frozen=True)
class Case:
    """A dataset to prepare: its TOML and data root."""

    toml: str
    root: Path

    def run(self, **options: object) -> list[PrepareEvent]:
        options.setdefault("accept_licences", ("all",))
        return list(prepare_datasets([self.toml], self.root, retries=QUICK, **options))

    def failure(self, **options: object) -> str:
        last = self.run(**options)[-1]
        assert last.step == "failed"
        assert last.error is not None
        assert "\n" not in last.text
        return last.text


def case(folder: Path, images_part: str, split_part: str = "", pinned: bool = True) -> Case:
    sha256 = f', sha256 = "{hashlib.sha256(RAW_SPLIT).hexdigest()}"' if pinned else ""
    split = f'split = {{ file = "split.json"{sha256} }}\n'
    (folder / "pets.toml").write_text(HEAD + split + images_part + split_part)
    return Case(str(folder / "pets.toml"), folder)


def good(server: Server, folder: Path) -> Case:
    """A zip of images and a split file, as a source ought to be."""
    images = url(server.offer("pets.zip", zipped(PICTURES)))
    split = url(server.offer("split.json", RAW_SPLIT), sha256=hashlib.sha256(RAW_SPLIT).hexdigest())
    return case(folder, part("photos", images), part("split.json", split))


def test_a_dataset_is_fetched_unpacked_checked_and_read(server, tmp_path):
    events = good(server, tmp_path).run()
    assert [event.step for event in events if event.step in {"ready", "failed"}] == ["ready"]
    assert {"download", "unpack"} <= {event.step for event in events}
    dataset = data.load(str(tmp_path / "pets.toml"), tmp_path)
    assert len(dataset.train) == 6
    assert sorted(path.name for path in (tmp_path / "pets").iterdir()) == ["photos", "split.json"]


def test_what_is_ready_is_not_fetched_again(server, tmp_path):
    pets = good(server, tmp_path)
    pets.run()
    requests = [len(served.asked_ranges) for served in server.files.values()]
    steps = {event.step for event in pets.run()}
    assert not steps & {"download", "unpack", "failed"}
    assert [len(served.asked_ranges) for served in server.files.values()] == requests


def test_only_the_part_that_is_missing_is_fetched(server, tmp_path):
    pets = good(server, tmp_path)
    pets.run()
    (tmp_path / "pets" / "split.json").unlink()
    assert {event.text for event in pets.run() if event.step == "download"} == {
        f"{server.url}/split.json"
    }


def test_an_archive_within_an_archive_is_unpacked(server, tmp_path):
    outer = zipped({"pack/photos.tar.gz": tar_bytes(PICTURES), "pack/readme.txt": b"x"})
    images = url(
        server.offer("nested.zip", outer), inner="photos.tar.gz", md5=hashlib.md5(outer).hexdigest()
    )
    split = part("split.json", url(server.offer("split.json", RAW_SPLIT)))
    assert case(tmp_path, part("photos", images), split).run()[-1].step == "ready"
    assert sorted(path.name for path in (tmp_path / "pets").iterdir()) == ["photos", "split.json"]


def test_an_archive_may_call_the_images_otherwise(server, tmp_path):
    images = url(
        server.offer(
            "other.zip",
            zipped({key.replace("photos", "raw"): body for key, body in PICTURES.items()}),
        )
    )
    split = part("split.json", url(server.offer("split.json", RAW_SPLIT)))
    assert (
        case(tmp_path, part("photos", images + '\nholds = ["raw"]'), split).run()[-1].step
        == "ready"
    )


def test_the_next_source_serves_where_one_fails(server, tmp_path):
    dead, page = f"{server.url}/dead.zip", server.offer("page.zip", b"<html>quota exceeded</html>")
    wrong = url(server.offer("wrong.zip", zipped({"photos/x.jpg": b""})), md5="0" * 32)
    images = part(
        "photos", url(dead), url(page), wrong, url(server.offer("good.zip", zipped(PICTURES)))
    )
    events = case(
        tmp_path, images, part("split.json", url(server.offer("split.json", RAW_SPLIT)))
    ).run()
    notes = [event.text for event in events if event.step == "note"]
    assert ["404" in notes[0], "web page" in notes[1], "md5" in notes[2]] == [True, True, True]
    assert events[-1].step == "ready"


def test_nothing_is_fetched_before_its_licence_is_accepted(server, tmp_path):
    pets = good(server, tmp_path)
    text = pets.failure(accept_licences=())
    assert text == (
        "the licence of pets is: for tests only (in this file); "
        "if you accept it, add --accept-licence pets"
    )
    assert not (tmp_path / "pets").exists()
    assert pets.run(accept_licences=("pets",))[-1].step == "ready"


def test_an_opt_in_source_is_used_only_when_asked_for(server, tmp_path):
    mirror = (
        url(server.offer("mirror.zip", zipped(PICTURES)), label="mirror", doubt="a copy")
        + "\nopt_in = true"
    )
    pets = case(
        tmp_path,
        part("photos", url(f"{server.url}/dead.zip"), mirror),
        part("split.json", url(server.offer("s.json", RAW_SPLIT))),
    )
    assert "answers 404" in pets.failure()
    assert "try --source mirror (a copy)" in pets.failure()
    assert "has no source 'mirrors'; it has mirror, official" in pets.failure(source="mirrors")
    assert pets.run(source="mirror")[-1].step == "ready"


def test_an_archive_is_known_by_its_bytes_not_by_its_address(server, tmp_path):
    images = part("photos", url(server.offer("records/pets.zip/content", zipped(PICTURES))))
    split = part("split.json", url(server.offer("download?id=7", RAW_SPLIT)))
    assert case(tmp_path, images, split).run()[-1].step == "ready"
    assert (tmp_path / "pets" / "photos").is_dir()


def test_what_is_no_archive_never_becomes_a_folder_of_images(server, tmp_path):
    pets = case(tmp_path, part("photos", url(server.offer("odd.zip", b"not an archive at all"))))
    assert "odd.zip is neither a zip nor a tar; it was deleted" in pets.failure()
    assert not (tmp_path / "pets" / "photos").exists()


@pytest.mark.parametrize(
    "archive", [zipped({"elsewhere/1.jpg": b"x"}), b"\x28\xb5\x2f\xfd unknown compression"]
)
def test_an_archive_with_the_right_checksum_is_kept_though_it_cannot_serve(
    server, tmp_path, archive
):
    served = Served(archive)
    right = url(server.offer("right.zip", served), sha256=hashlib.sha256(archive).hexdigest())
    pets = case(tmp_path, part("photos", right))
    for _ in range(2):
        text = pets.failure()
        assert "its checksum is right, so it is kept in" in text
        assert "use another --source" in text
    assert len(served.asked_ranges) == 1
    assert [file.read_bytes() for file in tmp_path.rglob("right.zip")] == [archive]


def test_two_sources_with_files_of_one_name_are_not_mixed_up(server, tmp_path):
    wrong = zipped({"elsewhere/1.jpg": b"x"})
    first = url(server.offer("a/pets.zip", wrong), md5=hashlib.md5(wrong).hexdigest())
    second = url(server.offer("b/pets.zip", zipped(PICTURES)))
    split = part("split.json", url(server.offer("split.json", RAW_SPLIT)))
    assert case(tmp_path, part("photos", first, second), split).run()[-1].step == "ready"
    assert sorted(path.name for path in (tmp_path / "pets").iterdir()) == ["photos", "split.json"]


@pytest.mark.parametrize(
    "page",
    [
        b"Please sign in to go on",
        b'{"error": "login required"}',
        b"[]",
        b'{"train": [], "val": []}',
    ],
)
def test_a_split_file_that_is_none_is_refused_before_it_is_in_place(server, tmp_path, page):
    served = Served(page)
    split = part("split.json", url(server.offer("split.json", served)))
    pets = case(
        tmp_path,
        part("photos", url(server.offer("pets.zip", zipped(PICTURES)))),
        split,
        pinned=False,
    )
    text = pets.failure()
    assert f"{server.url}/split.json is not split.json: " in text
    assert "use another --source" in text
    assert not (tmp_path / "pets" / "split.json").exists()
    served.body = RAW_SPLIT
    assert pets.run()[-1].step == "ready"


def test_another_split_file_than_the_pinned_one_is_refused_before_it_is_in_place(server, tmp_path):
    other = json.dumps(SPLIT | {"val": []}).encode()
    split = part("split.json", url(server.offer("split.json", other)))
    pets = case(tmp_path, part("photos", url(server.offer("p.zip", zipped(PICTURES)))), split)
    assert "is another split file" in pets.failure()
    assert not (tmp_path / "pets" / "split.json").exists()


def test_a_file_with_the_right_checksum_is_kept_though_it_cannot_serve(server, tmp_path):
    other = json.dumps(SPLIT | {"val": []}).encode()
    served = Served(other)
    split = url(server.offer("split.json", served), sha256=hashlib.sha256(other).hexdigest())
    photos = part("photos", url(server.offer("p.zip", zipped(PICTURES))))
    pets = case(tmp_path, photos, part("split.json", split))
    for _ in range(2):
        assert "is another split file" in pets.failure()
    assert len(served.asked_ranges) == 1
    assert [file.read_bytes() for file in tmp_path.rglob("split.json")] == [other]


def test_a_link_to_a_drive_that_is_not_there_is_not_replaced(server, tmp_path):
    pets = good(server, tmp_path)
    for link in (tmp_path / "pets" / "photos", tmp_path / "pets" / "split.json"):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to("/no/such/drive")
        assert f"{link} is a link to /no/such/drive, which is not there; connect" in pets.failure()
        assert link.is_symlink()
        link.unlink()
    assert pets.run()[-1].step == "ready"


def test_the_room_for_unpacking_is_required_before_anything_is_fetched(
    server, tmp_path, monkeypatch
):
    import shutil

    served = Served(zipped(PICTURES))
    some = shutil.disk_usage(tmp_path)._replace(free=RESERVE_BYTES + len(served.body) + 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: some)
    size = f"\nsize = {len(served.body)}"
    pets = case(tmp_path, part("photos", url(server.offer("pets.zip", served)) + size))
    assert "make room or choose another --data-root" in pets.failure()
    assert served.asked_ranges == []


def test_sources_that_fail_alike_are_named_by_their_hosts_with_one_reason(server, tmp_path):
    gone = [url(f"{server.url}/{name}.zip") for name in ("one", "two")]
    pets = case(tmp_path, part("photos", *gone, f'{gone[1]}\nlabel = "mirror"'))
    assert pets.failure() == (
        "pets: no source gave photos (official at 127.0.0.1, mirror at 127.0.0.1: "
        "answers 404 Not Found; use another --source)"
    )


def test_what_must_be_fetched_by_hand_says_how_and_where_to(tmp_path):
    pets = case(tmp_path, part("photos", by_hand="ask the owner for photos.zip"))
    assert pets.failure() == (
        f"pets cannot be fetched without your help; "
        f"by hand: ask the owner for photos.zip (into {tmp_path / 'pets'})"
    )


def test_offline_fetches_nothing_and_says_what_is_missing(server, tmp_path):
    pets = good(server, tmp_path)
    assert pets.failure(offline=True) == "pets lacks photos and --offline forbids to fetch it"
    pets.run()
    assert pets.run(offline=True)[-1].step == "ready"


@pytest.mark.parametrize(
    ("archive", "complaint"),
    [
        (zipped(PICTURES)[:-900], "is damaged or cut short"),
        (b"<!doctype html>Sign in", "sends a web page instead of a file"),
        (zipped(PICTURES | {"../photos/evil.jpg": b"x"}), "leads out of its folder"),
        (zipped({"elsewhere/1.jpg": b"x"}), "holds no 'photos'"),
    ],
)
def test_a_bad_archive_leaves_nothing_behind(server, tmp_path, archive, complaint):
    pets = case(tmp_path, part("photos", url(server.offer("bad.zip", archive))))
    assert complaint in pets.failure()
    assert not (tmp_path / "pets" / "photos").exists()
    assert not list(tmp_path.rglob("*.zip"))


def test_a_download_cut_for_good_is_kept_for_the_next_run(server, tmp_path):
    body = zipped(PICTURES)
    served = Served(body, cut_after=1000, cuts=1)
    pets = case(
        tmp_path,
        part("photos", url(server.offer("cut.zip", served))),
        part("split.json", url(server.offer("s.json", RAW_SPLIT))),
    )
    impatient = prepare_datasets(
        [pets.toml], tmp_path, ("all",), retries=RetryPolicy(attempts=1, wait_s=0, timeout_s=0.5)
    )
    assert "1000 bytes are kept for the next attempt" in list(impatient)[-1].text
    assert pets.run()[-1].step == "ready"
    assert served.asked_ranges == ["", "bytes=1000-"]


def test_a_full_disk_is_said_before_the_download(server, tmp_path, monkeypatch):
    import shutil

    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    assert "make room or choose another --data-root" in good(server, tmp_path).failure()


def test_one_failure_does_not_stop_the_others(tmp_path):
    events = list(prepare_datasets(["dtd", "tiny_shapes"], tmp_path))
    assert [(event.dataset, event.step) for event in events] == [
        ("dtd", "failed"),
        ("tiny_shapes", "ready"),
    ]
    assert events[0].error.exit_code == MISSING


def test_names_suites_and_all_are_understood_and_others_refused(tmp_path):
    assert catalog.expand(["tiny", "dtd", "tiny_shapes"]) == (
        "tiny_digits",
        "tiny_shapes",
        "tiny_textures",
        "dtd",
    )
    assert set(catalog.expand(["all"])) == set(data.names())
    with pytest.raises(
        UserError, match="unknown dataset or suite 'clasic'; did you mean 'classic'"
    ):
        prepare_datasets(["clasic"], tmp_path)


def test_a_folder_the_user_has_is_adopted_where_it_lies(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "root").mkdir()
    miniature("dtd", tmp_path / "mine")
    toml = (tmp_path / "mine" / "dtd.toml").rename(tmp_path / "root" / "dtd.toml")
    for given in (tmp_path / "mine", tmp_path / "mine" / "dtd"):
        events = list(prepare_datasets([str(toml)], tmp_path / "root", adopt_from=given))
        assert (events[0].step, events[-1].step) == ("adopted", "ready")
        assert data.load(str(toml), tmp_path / "root").test.open(0).size == (8, 8)
    assert not (tmp_path / "root" / "dtd").exists()
    assert not (tmp_path / "mine" / ".fsbench").exists()


def test_a_split_file_may_lie_in_the_data_root_and_the_images_elsewhere(tmp_path):
    (tmp_path / "root").mkdir()
    miniature("dtd", tmp_path)
    toml = (tmp_path / "dtd.toml").rename(tmp_path / "root" / "dtd.toml")
    (tmp_path / "root" / "dtd").mkdir()
    (tmp_path / "dtd" / "split_zhou_DescribableTextures.json").rename(
        tmp_path / "root" / "dtd" / "split_zhou_DescribableTextures.json"
    )
    assert (
        list(prepare_datasets([str(toml)], tmp_path / "root", adopt_from=tmp_path / "dtd"))[-1].step
        == "ready"
    )


def test_a_split_file_is_fetched_for_images_that_are_adopted(server, tmp_path):
    pets = good(server, tmp_path)
    for key, body in PICTURES.items():
        file = tmp_path / "elsewhere" / key.removeprefix("pets/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    events = pets.run(adopt_from=tmp_path / "elsewhere")
    assert {event.text for event in events if event.step == "download"} == {
        f"{server.url}/split.json"
    }
    assert events[-1].step == "ready"
    assert [path.name for path in (tmp_path / "pets").iterdir()] == ["split.json"]


def test_a_copy_with_folders_in_folders_is_reported_where_it_lies(tmp_path):
    (tmp_path / "copy").mkdir()
    miniature("stanford_cars", tmp_path / "copy")
    toml = (tmp_path / "copy" / "stanford_cars.toml").rename(tmp_path / "stanford_cars.toml")
    cars = tmp_path / "copy" / "stanford_cars"
    for name in ("cars_train", "cars_test"):
        (cars / name).rename(cars / "inner")
        (cars / name).mkdir()
        (cars / "inner").rename(cars / name / name)
    last = list(prepare_datasets([str(toml)], tmp_path, adopt_from=tmp_path / "copy"))[-1]
    assert last.step == "failed"
    assert f"images are missing in {cars}, the first is cars_train/" in last.text
    assert f"(it lies in {cars}/cars_train/cars_train: move what is there one" in last.text
    assert f"correct {cars}" in last.text


def test_an_adopted_folder_stands_before_a_broken_one_of_ours(tmp_path):
    miniature("dtd", tmp_path)
    toml = tmp_path / "dtd.toml"
    own = tmp_path / "dtd"
    own.rename(tmp_path / "whole")
    (own / "images").mkdir(parents=True)
    assert not data.prepared(str(toml), tmp_path)
    assert (
        list(prepare_datasets([str(toml)], tmp_path, adopt_from=tmp_path / "whole"))[-1].step
        == "ready"
    )
    assert not any((own / "images").iterdir())


def test_a_folder_without_the_dataset_is_not_adopted(tmp_path):
    events = list(prepare_datasets(["dtd"], tmp_path, adopt_from=tmp_path))
    assert "holds what dtd needs: split_zhou_DescribableTextures.json, images" in events[-1].text
    assert (
        "is no folder"
        in list(prepare_datasets(["dtd"], tmp_path, adopt_from=tmp_path / "nowhere"))[-1].text
    )


def test_verifying_names_the_first_image_that_changed_and_later_readings_remember(server, tmp_path):
    pets = good(server, tmp_path)
    events = pets.run(verify=True)
    assert [event.done for event in events if event.step == "verify"][-1] == 10
    image = tmp_path / "pets" / "photos" / "dog" / "1.jpg"
    before = image.read_bytes()
    image.write_bytes(jpeg(99))
    assert (
        "1 of 10 images have changed since they were first verified, the first is photos/dog/1.jpg"
        in pets.failure(verify=True)
    )
    assert "verification failed" in pets.failure()
    with pytest.raises(UserError, match="verification failed: 1 of 10 images have changed"):
        data.load(pets.toml, tmp_path)
    image.write_bytes(before)
    assert pets.run(verify=True)[-1].step == "ready"
    assert not data.load(pets.toml, tmp_path).changed


def test_images_exchanged_behind_our_back_are_noticed_on_reading(server, tmp_path):
    pets = good(server, tmp_path)
    pets.run()
    for image in (tmp_path / "pets" / "photos").rglob("*.jpg"):
        image.write_bytes(jpeg(random.randrange(10**9)))
    with pytest.raises(UserError, match="a sample of 32 has other contents"):
        data.load(pets.toml, tmp_path)


def test_status_has_a_row_for_every_dataset(tmp_path):
    (tmp_path / "dtd").mkdir()
    (tmp_path / "dtd" / "split_zhou_DescribableTextures.json").write_text("{}")
    rows = {row.name: row for row in availability(tmp_path)}
    assert set(rows) == set(data.names())
    assert (rows["tiny_shapes"].state, rows["dtd"].state, rows["eurosat"].state) == (
        "generated",
        "partial",
        "missing",
    )
    assert rows["imagenet"].registration
    assert rows["imagenet"].sources == "by hand"
    assert rows["stanford_cars"].sources == "mirror (opt-in), by hand"


def test_two_processes_do_not_prepare_one_dataset_at_a_time(server, tmp_path):
    from filelock import FileLock

    pets = good(server, tmp_path)
    (tmp_path / ".fsbench").mkdir()
    with FileLock(tmp_path / ".fsbench" / f"{data.read_spec(pets.toml).key}.lock"):
        assert pets.failure() == "another process is preparing pets; wait for it"
