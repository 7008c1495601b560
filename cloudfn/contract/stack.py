"""What every Pulumi program of a cloud must keep to: it registers exactly what the plan lists."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Mapping

import pytest

from cloudfn import plan_json
from cloudfn.cloud import Cloud, Program
from cloudfn.contract import sample
from cloudfn.plan_spec import Plan

if TYPE_CHECKING:
    from cloudfn.contract.recorder import Answers, Recording


class StackContract(ABC):
    """Derive a test class from it, and give it the cloud and its program."""

    @abstractmethod
    def cloud(self) -> Cloud:
        """A new one, as its entry point makes it."""

    @abstractmethod
    def program(self) -> Program:
        """The cloud's, as its entry point names it."""

    @abstractmethod
    def answers(self) -> Answers:
        """What the provider would answer, as far as the program looks."""

    def config(self) -> Mapping[str, str]:
        """Of the stack, as `Account.provider_config` would give it."""
        return {}

    @pytest.fixture(scope="class")
    def recorded(self) -> dict[str, tuple[Plan, Recording]]:
        from cloudfn.contract.recorder import record

        program = self.program()
        found = {}
        for name, made in sample.plans(self.cloud()):

            def run(made: Plan = made) -> None:
                program(made)

            found[name] = (made, record(run, self.answers(), self.config()))
        return found

    def test_it_registers_what_the_plan_lists(self, recorded: dict[str, tuple[Plan, Recording]]) -> None:
        for name, (made, recording) in recorded.items():
            registered = sorted((found.type, found.name) for found in recording.resources)
            assert registered == sorted((listed.type, listed.name) for listed in made.resources), name

    def test_it_exports_the_plan(self, recorded: dict[str, tuple[Plan, Recording]]) -> None:
        """`plan`, `down` and the next `up` read it from the state."""
        for made, recording in recorded.values():
            said = recording.outputs["plan"]
            assert plan_json.from_json(json.loads(said) if isinstance(said, str) else said) == made

    def test_no_secret_is_in_it(self, recorded: dict[str, tuple[Plan, Recording]]) -> None:
        """The program makes containers; values go there past the state."""
        made, recording = recorded["a secret"]
        assert made.secrets
        assert "secretString" not in json.dumps([dict(found.inputs) for found in recording.resources], default=str)
