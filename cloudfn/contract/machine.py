"""What every place to run that has a machine for each run must keep to (`cloudfn.provider.HasMachine`)."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod

import pytest

import cloudfn
from cloudfn.provider import HasMachine, Runtime
from cloudfn.spec import ImageSpec


class MachineContract(ABC):
    """Derive a test class from it, and give it the provider; what it builds must be able to run this very Python."""

    @abstractmethod
    def provider(self) -> HasMachine:
        """A new one, as its entry point makes it."""

    def test_an_image_without_steps_has_an_interpreter(self) -> None:
        said: list[str] = []
        made = self.provider().build(ImageSpec(), said.append)
        assert isinstance(made, Runtime) and made.python and made.version.count(".") == 1
        assert self.provider().build(ImageSpec(), said.append) == made

    def test_code_is_kept_under_its_digest_and_once(self) -> None:
        payload = b"some code"
        name = hashlib.sha256(payload).hexdigest()
        place = self.provider().ship(name, payload)
        assert place and self.provider().ship(name, payload) == place
        other = hashlib.sha256(b"other").hexdigest()
        assert self.provider().ship(other, b"other") != place

    def test_machines_have_keys_of_their_own_and_close_twice(self) -> None:
        provider = self.provider()
        one, two = (provider.start("contract", lambda line: None) for _ in range(2))
        try:
            assert one.address.startswith(("unix:", "tcp:"))
            assert one.address != two.address and one.key != two.key and len(one.key) >= 16
        finally:
            for machine in (one, two, one):
                machine.close()

    def test_calls_run_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from cloudfn import registry

        provider = self.provider()
        monkeypatch.setattr(registry, "provider", lambda name: provider)
        app = cloudfn.App("contract")

        @app.function(serialized=True)
        def square(x: int) -> int:
            return x * x

        @app.function(serialized=True)
        def fail() -> None:
            raise KeyError("on purpose")

        with app.run():
            assert square.remote(7) == 49
            assert list(square.map(range(5))) == [0, 1, 4, 9, 16]
            with pytest.raises(KeyError, match="on purpose"):
                fail.remote()
