from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import termios
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cloudfn_local.secret_store import SecretStore

from cloudfn import registry
from cloudfn.cli.secret import secret
from cloudfn.exception import AlreadyExistsError, Error, InvalidError, NotFoundError, UnimplementedError, UsageError

HIDDEN = "hunter2-do-not-show"

# The command with a provider that only has a store, as a process of its own.
PROGRAM = """
import sys, types
from cloudfn import registry
from cloudfn_local.secret_store import SecretStore
registry.provider = lambda name: types.SimpleNamespace(secrets=SecretStore())
from cloudfn.cli.secret import secret
secret(sys.argv[1:])
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SecretStore:
    store = SecretStore(tmp_path / "secrets")
    monkeypatch.setattr(registry, "provider", lambda name: SimpleNamespace(secrets=store))
    return store


def invoke(*arguments: Any, stdin: str | None = None) -> Result:
    return CliRunner().invoke(secret, [str(argument) for argument in arguments], input=stdin)


def run(*arguments: Any, stdin: str | None = None) -> str:
    result = invoke(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    assert HIDDEN not in result.output
    return result.stdout


def fail(kind: type[Error], *arguments: Any, stdin: str | None = None) -> str:
    result = invoke(*arguments, stdin=stdin)
    assert type(result.exception) is kind
    assert HIDDEN not in result.output + str(result.exception)
    return str(result.exception)


def test_create_from_arguments(store: SecretStore) -> None:
    assert run("create", "db", "USER=ann", f"PASSWORD={HIDDEN}", "URL=a=b", "EMPTY=") == (
        "Stored secret db (USER, PASSWORD, URL, EMPTY).\n"
    )
    assert store.get("db") == {"USER": "ann", "PASSWORD": HIDDEN, "URL": "a=b", "EMPTY": ""}


@pytest.mark.parametrize("spelling", ["TOKEN", "TOKEN=-"])
@pytest.mark.parametrize(
    ("stdin", "value"),
    [(HIDDEN, HIDDEN), (HIDDEN + "\n", HIDDEN), (HIDDEN + "\r\n", HIDDEN), ("a\nb\n\n", "a\nb\n"), (" x ", " x ")],
)
def test_one_value_is_all_of_standard_input(store: SecretStore, spelling: str, stdin: str, value: str) -> None:
    run("create", "api", "USER=ann", spelling, stdin=stdin)
    assert store.get("api") == {"USER": "ann", "TOKEN": value}


def test_several_values_are_one_line_each(store: SecretStore) -> None:
    run("create", "api", "A", "B=-", stdin=f"1\n{HIDDEN}\n")
    assert store.get("api") == {"A": "1", "B": HIDDEN}


@pytest.mark.parametrize("stdin", ["", "\n", "one\n", "one\ntwo\nthree\n", "one\n\n"])
def test_standard_input_that_does_not_fit_is_refused(store: SecretStore, stdin: str) -> None:
    fail(UsageError, "create", "api", "A", "B", stdin=stdin)
    if not stdin.strip():
        assert "'A' from standard input is empty" in fail(UsageError, "create", "api", "A", stdin=stdin)
    assert store.list() == []


def test_a_terminal_is_asked_without_echo(tmp_path: Path) -> None:
    terminal, theirs = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    environment = {**os.environ, "CLOUDFN_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM, "create", "api", "TOKEN", "OTHER=-"]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=environment, start_new_session=True,
        preexec_fn=take_terminal,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        for prompt, answer in ((b"TOKEN: ", HIDDEN), (b"OTHER: ", "two")):
            while prompt not in seen:
                seen += os.read(terminal, 1000)
            os.write(terminal, answer.encode() + b"\n")
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        os.close(terminal)
    assert out == b"Stored secret api (TOKEN, OTHER).\n"
    assert HIDDEN.encode() not in seen
    assert SecretStore(tmp_path / "secrets").get("api") == {"TOKEN": HIDDEN, "OTHER": "two"}


def test_create_from_files(store: SecretStore, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"# comment\nTOKEN='{HIDDEN}'\nBARE\n")
    (tmp_path / "more.json").write_text(json.dumps({"KEY": "ü"}))
    run("create", "all", "A=1", "--from-dotenv", tmp_path / ".env", "--from-json", tmp_path / "more.json")
    assert store.get("all") == {"A": "1", "TOKEN": HIDDEN, "BARE": "", "KEY": "ü"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "one JSON object"),
        (b'["hunter2-do-not-show"]', "one JSON object"),
        (b"\xff\xfe\xff", "one JSON object"),
        (b'{"A": {"B": "hunter2-do-not-show"}}', "'A' must be a string, not dict"),
        (b'{"A": null}', "'A' must be a string, not NoneType"),
        (b'{"A=B": "hunter2-do-not-show"}', "'A=B'"),
    ],
)
def test_a_bad_json_file_is_named_and_not_shown(store: SecretStore, tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "bad.json").write_bytes(text)
    message = fail(InvalidError, "create", "x", "--from-json", tmp_path / "bad.json")
    assert "bad.json" in message and said in message


def test_a_missing_file_is_a_usage_error(store: SecretStore, tmp_path: Path) -> None:
    result = invoke("create", "x", "--from-dotenv", tmp_path / "gone")
    assert result.exit_code == 2 and "does not exist" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x"], "nothing to store"),
        (["x", "=1"], "starts with '='"),
        (["x", "A=1", "A=2"], "'A' is given twice"),
        (["x", "A=1", "A"], "'A' is given twice"),
        (["x", "A=1", "--from-json", "FILE"], "More than one source gives a value for A"),
        (["x", "A", "--from-json", "FILE"], "More than one source gives a value for A"),
    ],
)
def test_bad_command_lines(store: SecretStore, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "f.json").write_text('{"A": "1"}')
    line = [str(tmp_path / "f.json") if argument == "FILE" else argument for argument in arguments]
    assert said in fail(UsageError, "create", *line, stdin="typed")
    assert store.list() == []


@pytest.mark.parametrize("name", ["a b", "x" * 65, "a/b"])
def test_bad_names_are_refused(store: SecretStore, name: str) -> None:
    assert "cannot be the name" in fail(InvalidError, "create", name, "A=1")


def test_an_existing_secret_needs_force_and_is_found_before_anything_is_read(store: SecretStore) -> None:
    run("create", "db", "A=1")
    result = invoke("create", "db", "A", stdin=HIDDEN)
    assert type(result.exception) is AlreadyExistsError and "--force" in str(result.exception)
    run("create", "db", "B=2", "--force")
    assert store.get("db") == {"B": "2"}


def test_list(store: SecretStore) -> None:
    assert "cloudfn secret create" in run("list")
    assert json.loads(run("list", "--json")) == []
    run("create", "site", f"TOKEN={HIDDEN}", "USER=ann")
    run("create", "a-longer-name", "A=1")
    lines = run("list").splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "a-longer-name", "site"]
    assert lines[2].endswith("TOKEN, USER")
    rows = json.loads(run("list", "--json"))
    assert [(row["name"], row["keys"]) for row in rows] == [("a-longer-name", ["A"]), ("site", ["TOKEN", "USER"])]
    assert rows[0]["created_at"].endswith("+00:00")


def test_delete(store: SecretStore) -> None:
    run("create", "db", "A=1")
    assert invoke("delete", "db", stdin="n\n").exit_code == 1
    assert invoke("delete", "db", stdin="").exit_code == 1
    assert [s.name for s in store.list()] == ["db"]
    assert run("delete", "db", stdin="y\n") == "Deleted secret db.\n"
    assert store.list() == []
    run("create", "db", "A=1")
    run("delete", "db", "--yes")
    assert "'db'" in fail(NotFoundError, "delete", "db", "--yes")
    assert "'db'" in fail(NotFoundError, "delete", "db", stdin="y\n")


def test_the_help_warns_about_values_on_the_command_line(store: SecretStore) -> None:
    text = " ".join(run("create", "--help").split())
    assert "shell's history" in text and "cloudfn secret create openai OPENAI_API_KEY" in text


def test_a_provider_without_a_store_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "provider", lambda name: object())
    fail(UnimplementedError, "list")
