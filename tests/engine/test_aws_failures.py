"""What goes wrong half-way: the error says what, where and what to do; the state stays right; the next `up` goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloudfn.engine import passphrase
from cloudfn.engine.operations import check_holder
from cloudfn.exception import (
    AlreadyExistsError,
    AuthError,
    DeploymentError,
    InvalidError,
    LeftoverError,
    NotFoundError,
    PermissionDeniedError,
    PreflightError,
    StackLockedError,
    StateError,
)
from cloudfn.settings import StateSettings
from engine.conftest import AWSWorld
from engine.deploying import deployment, listed, plan_of, settings_of

pytestmark = [pytest.mark.machine, pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
GROUP = "aws:autoscaling/group:Group"
BUCKET = "aws:s3/bucket:Bucket"


def quiet(event: object) -> None:
    """Progress that nobody reads."""


def test_a_failure_half_way_and_recovery(aws: AWSWorld) -> None:
    plan = plan_of()
    aws.faults.fail_create_once(GROUP, "InternalError: the service is having a bad day")
    with deployment(plan) as stack:
        with pytest.raises(DeploymentError) as caught:
            stack.up(quiet)
        assert "bad day" in str(caught.value) and GROUP in str(caught.value)
        assert "cloudfn up" in caught.value.hint
        made = aws.made()
        assert made < listed(plan)
        assert {(type, name) for type, name, _ in stack.resources()} == made  # the state knows all there is
        stack.up(quiet)
        assert aws.made() == listed(plan)
        stack.down(quiet, lambda _: None)
        assert stack.account.leftovers(plan) == []


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        (
            "operation error S3: CreateBucket, https response error StatusCode: 403, api error AccessDenied: User: "
            "arn:aws:iam::1:user/ann is not authorized to perform: s3:CreateBucket on resource: arn:aws:s3:::b",
            PermissionDeniedError,
            "s3:CreateBucket",
        ),
        ("api error ExpiredToken: The security token included in the request is expired", AuthError, "expired"),
        ("BucketAlreadyExists: The requested bucket name is not available", AlreadyExistsError, "BucketAlreadyExists"),
    ],
)
def test_what_the_cloud_refuses_is_a_typed_error(aws: AWSWorld, message: str, kind: type[Exception], text: str) -> None:
    aws.faults.fail_create_once(BUCKET, message)
    with deployment(plan_of()) as stack, pytest.raises(kind, match=text) as caught:
        stack.up(quiet)
    assert "bucket" in str(caught.value) and "up` again" in str(caught.value)


def test_an_error_of_the_program_stays_what_it_is(aws: AWSWorld) -> None:
    def refuses(plan: object) -> None:
        raise InvalidError("There is no such image.")

    with deployment(plan_of(), program=refuses) as stack, pytest.raises(InvalidError, match="no such image"):
        stack.up(quiet)
    assert not aws.log


def test_down_drains_what_is_deployed_and_not_what_the_file_says_now(aws: AWSWorld) -> None:
    plan = plan_of()
    with deployment(plan) as stack:
        stack.up(quiet)
    fewer = replace(plan, groups=plan.groups[:1])
    said: list[str] = []
    with deployment(fewer) as stack:
        stack.down(quiet, said.append)
    assert {line.partition(":")[0] for line in said} == {f"{plan.prefix}-{group.name}" for group in plan.groups}


def test_preflight_names_what_is_missing_and_makes_nothing(aws: AWSWorld) -> None:
    aws.overlay.denied.add("autoscaling:CreateAutoScalingGroup")
    aws.overlay.quotas["L-DB2E81BA"] = 4.0  # one machine of three
    with deployment(plan_of()) as stack, pytest.raises(PreflightError) as caught:
        stack.obstacles()
    fatal, _, besides = caught.value.message.partition("Besides, and not in its way:")
    assert "autoscaling:CreateAutoScalingGroup" in fatal and "quota" not in fatal
    assert "1 of at most 3 machines" in besides
    assert "servicequotas" in str(caught.value.hint)
    assert not aws.log


def test_a_second_stack_of_the_same_name_in_another_state(aws: AWSWorld, tmp_path: Path) -> None:
    with deployment(plan_of()) as stack:
        stack.up(quiet)
        stack.obstacles()  # its own things do not stand in its way
    (tmp_path / "elsewhere").mkdir()
    elsewhere = StateSettings(backend="file", url=(tmp_path / "elsewhere").as_uri())
    with deployment(plan_of(state=elsewhere)) as other, pytest.raises(AlreadyExistsError, match=r"demo\.main"):
        other.obstacles()


def test_leftovers_are_named(aws: AWSWorld) -> None:
    plan = plan_of()
    with deployment(plan) as stack:
        stack.up(quiet)
        vpc = aws.client("ec2").create_vpc(CidrBlock="10.77.0.0/16")["Vpc"]["VpcId"]
        aws.client("ec2").create_tags(Resources=[vpc], Tags=[{"Key": "cloudfn:stack", "Value": plan.stack}])
        with pytest.raises(LeftoverError, match=vpc):
            stack.down(quiet, lambda _: None)
        assert not stack.exists()


def test_down_without_a_stack(aws: AWSWorld) -> None:
    with deployment(plan_of()) as stack, pytest.raises(NotFoundError, match=r"no stack demo\.main"):
        stack.down(quiet, lambda _: None)


# -- locks and Ctrl-C ------------------------------------------------------------------------------------------------


def lock_file(plan: Any, data: Path, holder: dict[str, Any]) -> Path:
    """A lock as the engine writes it, of a process that died."""
    folder = data / "state" / ".pulumi" / "locks" / "organization" / "cloudfn" / plan.stack
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "b5a0b3a4-0000-4000-8000-000000000000.json"
    path.write_text(json.dumps(holder))
    return path


def test_unlock_of_a_stale_lock(aws: AWSWorld, state_dir: Path) -> None:
    plan = plan_of()
    with deployment(plan) as stack:
        stack.up(quiet)
        lock = lock_file(
            plan,
            state_dir / "data",
            {"pid": 4242, "username": "ann", "hostname": "laptop", "timestamp": "2026-01-02T03:04:05Z"},
        )
        with pytest.raises(StackLockedError, match=r"ann@laptop \(process 4242\)") as caught:
            stack.up(quiet)
        assert (caught.value.host, caught.value.pid) == ("laptop", 4242)
        check_holder(caught.value)  # another machine: nothing can be said
        stack.unlock()
        assert not lock.exists()
        assert stack.refresh(quiet).done == []
        assert stack.interrupted() == []
        stack.up(quiet)


def test_the_lock_of_a_living_process_is_not_removed() -> None:
    error = StackLockedError("Stack a.b is locked.")
    error.host, error.pid = socket.gethostname(), os.getpid()
    with pytest.raises(StackLockedError, match="still runs"):
        check_holder(error)


def test_ctrl_c_ends_cleanly_and_up_goes_on(aws: AWSWorld) -> None:
    plan = plan_of()
    aws.faults.hold_create(GROUP)

    was_told: list[bool] = []

    def interrupt() -> None:
        aws.faults.reached.wait(60)
        os.kill(os.getpid(), signal.SIGINT)
        was_told.append(aws.faults.cancelled.wait(60))
        aws.faults.hold.set()

    thread = threading.Thread(target=interrupt)
    events: list[Any] = []
    with deployment(plan) as stack:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            stack.up(events.append)
        thread.join()
        assert was_told == [True]  # the engine passed it on to the provider
        assert any("Ctrl-C again" in getattr(event, "text", "") for event in events)
        made = aws.made()
        assert made < listed(plan)
        # What had begun is finished and known: nothing is lost, and nothing is locked.
        assert {(type, name) for type, name, _ in stack.resources()} == made
        assert {name for type, name in made if type == GROUP}
        assert stack.interrupted() == []
        stack.up(quiet)
        assert aws.made() == listed(plan)
        assert {(type, name) for type, name, _ in stack.resources()} == listed(plan)


# -- state -----------------------------------------------------------------------------------------------------------


def test_the_passphrase_is_made_once_kept_safe_and_gone_with_the_stack(aws: AWSWorld, state_dir: Path) -> None:
    plan = plan_of()
    with deployment(plan) as stack:
        stack.up(quiet)
        path = passphrase.file_for(stack.backend.url, plan.stack)
        assert path.stat().st_mode & 0o777 == 0o600
        secret = path.read_text()

        path.write_text("another one")
    with deployment(plan) as stack, pytest.raises(StateError, match="passphrase"):
        stack.up(quiet)
    path.unlink()
    with deployment(plan) as stack, pytest.raises(StateError, match="not on this machine"):
        stack.up(quiet)
    path.write_text(secret)
    path.chmod(0o644)
    with deployment(plan) as stack, pytest.raises(PermissionDeniedError, match="0644"):
        stack.up(quiet)
    path.chmod(0o600)
    aws.changes()
    with deployment(plan) as stack:
        stack.up(quiet)
        assert aws.changes() == []
        stack.down(quiet, lambda _: None)
    assert not path.exists()


def test_a_backend_out_of_reach(aws: AWSWorld, tmp_path: Path) -> None:
    nowhere = StateSettings(backend="file", url=(tmp_path / "nowhere").as_uri())
    with deployment(plan_of(state=nowhere)) as stack, pytest.raises(StateError, match="nowhere"):
        stack.up(quiet)
    assert not aws.log


def test_state_in_a_bucket_under_the_accounts_own_key(aws: AWSWorld) -> None:
    plan = plan_of(state=StateSettings())
    with deployment(plan) as stack:
        assert stack.backend.url.startswith("s3://cloudfn-state-")
        bucket = next(entry["Name"] for entry in aws.client("s3").list_buckets()["Buckets"])
        aws.client("s3").delete_bucket_policy(Bucket=bucket)  # moto denies all by it: it reads no conditions
        stack.up(quiet)
        assert not passphrase.file_for(stack.backend.url, plan.stack).exists()
    aws.changes()
    with deployment(plan) as stack:  # another folder, as on a colleague's machine
        stack.up(quiet)
        assert aws.changes() == []
        stack.down(quiet, lambda _: None)
    bucket = next(entry["Name"] for entry in aws.client("s3").list_buckets()["Buckets"])
    assert aws.client("s3").get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_credentials_of_another_account(aws: AWSWorld) -> None:
    from cloudfn_aws.account import AWSAccount

    with pytest.raises(AuthError, match="111111111111"):
        AWSAccount().identity(settings_of(account="111111111111"))
