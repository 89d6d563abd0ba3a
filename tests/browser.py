"""Chromium over its debugging pipe: pages are opened, asked, clicked and pictured."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-pipe",
]  # fmt: skip


class Browser:
    """One page of one browser.

    Attributes:
        console: what pages wrote to the console, exceptions and refusals of the content policy included.
        requests: addresses that pages asked for.
    """

    def __init__(self, profile: Path, *, width: int = 1400, height: int = 1000, dark: bool = False) -> None:
        own_in, its_out = os.pipe()
        its_in, own_out = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4; higher ones first, so that none is overwritten.
        spare = [os.dup2(its_in, 63), os.dup2(its_out, 64)]

        def places() -> None:
            os.dup2(63, 3)
            os.dup2(64, 4)

        command = [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command,
            preexec_fn=places,  # noqa: PLW1509  # no threads here
            pass_fds=(3, 4, 63, 64),
            stderr=subprocess.DEVNULL,
        )
        for descriptor in (its_in, its_out, *spare):
            os.close(descriptor)
        self._read, self._write, self._rest = own_in, own_out, b""
        self._numbers, self._answers = itertools.count(1), {}
        self.console: list[str] = []
        self.requests: list[str] = []
        self._loaded = 0
        self._session = None
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")
        self.resize(width, height, dark=dark)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, TimeoutError):
            self._session = None
            self._send("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        os.close(self._read)
        os.close(self._write)

    def resize(self, width: int, height: int = 1000, *, dark: bool = False) -> None:
        """Set the window's size, and whether it asks for a dark page."""
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str, *, scripts: bool = True) -> None:
        """Load a page and wait until it has."""
        self._send("Emulation.setScriptExecutionDisabled", value=not scripts)
        before = self._loaded
        self._send("Page.navigate", url=address)
        end = time.monotonic() + 90
        while self._loaded == before and time.monotonic() < end:
            self._listen(1.0)

    def ask(self, expression: str) -> object:
        """The value of an expression of the page's scripts, promises awaited."""
        found = self._send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"].get("exception", {}).get("description", found))
        return found["result"].get("value")

    def mouse(self, x: float, y: float, *, click: bool = False) -> None:
        """Move the pointer to a place of the window, and click there."""
        self._send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        if click:
            for kind in ("mousePressed", "mouseReleased"):
                self._send(
                    "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1
                )

    def picture(self, path: Path, *, whole: bool = False) -> Path:
        """Write what is seen, or the whole page, as PNG."""
        found = self._send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    # ------------------------------------------------------------------ the pipe

    def _send(self, method: str, **parameters: object) -> dict:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 90
        while number not in self._answers:
            if time.monotonic() > end or self._process.poll() is not None:
                raise TimeoutError(f"no answer to {method}")
            self._listen(1.0)
        answer = self._answers.pop(number)
        assert "error" not in answer, answer
        return answer["result"]

    def _listen(self, seconds: float) -> None:
        if not select.select([self._read], [], [], seconds)[0]:
            return
        self._rest += os.read(self._read, 1 << 16)
        *whole, self._rest = self._rest.split(b"\0")
        for text in whole:
            self._take(json.loads(text))

    def _take(self, message: dict) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        found = message.get("params", {})
        match message["method"]:
            case "Page.loadEventFired":
                self._loaded += 1
            case "Runtime.consoleAPICalled":
                self.console.append(str([item.get("value") for item in found["args"]]))
            case "Runtime.exceptionThrown":
                self.console.append(json.dumps(found["exceptionDetails"]))
            case "Log.entryAdded":
                self.console.append(found["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(found["request"]["url"])
