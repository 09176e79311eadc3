"""A file server on loopback that can be told to misbehave as real ones do."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Served:
    """One file and how it is served."""

    body: bytes
    etag: str = '"one"'
    ranges: bool = True
    minds_if_range: bool = True  # sends the whole file where it is another one by now
    piece: int | None = None  # bytes that an answer to a range holds at most
    hides_total: bool = False  # 'bytes 0-99/*' in an answer to a range
    cut_after: int | None = None  # bytes of an answer after which the connection closes
    cuts: int = 1_000_000  # answers that are cut
    first_status: tuple[int, ...] = ()  # answers before the first good one
    stalls: bool = False  # says a length and then nothing
    hides_length: bool = False
    chunked: bool = False  # sent in chunks instead of with a length
    redirect: str = ""  # where the file is instead
    headers: dict[str, str] = field(default_factory=dict)
    asked_ranges: list[str] = field(default_factory=list)  # Range headers as they came, "" for none
    authorizations: list[str] = field(default_factory=list)  # likewise


@dataclass(frozen=True)
class Server:
    url: str
    files: dict[str, Served]

    def offer(self, name: str, served: Served | bytes) -> str:
        """Serve a file; returns its address."""
        self.files[f"/{name}"] = served if isinstance(served, Served) else Served(served)
        return f"{self.url}/{name}"

    @property
    def other_host(self) -> str:
        """The same server under another name."""
        return self.url.replace("127.0.0.1", "localhost")

    def hub_listing(self, repo: str, sizes: dict[str, int], revision: str = "main") -> None:
        """Serve the list of files of a dataset repository as the hub's library asks for it."""
        siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
        about = {"id": repo, "sha": COMMIT, "siblings": siblings}
        for query in ("", "?blobs=true"):
            self.files[f"/api/datasets/{repo}/revision/{revision}{query}"] = Served(
                json.dumps(about).encode(), headers={"Content-Type": "application/json"}
            )

    def hub_file(
        self,
        repo: str,
        name: str,
        body: bytes,
        revision: str = "main",
        repo_type: str = "model",
        lfs: bool = False,
    ) -> Served:
        """Serve a file as the Hugging Face hub would, a large one (`lfs`) by a redirect to a signed
        address of another host; returns what sends the bytes.
        """
        above = "datasets/" if repo_type == "dataset" else ""
        sha256 = hashlib.sha256(body).hexdigest()
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(body)),
            "X-Linked-ETag": f'"{sha256}"',
        }
        served = Served(body, f'"{sha256}"', headers=headers)
        self.files[f"/{above}{repo}/resolve/{revision}/{name}"] = served
        if lfs:
            signed = f"lfs/{sha256}?X-Amz-Signature=abc&Expires=1"
            stored = Served(body, f'"{sha256[:32]}"')
            self.offer(signed, stored)
            served.redirect = f"{self.other_host}/{signed}"
            return stored
        return served


@contextmanager
def serving() -> Iterator[Server]:
    files: dict[str, Served] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"files": files}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}", files)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    files: dict[str, Served]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        served = self.files.get(self.path)
        if served is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range", "")
        served.asked_ranges.append(wanted)
        served.authorizations.append(self.headers.get("Authorization", ""))
        if len(served.asked_ranges) <= len(served.first_status):
            self._refuse(served, served.first_status[len(served.asked_ranges) - 1])
            return
        if served.redirect:
            self.send_response(302)
            self.send_header("Location", served.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        known = self.headers.get("If-Range", served.etag) if served.minds_if_range else served.etag
        same = known == served.etag
        start = (
            int(wanted.removeprefix("bytes=").partition("-")[0])
            if wanted and served.ranges and same
            else None
        )
        if start is not None and start >= len(served.body):
            self.send_error(416)
            return
        self._answer(served, start)

    def do_HEAD(self) -> None:
        served = self.files.get(self.path)
        if served is None:
            self.send_response(404)
            self.send_header(
                "X-Error-Code", "EntryNotFound" if "/resolve/" in self.path else "RepoNotFound"
            )
            self.send_header("Content-Length", "0")
        else:
            self.send_response(200)
            for name, value in (
                {"ETag": served.etag, "Content-Length": str(len(served.body))} | served.headers
            ).items():
                self.send_header(name, value)
        self.end_headers()

    def _refuse(self, served: Served, status: int) -> None:
        self.send_response(status)
        for name, value in served.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, served: Served, start: int | None) -> None:
        body = served.body[start or 0 :]
        if start is not None:
            body = body[: served.piece]
        self.send_response(206 if start is not None else 200)
        for name, value in ({"ETag": served.etag} | served.headers).items():
            self.send_header(name, value)
        if start is not None:
            total = "*" if served.hides_total else len(served.body)
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{total}")
        if served.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        elif not served.hides_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if served.stalls:
            threading.Event().wait(1.0)
        elif served.cut_after is not None and served.cuts > 0 and len(body) > served.cut_after:
            served.cuts -= 1
            self.wfile.write(body[: served.cut_after])
        else:
            self.wfile.write(body)
        self.close_connection = True
