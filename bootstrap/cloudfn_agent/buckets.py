"""Buckets as folders, by `rclone mount`.

Writes are not cached: a file goes to the bucket while it is written, from its start to its end, and is there when it is
closed. What cannot be done that way (to append, to write in the middle) is an error at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Mapping

from cloudfn.exception import (
    AuthError,
    ConnectionError,
    Error,
    NotFoundError,
    PermissionDeniedError,
    ResourceUnavailableError,
)
from cloudfn_agent import system

_REMOTE = "cloudfn"
_PATIENCE = 60.0  # seconds for a bucket to answer, and for a mount to be there
_ONCE = ("--retries", "1", "--low-level-retries", "2", "--contimeout", "10s", "--timeout", "30s")
_MOUNT = (
    *("--vfs-cache-mode", "off", "--dir-cache-time", "1s", "--attr-timeout", "1s", "--poll-interval", "0"),
    *("--log-level", "ERROR"),
)
_PROBLEMS: tuple[tuple[tuple[str, ...], type[Error], str, str], ...] = (
    (
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthFailure"),
        AuthError,
        "does not accept these credentials",
        "Store the bucket's secret again, with valid keys.",
    ),
    (("NoSuchBucket", "directory not found"), NotFoundError, "does not exist", "Check its name, and its endpoint."),
    (
        ("AccessDenied", "Forbidden", "403"),
        PermissionDeniedError,
        "does not let these credentials in",
        "They need to list the bucket, to read objects, and to write them unless the mount is read-only.",
    ),
    (
        ("dial tcp", "no such host", "connection refused", "timeout", "i/o timeout", "certificate"),
        ConnectionError,
        "cannot be reached",
        "Check bucket_endpoint_url, and the network of this machine.",
    ),
)


def mount(bucket: Mapping[str, Any], place: Path) -> None:
    """Have a bucket at `place`, for as long as this process lives.

    Raises:
        AuthError, PermissionDeniedError, NotFoundError, ConnectionError: what the bucket says to a first look.
        ResourceUnavailableError: rclone or FUSE is missing.
    """
    rclone = shutil.which("rclone")
    if rclone is None or not (shutil.which("fusermount3") or shutil.which("fusermount")):
        raise ResourceUnavailableError(
            "To mount a bucket, this machine needs rclone and FUSE, which are not installed.",
            hint="Install them (Debian, Ubuntu: apt-get install rclone fuse3).",
        )
    environment = _environment(bucket["remote"])
    path = f"{_REMOTE}:{bucket['bucket']}/{bucket['prefix']}".rstrip("/")
    _look(rclone, path, environment, bucket)
    parent = os.getpid()
    process = subprocess.Popen(
        [rclone, "mount", path, str(place), *_MOUNT, *(["--read-only"] if bucket["read_only"] else [])],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        # What it says while a worker runs belongs to that worker's output.
        stderr=None,
        preexec_fn=lambda: system.die_with_parent(parent),
    )
    deadline = time.monotonic() + _PATIENCE
    while not os.path.ismount(place):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise ResourceUnavailableError(
                f"The bucket {bucket['bucket']!r} could not be mounted; what rclone says is in the worker's output.",
                hint="FUSE must be allowed here: /dev/fuse, and mounts in a namespace.",
            )
        time.sleep(0.005)


def _environment(remote: Mapping[str, str]) -> dict[str, str]:
    """No configuration but this: neither the user's own nor what the machine's cloud would lend."""
    settings = {f"RCLONE_CONFIG_{_REMOTE.upper()}_{name.upper()}": value for name, value in remote.items()}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, **settings, "RCLONE_CONFIG": os.devnull}


def _look(rclone: str, path: str, environment: Mapping[str, str], bucket: Mapping[str, Any]) -> None:
    """List until the first line comes, or the end: what is wrong with a bucket is said here and not by later reads."""
    process = subprocess.Popen(
        [rclone, "lsf", "--max-depth", "1", *_ONCE, path],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    timer = _Timer(process)
    assert process.stdout is not None and process.stderr is not None
    with process.stdout, process.stderr, timer:
        if process.stdout.readline():
            process.kill()
            process.wait()
            return
        said = process.stderr.read()
        if not process.wait():
            return
    if bucket["prefix"] and "directory not found" in said and "NoSuchBucket" not in said:
        return  # nothing lies under the prefix yet
    raise _explain(said, bucket)


class _Timer:
    """Ends a process that takes too long."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, lambda *_: self._process.kill())
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _explain(said: str, bucket: Mapping[str, Any]) -> Error:
    """The error for what rclone has said, which never shows a secret."""
    for name, value in bucket["remote"].items():
        if name in ("access_key_id", "secret_access_key", "session_token"):
            said = said.replace(value, "***")
    for words, kind, what, hint in _PROBLEMS:
        found = next((word for word in words if word in said), None)
        if found:
            return kind(f"The bucket {bucket['bucket']!r} {what} ({found}).", hint=hint)
    lines = said.strip().splitlines()
    why = lines[-1] if lines else "it did not answer in time"
    return ResourceUnavailableError(f"The bucket {bucket['bucket']!r} cannot be used: {why}")
