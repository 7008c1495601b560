"""The log as the page follows it."""

from __future__ import annotations

from pathlib import Path

from cloudfn.events import AppState, FileSink, FunctionState, Log, Notice
from cloudfn.host.journal import turn
from cloudfn.host.page.logs import Tail


def test_the_end_first_then_what_comes(tmp_path: Path) -> None:
    path = tmp_path / "shop.jsonl"
    tail = Tail(path)
    assert tail.first(10) == [] and tail.more() == ([], 0)
    sink = FileSink(path)
    for i in range(5):
        sink(Log("w1", "say", "stdout", f"line {i}\n".encode()))
        sink(FunctionState("say", queued=i))
    assert [line["text"] for line in tail.first(2)] == ["line 3\n", "line 4\n"]
    assert tail.more() == ([], 0)
    sink(Log("w1", "say", "stderr", b"\xff broken \xe2\x82"))
    sink(Notice("warning", "careful"))
    sink(AppState("shop", "ready"))
    lines, skipped = tail.more()
    assert [line["stream"] for line in lines] == ["stderr", "warning", "info"] and not skipped
    assert lines[0]["text"] == "\ufffd broken \ufffd"
    turn(path)
    again = FileSink(path)
    again(Log("w2", "say", "stdout", b"after\n"))
    assert [line["text"] for line in tail.more()[0]] == ["after\n"]
    tail.close()
    sink.close()
    again.close()


def test_what_is_torn_or_foreign_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "shop.jsonl"
    path.write_bytes(b'{"event": "Log"}\n[]\nnull\n{"event": "Later", "time": 1}\nnot json\n{"event": "Log", "ti')
    tail = Tail(path)
    assert tail.first(10) == []
    with path.open("ab") as file:
        file.write(b'me": 1, "worker": "w1", "function": "f", "stream": "stdout", "data": "whole"}\n')
    assert [line["text"] for line in tail.more()[0]] == ["whole"]
    tail.close()


def test_who_cannot_follow_is_told_what_was_left_out(tmp_path: Path) -> None:
    path = tmp_path / "shop.jsonl"
    sink = FileSink(path)
    tail = Tail(path)
    tail.first(1)
    sink(Log("w1", "f", "stdout", b"first\n"))
    tail.first(1)
    for _ in range(100):
        sink(Log("w1", "f", "stdout", b"x" * 99_999 + b"\n"))
    lines, skipped = tail.more()
    assert skipped > 5_000_000
    while tail.has_more:
        lines = tail.more()[0] or lines
    assert lines
    tail.close()
    sink.close()
