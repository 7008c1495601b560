"""Secrets, from the command that stores one to the worker that reads it."""

from __future__ import annotations

from pathlib import Path

from project_folder import Folder

EMPTY = 'import cloudfn\napp = cloudfn.App("demo")\n'

READS = """
import os

@app.function(secrets=[{secret}])
def f():
    return os.environ.get("TOKEN"), os.environ.get("OTHER"), "TOKEN" in os.environ

@app.local_entrypoint()
def main():
    print(f.remote(), "TOKEN" in os.environ)
"""


def write(folder: Folder, secret: str) -> None:
    folder.write("app1.py", READS.format(secret=secret), before=EMPTY)


def test_a_stored_secret_reaches_the_worker_only(folder: Folder, state_dir: Path) -> None:
    folder.run("create", "api", "TOKEN=s3cret-value", "OTHER=b", command="secret")
    assert "api" in folder.run("list", command="secret")[0]
    write(folder, 'cloudfn.Secret.from_name("api", required_keys=["TOKEN"])')
    out, err = folder.run("app1.py")
    assert out == "('s3cret-value', 'b', True) False\n"
    # Nowhere but in the store: not in the records of the run, nor what it logged about itself.
    told = [path for path in (state_dir / "runs").rglob("*") if path.is_file() and b"s3cret-value" in path.read_bytes()]
    assert told == []
    assert "s3cret-value" not in err
    folder.run("delete", "api", "--yes", command="secret")
    assert "There is no secret 'api'" in folder.run("app1.py", code=1)[1]


def test_a_changed_secret_is_seen_by_the_next_run(folder: Folder) -> None:
    write(folder, 'cloudfn.Secret.from_name("api")')
    folder.run("create", "api", "TOKEN=one", command="secret")
    assert folder.run("app1.py")[0].startswith("('one'")
    assert folder.run("create", "api", "TOKEN=two", command="secret", code=1)[1].startswith("error: ")
    folder.run("create", "api", "TOKEN=two", "--force", command="secret")
    assert folder.run("app1.py")[0].startswith("('two'")


def test_values_of_the_program_and_of_a_file(folder: Folder) -> None:
    write(folder, 'cloudfn.Secret.from_dict({"TOKEN": "a=b c", "OTHER": "x"})')
    assert folder.run("app1.py")[0] == "('a=b c', 'x', True) False\n"
    (folder.path / ".env").write_text("TOKEN='from file'\n# OTHER=no\n")
    write(folder, "cloudfn.Secret.from_dotenv()")
    assert folder.run("app1.py")[0] == "('from file', None, True) False\n"


def test_values_of_this_environment(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        import os

        @app.function(secrets=[cloudfn.Secret.from_local_environ(["TOKEN"])])
        def f():
            return os.environ["TOKEN"]
        """,
        before=EMPTY,
    )
    assert folder.run("app1.py", TOKEN="mine")[0] == "mine\n"
    assert "TOKEN" in folder.run("app1.py", code=1)[1]
