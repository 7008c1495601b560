"""A host of its own for each test, and a real browser that looks at its page."""

from __future__ import annotations

import http.client
import json
import shutil
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import urlsplit

import pytest
from host.conftest import HostOfTest, host
from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ["host"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as the system has it (`.ci/system` installs it)."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "these tests need Chromium: sh .ci/system, or apt-get install chromium"
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


class Seen:
    """One browser's tab on the page of a host.

    Attributes:
        page: see playwright.
        errors: what went wrong in the page's own script, and what the browser refused to load or run.
    """

    def __init__(self, page: Page, host: HostOfTest, pictures: Path) -> None:
        self.page = page
        self.errors: list[str] = []
        self._host = host
        self._pictures = pictures
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)

    def sign_in(self) -> str:
        """Open a fresh link; returns it."""
        url = str(self._host.ask("page_link")["url"])
        self.page.goto(url)
        self.page.get_by_text("live", exact=True).wait_for()
        return url

    def go(self, place: str) -> None:
        """To a place behind the #."""
        self.page.evaluate("place => { location.hash = place }", place)

    def picture(self, name: str) -> None:
        """For people to look at."""
        self.page.screenshot(path=self._pictures / f"{name}.png", full_page=True)


@pytest.fixture
def seen(browser: Browser, host: HostOfTest, tmp_path: Path) -> Iterator[Seen]:
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(60_000)
    made = Seen(context.new_page(), host, tmp_path)
    yield made
    context.close()
    assert made.errors == []


class Visitor:
    """Somebody who speaks HTTP to the page by hand."""

    def __init__(self, host: HostOfTest) -> None:
        address = urlsplit(host.ask("status")["page"])
        assert address.hostname and address.port
        self.host = host
        self.port = address.port
        self.name = f"127.0.0.1:{address.port}"

    def ask(
        self, method: str, path: str, fields: Any = None, **headers: str | None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Headers by name with `_` for `-`; one that is None is left out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = None if fields is None else json.dumps(fields).encode()
        sent = {"Host": self.name, "Origin": f"http://{self.name}" if method == "POST" else None}
        if body is not None:
            sent.update({"Content-Type": "application/json", "Content-Length": str(len(body))})
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        return answer.status, answer.headers, said

    def token(self) -> str:
        ticket = str(self.host.ask("page_link")["url"]).partition("#ticket=")[2]
        status, _, said = self.ask("POST", "/api/login", {"ticket": ticket})
        assert status == 200
        return f"Bearer {json.loads(said)['token']}"

    def state(self, token: str, query: str = "") -> tuple[dict[str, Any], bytes]:
        """The first event of a stream, and all bytes up to it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", f"/api/stream?{query}", headers={"Host": self.name, "Authorization": token})
        answer = connection.getresponse()
        assert answer.status == 200
        said = b""
        while b"event: state\ndata: " not in said or not said.endswith(b"\n\n"):
            said += answer.read1(65536)
        connection.close()
        line = said.partition(b"event: state\ndata: ")[2].partition(b"\n")[0]
        return dict(json.loads(line)), said


@pytest.fixture
def visitor(host: HostOfTest) -> Visitor:
    host.place.start()
    return Visitor(host)
