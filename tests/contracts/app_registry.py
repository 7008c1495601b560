"""What every registry of deployed apps must do."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cloudfn.app_registry import AppRegistry, AppVersion, DeployedFunction
from cloudfn.exception import ExecutionError, NotFoundError
from cloudfn.source import Bundle, BundleFile, bundle_for
from cloudfn.spec import CodeSpec, FunctionSpec, ScheduleSpec


def version(app: str = "app", id: str = "1", **more: Any) -> AppVersion:
    spec = FunctionSpec("f", CodeSpec(module="m", qualname="f"), schedule=ScheduleSpec(cron="0 2 * * *"))
    return AppVersion(app, id, (DeployedFunction(spec, "/root"),), {"digest": {"python": "/p"}}, **more)


class AppRegistryContract:
    @pytest.fixture
    def registry(self) -> AppRegistry:
        raise NotImplementedError

    def again(self, registry: AppRegistry) -> AppRegistry:
        """The same registry, as another process finds it."""
        raise NotImplementedError

    def test_versions_are_counted_and_the_newest_is_current(self, registry: AppRegistry) -> None:
        assert registry.add(version(), {}).number == 1
        made = registry.add(version(id="2", note="second", tags={"a": "b"}), {})
        assert made.number == 2 and made.created > 0
        assert self.again(registry).current("app") == made
        assert [v.number for v in registry.history("app")] == [2, 1]
        assert registry.version("app", 1).id == "1"
        with pytest.raises(NotFoundError):
            registry.version("app", 3)

    def test_a_version_that_is_sent_twice_is_there_once(self, registry: AppRegistry) -> None:
        first = registry.add(version(), {})
        assert registry.add(version(), {}) == first
        assert len(registry.history("app")) == 1

    def test_secrets_are_kept_but_not_listed(self, registry: AppRegistry) -> None:
        registry.add(version(), {"id": {"TOKEN": "swordfish"}})
        assert self.again(registry).secrets("app", 1) == {"id": {"TOKEN": "swordfish"}}
        assert "swordfish" not in repr(registry.current("app")) + repr(registry.history("app"))

    def test_rolling_back_makes_a_new_version_of_an_old_one(self, registry: AppRegistry) -> None:
        registry.add(version(), {"id": {"A": "1"}})
        registry.add(version(id="2"), {})
        back = registry.roll_back("app", 1)
        assert back.number == 3 and back.functions == registry.version("app", 1).functions
        assert registry.current("app").number == 3
        assert registry.secrets("app", 3) == {"id": {"A": "1"}}
        with pytest.raises(NotFoundError):
            registry.roll_back("app", 9)

    def test_a_stopped_app_has_no_version_until_it_is_deployed_again(self, registry: AppRegistry) -> None:
        registry.add(version(), {})
        registry.stop("app")
        with pytest.raises(NotFoundError, match="stopped"):
            registry.current("app")
        (info,) = registry.apps()
        assert (info.app, info.state) == ("app", "stopped")
        registry.add(version(id="2"), {})
        assert registry.current("app").number == 2

    def test_apps_are_apart(self, registry: AppRegistry) -> None:
        registry.add(version("one"), {})
        registry.add(version("two"), {})
        assert [info.app for info in registry.apps()] == ["one", "two"]
        assert registry.current("two").app == "two"

    @pytest.mark.parametrize("name", ["missing", "..", ".", "a/b", "", "x" * 65])
    def test_an_app_that_is_not_there(self, registry: AppRegistry, name: str) -> None:
        registry.add(version(), {})
        for ask in (registry.current, registry.history, registry.stop):
            with pytest.raises(NotFoundError):
                ask(name)

    def test_names_of_dots_are_names(self, registry: AppRegistry) -> None:
        registry.add(version(".."), {})
        assert registry.current("..").app == ".."

    def test_code_is_found_by_its_digest(self, registry: AppRegistry, tmp_path: Path) -> None:
        value = b"pickle"
        name = hashlib.sha256(value).hexdigest()
        place = registry.keep_code(name, value)
        assert registry.keep_code(name, value) == place == self.again(registry).code(name)
        assert Path(place).read_bytes() == value
        (tmp_path / "module.py").write_text("x = 1\n")
        bundle = bundle_for(tmp_path / "module.py", "module")
        assert isinstance(bundle, Bundle) and isinstance(bundle.files[0], BundleFile)
        folder = registry.keep_code(bundle.digest, bundle)
        assert registry.code(bundle.digest) == folder
        assert (Path(folder) / "module.py").read_text() == "x = 1\n"

    @pytest.mark.parametrize("name", ["../../etc", "", "A" * 64, "f" * 63])
    def test_what_is_no_digest_is_no_path(self, registry: AppRegistry, name: str) -> None:
        with pytest.raises(ExecutionError):
            registry.code(name)
        with pytest.raises(ExecutionError):
            registry.keep_code(name, b"x")

    def test_code_that_is_gone(self, registry: AppRegistry) -> None:
        with pytest.raises(NotFoundError, match="Deploy again"):
            registry.code("0" * 64)
