"""The parts of the engine's room that need no engine."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any, Mapping

import pytest

from cloudfn.engine import address, failures, install, passphrase, secrets
from cloudfn.engine.progress import JsonLines, Lines, LiveList, Message, Step, Summary, Watch, line, reader
from cloudfn.exception import (
    DeploymentError,
    Error,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StackLockedError,
    StateError,
    UsageError,
)
from cloudfn.plan_spec import Plan, SecretPlan
from cloudfn.settings import Settings

URL = "file:///state"


@pytest.fixture(autouse=True)
def config_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(passphrase.FOLDER_VARIABLE, str(tmp_path / "config"))
    for name in passphrase.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "config"


# -- passphrase ------------------------------------------------------------------------------------------------------


def test_a_passphrase_is_made_once_and_only_its_owner_may_read_it() -> None:
    first = passphrase.environment(URL, "a.main", is_new=True)
    path = Path(first["PULUMI_CONFIG_PASSPHRASE_FILE"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(path.read_text()) >= 40
    secret = path.read_text()
    assert passphrase.environment(URL, "a.main", is_new=True) == first and path.read_text() == secret
    assert passphrase.environment(URL, "a.main", is_new=False) == first
    assert passphrase.environment("file:///other", "a.main", is_new=True) != first
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []


def test_an_old_stack_gets_no_new_passphrase() -> None:
    with pytest.raises(StateError, match="not on this machine"):
        passphrase.environment(URL, "a.main", is_new=False)
    assert not passphrase.file_for(URL, "a.main").exists()


def test_the_users_own_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "")
    assert passphrase.environment(URL, "a.main", is_new=True) == {}
    assert not passphrase.file_for(URL, "a.main").exists()


def test_a_passphrase_that_others_can_read() -> None:
    passphrase.environment(URL, "a.main", is_new=True)
    passphrase.file_for(URL, "a.main").chmod(0o640)
    with pytest.raises(PermissionDeniedError, match="0640") as caught:
        passphrase.environment(URL, "a.main", is_new=False)
    assert "chmod 600" in caught.value.hint


def test_forgetting_is_idempotent() -> None:
    passphrase.environment(URL, "a.main", is_new=True)
    passphrase.forget(URL, "a.main")
    passphrase.forget(URL, "a.main")
    assert not passphrase.file_for(URL, "a.main").exists()


# -- the caller's address --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "block"), [("203.0.113.7", "203.0.113.7/32"), (" 10.1.0.0/16\n", "10.1.0.0/16")])
def test_blocks(text: str, block: str) -> None:
    assert address.block(text) == block


@pytest.mark.parametrize("text", ["0.0.0.0/0", "10.0.0.0/8", "::/0", "2001:db8::1", "me", "203.0.113.7/24", ""])
def test_what_may_not_be_let_in(text: str) -> None:
    with pytest.raises(UsageError):
        address.block(text)


# -- failures --------------------------------------------------------------------------------------------------------


def unknown(message: str) -> Error | None:
    return None


def test_a_lock_says_whose_it_is() -> None:
    text = (
        "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the "
        "lock file with `pulumi cancel`.\n  file:///s/.pulumi/locks/organization/cloudfn/a.main/1.json: "
        "created by ann@laptop (pid 42) at 2026-01-02T03:04:05Z"
    )
    error = failures.of_backend(text, "a.main", URL, unknown)
    assert isinstance(error, StackLockedError) and (error.host, error.pid) == ("laptop", 42)
    assert "ann@laptop" in error.message and "cloudfn unlock" in error.hint


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("error: getting secrets manager: incorrect passphrase", StateError),
        ("error: unable to check if bucket x is accessible: blob (code=NotFound)", StateError),
        ("error: dial tcp: lookup nowhere: no such host", StateError),
        ("error: [409] Conflict: Another update is currently in progress.", StackLockedError),
        ("error: no resource plugin 'pulumi-resource-aws' found", DeploymentError),
        ("something new", DeploymentError),
    ],
)
def test_what_the_engine_says_before_it_begins(text: str, kind: type[Error]) -> None:
    error = failures.of_backend(text, "a.main", URL, unknown)
    assert type(error) is kind
    assert "a.main" in error.message or "plugin" in error.message


def test_half_way_names_each_resource_and_keeps_the_clouds_meaning() -> None:
    def explain(message: str) -> Error | None:
        return ResourceExhaustedError("No room.", hint="Ask.") if "QuotaExceeded" in message else None

    failed = [Step("failed", "create", "x:y/group:Group", "g1")]
    errors = [
        Message("error", "1 error occurred:\n\t* QuotaExceeded: vpc", "g1"),
        Message("error", "update failed", ""),
    ]
    error = failures.of_steps("a.main", "up", [Step("done", "create", "t", "n")] * 2, failed, errors, explain)
    assert type(error) is ResourceExhaustedError
    assert "No room." in error.message and "g1 (x:y/group:Group): QuotaExceeded: vpc" in error.message
    assert "2 steps done" in error.message and "Ask." in error.hint and "cloudfn up` again" in error.hint


# -- progress --------------------------------------------------------------------------------------------------------


def engine_event(**data: Any) -> Any:
    events = pytest.importorskip("pulumi.automation.events")
    return events.EngineEvent.from_json({"sequence": 1, "timestamp": 1, **data})


def metadata(op: str, name: str, *, custom: bool = True, type: str = "aws:s3/bucket:Bucket", **more: Any) -> Any:
    urn = f"urn:pulumi:a.main::cloudfn::{type}::{name}"
    new = {"type": type, "urn": urn, "id": "b-1", "parent": "", "provider": "", "custom": custom, "outputs": {}}
    return {"op": op, "urn": urn, "type": type, "provider": "", "new": new, **more}


def test_events_become_steps_with_links_and_changes() -> None:
    seen: list[Any] = []
    watch = Watch(seen.append, lambda type, id, region: f"https://{region}/{id}", "eu-1")
    diff = {"tags.a": {"diffKind": "update"}, "tags.b": {"diffKind": "add"}, "maxSize": {"diffKind": "update"}}
    watch(engine_event(resourcePreEvent={"metadata": metadata("update", "bucket", detailedDiff=diff)}))
    watch(engine_event(resOutputsEvent={"metadata": metadata("update", "bucket", detailedDiff=diff)}))
    watch(engine_event(resourcePreEvent={"metadata": metadata("create", "part", custom=False)}))
    watch(engine_event(resourcePreEvent={"metadata": metadata("create", "p", type="pulumi:providers:aws")}))
    watch(engine_event(resOutputsEvent={"metadata": metadata("same", "other")}))
    watch(engine_event(diagnosticEvent={"message": "<{%fg 1%}>bad<{%reset%}>\n", "severity": "error", "color": ""}))
    watch(engine_event(summaryEvent={"durationSeconds": 3, "resourceChanges": {"update": 1}}))
    begun, done, message, summary = seen
    assert (begun.state, begun.op, begun.name, begun.changes) == ("begun", "update", "bucket", ("tags", "maxSize"))
    assert (done.state, done.id, done.url) == ("done", "b-1", "https://eu-1/b-1")
    assert message == Message("error", "bad") and summary.changes == {"update": 1}
    assert watch.done == [done] and watch.errors == [message]


def test_lines_for_readers_and_for_machines() -> None:
    step = Step("done", "create", "aws:autoscaling/group:Group", "t4", "id", url="https://c/t4", seconds=1.25)
    assert line(step) == "+ t4 (autoscaling Group) created, 1.2 s  https://c/t4"
    assert line(Step("begun", "create", "a:b/c:D", "n")) == ""
    assert "nothing to do" in line(Summary({}, 2.0))
    out = io.StringIO()
    Lines(out)(step)
    assert out.getvalue() == line(step) + "\n"
    out = io.StringIO()
    JsonLines(out)(step)
    read = json.loads(out.getvalue())
    assert read["event"] == "step" and read["name"] == "t4" and read["seconds"] == 1.25


# -- secrets ---------------------------------------------------------------------------------------------------------


class Store:
    """Named secrets in memory."""

    options = ""

    def __init__(self, secrets: Mapping[str, Mapping[str, str]]) -> None:
        self._secrets = secrets

    def get(self, name: str) -> Mapping[str, str]:
        if name not in self._secrets:
            raise NotFoundError(f"There is no secret {name!r}.")
        return self._secrets[name]


class Secrets:
    """An account with these values in its containers."""

    def __init__(self, **kept: Mapping[str, str]) -> None:
        self.kept = kept

    def secret_is_set(self, plan: Plan, name: str) -> bool:
        return name in self.kept

    def set_secret(self, plan: Plan, name: str, values: Mapping[str, str]) -> None:
        self.kept[name] = values


def plan_with(*secrets: SecretPlan) -> Plan:
    return Plan("a", "main", "aws", "a.main", "a-main", Settings(), (), (), secrets=secrets)


def test_secrets_are_read_before_anything_is_made() -> None:
    store: Any = Store({"db": {"USER": "ann", "PASSWORD": "x"}})
    account: Any = Secrets()
    assert secrets.read(plan_with(SecretPlan("db", ("USER",), ("f",))), store, account) == {
        "db": {"USER": "ann", "PASSWORD": "x"}
    }
    with pytest.raises(NotFoundError, match="HOST, which f require"):
        secrets.read(plan_with(SecretPlan("db", ("USER", "HOST"), ("f",))), store, account)
    with pytest.raises(NotFoundError, match="'api' of f is not stored") as caught:
        secrets.read(plan_with(SecretPlan("api", (), ("f",))), store, account)
    assert "cloudfn secret create api" in caught.value.hint


def test_secrets_that_are_set_stay_as_they_are() -> None:
    """Somebody may have rotated them since, and this machine need not have them at all."""
    store: Any = Store({"db": {"USER": "old"}})
    account: Any = Secrets(db={"USER": "new"}, api={"A": "1"})
    plan = plan_with(SecretPlan("api", (), ("f",)), SecretPlan("db", (), ("f",)), SecretPlan("more", (), ("f",)))
    with pytest.raises(NotFoundError, match="'more' of f is not stored"):
        secrets.read(plan, store, account)
    store = Store({"db": {"USER": "old"}, "more": {"B": "2"}})
    values = secrets.read(plan, store, account)
    said: list[str] = []
    secrets.send(plan, values, account, said.append)
    assert account.kept == {"db": {"USER": "new"}, "api": {"A": "1"}, "more": {"B": "2"}}
    assert said[2] == "secret more: 1 value set"
    assert "cloudfn secret create db --cloud aws --app a --env main --force" in said[1]


# -- the CLI ---------------------------------------------------------------------------------------------------------


def test_a_cli_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(install.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(NotFoundError, match="there is no program"):
        install.engine(lambda _: True)
    monkeypatch.delenv(install.VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    asked: list[str] = []
    with pytest.raises(NotFoundError, match="CLI is missing"):
        install.engine(lambda question: bool(asked.append(question)))
    assert len(asked) == 1 and "get.pulumi.com" in asked[0]


@pytest.mark.parametrize("version", ["v3.0.0", "not a version", "v9.1.0"])
def test_a_cli_that_does_not_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    from cloudfn.exception import VersionError

    cli = tmp_path / "pulumi"
    cli.write_text(f"#!/bin/sh\necho {version}\n")
    cli.chmod(0o755)
    monkeypatch.setenv(install.VARIABLE, str(cli))
    with pytest.raises(VersionError, match="does not fit"):
        install.engine(lambda _: False)


def test_a_missing_cli_is_installed_with_leave(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pulumi.automation import PulumiCommand

    def install_it(root: str) -> None:
        cli = Path(root) / "bin" / "pulumi"
        cli.parent.mkdir(parents=True)
        cli.write_text("#!/bin/sh\necho v3.259.0\n")
        cli.chmod(0o755)

    monkeypatch.setattr(PulumiCommand, "install", install_it)
    monkeypatch.delenv(install.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    found = install.engine(lambda _: True)
    assert str(found.version) == "3.259.0" and found.command.startswith(str(tmp_path / ".pulumi"))
    assert install.engine(lambda _: False).command == found.command  # the second time nobody is asked


def test_an_engine_is_told_of_ctrl_c_and_its_output_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import threading

    from pulumi.automation import CommandError

    cli = tmp_path / "pulumi"
    cli.write_text(
        '#!/bin/bash\n[ "$1" = version ] && { echo v3.259.0; exit; }\n'
        "trap 'echo stopping; exit 7' INT\necho ready\nwhile :; do read -t 1 < <(:); done\n"
    )
    cli.chmod(0o755)
    monkeypatch.setenv(install.VARIABLE, str(cli))
    engine = install.engine(lambda _: False)
    ready = threading.Event()
    threading.Thread(target=lambda: (ready.wait(30), engine.cancel())).start()
    with pytest.raises(CommandError, match="code: 7") as caught:
        engine.run(["up"], str(tmp_path), {}, on_output=lambda line: ready.set() if line == "ready" else None)
    assert "stopping" in str(caught.value)


def test_the_live_list_shows_what_runs_and_leaves_what_is_done() -> None:
    from rich.console import Console

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    live = reader(out, as_json=False)
    assert isinstance(live, LiveList)
    live(Step("begun", "create", "aws:s3/bucket:Bucket", "files"))
    shown = Console(file=io.StringIO(), width=80)
    shown.print(live)
    live(Step("done", "create", "aws:s3/bucket:Bucket", "files", "b", seconds=2.0))
    live(Step("failed", "create", "aws:ec2/vpc:Vpc", "net"))
    live.close()
    assert "create files" in shown.file.getvalue()  # type: ignore[attr-defined]
    assert "+ files (s3 Bucket) created, 2.0 s" in out.getvalue() and "net (ec2 Vpc) could not create" in out.getvalue()
