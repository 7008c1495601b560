"""A process that makes a mount namespace of its own, mounts volumes and buckets in it, and becomes a worker there.

Nothing of it is seen outside of that namespace, and the kernel takes it down when the last process in it has ended. A
volume that may be written to is an overlay: see `cloudfn.storage.stores.Workspaces`. A bucket is served by `rclone
mount`, a child of this process that ends with it; its credentials are in its environment, which only this user can see.
What fails goes to whoever called the function, as a failed start of its worker.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Mapping, Sequence

from cloudfn import remote_error
from cloudfn.exception import ResourceUnavailableError
from cloudfn.provider import Mount
from cloudfn.storage.messages import Reader, Request, encode_request, raise_error, receive
from cloudfn.storage.mounted import VARIABLE
from cloudfn_agent import buckets, mounts, system
from cloudfn_agent.channel import Channel
from cloudfn_agent.work import is_own_code

_CLONE_NEWNS = 0x20000
_CLONE_NEWUSER = 0x10000000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18
_PATIENCE = 60.0  # seconds for the storage service to start


def main() -> None:
    """Arguments: the descriptor of the order (`cloudfn_agent.nursery`), that of the channel, and the agent's pid."""
    order_at, channel_at, parent = (int(text) for text in sys.argv[1:4])
    system.die_with_parent(parent)
    system.name_process("cloudfn-mounter")
    with os.fdopen(order_at, "rb") as file:
        order: dict[str, Any] = json.loads(file.read())
    try:
        argv, told = prepare(order)
        os.environ[VARIABLE] = json.dumps(told)
        os.execv(argv[0], argv)
    except BaseException as error:  # noqa: BLE001 - whoever waits for this worker must hear of whatever it is
        packed = base64.b64encode(remote_error.pack(error, is_own_code)).decode()
        channel = Channel(socket.socket(fileno=channel_at))
        channel.send({"op": "load_failed", "key": order["key"], "error": packed})
        sys.exit(1)


def prepare(order: Mapping[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """Mount everything; the command to become, and what the worker is told of its volumes."""
    program = mounts.find_bubblewrap()
    views = _open_views(order)
    enter_namespace()
    shown: list[Mount] = [Mount(source, target) for source, target in order["mounts"]]
    told: list[dict[str, Any]] = []
    for volume in order["volumes"]:
        target = volume["target"]
        if volume["kind"] == "bucket":
            place = tempfile.mkdtemp(prefix="bucket-", dir=order["folder"])
            buckets.mount(volume, Path(place))
        else:
            view = views[volume["id"]]
            place = view.get("tree") or _overlay(view)
            told.append(
                {
                    "id": volume["id"],
                    "token": view["token"],
                    "target": target,
                    "read_only": volume["read_only"],
                    "sub_path": volume["sub_path"],
                }
            )
        shown.append(Mount(place, target, writable=True))
    argv = mounts.command(shown, order["argv"])
    read_only = [volume["target"] for volume in order["volumes"] if volume["read_only"]]
    at = argv.index("--die-with-parent")
    argv[at:at] = [part for target in read_only for part in ("--remount-ro", str(Path(target).resolve()))]
    assert argv[0] == program
    return argv, told


def _open_views(order: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    """A view of each volume, by the volume's id; each lasts as long as this process and what it becomes."""
    volumes = [volume for volume in order["volumes"] if volume["kind"] == "volume"]
    if not volumes:
        return {}
    service = _connect(order["storage"])
    views: dict[str, Mapping[str, str]] = {}
    for volume in volumes:
        fields = {"volume": volume["id"], "read_only": volume["read_only"], "sub_path": volume["sub_path"]}
        service.sendall(encode_request(Request("workspace.open", fields)))
        head, _ = receive(service, Reader())
        raise_error(head)
        lock = os.open(head["lock"], os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_SH)
        os.set_inheritable(lock, True)
        views[volume["id"]] = head
    os.set_inheritable(service.detach(), True)  # open for as long as the worker lives, and closed by nobody
    return views


def _connect(command: Sequence[str]) -> socket.socket:
    if not command:
        raise ResourceUnavailableError("This machine keeps no volumes.")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
        service = socket.socket(socket.AF_UNIX)
        service.connect(json.loads(done.stdout)["address"])
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise ResourceUnavailableError(f"The storage service cannot be started: {said[-1]}") from error
    return service


def enter_namespace() -> None:
    """A mount namespace of our own. Raises `ResourceUnavailableError` where the system does not allow one."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWNS):
        if libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER):
            raise _not_allowed("a mount namespace")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        raise _not_allowed("a mount namespace")


def _overlay(view: Mapping[str, str]) -> str:
    """Mount a view, beside its upper folder."""
    libc = ctypes.CDLL(None, use_errno=True)
    place = Path(view["upper"]).with_name("view")
    place.mkdir(exist_ok=True)
    options = f"lowerdir={view['lower']},upperdir={view['upper']},workdir={view['work']}"
    for more in (",redirect_dir=off,metacopy=off,index=off", ",userxattr"):  # the latter in a user namespace
        if not libc.mount(b"overlay", str(place).encode(), b"overlay", 0, (options + more).encode()):
            return str(place)
    raise _not_allowed("an overlay", "cloudfn's state folder must lie on a local disk (CLOUDFN_STATE_DIR names it).")


def _not_allowed(what: str, hint: str = "") -> ResourceUnavailableError:
    number = ctypes.get_errno()
    return ResourceUnavailableError(
        f"To mount a volume, a worker needs {what}, and this machine does not allow that: {os.strerror(number)}.",
        hint=hint or "In a container: run it with --privileged, or where user namespaces are allowed.",
    )
