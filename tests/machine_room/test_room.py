"""The room itself: machines boot because a group wants them, and behave as instances do."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Iterator

import pytest

from machine_room import janitor, network
from machine_room.room import Room

pytestmark = [pytest.mark.machine, pytest.mark.slow, pytest.mark.xdist_group("machine-room")]

USER_DATA = "#cloud-boothook\n#!/bin/sh\ndate > /root/user-data-ran\n"
HOOKS = {"launch": "autoscaling:EC2_INSTANCE_LAUNCHING", "terminate": "autoscaling:EC2_INSTANCE_TERMINATING"}


@dataclass
class Group:
    """A group of at most two machines, with hooks."""

    room: Room
    name: str

    @property
    def api(self) -> Any:
        return self.room.client("autoscaling")

    def size(self, desired: int) -> None:
        self.api.set_desired_capacity(AutoScalingGroupName=self.name, DesiredCapacity=desired)

    def complete(self, instance: str, hook: str, result: str = "CONTINUE") -> None:
        self.api.complete_lifecycle_action(
            LifecycleHookName=hook,
            AutoScalingGroupName=self.name,
            InstanceId=instance,
            LifecycleActionResult=result,
        )

    def start(self) -> str:
        """One more machine, in service."""
        mark = self.room.events.mark()
        self.size(self.described()["DesiredCapacity"] + 1)
        instance = str(self.room.wait_for("hook", since=mark).about)
        self.complete(instance, "launch")
        return instance

    def drop(self, instance: str) -> None:
        self.api.terminate_instance_in_auto_scaling_group(InstanceId=instance, ShouldDecrementDesiredCapacity=True)
        self.complete(instance, "terminate")
        self.room.wait_for("gone", instance)

    def described(self) -> dict[str, Any]:
        found = self.api.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])
        return dict(found["AutoScalingGroups"][0])

    def activities(self) -> list[dict[str, Any]]:
        return list(self.api.describe_scaling_activities(AutoScalingGroupName=self.name)["Activities"])


@pytest.fixture
def group(room: Room, request: pytest.FixtureRequest) -> Iterator[Group]:
    name = request.node.name.replace("[", "-").replace("]", "")
    ec2, iam = room.client("ec2"), room.client("iam")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::things/machines/${aws:userid}/*"}
        ],
    }
    iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(policy))
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    doors = ec2.create_security_group(GroupName=name, Description="callers come by SSH")["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=doors, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp=f"{room.network.host}/32"
    )
    ec2.create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={
            "ImageId": "ami-12345678",
            "InstanceType": "m6i.large",
            "IamInstanceProfile": {"Name": name},
            "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": [doors]}],
            "UserData": base64.b64encode(USER_DATA.encode()).decode(),
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        },
    )
    api = room.client("autoscaling")
    api.create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=0,
        MaxSize=2,
        LaunchTemplate={"LaunchTemplateName": name},
        VPCZoneIdentifier=ec2.describe_subnets()["Subnets"][0]["SubnetId"],
        NewInstancesProtectedFromScaleIn=True,
    )
    api.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=["ReplaceUnhealthy"])
    for hook, transition in HOOKS.items():
        api.put_lifecycle_hook(
            LifecycleHookName=hook,
            AutoScalingGroupName=name,
            LifecycleTransition=transition,
            HeartbeatTimeout=300,
        )
    yield Group(room, name)
    room.faults.clear()
    api.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
    room.wait_until(lambda: not room.living(), what="machines outlive their group")


def curl(room: Room, instance: str, path: str, token: str | None = None) -> str:
    """Asks the machine's metadata, from within."""
    machine = room.machine(instance)
    url = "http://169.254.169.254/latest"
    if token is None:
        ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60"
        token = machine.run("curl", "--silent", "--request", "PUT", f"{url}/api/token", "--header", ttl)
    header = f"X-aws-ec2-metadata-token: {token}"
    return machine.run("curl", "--silent", "--fail", f"{url}/{path}", "--header", header)


def test_a_size_boots_a_machine_that_runs_its_user_data_and_answers_ssh(room: Room, group: Group) -> None:
    group.size(1)
    instance = room.wait_for("hook").about
    machine = room.machine(instance)
    assert group.described()["Instances"][0]["LifecycleState"] == "Pending:Wait"
    room.wait_until(lambda: (machine.disk / "root/user-data-ran").exists(), what="user data did not run")
    group.complete(instance, "launch")
    room.wait_for("in-service", instance)

    found = room.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    assert found["State"]["Name"] == "running" and found["PrivateIpAddress"] == machine.link.address
    room.wait_until(lambda: _host_key(machine.link.address), what="sshd does not answer")
    assert machine.run("hostname").strip() == instance

    assert group.activities()[0]["StatusCode"] == "Successful"
    group.drop(instance)
    assert group.described()["Instances"] == [] and group.described()["DesiredCapacity"] == 0
    started, ended = room.instances.seconds(instance)
    assert ended > started


def _host_key(address: str) -> str:
    done = subprocess.run(["ssh-keyscan", "-T", "5", address], capture_output=True, text=True, check=False)
    return done.stdout


def test_metadata_identifies_the_machine_and_gives_it_its_roles_keys(room: Room, group: Group) -> None:
    instance = group.start()
    document = curl(room, instance, "dynamic/instance-identity/document")
    assert json.loads(document)["instanceId"] == instance
    signature = curl(room, instance, "dynamic/instance-identity/signature")
    assert base64.b64decode(signature)
    keys = json.loads(curl(room, instance, f"meta-data/iam/security-credentials/{group.name}"))
    who = room.keys.find(keys["AccessKeyId"])
    assert who is not None
    identity = room.client("sts", who).get_caller_identity()
    assert identity["UserId"].startswith("AROA") and identity["UserId"].endswith(f":{instance}")

    # Only with a token, and only its own prefix of the bucket.
    with pytest.raises(subprocess.CalledProcessError):
        curl(room, instance, "meta-data/instance-id", token="made-up")
    s3 = room.client("s3", who)
    room.client("s3").create_bucket(Bucket="things")
    s3.put_object(Bucket="things", Key=f"machines/{who.user_id}/log", Body=b"")
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.put_object(Bucket="things", Key="machines/AROAOTHER:i-1/log", Body=b"")

    with pytest.raises(subprocess.CalledProcessError):
        curl(room, instance, "meta-data/spot/instance-action")
    room.spot_notice(instance)
    assert json.loads(curl(room, instance, "meta-data/spot/instance-action"))["action"] == "terminate"

    room.expire_credentials(instance)
    with pytest.raises(s3.exceptions.ClientError, match="ExpiredToken"):
        s3.put_object(Bucket="things", Key=f"machines/{who.user_id}/log", Body=b"")
    again = json.loads(curl(room, instance, f"meta-data/iam/security-credentials/{group.name}"))
    assert again["AccessKeyId"] != keys["AccessKeyId"]


def test_no_capacity_is_written_down_and_tried_again(room: Room, group: Group) -> None:
    room.no_capacity(group.name)
    group.size(1)  # accepted, as AWS accepts it
    room.wait_for("launch-failed", group.name, code="InsufficientInstanceCapacity")
    failed = group.activities()[0]
    assert failed["StatusCode"] == "Failed" and "sufficient m6i.large capacity" in failed["StatusMessage"]
    mark = room.events.mark()
    room.capacity()
    room.wait_for("launch", since=mark)

    room.faults.no_quota = True
    group.size(2)
    room.wait_for("launch-failed", group.name, code="VcpuLimitExceeded")
    with pytest.raises(group.api.exceptions.ClientError, match="above max value"):
        group.size(3)
    group.size(1)


def test_a_machine_that_dies_stays_in_a_group_that_may_not_replace_it(room: Room, group: Group) -> None:
    off, killed = group.start(), group.start()
    room.machine(off).run("systemctl", "poweroff")
    room.wait_for("terminated", off)
    room.kill(killed)
    assert room.machine(killed).ended.is_set()
    room.wait_for("unhealthy", off)
    states = {one["InstanceId"]: one for one in group.described()["Instances"]}
    assert states[off]["HealthStatus"] == "Unhealthy" and states[killed]["HealthStatus"] == "Healthy"
    assert group.described()["DesiredCapacity"] == 2
    for instance in (off, killed):
        group.drop(instance)

    replacing = group.start()
    group.api.resume_processes(AutoScalingGroupName=group.name, ScalingProcesses=["ReplaceUnhealthy"])
    mark = room.events.mark()
    room.kill(replacing, seen=True)
    room.wait_for("hook", replacing, since=mark, hook="terminate")
    assert room.wait_for("launch", since=mark).about != replacing


def test_a_network_that_is_cut_and_mended(room: Room, group: Group) -> None:
    instance = group.start()
    machine = room.machine(instance)
    ask = ("curl", "--silent", "--max-time", "2", f"{room.endpoint}/moto-api/")
    room.wait_until(lambda: _works(room, instance, *ask), what="the machine has no network")
    room.cut(instance)
    assert not _works(room, instance, *ask)
    assert curl(room, instance, "meta-data/instance-id") == instance  # that is no network
    room.mend(instance)
    assert _works(room, instance, *ask)
    assert not machine.ended.is_set()


def _works(room: Room, instance: str, *command: str) -> bool:
    try:
        room.machine(instance).run(*command)
    except subprocess.CalledProcessError:
        return False
    return True


def test_a_boot_that_hangs_is_ended_by_the_hook(room: Room, group: Group) -> None:
    room.hang_boot()
    api = group.api
    api.put_lifecycle_hook(
        LifecycleHookName="launch",
        AutoScalingGroupName=group.name,
        LifecycleTransition=HOOKS["launch"],
        HeartbeatTimeout=3,
        DefaultResult="ABANDON",
    )
    group.size(1)
    instance = room.wait_for("hook-done", result="ABANDON").about
    group.size(0)
    assert not (room.machine(instance).disk / "root/user-data-ran").exists()
    room.wait_for("gone", instance)


def test_too_many_requests_are_refused(room: Room) -> None:
    room.faults.throttle("autoscaling", "DescribeAutoScalingGroups", times=1)
    mark = room.events.mark()
    room.client("autoscaling").describe_auto_scaling_groups()  # boto3 tries again
    room.wait_for("throttled", "autoscaling", since=mark)


_DYING = """
import os, signal
from machine_room.network import Network
from machine_room.machine import Machine
from machine_room import janitor, room

root = room.root()
folder = janitor.claim()
network = Network()
machine = Machine("i-1", root, folder / "machines" / "i-1", network.attach(), lambda: None)
machine.boot({})
machine.run("true")
print(folder, network.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_room_whose_process_is_killed_leaves_nothing_once_swept() -> None:
    script = ["-c", _DYING]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, *script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -9, done.stderr
    folder, name = done.stdout.split()
    assert any(there.startswith(f"{name}m") for there in network.namespaces()) and Path(folder).is_dir()
    janitor.sweep()
    assert not [there for there in network.namespaces() if there.startswith(f"{name}m")]
    assert not Path(folder).exists() and folder not in Path("/proc/mounts").read_text()


_HANDLER = """
import json, os, boto3

def handler(event, context):
    if "requestContext" not in event:
        return {"woken": event["kind"], "by": context.function_name}
    me = boto3.client("sts").get_caller_identity()["UserId"]
    user = event["requestContext"]["authorizer"]["iam"]["userId"]
    return {"statusCode": 200, "body": json.dumps({"user": user, "me": me, "asked": json.loads(event["body"])})}
"""


@pytest.fixture
def function(room: Room) -> str:
    """A function with an address, which the schedule wakes."""
    iam, api = room.client("iam"), room.client("lambda")
    role = iam.create_role(RoleName="runs", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("main.py", _HANDLER)
    arn = api.create_function(
        FunctionName="echo",
        Runtime="python3.12",
        Role=role,
        Handler="main.handler",
        Code={"ZipFile": made.getvalue()},
    )["FunctionArn"]
    room.client("scheduler").create_schedule(
        Name="echo",
        ScheduleExpression="rate(1 minute)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": arn, "RoleArn": role, "Input": '{"kind": "tick"}'},
    )
    return str(api.create_function_url_config(FunctionName="echo", AuthType="AWS_IAM")["FunctionUrl"])


def test_a_function_answers_whom_it_may_and_learns_who_that_is(room: Room, function: str) -> None:
    answer = room.ask(function, kind="hello")
    assert answer["user"] == room.user.user_id and answer["asked"] == {"kind": "hello"}
    assert answer["me"].startswith("AROA") and answer["me"].endswith(":echo")
    assert room.tick() == [{"woken": "tick", "by": "echo"}]

    nobody = room.keys.user("nobody", {})
    assert "not authorized" in room.ask(function, nobody, kind="hello")["message"]
    forged = replace(room.user, secret="guessed")
    assert "does not match" in room.ask(function, forged, kind="hello")["message"]
    late = room.keys.role(room.client("iam").get_role(RoleName="runs")["Role"]["Arn"], "late")
    room.keys.expire(late.user_id)
    assert "expired" in room.ask(function, late, kind="hello")["message"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(function, b"{}", method="POST"))
