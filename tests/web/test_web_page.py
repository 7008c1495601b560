"""The program of `docs/web.md` runs, and answers what the page says."""

from __future__ import annotations

import importlib.util
import re
import socket
import sys
from pathlib import Path

import pytest
from web_client import ask, begin, run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "web.md"
LINE = re.compile(r"(GET|POST) +([\w.]+) +(/\S*)(?: (\{.*?\}))? +(\d{3}) (.*)")


@pytest.mark.xdist_group("web_page")
def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = (re.search(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL) for kind in ("python", "text"))
    assert code and said
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    program = code[1].replace("8700", str(port)).replace("/tmp/shop-files", f"{tmp_path}/files")
    (tmp_path / "page_app.py").write_text(program)
    spec = importlib.util.spec_from_file_location("page_app", tmp_path / "page_app.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "page_app", module)
    spec.loader.exec_module(module)

    async def chat() -> str:
        exchange = begin(module.shop, url="/chat", websocket=True)
        await exchange.receive()
        await exchange.send({"type": "websocket.receive", "text": "hi"})
        answer: str = (await exchange.receive())["text"]
        await exchange.close()
        return answer

    with module.app.run():
        for line in said[1].splitlines():
            found = LINE.fullmatch(line)
            assert found, line
            method, name, url, body, status, answer = found.groups()
            function = module.Model().ask if name == "Model.ask" else getattr(module, name)
            got = ask(function, method, url, (body or "").encode(), {"content-type": "application/json"})
            assert (got.status, answer) == (int(status), got.body.decode().strip() if answer != "..." else "..."), line
        assert run(chat()) == "you said hi"
