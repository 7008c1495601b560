"""A room: an account whose instances are real machines, with everything that goes wrong in the real one, on request.

with Room() as room:
    room.cloudfn("up", "app.py", "--yes", folder=folder)
    room.wait_for("in-service")
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from engine import aws as double
from engine.moto_overlay import Overlay
from engine.plugin import Faults as EngineFaults
from engine.plugin import PluginHost

from machine_room import functions, janitor, session_manager
from machine_room.account import Account
from machine_room.cloud_clock import CloudClock
from machine_room.events import Events
from machine_room.faults import Faults
from machine_room.functions import Clock, Functions
from machine_room.groups import Groups
from machine_room.identity import Keys, Principal
from machine_room.instances import Instances
from machine_room.machine import Machine
from machine_room.metadata import Metadata
from machine_room.network import METADATA_ADDRESS, Network
from machine_room.session_manager import SessionManager

REGION = "us-east-1"
MINUTE = 60.0
_SCRIPTS = Path(__file__).parents[2] / "scripts"
_EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


class Room:
    """One account, with machines. One room a process; any number of them on this machine.

    Attributes:
        events: what happened.
        faults: what goes wrong.
        instances: EC2.
        groups: Auto Scaling.
        sessions: Session Manager of Systems Manager.
        functions: Lambda.
        keys: IAM.
        clock: the schedule of the controller; it runs when it is started.
        cloud_clock: the cloud's time; see `pass_time`.
        overlay: quotas, and what IAM's simulator denies.
        user: an administrator of the account, whose keys `environment` holds.
    """

    def __init__(self, minute: float = MINUTE) -> None:
        self._clean = contextlib.ExitStack()
        try:
            self._open(minute)
        except BaseException:
            self._clean.close()
            raise

    def _open(self, minute: float) -> None:
        janitor.sweep()
        self.folder = janitor.claim()
        self._clean.callback(janitor.give_back, self.folder)
        self.events, self.faults, self.keys = Events(), Faults(), Keys()
        self.cloud_clock = CloudClock()
        self.network = Network()
        self._clean.callback(self.network.close)
        metadata = Metadata(self.network.listen(METADATA_ADDRESS, 80))
        self._clean.callback(metadata.close)
        self.account = Account(self.network.host, self.keys, self.faults, self.events)
        self._clean.callback(self.account.close)
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST")).close()
        self.user = self.keys.user("admin", {"everything": _EVERYTHING})
        patches = pytest.MonkeyPatch()
        self._clean.callback(patches.undo)
        self.overlay = Overlay()
        self.overlay.install(patches)
        self.instances = Instances(
            root(),
            self.folder / "machines",
            self.network,
            metadata,
            self.keys,
            self.events,
            self.faults,
            self.cloud_clock,
        )
        self._clean.callback(self.instances.close)
        self.groups = self.instances.groups = Groups(self.events, self.instances, self.cloud_clock)
        self._clean.callback(self.groups.close)
        self.sessions = SessionManager(self.network.host, self.keys, self.instances, self.events, self.faults)
        self._clean.callback(self.sessions.close)
        for action in session_manager.ACTIONS:
            self.account.plays["ssm", action] = self.sessions.answer
        self.functions = Functions(
            self.network.host,
            self.folder / "functions",
            self.keys,
            self.events,
            self.cloud_clock,
            functions.environment(self.endpoint) | {"CLOUDFN_ROOM_CERTIFICATE": self.instances.notary.certificate},
        )
        self._clean.callback(self.functions.close)
        self.clock = Clock(self.functions.tick, minute)
        self._clean.callback(self.clock.close)
        plugins = self.folder / "plugins"
        plugins.mkdir()
        self.engine_log: list[tuple[str, str, str]] = []
        host = PluginHost(plugins, "aws", lambda: double.provider(self.endpoint, EngineFaults(), self.engine_log))
        self._clean.callback(host.close)

    def __enter__(self) -> Room:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Powers everything off and removes it."""
        self._clean.close()

    # -- the account -------------------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        return self.account.endpoint

    @property
    def environment(self) -> dict[str, str]:
        """Makes a child process a user of this account: for `cloudfn` and whatever uses boto3."""
        return self.environment_of(self.user)

    def environment_of(self, principal: Principal) -> dict[str, str]:
        """The same for somebody else."""
        return {**self._plain_environment(), **principal.environment}

    def _plain_environment(self) -> dict[str, str]:
        found = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PULUMI_", "CLOUDFN_"))}
        found.update(
            AWS_ENDPOINT_URL=self.endpoint,
            AWS_DEFAULT_REGION=REGION,
            AWS_CONFIG_FILE=os.devnull,
            AWS_SHARED_CREDENTIALS_FILE=os.devnull,
            CLOUDFN_PULUMI=str(_built("build_engine.sh")),
            CLOUDFN_STATE_DIR=str(self.folder / "s"),
            CLOUDFN_DATA_DIR=str(self.folder / "data"),
            CLOUDFN_CONFIG_DIR=str(self.folder / "config"),
            PULUMI_HOME=str(self.folder / "pulumi"),
            PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION="true",
            PULUMI_SKIP_UPDATE_CHECK="true",
            PATH=f"{self.folder / 'plugins'}{os.pathsep}{os.environ['PATH']}",
            NO_PROXY="*",
            no_proxy="*",
        )
        return found

    def caller(self, name: str, policy: str) -> Principal:
        """A new user of the account who has one policy (its ARN) and nothing else."""
        made = self.keys.user(name, {})
        self.client("iam").attach_user_policy(UserName=name, PolicyArn=policy)
        return made

    def client(self, service: str, principal: Principal | None = None) -> Any:
        """boto3's, as somebody (by default the administrator)."""
        who = principal or self.user
        return boto3.client(  # type: ignore[call-overload]
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=who.access_key,
            aws_secret_access_key=who.secret,
            aws_session_token=who.token or None,
        )

    def cloudfn(
        self, *arguments: str, folder: Path, who: Principal | None = None, seconds: float = 300, **more: str
    ) -> str:
        """Runs the command as a user would; what it printed, both streams.

        Args:
            folder: the project's.
            who: runs it; by default the administrator.
            more: variables of its environment.

        Raises:
            AssertionError: it failed.
        """
        command = [sys.executable, "-m", "cloudfn", *arguments]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**self.environment_of(who or self.user), **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        text = done.stdout + done.stderr
        assert done.returncode == 0, f"cloudfn {' '.join(arguments)} ended with {done.returncode}:\n{text}"
        return text

    def ask(self, url: str, principal: Principal | None = None, **request: Any) -> dict[str, Any]:
        """A signed request to the controller (by default as the administrator), and its answer."""
        who = principal or self.user
        body = json.dumps(request).encode()
        signed = AWSRequest("POST", url, {"Content-Type": "application/json"}, body)
        keys = Credentials(who.access_key, who.secret, who.token or None)
        SigV4Auth(keys, "lambda", REGION).add_auth(signed)
        sent = urllib.request.Request(url, body, dict(signed.headers.items()), method="POST")
        try:
            with urllib.request.urlopen(sent, timeout=90) as answer:
                found = answer.read()
        except urllib.error.HTTPError as error:
            found = error.read()
        return dict(json.loads(found))

    # -- what there is -----------------------------------------------------------------------------------------------

    def living(self) -> list[str]:
        """Instances that cost money now."""
        return [instance.id for instance in self.instances.all() if instance.state not in ("terminated", "stopped")]

    def machine(self, instance: str) -> Machine:
        return self.instances.machines[instance]

    def machine_seconds(self) -> float:
        """What the machines that there were will be on the bill for."""
        total = 0.0
        for instance in self.instances.all():
            started, ended = self.instances.seconds(instance.id)
            total += (ended or self.cloud_clock.now()) - started
        return total

    def today(self) -> str:
        """The day of the bill, in UTC."""
        return self.cloud_clock.datetime().strftime("%Y-%m-%d")

    def tick(self) -> list[Any]:
        """One minute of the schedule passes."""
        return self.functions.tick()

    def pass_time(self, seconds: float) -> None:
        """So much time passes at once, in the cloud: for the controller, for what it sees there, and on the bill."""
        self.events.add("time", "", passed=seconds)
        self.cloud_clock.ahead += seconds

    def install_session_plugin(self) -> None:
        """For everybody who uses this account from now on."""
        program = session_plugin()
        (self.folder / "plugins" / program.name).symlink_to(program)

    # -- what happens ------------------------------------------------------------------------------------------------

    def kill(self, instance: str, seen: bool = False) -> None:
        """kill -9 of a whole machine; EC2 goes on to say that it runs, unless it has `seen` it."""
        self.instances.lose(instance, seen)

    def cut(self, instance: str) -> None:
        """Nothing goes through to the machine nor out of it until `mend`."""
        self.events.add("cut", instance)
        self.machine(instance).link.cut()

    def mend(self, instance: str) -> None:
        self.events.add("mend", instance)
        self.machine(instance).link.mend()

    def no_capacity(self, group: str = "", type: str = "") -> None:
        """From now on, EC2 has no machine for that group (its name, or the end of it) or of that type."""
        self.faults.capacity.add((group, type))

    def capacity(self) -> None:
        """There is enough of everything again."""
        self.faults.capacity.clear()
        self.groups.retry_now()

    def spot_notice(self, instance: str, seconds: float = 120) -> datetime.datetime:
        """Says in the metadata when it takes the machine back. `reclaim` does it."""
        now = datetime.datetime.now(datetime.timezone.utc)
        self.faults.rebalances.setdefault(instance, now)
        self.faults.reclaims[instance] = at = now + datetime.timedelta(seconds=seconds)
        self.events.add("spot-notice", instance)
        return at

    def reclaim(self, instance: str) -> None:
        """Spot takes the machine back now."""
        found = self.instances.find(instance)
        found.state_reason.message = "Server.SpotInstanceTermination: Instance terminated due to spot interruption"
        found.state_reason.code = "Server.SpotInstanceTermination"
        self.instances.terminate(found)

    def expire_credentials(self, instance: str) -> None:
        """What the machine holds is worth nothing any more; its metadata gives it new ones."""
        held = self.instances.credentials(self.instances.find(instance))
        if held is not None:
            self.keys.expire(held.user_id)
        self.events.add("expired", instance)

    def boot_file(self, path: str, text: str, group: str = "") -> None:
        """Puts a file on the disks of machines that boot from now on."""
        self.faults.boot_files[group, path] = text

    def hang_boot(self, group: str = "") -> None:
        """Machines that boot from now on get as far as the network and no further: nothing of user data runs."""
        unit = "[Unit]\nDefaultDependencies=no\nBefore=cloud-init.service ssh.service\n[Service]\nType=oneshot\n"
        unit += "ExecStart=/bin/sleep infinity\n"
        self.boot_file("/etc/systemd/system/hang.service", unit, group)
        need = "[Unit]\nRequires=hang.service\nAfter=hang.service\n"
        for service in ("cloud-init", "ssh"):
            self.boot_file(f"/etc/systemd/system/{service}.service.d/hang.conf", need, group)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_for(self, kind: str, about: str = "", since: int = 0, seconds: float = 120, **detail: Any) -> Any:
        """The first such event; see `Events.wait_for`."""
        return self.events.wait_for(kind, about, since, seconds, **detail)

    def wait_until(self, holds: Any, seconds: float = 120, what: str = "") -> Any:
        """Until something is true; see `Events.wait_until`."""
        return self.events.wait_until(holds, seconds, what)

    def keep_logs(self, target: Path) -> None:
        """Copies what the machines and functions wrote, and the events, for whoever must find out what happened."""
        target.mkdir(parents=True, exist_ok=True)
        (target / "events.log").write_text("".join(f"{event}\n" for event in self.events.all()))
        for machine in self.instances.machines.values():
            machine.save_journal()
            for name in ("console.log", "journal.log"):
                if (machine.folder / name).exists():
                    shutil.copy(machine.folder / name, target / f"{machine.name}-{name}")
        for log in (self.folder / "functions").glob("*/log"):
            shutil.copy(log, target / f"{log.parent.name}.log")


def root() -> Path:
    """The machines' common root file system."""
    return _built("build_room.sh")


def session_plugin() -> Path:
    """AWS's program through which sessions run."""
    return _built("build_session_plugin.sh")


def _built(script: str) -> Path:
    done = subprocess.run(["sh", str(_SCRIPTS / script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{script}: {done.stderr}")
    return Path(done.stdout.strip())
