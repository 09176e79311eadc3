"""A headless Chromium driven over its debugging pipe: no driver, no port, no package."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars "
    "--no-first-run --remote-debugging-pipe"
)


def browser_path() -> str | None:
    """The browser of this machine, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Tab:
    """One page. `errors` gathers what its console says in red."""

    to: IO[bytes]
    back: IO[bytes]
    session: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its answer."""
        self.sent.append(len(self.sent) + 1)
        message: dict[str, Any] = {"id": self.sent[-1], "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session[0]
        self.to.write(json.dumps(message).encode() + b"\0")
        self.to.flush()
        while (answer := self._read()).get("id") != self.sent[-1]:
            self._note(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _read(self) -> dict[str, Any]:
        text = bytearray()
        while (character := self.back.read(1)) not in (b"\0", b""):
            text += character
        assert text, "the browser went away"
        return dict(json.loads(text))

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown" or (
            method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert")
        ):
            self.errors.append(json.dumps(params)[:500])
        if method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])

    def open(self, page: Path) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session.append(
            self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        )
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=page.absolute().as_uri())
        self.until(
            "document.readyState === 'complete'"
            " && document.querySelectorAll('#matrix tbody tr').length > 0"
        )

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not self.ask(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.05)

    def press(self, key: str, times: int = 1) -> None:
        """A key of the keyboard: 'Tab', 'Enter', 'Escape'."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        for _ in range(times):
            text = {"text": "\r"} if key == "Enter" else {}
            for kind in ("keyDown", "keyUp"):
                self.call(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    code=key,
                    windowsVirtualKeyCode=codes[key],
                    **text,
                )

    def screen(self, width: int, height: int, phone: bool = False, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )

    def picture(self, path: Path) -> None:
        path.write_bytes(
            base64.b64decode(
                self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
            )
        )


@contextmanager
def tab(page: Path, profile: Path) -> Iterator[Tab]:
    """A fresh browser with `page` open; gone afterwards."""
    browser = browser_path()
    assert browser, "ask browser_path() first"
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # out of the way of 3 and 4
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
    silence = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
    wiring = [(os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4), silence]
    process = os.posix_spawn(
        browser,
        [browser, *FLAGS.split(), f"--user-data-dir={profile}"],
        os.environ,
        file_actions=wiring,
    )
    for end in (theirs_in, theirs_out, *high):
        os.close(end)
    with os.fdopen(ours_out, "wb") as to, os.fdopen(ours_in, "rb") as back:
        try:
            opened = Tab(to, back)
            opened.open(page)
            yield opened
        finally:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
