"""Requests for the rest of a file, and what a server's answer says about it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPMessage, HTTPResponse
from pathlib import PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that may be other ones in a minute
PLAIN_ENCODINGS = {"", "identity"}
GZIP_ENCODINGS = {"gzip", "x-gzip"}
GZIP_NAMES = {".gz", ".tgz"}
HUB_REFUSALS = {  # X-Error-Code of the Hugging Face hub
    "GatedRepo": "asks for an account: accept its terms on its page and run `hf auth login`",
    "EntryNotFound": "is not in its repository on the hub",
    "RevisionNotFound": "is not on the hub at this revision",
    "RepoNotFound": "is not on the hub, or not for you",
}


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to http and https only; what is secret goes to the first host alone."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).scheme not in {"http", "https"}:
            raise HTTPError(req.full_url, code, f"leads to {newurl[:80]}", headers, fp)
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new and urlsplit(newurl)[:2] == urlsplit(req.full_url)[:2]:
            new.unredirected_hdrs.update(req.unredirected_hdrs)
        return new


def send(request: Request, timeout_s: float) -> HTTPResponse:
    """The answer after all redirects. Raises HTTPError, URLError and other OSErrors."""
    response: HTTPResponse = build_opener(_Redirects).open(request, timeout=timeout_s)
    return response


def request(url: str, kept_bytes: int, validator: str, secrets: Mapping[str, str]) -> Request:
    """A request for a file, or for what follows the kept bytes if it is still the same (If-Range).

    `secrets` are headers that no other host may see.
    """
    wanted = Request(url, headers={"User-Agent": "fsbench", "Accept-Encoding": "identity"})
    for name, value in secrets.items():
        wanted.add_unredirected_header(name, value)
    if kept_bytes and validator:
        wanted.add_header("Range", f"bytes={kept_bytes}-")
        wanted.add_header("If-Range", validator)
    return wanted


def validator(response: HTTPResponse) -> str:
    """What names this version of a file in a later request; '' where nothing does."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def is_other_version(response: HTTPResponse, noted: str) -> bool:
    """Whether an answer comes from another version of the file than the one noted earlier.

    Some servers answer a Range without a look at its If-Range. They may leave out what they were
    told in it.
    """
    sent = response.headers.get("ETag" if noted.startswith('"') else "Last-Modified", "")
    return bool(sent) and sent != noted


def total_bytes(response: HTTPResponse) -> int | None:
    """The size of the whole file. An answer to a Range may hold less than the rest of it, and its
    Content-Length is that of the piece.
    """
    length = response.headers.get("Content-Length", "")
    if response.status == 206:
        length = response.headers.get("Content-Range", "").partition("/")[2].strip()
    is_number = length.isascii() and length.isdigit() and len(length) < 20
    return int(length) if is_number else None


def ends_unseen(response: HTTPResponse, total: int | None) -> bool:
    """Whether nothing tells a whole answer from one that was cut, or a piece from the rest."""
    return total is None and (response.status == 206 or not response.chunked)


def encoding(response: HTTPResponse, url: str) -> str:
    """How the file itself was encoded for the way; '' where the bytes are the file's own.

    Some servers call a file gzip-encoded because its own name says so.
    """
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    own_name = PurePosixPath(urlsplit(url).path).suffix.lower() in GZIP_NAMES
    if coding in PLAIN_ENCODINGS or (coding in GZIP_ENCODINGS and own_name):
        return ""
    return "gzip" if coding in GZIP_ENCODINGS else coding


def retry_after_s(error: BaseException) -> float:
    """The seconds a server asks to wait; 0 where it does not ask, or not in a readable way."""
    value = error.headers.get("Retry-After", "") if isinstance(error, HTTPError) else ""
    try:
        return max(0.0, float(int(value)))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def lasting(error: BaseException) -> str:
    """What is wrong where another attempt cannot help: no such host, no trust; '' otherwise."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, socket.gaierror):
        return (
            f"its host name cannot be resolved: {reason.strerror or reason}; check the network, "
            f"or a proxy that is missing"
        )
    if isinstance(reason, ssl.SSLCertVerificationError):
        why = getattr(reason, "verify_message", "") or reason
        return (
            f"the host's certificate is not accepted: {why}; check this machine's clock and "
            f"certificates, or use another --source"
        )
    if isinstance(reason, ssl.SSLError):
        why = getattr(reason, "reason", "") or reason
        return f"no secure connection: {why}; use another --source"
    return ""


def refusal(error: HTTPError) -> str:
    """What a final refusal says, and what to do."""
    on_hub = HUB_REFUSALS.get(error.headers.get("X-Error-Code", ""))
    return on_hub or f"answers {error.code} {error.reason}; use another --source"


def reason(error: Exception) -> str:
    """The cause of a failed attempt, in a few words."""
    if isinstance(error, HTTPError):
        return f"{error.code} {error.reason}"
    return str(getattr(error, "reason", "") or error or type(error).__name__)
