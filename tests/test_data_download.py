"""Downloads over servers that cut, stall, forget ranges, change the file or send a web page."""

import errno
import gzip
import os
import random
import shutil
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request

import pytest

from benchmark.data import disk_space, file_kinds, http_download, http_messages
from benchmark.data.http_download import FileFacts, RetryPolicy
from benchmark.errors import MISSING, UserError
from tests.data_server import Served, Server, serving

BODY = random.Random(1).randbytes(300_000)
QUICK = RetryPolicy(attempts=3, wait_s=0.0, timeout_s=0.3)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def fetched(
    url: str, folder: Path, facts: FileFacts = http_download.NO_FACTS
) -> tuple[Path, list[http_download.Progress]]:
    target = folder / "file.zip"
    return target, list(http_download.fetch(url, target, QUICK, facts))


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


def kept(server: Server, name: str, served: Served, folder: Path) -> str:
    """Begin a download and stop it after the first cut, as by Ctrl-C."""
    url = server.offer(name, served)
    steps = http_download.fetch(url, folder / "file.zip", QUICK)
    next(steps)
    steps.close()
    assert 0 < (folder / "file.zip.part").stat().st_size < len(served.body)
    return url


def test_pieces_of_a_file_are_asked_for_until_it_is_whole(server, tmp_path):
    served = Served(BODY, cut_after=100_000, cuts=1, piece=60_000)
    target, progress = fetched(kept(server, "pieces", served, tmp_path), tmp_path)
    assert target.read_bytes() == BODY
    assert served.asked_ranges[1:] == [f"bytes={100_000 + i * 60_000}-" for i in range(4)]
    assert progress[0] == (160_000, len(BODY))


def test_a_piece_of_a_file_of_unknown_size_is_not_taken_for_the_rest(server, tmp_path):
    served = Served(BODY, cut_after=100_000, cuts=1, piece=60_000, hides_total=True)
    with pytest.raises(UserError, match="states no length"):
        fetched(kept(server, "star", served, tmp_path), tmp_path)
    target, _ = fetched(f"{server.url}/star", tmp_path, FileFacts(size=len(BODY)))
    assert target.read_bytes() == BODY


def test_a_server_that_ignores_if_range_cannot_join_two_versions(server, tmp_path):
    served = Served(BODY, cut_after=100_000, cuts=1, minds_if_range=False)
    url = kept(server, "joined", served, tmp_path)
    served.body, served.etag = BODY[::-1], '"two"'
    target, _ = fetched(url, tmp_path)
    assert target.read_bytes() == BODY[::-1]
    assert served.asked_ranges == ["", "bytes=100000-", ""]


def test_a_server_with_an_etag_for_each_answer_is_given_up_in_the_end(server, tmp_path):
    served = Served(BODY, cut_after=100_000, minds_if_range=False)
    url = kept(server, "etags", served, tmp_path)
    served.headers = {"ETag": '"two"'}

    def download() -> None:
        for _ in http_download.fetch(url, tmp_path / "file.zip", QUICK):
            served.headers = {"ETag": '"three"'}

    with pytest.raises(UserError, match="changed meanwhile"):
        download()


def test_an_answer_that_leaves_out_its_validator_is_gone_on_from(server, tmp_path):
    served = Served(BODY, "", cut_after=100_000, cuts=2, minds_if_range=False)
    served.headers = {"Last-Modified": "Mon, 02 Mar 2026 10:00:00 GMT"}
    url = kept(server, "dated", served, tmp_path)
    served.headers = {}
    target, _ = fetched(url, tmp_path)
    assert target.read_bytes() == BODY
    assert served.asked_ranges == ["", "bytes=100000-", "bytes=200000-"]


def test_bytes_of_an_older_version_are_gone_before_the_new_one_is_noted(
    server, tmp_path, monkeypatch
):
    served = Served(BODY, cut_after=100_000, cuts=1)
    url = kept(server, "noted", served, tmp_path)
    served.body, served.etag = BODY[::-1], '"two"'
    looks = []

    def full_at_the_second_look(folder: Path, needed: int) -> None:
        looks.append(needed)
        if len(looks) == 2:
            raise UserError("the disk is full")

    monkeypatch.setattr(http_download, "require_space", full_at_the_second_look)
    with pytest.raises(UserError, match="the disk is full"):
        fetched(url, tmp_path)
    target, _ = fetched(url, tmp_path)
    assert target.read_bytes() == BODY[::-1]


def test_more_bytes_than_the_file_has_are_not_taken(server, tmp_path):
    served = Served(BODY + b"more", chunked=True)
    with pytest.raises(UserError, match="300004 bytes of a file that has 300000"):
        fetched(server.offer("more", served), tmp_path, FileFacts(size=len(BODY)))


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


def test_a_body_without_any_length_is_taken_only_where_something_tells_its_end(server, tmp_path):
    endless = server.offer("nolength", Served(BODY, hides_length=True))
    with pytest.raises(UserError, match="states no length and no checksum is known"):
        fetched(endless, tmp_path)
    assert list(tmp_path.glob("*.zip")) == []
    for facts in (FileFacts(has_checksum=True), FileFacts(size=len(BODY))):
        target, progress = fetched(endless, tmp_path, facts)
        assert target.read_bytes() == BODY
        assert progress[-1] == (len(BODY), facts.size)
    in_chunks, progress = fetched(server.offer("chunks", Served(BODY, chunked=True)), tmp_path)
    assert in_chunks.read_bytes() == BODY


@pytest.mark.parametrize(
    ("served", "size"),
    [
        (Served(BODY, chunked=True, cut_after=1000), None),
        (Served(BODY, hides_length=True, cut_after=1000, ranges=False), len(BODY)),
    ],
)
def test_a_body_cut_short_of_chunks_or_of_its_known_size_is_not_complete(
    server, tmp_path, served, size
):
    with pytest.raises(UserError, match="could not be fetched"):
        fetched(server.offer("short", served), tmp_path, FileFacts(size=size))
    assert not (tmp_path / "file.zip").exists()


def test_another_size_than_the_expected_one_is_refused_before_the_body_is_read(server, tmp_path):
    url = server.offer("other", BODY)
    with pytest.raises(UserError, match="has 300000 bytes instead of 7, so it is another file"):
        fetched(url, tmp_path, FileFacts(size=7))
    assert not (tmp_path / "file.zip.part").exists()


def test_a_file_that_was_packed_for_the_way_is_unpacked_again(server, tmp_path):
    packed = Served(gzip.compress(BODY), headers={"Content-Encoding": "gzip"})
    target, _ = fetched(server.offer("split.json", packed), tmp_path)
    assert target.read_bytes() == BODY
    assert os.listdir(tmp_path) == ["file.zip"]


def test_a_packed_body_cut_short_is_not_complete(server, tmp_path):
    cut = Served(gzip.compress(BODY)[:-9], hides_length=True, headers={"Content-Encoding": "gzip"})
    with pytest.raises(UserError, match="its gzip encoding is damaged or cut short"):
        fetched(server.offer("cut.json", cut), tmp_path)
    assert not (tmp_path / "file.zip").exists()


def test_an_archive_that_the_server_calls_packed_stays_as_it_is(server, tmp_path):
    body = gzip.compress(BODY)
    served = Served(body, headers={"Content-Encoding": "x-gzip"})
    assert fetched(server.offer("set.tar.gz", served), tmp_path)[0].read_bytes() == body


def test_an_encoding_that_nobody_asked_for_is_named(server, tmp_path):
    served = Served(BODY, headers={"Content-Encoding": "br"})
    with pytest.raises(UserError, match="is sent in the encoding 'br', which is not understood"):
        fetched(server.offer("brotli", served), tmp_path)


def test_a_redirect_to_another_host_is_followed_and_resumed_there(server, tmp_path):
    there = Served(BODY, cut_after=100_000, cuts=1)
    server.offer("there?signature=1", there)
    here = Served(b"", redirect=f"{server.other_host}/there?signature=1")
    target, _ = fetched(server.offer("here", here), tmp_path)
    assert target.read_bytes() == BODY
    assert there.asked_ranges == ["", "bytes=100000-"]


def test_a_secret_header_reaches_no_other_host(server, tmp_path):
    facts = FileFacts(secrets={"Authorization": "Bearer me"})
    server.offer("elsewhere", elsewhere := Served(BODY))
    server.offer("moved", moved := Served(b"", redirect=f"{server.other_host}/elsewhere"))
    first = Served(b"", redirect=f"{server.url}/moved")
    assert fetched(server.offer("first", first), tmp_path, facts)[0].read_bytes() == BODY
    assert (first.authorizations, moved.authorizations) == (["Bearer me"], ["Bearer me"])
    assert elsewhere.authorizations == [""]


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_away_from_http_is_refused(server, tmp_path, to):
    with pytest.raises(UserError, match="302"):
        fetched(server.offer("away", Served(b"", redirect=to)), tmp_path)


def test_a_server_that_asks_for_time_gets_it(server, tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(http_download.time, "sleep", waits.append)
    served = Served(BODY, first_status=(503, 429), headers={"Retry-After": "7"})
    assert fetched(server.offer("patience", served), tmp_path)[0].read_bytes() == BODY
    assert waits == [7.0, 7.0]


def test_a_date_to_try_again_at_is_understood():
    def seconds(value: str) -> float:
        headers = Message()
        headers["Retry-After"] = value
        return http_messages.retry_after_s(HTTPError("http://h", 503, "", headers, None))

    soon = datetime.now(UTC) + timedelta(seconds=90)
    assert 80 < seconds(format_datetime(soon, usegmt=True)) <= 90
    assert [seconds(each) for each in ("Thu, 01 Jan 1970 00:00:00 GMT", "soon", "-3", "")] == [
        0
    ] * 4


def test_a_server_that_asks_for_hours_is_left_alone_at_once(server, tmp_path):
    served = Served(BODY, first_status=(429,), headers={"Retry-After": "7200"})
    with pytest.raises(UserError, match="asks to be left alone for 120 minutes; try again then"):
        fetched(server.offer("hours", served), tmp_path)
    assert len(served.asked_ranges) == 1


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (
            socket.gaierror(-2, "Name or service not known"),
            "its host name cannot be resolved: Name or service not known; check the network",
        ),
        (
            ssl.SSLCertVerificationError(1, "certificate verify failed"),
            "the host's certificate is not accepted: .*certificate verify failed",
        ),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), "no secure connection: .*WRONG_VERSION"),
    ],
)
def test_what_time_cannot_mend_is_said_at_once(tmp_path, monkeypatch, reason, sentence):
    attempts: list[str] = []

    def send(request: Request, timeout_s: float) -> None:
        attempts.append(request.full_url)
        raise URLError(reason)

    monkeypatch.setattr(http_messages, "send", send)
    with pytest.raises(UserError, match=sentence) as caught:
        fetched("https://h/set.zip", tmp_path)
    assert "try again later" not in str(caught.value)
    assert len(attempts) == 1


def test_a_host_without_tls_is_named_as_such(server, tmp_path):
    with pytest.raises(UserError, match="no secure connection"):
        fetched(server.url.replace("http:", "https:") + "/x", tmp_path)


@pytest.mark.parametrize(
    "head",
    [
        b"<!DOCTYPE html><title>Quota exceeded</title>",
        b"\n\n  <HTML lang='en'>",
        b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0">',
        b"\xef\xbb\xbf<!doctype html>",
        "<html>".encode("utf-16"),
        b"<!-- saved from an old page -->\n<!-- twice --> <html>",
        b"<head><meta http-equiv=refresh>",
        b"<!--" + b"x" * 10_000,
    ],
)
def test_a_web_page_is_known_however_it_begins(head):
    assert file_kinds.is_web_page(head)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b'{"train": [["<html>", 0, "a"]]}',
        b'<?xml version="1.0"?><annotation><folder>x</folder></annotation>',
        b"PK\x03\x04<html>",
        b"<htmlish>",
        b"a b\n<!doctype html>",
    ],
)
def test_what_only_mentions_html_is_no_web_page(head):
    assert not file_kinds.is_web_page(head)


def test_a_refused_web_page_leaves_nothing_behind(server, tmp_path):
    with pytest.raises(UserError, match="sends a web page instead of a file"):
        fetched(server.offer("login", b"<?xml version='1.0'?><html/>"), tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("served", "complaint"),
    [
        (
            Served(b"<!DOCTYPE html><title>Quota exceeded</title>"),
            "sends a web page instead of a file",
        ),
        (Served(BODY, cut_after=0), "the answer ended after 0 of 300000 bytes"),
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


def test_room_for_unpacking_is_needed_before_the_download_begins(server, tmp_path, monkeypatch):
    served = Served(BODY)
    url = server.offer("room", served)
    free = disk_space.RESERVE_BYTES + len(BODY) + 1000
    some = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: some)
    with pytest.raises(UserError, match="make room"):
        fetched(url, tmp_path, FileFacts(copies=2))
    assert not (tmp_path / "file.zip.part").exists()
    with pytest.raises(UserError, match="make room"):
        fetched(url, tmp_path, FileFacts(size=len(BODY), copies=2))
    assert len(served.asked_ranges) == 1, "of a known size it is said before the server is asked"
    assert fetched(url, tmp_path, FileFacts(copies=1))[0].exists()


def test_a_disk_that_fills_up_meanwhile_is_named(server, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    (tmp_path / "file.zip.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="is full; make room and run the same command again"):
        fetched(server.offer("full", BODY), tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    assert "cannot write to" in str(
        disk_space.full_disk(PermissionError(errno.EACCES, "Permission denied"), tmp_path)
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        list(http_download.fetch("http://127.0.0.1:9/x", tmp_path / "file" / "below" / "x", QUICK))
