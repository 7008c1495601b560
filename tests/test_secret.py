from __future__ import annotations

import copy
import inspect
import json
import os
import pickle
import stat
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import cloudpickle
import modal
import pytest
from cloudfn_local.secret_store import SecretStore
from hypothesis import given
from hypothesis import strategies as st
from modal.secret import _Secret

from cloudfn import execution
from cloudfn.exception import (
    AlreadyExistsError,
    Error,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnimplementedError,
)
from cloudfn.secret import Secret, check_name
from cloudfn.spec import SecretSpec, canonical

HIDDEN = "hunter2-do-not-show"


class NoStore:
    options = ""

    def get(self, name: str) -> dict[str, str]:
        raise AssertionError("an unnamed secret asked the store")


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


def holds(error: BaseException | None, text: str) -> bool:
    """Whether an exception, or one that it hides, keeps the text in its state."""
    if error is None:
        return False
    state = repr([error.args, vars(error)])
    return text in state or holds(error.__context__, text) or holds(error.__cause__, text)


@pytest.mark.parametrize("name", ["from_dict", "from_name", "from_dotenv", "from_local_environ"])
def test_parameters_are_modals(name: str) -> None:
    theirs = [p for p in inspect.signature(getattr(modal.Secret, name)).parameters.values() if p.name != "client"]
    ours = inspect.signature(getattr(Secret, name)).parameters.values()
    assert [(p.name, p.kind) for p in ours] == [(p.name, p.kind) for p in theirs]


class TestFromDict:
    def test_resolves_to_a_copy_without_asking_the_store(self) -> None:
        values: dict[str, str | None] = {"A": "1", "B": None, "C": ""}
        secret = Secret.from_dict(values)
        values["A"] = "changed"
        first = secret.resolve(NoStore())
        assert first == {"A": "1", "C": ""}
        first["A"] = "changed"
        assert secret.resolve(NoStore()) == {"A": "1", "C": ""}

    def test_the_spec_has_an_id_and_no_values(self) -> None:
        secret = Secret.from_dict({"TOKEN": HIDDEN})
        assert secret.spec == secret.spec
        assert secret.spec.name == "" and len(secret.spec.id) == 32
        assert HIDDEN not in repr(secret) + repr(secret.spec)

    def test_equal_values_share_an_id_and_others_do_not(self) -> None:
        one, same, other = ({"A": "1", "B": "2"}, {"B": "2", "A": "1"}, {"A": "12", "B": ""})
        assert Secret.from_dict(one).spec == Secret.from_dict(same).spec
        assert Secret.from_dict(one).spec != Secret.from_dict(other).spec

    def test_another_process_gives_another_id(self) -> None:
        code = "from cloudfn.secret import Secret; print(Secret.from_dict({'A': '1'}).spec.id)"
        theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        assert len(theirs) == 32 and theirs != Secret.from_dict({"A": "1"}).spec.id

    @pytest.mark.parametrize("value", [3, b"hunter2-do-not-show", ["hunter2-do-not-show"], HIDDEN + "\0"])
    def test_a_bad_value_is_named_by_its_key_and_never_shown(self, value: Any) -> None:
        with pytest.raises(InvalidError, match="'TOKEN'") as caught:
            Secret.from_dict({"OTHER": "x", "TOKEN": value})
        assert HIDDEN not in str(caught.value)

    @pytest.mark.parametrize("values", [[("A", "1")], "A=1", None, {1: "x"}, {"": "x"}, {"A=B": "x"}, {"A\0": "x"}])
    def test_what_is_no_environment_is_refused(self, values: Any) -> None:
        with pytest.raises(InvalidError, match=r"Secret\.from_dict"):
            Secret.from_dict(values)

    @given(st.dictionaries(st.text(min_size=1), st.text() | st.none()))
    def test_any_strings_are_kept_or_refused(self, values: dict[str, str | None]) -> None:
        try:
            secret = Secret.from_dict(values)
        except InvalidError:
            assert any("\0" in k + v or "=" in k for k, v in values.items() if v is not None)
            return
        assert secret.resolve(NoStore()) == {k: v for k, v in values.items() if v is not None}

    @pytest.mark.parametrize("pickler", [pickle, cloudpickle])
    def test_a_pickle_keeps_the_spec_and_drops_the_values(self, pickler: Any) -> None:
        secret = Secret.from_dict({"TOKEN": HIDDEN})
        data = pickler.dumps(secret)
        assert HIDDEN.encode() not in data
        again = pickle.loads(data)
        assert again.spec == secret.spec and repr(again) == repr(secret)
        with pytest.raises(InvalidError, match="stayed in the process"):
            again.resolve(NoStore())
        assert secret.resolve(NoStore()) == {"TOKEN": HIDDEN}

    def test_a_copy_keeps_the_values(self) -> None:
        secret = Secret.from_dict({"A": "1"})
        assert copy.deepcopy([secret])[0].resolve(NoStore()) == copy.copy(secret).resolve(NoStore()) == {"A": "1"}


class TestFromLocalEnviron:
    def test_takes_the_values_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLOUDFN_TEST_TOKEN", HIDDEN)
        secret = Secret.from_local_environ(["CLOUDFN_TEST_TOKEN"])
        monkeypatch.delenv("CLOUDFN_TEST_TOKEN")
        assert secret.resolve(NoStore()) == {"CLOUDFN_TEST_TOKEN": HIDDEN}
        assert HIDDEN not in repr(secret)

    def test_what_is_not_set_is_named(self) -> None:
        with pytest.raises(InvalidError, match="CLOUDFN_NOT_SET_1, CLOUDFN_NOT_SET_2"):
            Secret.from_local_environ(["PATH", "CLOUDFN_NOT_SET_1", "CLOUDFN_NOT_SET_2"])

    def test_one_string_is_no_list(self) -> None:
        with pytest.raises(InvalidError, match="not one string"):
            Secret.from_local_environ("PATH")

    def test_is_empty_in_a_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(execution, "in_worker", True)
        assert Secret.from_local_environ(["CLOUDFN_NOT_SET_1"]).resolve(NoStore()) == {}


class TestFromDotenv:
    def test_is_found_upwards_from_a_file_and_read_only_when_needed(self, tmp_path: Path) -> None:
        code = tmp_path / "src" / "pkg" / "app.py"
        code.parent.mkdir(parents=True)
        code.touch()
        secret = Secret.from_dotenv(code)
        (tmp_path / ".env").write_text(f"# c\nexport TOKEN='{HIDDEN}'\nEMPTY=\nBARE\nBOTH=a-${{TOKEN}}\n")
        expected = {"TOKEN": HIDDEN, "EMPTY": "", "BARE": "", "BOTH": f"a-{HIDDEN}"}
        assert secret.resolve(NoStore()) == expected
        theirs = _Secret.from_dotenv(code)._load_env_dict
        assert theirs is not None and theirs() == expected
        assert HIDDEN not in repr(secret) + repr(secret.spec)

    def test_is_read_once_so_that_id_and_values_agree(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("A=1")
        secret = Secret.from_dotenv(tmp_path)
        spec = secret.spec
        (tmp_path / ".env").write_text("A=2")
        assert secret.resolve(NoStore()) == {"A": "1"} and secret.spec == spec
        assert Secret.from_dotenv(tmp_path).spec != spec

    def test_starts_at_the_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / ".env-dev").write_text("\ufeffA=1")
        (tmp_path / "below").mkdir()
        monkeypatch.chdir(tmp_path / "below")
        assert Secret.from_dotenv(filename=".env-dev").resolve(NoStore()) == {"A": "1"}
        assert Secret.from_dotenv(".", filename=".env-dev").resolve(NoStore()) == {"A": "1"}

    def test_a_missing_file_says_where_it_was_looked_for(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError) as caught:
            _ = Secret.from_dotenv(tmp_path, filename=".env-nowhere").spec
        assert ".env-nowhere" in str(caught.value) and str(tmp_path) in str(caught.value)
        with pytest.raises(NotFoundError, match="does not exist"):
            Secret.from_dotenv(tmp_path / "gone").resolve(NoStore())

    def test_bytes_that_are_no_text_are_not_shown(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_bytes(b"TOKEN=" + HIDDEN.encode() + b"\xff")
        with pytest.raises(InvalidError, match="not UTF-8") as caught:
            Secret.from_dotenv(tmp_path).resolve(NoStore())
        assert not holds(caught.value, HIDDEN) and HIDDEN not in shown(caught.value)


class TestFromName:
    def test_resolves_from_the_store(self, store: SecretStore) -> None:
        store.create("db", {"USER": "ann", "PASSWORD": HIDDEN})
        secret = Secret.from_name("db", required_keys=["USER"])
        assert secret.spec == SecretSpec(name="db", required_keys=("USER",))
        assert secret.resolve(store) == {"USER": "ann", "PASSWORD": HIDDEN}
        assert pickle.loads(pickle.dumps(secret)).resolve(store)["USER"] == "ann"

    def test_asks_the_store_as_late_as_possible(self, store: SecretStore) -> None:
        secret = Secret.from_name("later")
        with pytest.raises(NotFoundError, match="later"):
            secret.resolve(store)
        store.create("later", {"A": "1"})
        assert secret.resolve(store) == {"A": "1"}

    def test_missing_keys_are_named_and_values_are_not(self, store: SecretStore) -> None:
        store.create("db", {"USER": HIDDEN})
        with pytest.raises(NotFoundError) as caught:
            Secret.from_name("db", required_keys=["USER", "HOST", "PORT"]).resolve(store)
        assert "'db'" in caught.value.message and "HOST, PORT" in caught.value.message
        assert HIDDEN not in str(caught.value)

    @pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, "a\n", "ä", None, 3])
    def test_a_bad_name_is_refused(self, name: Any) -> None:
        with pytest.raises(InvalidError, match="cannot be the name"):
            Secret.from_name(name)

    @pytest.mark.parametrize("name", ["a", "My.secret_1-x", "9", "x" * 64])
    def test_a_good_name_is_kept(self, name: str) -> None:
        assert check_name(name) == name

    @pytest.mark.parametrize("keys", ["USER", [1]])
    def test_required_keys_must_be_a_list_of_strings(self, keys: Any) -> None:
        with pytest.raises(InvalidError, match="required_keys"):
            Secret.from_name("db", required_keys=keys)

    def test_another_environment_is_not_silently_taken_for_this_one(self, store: SecretStore) -> None:
        store.create("db", {"A": "1"})
        with pytest.raises(UnimplementedError, match="'dev'"):
            Secret.from_name("db", environment_name="dev").resolve(store)


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    return SecretStore(tmp_path / "state" / "secrets")


@pytest.fixture
def file(store: SecretStore, tmp_path: Path) -> Path:
    store.create("old", {"A": HIDDEN})
    return tmp_path / "state" / "secrets" / "secrets.json"


class TestStore:
    def test_an_empty_store_makes_nothing(self, store: SecretStore, tmp_path: Path) -> None:
        assert store.list() == []
        with pytest.raises(NotFoundError):
            store.get("a")
        assert not (tmp_path / "state" / "secrets").exists()

    def test_lives_in_the_state_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLOUDFN_STATE_DIR", str(tmp_path / "here"))
        SecretStore().create("a", {"A": "1"})
        assert (tmp_path / "here" / "secrets" / "secrets.json").is_file()
        assert SecretStore().get("a") == {"A": "1"}

    def test_create_get_list_delete(self, store: SecretStore) -> None:
        store.create("b", {"Z": HIDDEN, "A": "ünicode\nlines \udc80"})
        store.create("a", {})
        assert store.get("b") == {"Z": HIDDEN, "A": "ünicode\nlines \udc80"}
        assert [(s.name, s.keys) for s in store.list()] == [("a", ()), ("b", ("Z", "A"))]
        assert store.list()[0].created_at >= store.list()[1].created_at > 1.7e9
        assert HIDDEN not in repr(store.list())
        store.delete("b")
        with pytest.raises(NotFoundError, match="no secret 'b'"):
            store.get("b")
        with pytest.raises(NotFoundError):
            store.delete("b")
        assert [s.name for s in store.list()] == ["a"]

    def test_a_taken_name_needs_force(self, store: SecretStore, file: Path) -> None:
        with pytest.raises(AlreadyExistsError, match="'old'"):
            store.create("old", {"A": "new"})
        assert store.get("old") == {"A": HIDDEN}
        store.create("old", {"B": "new"}, force=True)
        assert store.get("old") == {"B": "new"}

    def test_only_the_owner_can_read_it_whatever_the_umask(self, store: SecretStore, tmp_path: Path) -> None:
        code = (
            "import os, sys, pathlib; os.umask(0); from cloudfn_local.secret_store import SecretStore; "
            "SecretStore(pathlib.Path(sys.argv[1])).create('a', {'A': '1'})"
        )
        folder = tmp_path / "wide" / "secrets"
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()} == {0o600}

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
    def test_a_file_open_to_others_is_refused(self, store: SecretStore, file: Path, mode: int) -> None:
        file.chmod(mode)
        for use in (store.list, lambda: store.get("old"), lambda: store.create("x", {}), lambda: store.delete("old")):
            with pytest.raises(PermissionDeniedError, match=f"mode {mode:04o}") as caught:
                use()
            assert f"chmod 600 {file}" in caught.value.hint

    def test_a_folder_open_to_others_is_refused(self, store: SecretStore, file: Path) -> None:
        file.parent.chmod(0o755)
        with pytest.raises(PermissionDeniedError, match="mode 0755"):
            store.get("old")
        with pytest.raises(PermissionDeniedError, match="mode 0755"):
            store.create("new", {})

    def test_links_are_not_followed(self, store: SecretStore, file: Path, tmp_path: Path) -> None:
        elsewhere = file.rename(tmp_path / "elsewhere.json")
        file.symlink_to(elsewhere)
        before = elsewhere.read_bytes()
        with pytest.raises(PermissionDeniedError, match="link"):
            store.get("old")
        with pytest.raises(PermissionDeniedError, match="link"):
            store.create("new", {"A": "1"})
        assert elsewhere.read_bytes() == before

    def test_a_linked_folder_is_refused(self, store: SecretStore, file: Path, tmp_path: Path) -> None:
        file.parent.rename(tmp_path / "elsewhere")
        file.parent.symlink_to(tmp_path / "elsewhere")
        for use in (store.list, lambda: store.create("x", {})):
            with pytest.raises(PermissionDeniedError, match="no link"):
                use()

    def test_a_link_in_the_place_of_the_new_file_is_not_written_through(self, store: SecretStore, file: Path) -> None:
        victim = file.parent / "victim"
        victim.write_text("precious")
        file.with_suffix(".new").symlink_to(victim)
        store.create("new", {"A": "1"})
        assert victim.read_text() == "precious" and not file.is_symlink()

    def test_a_pipe_in_its_place_does_not_hang(self, store: SecretStore, file: Path) -> None:
        file.unlink()
        os.mkfifo(file, 0o600)
        with pytest.raises(PermissionDeniedError, match="plain file"):
            store.get("old")

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", '{"secrets": []}', '{"secrets": {"a": {"values": 1, "created_at": 1.0}}}', "null", "\xff",
         '{"secrets": "hunter2-do-not-show", '],
    )  # fmt: skip
    def test_a_damaged_file_is_said_so_and_kept(self, store: SecretStore, file: Path, text: str) -> None:
        file.write_text(text, encoding="latin-1")
        with pytest.raises(InvalidError, match="damaged") as caught:
            store.create("new", {"A": "1"})
        assert not holds(caught.value, HIDDEN)
        assert file.read_text(encoding="latin-1") == text

    def test_a_full_disk_loses_nothing(self, store: SecretStore, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ResourceExhaustedError, match="No space left"):
            store.create("new", {"A": "1"})
        assert store.get("old") == {"A": HIDDEN}
        assert {f.name for f in file.parent.iterdir()} == {"secrets.json", "lock"}

    def test_what_a_killed_writer_left_is_cleared(self, store: SecretStore, file: Path) -> None:
        file.with_suffix(".new").write_text("half")
        store.create("new", {"A": "1"})
        assert [s.name for s in store.list()] == ["new", "old"]
        assert {f.name for f in file.parent.iterdir()} == {"secrets.json", "lock"}

    def test_writers_at_the_same_time_lose_nothing(self, store: SecretStore, file: Path) -> None:
        barrier = threading.Barrier(8)
        errors: list[Error] = []

        def write(name: str) -> None:
            barrier.wait()
            try:
                SecretStore(file.parent).create(name, {"A": name})
            except Error as error:
                errors.append(error)

        threads = [threading.Thread(target=write, args=(f"s{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert [s.name for s in store.list()] == ["old", *(f"s{i}" for i in range(8))]

    def test_values_must_be_strings(self, store: SecretStore) -> None:
        with pytest.raises(InvalidError, match="must be strings"):
            store.create("a", {"A": 3})  # type: ignore[dict-item]

    def test_the_format_is_versioned(self, store: SecretStore, file: Path) -> None:
        assert json.loads(file.read_text())["version"] == 1


def test_a_spec_has_a_json_form() -> None:
    assert b"hunter2" not in canonical(vars(Secret.from_dict({"A": HIDDEN}).spec))


def test_import_needs_the_standard_library_only() -> None:
    names = "secret gpu resources retries schedule registry deprecation secret_store"
    code = f"""
import sys
before = set(sys.modules)
{"; ".join(f"import cloudfn.{name}" for name in names.split())}
new = set(sys.modules) - before
print({{name.partition(".")[0] for name in new}} - set(sys.stdlib_module_names) - {{"cloudfn", "cloudpickle"}})
print(new & {{"asyncio", "subprocess", "zoneinfo", "difflib", "importlib.metadata", "hmac"}})
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["set()", "set()"]
