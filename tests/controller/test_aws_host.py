"""The controller's AWS host, against moto: its handler as Lambda calls it, state in S3, groups of Auto Scaling."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, Iterator

import boto3
import pytest
from cloudfn_aws import controller_failures, controller_handler
from cloudfn_aws.controller_store import Bucket
from moto import mock_aws

from cloudfn import controller_facts
from cloudfn.controller_observed import BUSY, CAPACITY, OTHER, QUOTA
from controller.world import facts, group

ACCOUNT = "123456789012"
BUCKET = "demo-main-bucket"
CONTEXT = SimpleNamespace(invoked_function_arn=f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:demo-main-controller")
USER = {"userId": "AIDAUSER", "userArn": f"arn:aws:iam::{ACCOUNT}:user/x"}


def machine(id: str) -> dict[str, str]:
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/demo-main-machine/{id}"
    return {"userId": f"AROAMACHINE:{id}", "userArn": arn}


class Account:
    """An account with the stack's bucket and one group."""

    def __init__(self) -> None:
        self.s3 = boto3.client("s3", "us-east-1")
        self.ec2 = boto3.client("ec2", "us-east-1")
        self.scaling = boto3.client("autoscaling", "us-east-1")
        self.s3.create_bucket(Bucket=BUCKET)
        subnet = self.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        template = self.ec2.create_launch_template(
            LaunchTemplateName="demo-main-a",
            LaunchTemplateData={"ImageId": "ami-12345678", "InstanceType": "m7i.large"},
        )
        self.scaling.create_auto_scaling_group(
            AutoScalingGroupName="demo-main-a",
            MinSize=0,
            MaxSize=10,
            LaunchTemplate={"LaunchTemplateId": template["LaunchTemplate"]["LaunchTemplateId"], "Version": "1"},
            VPCZoneIdentifier=subnet,
            NewInstancesProtectedFromScaleIn=True,
            Tags=[{"Key": "cloudfn:stack", "Value": "demo.main", "PropagateAtLaunch": True}],
        )

    def size(self) -> int:
        (found,) = self.scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
        return int(found["DesiredCapacity"])

    def instance(self, id: str) -> dict[str, Any]:
        found: Any = self.ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]
        return dict(found)

    def document(self, id: str, **more: str) -> str:
        found = self.instance(id)
        return json.dumps(
            {
                "instanceId": id,
                "accountId": ACCOUNT,
                "region": "us-east-1",
                "instanceType": found["InstanceType"],
                "imageId": found["ImageId"],
                "privateIp": found["PrivateIpAddress"],
                **more,
            }
        )


def ask(kind: str, iam: dict[str, str] = USER, **request: Any) -> dict[str, Any]:
    event = {
        "requestContext": {"http": {"method": "POST"}, "authorizer": {"iam": iam}},
        "body": json.dumps({"kind": kind, **request}),
        "isBase64Encoded": False,
    }
    body: dict[str, Any] = json.loads(controller_handler.handler(event, CONTEXT)["body"])
    return body


def tick() -> dict[str, Any]:
    return controller_handler.handler({"kind": "tick"}, CONTEXT)


def claim(machines: int = 1) -> dict[str, Any]:
    return ask("claim", id="c", groups=["a"], machines=machines, ttl=600)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("CLOUDFN_BUCKET", BUCKET),
        ("CLOUDFN_PREFIX", "demo-main"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(controller_handler, "_facts", lambda: controller_facts.to_json(facts(group("a"))))
    controller_handler._controller.cache_clear()
    with mock_aws():
        yield Account()
    controller_handler._controller.cache_clear()


def test_from_a_claim_to_a_machine_and_back_to_zero(account: Account) -> None:
    answer = claim()
    assert (answer["ok"], account.size()) == (True, 1)
    tick()
    (listed,) = claim()["machines"]
    id = listed["id"]
    assert listed["address"] == account.instance(id)["PublicIpAddress"]
    assert listed["started"] == account.instance(id)["LaunchTime"].timestamp()

    hello = ask("hello", machine(id), identity_document=account.document(id), agent_sha256="ab" * 32)
    assert hello["ok"], hello
    assert len(bytes.fromhex(hello["key"])) == 32
    assert hello["agent"]["url"].startswith("https://") and f"/agent/{'ab' * 32}?" in hello["agent"]["url"]
    assert ask("key", public="ssh-ed25519 " + "A" * 68)["key"] == hello["key"]

    account.s3.put_object(Bucket=BUCKET, Key=f"machines/AROAMACHINE:{id}/host_key", Body=b"ssh-ed25519 AAAAhost\n")
    beat = ask("heartbeat", machine(id), state="ready", inputs=0, idle_since=1.0, host_key="SHA256:x")
    assert (beat["command"], len(beat["ssh_keys"])) == ("", 1)
    assert claim()["machines"][0]["host_key"] == "ssh-ed25519 AAAAhost"

    ask("release", id="c")
    assert ask("leave", machine(id), reason="idle")["granted"] is True
    assert account.size() == 0
    assert account.instance(id)["State"]["Name"] == "terminated"
    tick()
    today = next(iter(Bucket(account.s3, BUCKET).tags("state/ledger/"))).split("/")[-1].removesuffix(".json")
    (row,) = ask("ledger", since=today, until=today)["rows"]
    assert (row["machine"], row["group"], row["usd_per_hour"]) == (id, "a", 1.0)
    assert ask("heartbeat", machine(id), state="ready")["command"] == "drain"


@pytest.mark.parametrize("claim_", ["instanceId", "accountId", "region", "privateIp", "imageId", "instanceType"])
def test_a_document_that_is_not_the_machines_is_rejected(account: Account, claim_: str) -> None:
    claim()
    tick()
    id = claim()["machines"][0]["id"]
    false = account.document(id, **{claim_: "i-00000000"})
    assert ask("hello", machine(id), identity_document=false)["error"]["type"] == "Forbidden"
    assert ask("hello", machine(id), identity_document="[]")["error"]["type"] == "InvalidRequest"


def test_who_is_no_machine_of_the_stack_is_rejected(account: Account) -> None:
    claim()
    tick()
    id = claim()["machines"][0]["id"]
    document = account.document(id)
    other_role = {"userId": f"AROAX:{id}", "userArn": f"arn:aws:sts::{ACCOUNT}:assumed-role/other-main-machine/{id}"}
    assert ask("hello", other_role, identity_document=document)["error"]["type"] == "Forbidden"
    user = {"userId": f"AIDA:{id}", "userArn": f"arn:aws:iam::{ACCOUNT}:user/demo-main-machine/{id}"}
    assert ask("hello", user, identity_document=document)["error"]["type"] == "Forbidden"
    split = {**machine(id), "userId": "AROAMACHINE:i-0bbb00000000"}
    assert ask("hello", split, identity_document=document)["error"]["type"] == "Unauthenticated"
    stranger = account.ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    answer = ask("hello", machine(stranger), identity_document=account.document(stranger))
    assert answer["error"]["type"] == "Forbidden"
    assert ask("hello", machine("i-0123456789abcdef0"), identity_document=document)["error"]["type"] == "Forbidden"


def test_two_runs_at_once_act_once(account: Account) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: ask("claim", id=f"c{n}", groups=["a"], machines=1, ttl=600), range(4)))
    assert all(answer["ok"] for answer in answers)
    tick()
    assert account.size() == 4


def test_the_environments_key_is_made_once(account: Account) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = {answer["key"] for answer in pool.map(lambda n: ask("key", public="ssh-ed25519 " + "A" * 68), range(4))}
    assert len(keys) == 1


def test_writes_are_conditional(account: Account) -> None:
    bucket = Bucket(account.s3, BUCKET)
    assert bucket.read("state/x") is None
    assert bucket.write("state/x", b"1", None)
    assert not bucket.write("state/x", b"2", None)
    found = bucket.read("state/x")
    assert found is not None
    assert bucket.write("state/x", b"2", found[1])
    assert not bucket.write("state/x", b"3", found[1])
    assert bucket.read("state/x") is not None
    bucket.delete("state/x")
    assert not bucket.write("state/x", b"3", found[1])


def test_an_orphan_is_ended(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloudfn import controller, controller_actions

    tags: Any = [{"ResourceType": "instance", "Tags": [{"Key": "cloudfn:stack", "Value": "demo.main"}]}]
    (orphan,) = account.ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, TagSpecifications=tags)[
        "Instances"
    ]
    tick()
    assert account.instance(orphan["InstanceId"])["State"]["Name"] == "running"
    monkeypatch.setattr(controller_actions, "ORPHAN_AGE", -1.0)
    monkeypatch.setattr(controller, "REST", -1.0)
    tick()
    assert account.instance(orphan["InstanceId"])["State"]["Name"] == "terminated"


def test_a_group_that_down_closed(account: Account) -> None:
    account.scaling.update_auto_scaling_group(AutoScalingGroupName="demo-main-a", MaxSize=0, DesiredCapacity=0)
    tick()
    answer = claim()
    assert (answer["state"], answer["code"]) == ("refused", "closed")
    assert account.size() == 0


@pytest.mark.parametrize(
    ("message", "kind", "zone"),
    [
        (
            "Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently do not have sufficient "
            "p4d.24xlarge capacity in the Availability Zone you requested (us-east-1a). Our system will be working on "
            "provisioning additional capacity. Launching EC2 instance failed.",
            CAPACITY,
            "us-east-1a",
        ),
        (
            "We currently do not have sufficient g4dn.xlarge capacity in the Availability Zone you requested "
            "(eu-central-1b). Launching EC2 instance failed.",
            CAPACITY,
            "eu-central-1b",
        ),
        ("Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity", CAPACITY, ""),
        ("There is no Spot capacity available that matches your request. Launching EC2 instance failed.", CAPACITY, ""),
        ("Max spot instance count exceeded. Launching EC2 instance failed.", QUOTA, ""),
        ("Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded", QUOTA, ""),
        (
            "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket "
            "that the specified instance type belongs to. Launching EC2 instance failed.",
            QUOTA,
            "",
        ),
        ("VcpuLimitExceeded", QUOTA, ""),
        ("Request limit exceeded. Launching EC2 instance failed.", BUSY, ""),
        ("The image id '[ami-1]' does not exist. Launching EC2 instance failed.", OTHER, ""),
    ],
)
def test_what_auto_scaling_says_is_understood(message: str, kind: str, zone: str) -> None:
    assert controller_failures.kind(message) == kind
    assert controller_failures.zone(message) == zone
    assert "Launching EC2 instance failed" not in controller_failures.words(message)
