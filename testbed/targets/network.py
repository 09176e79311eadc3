"""What a server answers, and the note about an unfinished download."""

from __future__ import annotations

import socket
import threading
from functools import cache
from pathlib import Path

from benchmark.data import http_download
from benchmark.data.http_download import RetryPolicy
from testbed.mutation import json_text, mutated
from testbed.targets.inputs import Random, from_trees, written

ANSWERS = (
    b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "one"\r\n\r\nhello',
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/5\r\nContent-Length: 3\r\n"
    b'ETag: "one"\r\n\r\nllo',
    b"HTTP/1.0 200 OK\r\nLast-Modified: Tue, 01 Jan 2030 00:00:00 GMT\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    b"HTTP/1.1 416 Range Not Satisfiable\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nhello",
)


HERE = "@here@"  # in a note: the address of the server, which has another port each time


@cache
def _server() -> tuple[str, dict[str, bytes]]:
    """A server that answers every question with the same bytes and hangs up."""
    listening, answer = socket.create_server(("127.0.0.1", 0)), {"bytes": b""}

    def serve() -> None:
        while True:
            connection, _ = listening.accept()
            with connection:
                try:
                    connection.settimeout(1)
                    connection.recv(65536)
                    connection.sendall(answer["bytes"])
                except OSError:
                    pass  # the one who asked has hung up first

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}/set.zip", answer


def make_download(rng: Random) -> tuple[bytes, bytes]:
    kept = {"url": HERE, "validator": '"one"'}
    note = from_trees(lambda: [kept], json_text)(rng) if rng.random() < 0.5 else json_text(kept)
    return note, rng.choice(ANSWERS) if rng.random() < 0.3 else mutated(
        rng, rng.choice(ANSWERS), ANSWERS
    )


def honest_download() -> tuple[bytes, bytes]:
    return json_text({"url": HERE, "validator": "x"}), ANSWERS[0]


def read_download(folder: Path, parts: tuple[bytes, bytes]) -> None:
    url, answer = _server()
    written(folder / "set.zip.part", b"he")
    written(folder / "set.zip.part.json", parts[0].replace(HERE.encode(), url.encode()))
    answer["bytes"] = parts[1]
    for _ in http_download.fetch(
        url, folder / "set.zip", RetryPolicy(2, 0.0, 1.0, longest_wait_s=0.0)
    ):
        pass
