"""Secrets of a stack: what `Secret.from_name` gets on AWS, and `cloudfn secret --cloud aws`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from click.testing import CliRunner, Result
from cloudfn_aws.environment import Environments
from cloudfn_aws.provider import AWSProvider
from cloudfn_aws.secret_store import LARGEST, StackSecrets
from test_secret import holds

import cloudfn
from aws_run.test_environment import ACCOUNT, put
from cloudfn import registry
from cloudfn.cli import main
from cloudfn.client import current
from cloudfn.collect import collect
from cloudfn.descriptor import Descriptor
from cloudfn.exception import (
    AlreadyExistsError,
    AuthError,
    Error,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    UnimplementedError,
)
from cloudfn.secret import Secret
from cloudfn.secret_store import HasStackSecrets, for_app
from cloudfn.settings import Settings

HIDDEN = "hunter2-do-not-show"
STACK = Descriptor(
    "demo",
    "main",
    "demo.main",
    "demo-main",
    "us-east-1",
    ACCOUNT,
    f"demo-main-{ACCOUNT}-us-east-1",
    "https://x.lambda-url.us-east-1.on.aws/",
    secrets=("hf", "db"),
)


@pytest.fixture
def store(account: boto3.Session, settings: Settings, tmp_path: Path) -> StackSecrets:
    """Of a stack with two secrets that `up` has made and nobody has set."""
    put(account, STACK)
    for name in STACK.secrets:
        account.client("secretsmanager").create_secret(Name=f"demo-main/{name}")
    return StackSecrets(account, Environments(account, settings, tmp_path / "stacks"), "demo")


def set_by_hand(account: boto3.Session, **value: Any) -> None:
    account.client("secretsmanager").put_secret_value(SecretId="demo-main/hf", **value)


class Refuses:
    """AWS answers each request to Secrets Manager with this error."""

    def __init__(self, account: boto3.Session, code: str, message: str) -> None:
        self._said = json.dumps({"__type": code, "message": message}).encode()
        account.events.register_first("before-send.secretsmanager.*", self.answer)

    def answer(self, request: Any, **_: Any) -> Any:
        raw = SimpleNamespace(stream=lambda: iter([self._said]))
        return AWSResponse(request.url, 400, HTTPHeaders(), raw)


# -- a run -----------------------------------------------------------------------------------------------------------


def test_a_function_gets_the_values_of_its_stack(store: StackSecrets) -> None:
    store.create("hf", {"HF_TOKEN": HIDDEN, "OTHER": "é"})
    app = cloudfn.App("demo")
    app.function(secrets=[Secret.from_name("hf", required_keys=["HF_TOKEN"])], serialized=True, name="f")(lambda: None)
    (payload,) = collect(app, store)
    assert payload.environment == {"HF_TOKEN": HIDDEN, "OTHER": "é"}
    assert HIDDEN not in repr(payload) + repr(payload.spec) + repr(store)


def test_values_are_read_once_in_a_run(account: boto3.Session, store: StackSecrets) -> None:
    store.create("hf", {"A": "1"})
    assert store.get("hf") == {"A": "1"}
    set_by_hand(account, SecretString='{"A": "2"}')
    assert store.get("hf") == {"A": "1"}
    store.create("hf", {"A": "3"}, force=True)
    assert store.get("hf") == {"A": "3"}


def test_the_provider_offers_them_by_app(store: StackSecrets, account: boto3.Session, tmp_path: Path) -> None:
    store.create("hf", {"A": "1"})
    provider = AWSProvider()
    provider.use(Settings(provider="aws", regions=("us-east-1",)))
    found = for_app(provider, "demo")
    assert isinstance(provider, HasStackSecrets) and found is not None
    assert found.get("hf") == {"A": "1"}
    other = for_app(provider, "other")  # asks nothing before it is used
    assert other is not None
    with pytest.raises(NotFoundError, match="'other' has no stack"):
        other.get("hf")


def test_what_is_missing_says_what_to_do(store: StackSecrets) -> None:
    with pytest.raises(NotFoundError, match="no secret demo-main/nothing in AWS") as raised:
        store.get("nothing")
    assert "`cloudfn up` makes it" in raised.value.hint
    with pytest.raises(NotFoundError, match=r"'hf' of demo\.main has no values yet") as raised:
        store.get("hf")
    assert "cloudfn secret create hf --cloud aws --app demo --env main KEY" in raised.value.hint
    store.create("hf", {"OTHER": HIDDEN})
    with pytest.raises(NotFoundError, match="lacks the required keys HF_TOKEN") as raised:
        Secret.from_name("hf", required_keys=["HF_TOKEN", "OTHER"]).resolve(store)
    assert "cloudfn secret create hf --cloud aws --app demo --env main --force" in raised.value.hint
    assert not holds(raised.value, HIDDEN)


def test_who_may_not_read_is_told_which_policy(account: boto3.Session, store: StackSecrets) -> None:
    Refuses(
        account,
        "AccessDeniedException",
        "User: arn:aws:iam::1:user/eve is not authorized to perform: secretsmanager:GetSecretValue on resource: "
        "demo-main/hf because no identity-based policy allows the secretsmanager:GetSecretValue action",
    )
    with pytest.raises(PermissionDeniedError, match="GetSecretValue on demo-main/hf") as raised:
        store.get("hf")
    assert "the policy demo-main-call" in raised.value.hint and "`cloudfn up`" in raised.value.hint
    with pytest.raises(PermissionDeniedError) as raised:
        store.create("hf", {"A": HIDDEN}, force=True)
    assert "role `deploy`" in raised.value.hint and not holds(raised.value, HIDDEN)


def test_expired_credentials(account: boto3.Session, store: StackSecrets) -> None:
    Refuses(account, "ExpiredTokenException", "The security token included in the request is expired")
    with pytest.raises(AuthError, match="expired"):
        store.get("hf")


def test_a_secret_on_its_way_out(account: boto3.Session, store: StackSecrets) -> None:
    message = "You can't perform this operation on the secret because it was marked for deletion."
    Refuses(account, "InvalidRequestException", message)
    with pytest.raises(NotFoundError, match="being deleted") as raised:
        store.get("hf")
    assert "restore-secret --secret-id demo-main/hf" in raised.value.hint


@pytest.mark.parametrize(
    "value",
    [
        {"SecretString": HIDDEN},
        {"SecretString": f'["{HIDDEN}"]'},
        {"SecretString": f'{{"A": ["{HIDDEN}"]}}'},
        {"SecretString": f'{{"A=B": "{HIDDEN}"}}'},
        {"SecretBinary": HIDDEN.encode()},
    ],
)
def test_what_was_set_by_hand_may_be_no_variables(
    account: boto3.Session, store: StackSecrets, value: dict[str, Any]
) -> None:
    set_by_hand(account, **value)
    with pytest.raises(InvalidError, match="demo-main/hf in AWS") as raised:
        store.get("hf")
    assert not holds(raised.value, HIDDEN)


# -- the store -------------------------------------------------------------------------------------------------------


def test_values_are_set_listed_and_replaced(store: StackSecrets) -> None:
    assert [(secret.name, secret.keys, secret.created_at) for secret in store.list()] == [
        ("hf", (), None),
        ("db", (), None),
    ]
    assert not store.is_set("hf")
    store.create("hf", {"B": HIDDEN, "A": ""})
    assert store.is_set("hf") and not store.is_set("db")
    found = store.list()[0]
    assert found.keys == ("A", "B") and found.created_at is not None and HIDDEN not in repr(found)
    with pytest.raises(AlreadyExistsError, match="'hf' has values"):
        store.create("hf", {"A": "2"})
    store.create("hf", {"A": "2"}, force=True)
    assert store.get("hf") == {"A": "2"}


def test_only_the_stack_makes_and_deletes_secrets(store: StackSecrets) -> None:
    with pytest.raises(NotFoundError, match="no secret demo-main/other"):
        store.is_set("other")
    for force in (False, True):
        with pytest.raises(NotFoundError, match="no secret demo-main/other"):
            store.create("other", {"A": "1"}, force)
    with pytest.raises(InvalidError, match="part of the stack") as raised:
        store.delete("hf")
    assert "cloudfn secret create hf" in raised.value.hint


def test_more_than_aws_takes(store: StackSecrets) -> None:
    with pytest.raises(InvalidError, match=f"AWS takes {LARGEST}"):
        store.create("hf", {"A": "x" * LARGEST})
    assert not store.is_set("hf")


# -- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture
def project(store: StackSecrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose settings say AWS."""
    monkeypatch.setattr(current, "_choice", None)
    monkeypatch.delenv("CLOUDFN_PROVIDER", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cloudfn.toml").write_text('provider = "aws"\nregions = ["us-east-1"]\n')
    registry._load.cache_clear()
    yield tmp_path
    registry._load.cache_clear()


def invoke(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main.cli, ["secret", *words], input=stdin)


def run(*words: str, stdin: str | None = None) -> str:
    result = invoke(*words, stdin=stdin)
    assert result.exit_code == 0, result.output + str(result.exception)
    assert HIDDEN not in result.output
    return result.stdout


def failure(*words: str) -> Error:
    result = invoke(*words)
    assert isinstance(result.exception, Error), result.output
    assert HIDDEN not in result.output + str(result.exception)
    return result.exception


def test_a_value_is_set_rotated_and_listed_from_the_shell(project: Path, store: StackSecrets) -> None:
    where = ("--cloud", "aws", "--app", "demo")
    assert run("list", *where).splitlines()[1].split() == ["hf", "not", "set"]
    assert "Runs that start from now on" in run("create", "hf", *where, "HF_TOKEN", stdin=HIDDEN)
    assert store.get("hf") == {"HF_TOKEN": HIDDEN}
    assert isinstance(failure("create", "hf", *where, "HF_TOKEN=2"), AlreadyExistsError)
    run("create", "hf", *where, "--force", "HF_TOKEN=2")
    first, second = json.loads(run("list", *where, "--json"))
    assert (first["name"], first["keys"], first["app"]) == ("hf", ["HF_TOKEN"], "demo")
    assert first["created_at"] and (second["keys"], second["created_at"]) == ([], None)
    assert isinstance(failure("delete", "hf", *where, "--yes"), InvalidError)


def test_without_options_it_is_this_machines_store(project: Path, store: StackSecrets) -> None:
    run("create", "hf", "HF_TOKEN=mine")
    assert not store.is_set("hf")
    assert run("list").splitlines()[1].endswith("HF_TOKEN")
    assert run("list", "--cloud", "local") == run("list")
    run("delete", "hf", "--yes")


def test_which_stack(project: Path) -> None:
    assert "Name it: --app" in failure("create", "hf", "--cloud", "aws", "A=1").hint
    run("create", "hf", "--app", "demo", "A=1")  # the cloud is the settings'
    assert "no stack in the environment 'prod'" in str(failure("list", "--app", "demo", "--env", "prod"))
    (project / "cloudfn.toml").unlink()
    run("list", "--cloud", "aws")  # the one that was used from here
    assert isinstance(failure("list", "--app", "demo"), UnimplementedError)
    assert isinstance(failure("list", "--cloud", "mars"), NotFoundError)


def test_a_secret_that_the_stack_lacks_is_told_before_a_value_is_asked_for(project: Path) -> None:
    said = failure("create", "other", "--cloud", "aws", "--app", "demo", "--force", "KEY")
    assert "no secret demo-main/other" in said.message
