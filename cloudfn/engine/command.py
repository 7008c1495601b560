"""The Pulumi CLI as the Automation API runs it, in a session of its own: Ctrl-C reaches it once, from us, and not a
second time from the terminal - a second one would make it drop what it has begun."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import IO, Callable, Mapping

from pulumi.automation import CommandResult, OnOutput, PulumiCommand
from pulumi.automation.errors import create_command_error


class Engine(PulumiCommand):
    """One CLI.

    Args:
        path: of the program.

    Raises:
        pulumi.automation.InvalidVersionError: it is too old for the SDK.
    """

    def __init__(self, path: Path) -> None:
        # The parent's constructor wants <root>/bin/pulumi, or a name to look up on PATH.
        before = os.environ.get("PATH", "")
        os.environ["PATH"] = f"{path.parent}{os.pathsep}{before}"
        try:
            super().__init__()
        finally:
            os.environ["PATH"] = before
        self.command = str(path)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: OnOutput | None = None,
        on_error: OnOutput | None = None,
    ) -> CommandResult:
        """Runs one command to its end; raises `pulumi.automation.CommandError` where it fails."""
        folder = os.path.dirname(self.command)  # noqa: PTH120 - plugins that come with the CLI lie beside it
        env = {**os.environ, **additional_env, "PULUMI_AUTOMATION_API": "true", "PULUMI_SKIP_UPDATE_CHECK": "true"}
        env["PATH"] = f"{folder}{os.pathsep}{env.get('PATH', '')}"
        process = subprocess.Popen(
            [self.command, "--non-interactive", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=env,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        with self._lock:
            self._running.add(process)
        try:
            assert process.stdout is not None and process.stderr is not None
            stderr: list[str] = []
            reader = threading.Thread(target=_read, args=(process.stderr, on_error, stderr), daemon=True)
            reader.start()
            stdout: list[str] = []
            _read(process.stdout, on_output, stdout)
            reader.join()
            code = process.wait()
        finally:
            with self._lock:
                self._running.discard(process)
        result = CommandResult(stdout="\n".join(stdout), stderr="\n".join(stderr), code=code)
        if code != 0:
            raise create_command_error(result)
        return result

    def cancel(self) -> None:
        """Ask what runs to finish what it has begun and to write its state; a second time: to stop at once."""
        with self._lock:
            for process in self._running:
                process.send_signal(signal.SIGINT)


def _read(stream: IO[str], callback: Callable[[str], object] | None, lines: list[str]) -> None:
    with stream:
        for line in stream:
            lines.append(line.rstrip())
            if callback:
                callback(lines[-1])
