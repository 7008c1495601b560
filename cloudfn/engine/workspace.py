"""One stack's workspace: a folder for the time of a command, the project "cloudfn", and the state's backend."""

from __future__ import annotations

import json
import shutil
import tempfile
from typing import Any, Callable, Mapping

from pulumi.automation import LocalWorkspace, ProjectSettings, Stack, StackSettings

from cloudfn.account import StateBackend
from cloudfn.engine import passphrase
from cloudfn.engine.backend import PASSPHRASE, PROJECT
from cloudfn.engine.command import Engine


class Workspace(LocalWorkspace):
    """A folder with the project's file and the stack's configuration; nothing of the user's is read or written.

    Args:
        program: the inline program.
        config: of the stack's provider.
    """

    def __init__(
        self,
        engine: Engine,
        stack: str,
        program: Callable[[], None],
        backend: StateBackend,
        config: Mapping[str, str],
    ) -> None:
        self.backend = backend
        self._stack = stack
        self._settings = StackSettings(config=dict(config), secrets_provider=backend.secrets_provider or None)
        super().__init__(
            work_dir=tempfile.mkdtemp(prefix="cloudfn-engine-"),
            program=program,
            env_vars={"PULUMI_BACKEND_URL": backend.url, "PULUMI_SKIP_UPDATE_CHECK": "true", **backend.env},
            secrets_provider=backend.secrets_provider or None,
            project_settings=ProjectSettings(name=PROJECT, runtime="python"),
            pulumi_command=engine,
        )

    def exists(self) -> bool:
        """Whether the backend has the stack. Raises `pulumi.automation.CommandError` where it cannot be asked."""
        names = [entry["name"] for entry in json.loads(self._pulumi("stack", "ls", "--json"))]
        return any(name.rpartition("/")[2] == self._stack for name in names)

    def open(self, *, create: bool) -> Stack | None:
        """The stack; None where it does not exist and is not to be made."""
        is_new = not self.exists()
        if is_new and not create:
            return None
        if self.backend.secrets_provider == PASSPHRASE:
            found = passphrase.environment(self.backend.url, self._stack, is_new=is_new)
            self.env_vars = {**self.env_vars, **found}
        self.save_stack_settings(self._stack, self._settings)  # anew: the CLI deletes them together with a stack
        if is_new:
            return Stack.create(self._stack, self)
        self._take_key()
        return Stack.select(self._stack, self)

    def _take_key(self) -> None:
        """Into the stack's configuration, what its state is encrypted with: this folder is new and would make another
        key. With it the engine refuses a wrong passphrase before it does anything."""
        exported: dict[str, Any] = json.loads(self._pulumi("stack", "export", "--stack", self._stack))
        key = (exported.get("deployment") or {}).get("secrets_providers") or {}
        state = key.get("state") or {}
        settings = self.stack_settings(self._stack)
        settings.encryption_salt = state.get("salt")
        settings.encrypted_key = state.get("encryptedkey")
        settings.secrets_provider = state.get("url") or settings.secrets_provider
        self.save_stack_settings(self._stack, settings)

    def create_stack(self, stack_name: str) -> None:
        secrets = ["--secrets-provider", self.secrets_provider] if self.secrets_provider else []
        # Not selected: that would leave a file for this folder in the user's ~/.pulumi.
        self._pulumi("stack", "init", stack_name, "--no-select", *secrets)

    def select_stack(self, stack_name: str) -> None:
        """Nothing to do: `exists` was asked, and every command names its stack."""

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.work_dir, ignore_errors=True)

    def _pulumi(self, *args: str) -> str:
        result: Any = self.pulumi_command.run(list(args), self.work_dir, self.env_vars)
        return str(result.stdout)
