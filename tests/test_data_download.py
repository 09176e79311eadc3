"""Downloads over servers that cut, stall, forget ranges, change the file or send a web page."""

import errno
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.data import http_download
from benchmark.data.http_download import RetryPolicy
from benchmark.errors import MISSING, UserError
from tests.data_server import Served, Server, serving

BODY = random.Random(1).randbytes(300_000)
QUICK = RetryPolicy(attempts=3, wait_s=0.0, timeout_s=0.3)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def fetched(url: str, folder: Path) -> tuple[Path, list[http_download.Progress]]:
    target = folder / "file.zip"
    return target, list(http_download.fetch(url, target, QUICK))


def test_a_file_arrives_whole_with_progress_and_nothing_beside_it(server, tmp_path):
    target, progress = fetched(server.offer("whole", BODY), tmp_path)
    assert target.read_bytes() == BODY
    assert progress[-1] == (len(BODY), len(BODY))
    assert os.listdir(tmp_path) == ["file.zip"]


def test_a_connection_cut_in_the_middle_is_gone_on_from(server, tmp_path):
    served = Served(BODY, cut_after=100_000, cuts=2)
    target, _ = fetched(server.offer("cut", served), tmp_path)
    assert target.read_bytes() == BODY
    assert served.asked_ranges == ["", "bytes=100000-", "bytes=200000-"]


def test_an_interrupted_command_goes_on_where_it_was(server, tmp_path):
    served = Served(BODY, cut_after=120_000, cuts=1)
    steps = http_download.fetch(server.offer("again", served), tmp_path / "file.zip", QUICK)
    next(steps)
    steps.close()  # as by Ctrl-C
    kept = (tmp_path / "file.zip.part").stat().st_size
    fetched(f"{server.url}/again", tmp_path)
    assert kept > 0
    assert served.asked_ranges[1] == f"bytes={kept}-"
    assert (tmp_path / "file.zip").read_bytes() == BODY


def test_a_server_without_ranges_is_read_from_the_start_again(server, tmp_path):
    served = Served(BODY, ranges=False, cut_after=100_000, cuts=1)
    target, _ = fetched(server.offer("noranges", served), tmp_path)
    assert target.read_bytes() == BODY
    assert served.asked_ranges == ["", "bytes=100000-"]


def test_a_file_that_changed_meanwhile_is_not_patched_together(server, tmp_path):
    served = Served(BODY, cut_after=100_000, cuts=1)
    steps = http_download.fetch(server.offer("changed", served), tmp_path / "file.zip", QUICK)
    next(steps)
    steps.close()
    served.body, served.etag = BODY[::-1], '"two"'
    target, _ = fetched(f"{server.url}/changed", tmp_path)
    assert target.read_bytes() == BODY[::-1]


def test_more_kept_than_the_server_has_starts_over(server, tmp_path):
    served = Served(BODY, cut_after=200_000, cuts=1)
    steps = http_download.fetch(server.offer("shrunk", served), tmp_path / "file.zip", QUICK)
    next(steps)
    steps.close()
    served.body = BODY[:1000]
    target, _ = fetched(f"{server.url}/shrunk", tmp_path)
    assert target.read_bytes() == BODY[:1000]


def test_a_busy_server_is_asked_again(server, tmp_path):
    target, _ = fetched(server.offer("busy", Served(BODY, first_status=(503, 429))), tmp_path)
    assert target.read_bytes() == BODY


def test_a_file_of_unknown_length_is_taken_as_it_comes(server, tmp_path):
    target, progress = fetched(server.offer("nolength", Served(BODY, hides_length=True)), tmp_path)
    assert target.read_bytes() == BODY
    assert progress[-1] == (len(BODY), None)


@pytest.mark.parametrize(
    ("served", "complaint"),
    [
        (
            Served(b"<!DOCTYPE html><title>Quota exceeded</title>"),
            "sends a web page instead of a file",
        ),
        (Served(BODY, cut_after=0), "connection closed after 0 of 300000 bytes"),
        (Served(BODY, stalls=True), "timed out"),
        (Served(BODY, first_status=(500, 500, 500)), "500 Internal Server Error"),
        (Served(BODY, first_status=(403,)), "answers 403 Forbidden; use another --source"),
    ],
)
def test_a_server_that_does_not_deliver_is_named_in_one_sentence(
    server, tmp_path, served, complaint
):
    with pytest.raises(UserError, match=complaint) as caught:
        fetched(server.offer("bad", served), tmp_path)
    assert caught.value.exit_code == MISSING
    assert "/bad" in str(caught.value)
    assert not (tmp_path / "file.zip").exists()


def test_a_dead_link_and_a_dead_server_are_named(server, tmp_path):
    with pytest.raises(UserError, match="answers 404"):
        fetched(f"{server.url}/nowhere", tmp_path)
    with pytest.raises(UserError, match="could not be fetched"):
        fetched("http://127.0.0.1:9/closed", tmp_path)


def test_a_wrong_checksum_deletes_the_file(tmp_path):
    file = tmp_path / "file.zip"
    for sums in ({"md5": "0" * 32}, {"sha256": "0" * 64}):
        file.write_bytes(BODY)
        with pytest.raises(UserError, match=r"instead of 0+; it was deleted"):
            http_download.check(file, **sums)
        assert not file.exists()


def test_too_little_space_is_said_before_anything_is_written(server, tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(
        UserError, match=r"only 0\.0 GB are free; make room or choose another --data-root"
    ):
        fetched(server.offer("space", BODY), tmp_path)


def test_a_disk_that_fills_up_meanwhile_is_named(server, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    (tmp_path / "file.zip.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="is full; make room and run the same command again"):
        fetched(server.offer("full", BODY), tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    assert "cannot write to" in str(
        http_download.full_disk(PermissionError(errno.EACCES, "Permission denied"), tmp_path)
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        list(http_download.fetch("http://127.0.0.1:9/x", tmp_path / "file" / "below" / "x", QUICK))
