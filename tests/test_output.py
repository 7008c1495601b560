"""What is shown, in a pipe and on a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfn.events import Events, Log
from cloudfn.output import current, enable_output, show
from cloudfn.terminal import Lines, overtype

HEADER = """
import os, sys
from cloudfn.events import *
from cloudfn.output import current, enable_output, show
def out(data, worker="w1", stream="stdout"):
    current().emit(Log(worker, "f", stream, data))
"""


def in_pipes(program: str) -> tuple[bytes, bytes]:
    done = subprocess.run([sys.executable, "-c", HEADER + textwrap.dedent(program)], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout, done.stderr


def on_terminal(program: str, stdout: int | None = None) -> str:
    """All that a terminal of 80 columns is sent."""
    ours, theirs = pty.openpty()
    env = {key: value for key, value in os.environ.items() if key != "CI"}
    process = subprocess.Popen(
        [sys.executable, "-c", HEADER + textwrap.dedent(program)],
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        env={**env, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )
    os.close(theirs)
    sent = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not chunk:
            break
        sent += chunk
    os.close(ours)
    assert process.wait() == 0, sent.decode(errors="replace")
    return sent.decode()


def screen(sent: str) -> list[str]:
    """The lines that stand on a terminal after it was sent this; knows what the live view uses."""
    rows, row = [""], 0
    column = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", sent):
        if token == "\n":
            row += 1
            if row == len(rows):
                rows.append("")
        elif token == "\r":
            column = 0
        elif token.startswith("\x1b["):
            if token.endswith("A"):
                row -= int(token[2:-1] or 1)
            elif token == "\x1b[2K":
                rows[row] = ""
        else:
            line = rows[row].ljust(column)
            rows[row] = line[:column] + token + line[column + len(token) :]
            column += len(token)
    return [line.rstrip() for line in rows]


def test_without_enable_output_there_is_nobody_to_tell() -> None:
    assert current() is None
    with enable_output():
        assert isinstance(current(), Events)
    assert current() is None


def test_output_inside_output_is_the_same() -> None:
    with show() as outer:
        with enable_output():
            assert current() is outer
        assert current() is outer


def test_output_ends_with_an_exception_too() -> None:
    with pytest.raises(ZeroDivisionError), enable_output():
        raise ZeroDivisionError
    assert current() is None


def test_a_pipe_gets_the_bytes_as_they_are() -> None:
    out, err = in_pipes(r"""
        with enable_output():
            print("before")
            out(b"half a line \xff\xc3"); out(b"\xa9 10%\r20%\x00\n")
            out(b"to stderr\r\n", stream="stderr")
            print("after")
    """)
    assert out == b"before\nhalf a line \xff\xc3\xa9 10%\r20%\x00\nafter\n"
    assert err == b"to stderr\r\n"


def test_a_pipe_gets_progress_as_lines_on_stderr() -> None:
    out, err = in_pipes("""
        with enable_output():
            e = current()
            e.emit(AppState("demo", "starting"))
            e.emit(Progress("image: building"))
            e.emit(AppState("demo", "ready", 1.25))
            e.emit(FunctionState("square", 1, 2, 3, 0, 2))
            e.emit(FunctionState("square", 0, 0, 5, 1, 2))
            e.emit(Notice("warning", "no GPU here"))
            e.emit(AppState("demo", "stopped", 2))
    """)
    assert out == b""
    assert err.decode().splitlines() == [
        "image: building",
        "demo: ready after 1.2 s",
        "warning: no GPU here",
        "square: 5 done, 1 failed, 2 workers",
        "demo: stopped after 2.0 s",
    ]


def test_quiet_leaves_output_and_warnings() -> None:
    out, err = in_pipes("""
        with show(quiet=True) as e:
            e.emit(Progress("image: building"))
            e.emit(Notice("info", "by the way"))
            e.emit(Notice("warning", "careful"))
            e.emit(AppState("demo", "stopped", 2))
            out(b"data")
    """)
    assert (out, err) == (b"data", b"warning: careful\n")


def test_a_stream_without_a_binary_side_gets_text(capsys: pytest.CaptureFixture[str]) -> None:
    import io

    from cloudfn.plain import write_bytes

    notebook = io.StringIO()
    write_bytes(notebook, Log("w", "f", "stdout", b"a\xff\n"))
    assert notebook.getvalue() == "a\ufffd\n"


def test_a_terminal_shows_a_line_for_each_function_below_the_output() -> None:
    sent = on_terminal("""
        with enable_output():
            e = current()
            e.emit(AppState("demo", "starting"))
            e.emit(Progress("image: building"))
            e.emit(AppState("demo", "ready", 1))
            for n in range(50):
                out(b"line %d\\n" % n)
                e.emit(FunctionState("square", 50 - n, 2, n, 0, 2))
            print("local line")
            e.emit(FunctionState("square", 0, 0, 49, 1, 2))
            e.emit(Notice("warning", "no GPU here"))
            e.emit(AppState("demo", "stopped", 2))
        print("the end")
    """)
    rows = screen(sent)
    assert rows[:50] == [f"line {n}" for n in range(50)]
    assert rows[50:52] == ["local line", "warning: no GPU here"]
    assert re.fullmatch(r"square +0 queued +0 running +49 done +1 failed +2 workers +\d+\.\d s", rows[52])
    assert rows[53:] == ["the end", ""]
    assert sent.endswith("\x1b[?25hthe end\r\n")  # the cursor is back


def test_a_terminal_loses_nothing_that_is_unfinished() -> None:
    sent = on_terminal(r"""
        with enable_output():
            out(b"10%|#   "); out(b"\r100%|####")
            out(b"caf\xc3", "w2"); out(b"\xa9", "w2")
            print("no newline", end="")
            sys.stdout.buffer.write(b" either")
        print("the end")
    """)
    assert screen(sent) == ["100%|####", "café", "no newline either", "the end", ""]


def test_a_terminal_keeps_colours_and_drops_what_moves_the_cursor() -> None:
    sent = on_terminal(r"""
        with enable_output():
            out(b"\x1b[31mred\x1b[0m \x1b[2J\x1b[5Aplain [bold]x[/bold]\n")
    """)
    assert "\x1b[31mred" in sent
    assert "\x1b[2J" not in sent
    assert "\x1b[5A" not in sent
    assert "plain [bold]x[/bold]" in screen(sent)[0]


def test_a_long_line_is_not_cut_nor_folded() -> None:
    assert "x" * 500 in on_terminal("""
        with enable_output():
            out(b"x" * 500 + b"\\n")
    """)


def test_nothing_is_drawn_before_the_first_event() -> None:
    assert screen(
        on_terminal("""
        with enable_output():
            print("plain", end="")
            print(" text")
    """)
    ) == ["plain text", ""]


def test_only_stderr_is_a_terminal(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        sent = on_terminal(
            r"""
            with enable_output():
                out(b"a\r\xff"); print("local")
                out(b"above\n", stream="stderr")
                current().emit(FunctionState("f", 0, 0, 1, 0, 1))
            """,
            stdout=file.fileno(),
        )
    assert (tmp_path / "out").read_bytes() == b"a\r\xfflocal\n"
    rows = screen(sent)
    assert rows[0] == "above"
    assert "1 done" in rows[1]


def test_a_forked_child_can_print() -> None:
    sent = on_terminal("""
        with enable_output():
            out(b"parent\\n")
            if (child := os.fork()) == 0:
                print("child", flush=True)
                os._exit(0)
            os.waitpid(child, 0)
    """)
    assert "child\r\n" in sent


def test_streams_are_handed_back_and_old_handles_still_work() -> None:
    sent = on_terminal("""
        import logging
        first = sys.stdout, sys.stderr
        with enable_output():
            logging.basicConfig(format="%(message)s")
            logging.warning("one")
            out(b"two\\n")
        assert (sys.stdout, sys.stderr) == first
        logging.warning("three")
    """)
    assert screen(sent) == ["one", "two", "three", ""]


@given(st.lists(st.binary(max_size=20)))
def test_lines_do_not_depend_on_how_bytes_are_cut(chunks: list[bytes]) -> None:
    whole, cut = Lines(), Lines()
    at_once = whole.feed(b"".join(chunks), final=True)
    one_by_one = [line for chunk in chunks for line in cut.feed(chunk)] + cut.feed(b"", final=True)
    assert (at_once, whole.partial) == (one_by_one, cut.partial)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain", "plain"),
        ("10%\r100%", "100%"),
        ("100%\r5", "500%"),
        ("done\r", "done"),
        ("a\r\rb", "b"),
        ("\x1b[31mlong\x1b[0m\rx", "x"),
        ("\x1b[31mlong\x1b[0m\r", "\x1b[31mlong\x1b[0m"),
    ],
)
def test_a_carriage_return_overtypes(written: str, shown: str) -> None:
    assert overtype(written) == shown


def test_a_bar_that_never_ends_does_not_grow() -> None:
    lines = Lines()
    for n in range(20_000):
        lines.feed(b"\r%5d" % n)
    assert lines.partial == "19999"
    assert len(lines._rest) < 5000
