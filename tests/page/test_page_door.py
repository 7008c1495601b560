"""The page's port, as somebody sees it who should not come in."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
import stat
from pathlib import Path

import pytest
from host.conftest import HostOfTest

import cloudfn
from cloudfn import remote_error
from cloudfn.exception import ResourceUnavailableError
from cloudfn.gateway import extra
from cloudfn.host.page.service import PageService, listen
from cloudfn.host.page.sessions import TICKET_LIFE, TOKEN_LIFE, Sessions
from page.conftest import Visitor
from page.page_app import app

pytestmark = pytest.mark.slow  # each starts a host

READS = ("/api/stream", "/api/stream?app=shop&part=logs", "/api/call?id=fc-0000000000000001")
CHANGES = ("/api/replay", "/api/cancel", "/api/logout")


def test_nothing_is_told_or_done_without_a_token(visitor: Visitor) -> None:
    for token in (None, "", "Bearer", "Bearer ", "Bearer guess", "Basic guess", f"Bearer {'é' * 10}"):
        for path in READS:
            assert visitor.ask("GET", path, Authorization=token)[0] == 401, (path, token)
        for path in CHANGES:
            assert visitor.ask("POST", path, {"app": "shop"}, Authorization=token)[0] == 401, (path, token)
    assert visitor.ask("GET", READS[0] + "?token=x", Cookie="token=x")[0] == 401


def test_a_link_is_good_once_and_only_from_the_door(visitor: Visitor) -> None:
    ticket = str(visitor.host.ask("page_link")["url"]).partition("#ticket=")[2]
    for guess in ("", ticket[:-1], ticket + "x", None, 1, [ticket]):
        assert visitor.ask("POST", "/api/login", {"ticket": guess})[0] == 403
    status, headers, said = visitor.ask("POST", "/api/login", {"ticket": ticket})
    assert status == 200 and "Set-Cookie" not in headers
    assert visitor.ask("POST", "/api/login", {"ticket": ticket})[0] == 403
    token = f"Bearer {json.loads(said)['token']}"
    assert visitor.ask("POST", "/api/replay", {"app": "none"}, Authorization=token)[0] == 404
    assert visitor.ask("POST", "/api/logout", {}, Authorization=token)[0] == 200
    assert visitor.ask("POST", "/api/replay", {"app": "none"}, Authorization=token)[0] == 401


def test_tickets_and_tokens_end() -> None:
    now = 0.0
    sessions = Sessions(lambda: now)
    late, token = sessions.ticket(), sessions.redeem(sessions.ticket())
    assert token and sessions.is_known(token)
    now = TICKET_LIFE + 1
    assert sessions.redeem(late) is None
    now = TOKEN_LIFE + 1
    assert not sessions.is_known(token)
    first = sessions.ticket()
    for _ in range(1000):
        sessions.ticket()
    assert sessions.redeem(first) is None  # they do not pile up


@pytest.mark.parametrize(
    "name", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1:80@evil", "", "0.0.0.0", "[::2]"]
)
def test_a_foreign_name_that_points_here_gets_nothing(visitor: Visitor, name: str) -> None:
    token = visitor.token()
    for path in ("/", "/main.js", *READS):
        status, _, said = visitor.ask("GET", path, Host=name, Authorization=token)
        assert status in (400, 403) and b"<script" not in said
    assert visitor.ask("GET", "/", Host=f"localhost:{visitor.port}")[0] == 200


def test_other_pages_may_not_ask(visitor: Visitor) -> None:
    token = visitor.token()
    mine, others = f"http://{visitor.name}", f"http://127.0.0.1:{visitor.port + 1}"
    for origin in ("http://evil.example", others, "null", f"https://{visitor.name}", mine + "/", ""):
        for method, path, fields in (("GET", READS[0], None), ("POST", "/api/cancel", {}), ("POST", "/api/login", {})):
            status, headers, _ = visitor.ask(method, path, fields, Origin=origin, Authorization=token)
            assert status == 403, (origin, path)
            assert not [name for name in headers if name.lower().startswith("access-control")]
    for site in ("cross-site", "same-site"):
        assert visitor.ask("GET", READS[0], Sec_Fetch_Site=site, Authorization=token)[0] == 403
    assert visitor.ask("POST", "/api/cancel", {}, Origin=None, Authorization=token)[0] == 403
    assert visitor.ask("OPTIONS", "/api/cancel", Origin="http://evil.example")[0] == 403


def test_what_is_sent_must_be_small_json_of_a_known_length(visitor: Visitor) -> None:
    token = visitor.token()
    send = {"Authorization": token}
    assert visitor.ask("POST", "/api/replay", {}, Content_Type="text/plain", **send)[0] == 415
    assert visitor.ask("POST", "/api/replay", {"app": "x" * 5000}, **send)[0] == 413
    assert (
        visitor.ask("POST", "/api/replay", Content_Type="application/json", Transfer_Encoding="chunked", **send)[0]
        == 413
    )
    for fields in ([], "x", None, {"app": []}, {"app": "shop", "call": "fc-../../x"}, {"call": "1"}):
        assert visitor.ask("POST", "/api/replay", fields, **send)[0] in (400, 404, 413, 415)
        assert visitor.ask("POST", "/api/cancel", fields, **send)[0] in (400, 404, 413, 415)
    for method in ("PUT", "DELETE", "PATCH", "TRACE"):
        assert visitor.ask(method, "/", **send)[0] == 405
        assert visitor.ask(method, "/api/replay", **send)[0] == 405


def test_only_the_pages_own_files_are_served(visitor: Visitor) -> None:
    for path in (
        "/../guard.py",
        "/%2e%2e/guard.py",
        "/..%2f..%2f..%2fhost.py",
        "//etc/passwd",
        "/static/",
        "/%00",
        "/.",
    ):
        status, _, said = visitor.ask("GET", path)
        assert status in (400, 404, 405) and b"<title>" not in said, path
    token = visitor.token()
    (Path(visitor.host.place.name) / "logs").mkdir(exist_ok=True)
    for name in ("../key", "..%2Fkey", "../../host/host", "%2Fetc%2Fpasswd"):
        _, said = visitor.state(token, f"app={name}&part=logs")
        assert b"event: log" not in said
    for path in ("/", "/main.js", "/style.css", "/nothing", "/api/stream"):
        headers = visitor.ask("GET", path)[1]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "DENY"


def test_no_secret_argument_or_result_is_shown(host: HostOfTest, visitor: Visitor) -> None:
    app.deploy()
    secret = cloudfn.Function.from_name("shop", "token").spawn()
    said = cloudfn.Function.from_name("shop", "say").spawn("argument-4711")
    assert secret.get(timeout=60) == "swordfish" and said.get(timeout=60)
    token = visitor.token()
    seen = [visitor.state(token, f"app=shop&part={part}")[1] for part in ("functions", "calls", "dead", "versions")]
    for call in (secret, said):
        status, _, answer = visitor.ask("GET", f"/api/call?id={call.object_id}", Authorization=token)
        assert status == 200 and json.loads(answer)["inputs"][0]["state"] == "ok"
        seen.append(json.dumps({**json.loads(answer), "lines": []}).encode())
    key = (Path(host.place.name) / "key").read_bytes()
    assert not any(word in shown for shown in seen for word in (b"swordfish", b"argument-4711", key))
    assert token.removeprefix("Bearer ") not in host.journal()


def test_the_port_is_on_loopback_and_stays_the_same(tmp_path: Path) -> None:
    first = listen(tmp_path / "port")
    address = first[0].getsockname()
    assert {sock.getsockname()[0] for sock in first} <= {"127.0.0.1", "::1"} and address[0] == "127.0.0.1"
    shut(first)
    again = listen(tmp_path / "port")
    assert again[0].getsockname() == address
    other = listen(tmp_path / "port")  # it is taken: another one, then
    assert other[0].getsockname() != address
    shut(again + other)
    (tmp_path / "port").write_text("22")
    free = listen(tmp_path / "port")
    assert free[0].getsockname()[1] >= 1024
    shut(free)
    assert stat.S_IMODE((tmp_path / "port").stat().st_mode) == 0o600


def shut(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_a_host_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "missing", lambda: ["uvicorn"])
    service = PageService()
    with pytest.raises(ResourceUnavailableError, match="uvicorn") as caught:
        asyncio.run(service.start(None))  # type: ignore[arg-type]  # it asks nothing of the host before
    assert "cloudfn[web]" in (caught.value.hint or "")
    asyncio.run(service.stop())


def test_half_a_request_holds_up_nobody(visitor: Visitor) -> None:
    token = visitor.token()
    idle = [socket.create_connection(("127.0.0.1", visitor.port)) for _ in range(20)]
    for sock in idle:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: ")
    assert visitor.state(token)[0]["apps"] == []
    assert visitor.host.ask("status")["apps"] == []
    for sock in idle:
        sock.close()


def test_metrics_need_their_own_token_which_opens_nothing_else(visitor: Visitor) -> None:
    found = visitor.host.ask("scrape")
    assert found["url"].endswith("/metrics")
    token = f"Bearer {Path(found['token']).read_text()}"
    status, headers, said = visitor.ask("GET", "/metrics", Authorization=token)
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"cloudfn_host_commits_total" in said
    assert visitor.ask("GET", "/metrics", Authorization=visitor.token())[0] == 200
    for wrong in (None, "Bearer ", token[:-1], "Bearer guess"):
        assert visitor.ask("GET", "/metrics", Authorization=wrong)[0] == 401
    for path in READS:
        assert visitor.ask("GET", path, Authorization=token)[0] == 401
    for path in CHANGES:
        assert visitor.ask("POST", path, {"app": "shop"}, Authorization=token)[0] == 401


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def test_a_traceback_is_read_without_unpickling_anything() -> None:
    assert "ValueError: no" in remote_error.text(remote_error.pack(ValueError("no")))
    for data in (b"", b"x", pickle.dumps([{"text": Bomb()}]), pickle.dumps(Bomb()), pickle.dumps([]), pickle.dumps(1)):
        assert remote_error.text(data) == ""
