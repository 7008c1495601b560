"""What a user can get wrong: each gets a message that says what, where and what to do, and none a stack of ours."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from project_folder import Folder

EMPTY = 'import cloudfn\napp = cloudfn.App("demo")\n'


def check(err: str) -> None:
    """No frame of cloudfn's own files, and no warning of the interpreter about something left behind."""
    assert not re.search(r'File ".*/cloudfn(_agent|_local)?/\w+', err), err
    assert "fault of cloudfn" not in err
    assert "destroyed but" not in err


def place(folder: Folder, text: str) -> int:
    """The number of the line of app1.py that holds this text."""
    lines = (folder.path / "app1.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


REFUSED = {
    "unknown GPU": (
        '@app.function(gpu="Z9")\ndef f(): ...\n',
        ["gpu='Z9': there is no GPU \"Z9\"", "app1.py:3", "Known GPUs: T4"],
    ),
    "negative memory": ("@app.function(memory=-1)\ndef f(): ...\n", ["memory=-1: memory must be above 0", "app1.py:3"]),
    "cron with six fields": (
        '@app.function(schedule=cloudfn.Cron("0 0 * * * *"))\ndef f(): ...\n',
        ["must have five fields", "not 6", "There are no seconds"],
    ),
    "two functions of one name": (
        "@app.function()\ndef f(): ...\n@app.function()\ndef f(): ...\n",
        ["called 'f'", "app1.py:3 and", "app1.py:5", "Rename one"],
    ),
    "missing secret": (
        '@app.function(secrets=[cloudfn.Secret.from_name("nope")])\ndef f(): ...\n',
        ["There is no secret 'nope'", "cloudfn secret create nope"],
    ),
    "nested scope": (
        "def make():\n    @app.function()\n    def inner(): ...\n    return inner\nmake()\n",
        ["'inner' is defined inside of make()", "app1.py:4", "serialized=True"],
    ),
    "container step": (
        "@app.function(image=cloudfn.Image.debian_slim().apt_install('git'))\ndef f(): ...\n",
        ["Image.apt_install needs a container", "podman"],
    ),
    "requirement that does not resolve": (
        "@app.function(image=cloudfn.Image.debian_slim().uv_pip_install('six==99.99'))\ndef f(): ...\n",
        ["uv_pip_install of six==99.99 failed", "no version of six==99.99"],
    ),
    "requirement that is none": (
        "@app.function(image=cloudfn.Image.debian_slim().uv_pip_install('no such !! thing'))\ndef f(): ...\n",
        ["uv_pip_install of no such !! thing failed", "Failed to parse"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_never_work_is_refused(folder: Folder, case: str) -> None:
    program, said = REFUSED[case]
    folder.write("app1.py", program, before=EMPTY)
    process = folder.start("app1.py")
    out, err = process.communicate(timeout=120)
    assert process.returncode in (1, 2)
    assert out == ""
    assert "Traceback" not in err
    check(err)
    for words in said:
        assert words in err


def test_a_secret_without_a_required_key(folder: Folder) -> None:
    folder.run("create", "have", "A=1", command="secret")
    folder.write(
        "app1.py",
        '@app.function(secrets=[cloudfn.Secret.from_name("have", required_keys=["B"])])\ndef f(): ...\n',
        before=EMPTY,
    )
    err = folder.run("app1.py", code=1)[1]
    assert "The secret 'have' lacks the required keys B" in err
    assert "cloudfn secret create have --force" in err
    assert "Traceback" not in err


def test_a_syntax_error_is_the_users_alone(folder: Folder) -> None:
    folder.write("app1.py", "def f(:\n    pass\n", before=EMPTY)
    err = folder.run("app1.py", code=1)[1]
    assert err.splitlines()[0].endswith('app1.py", line 3')
    assert "SyntaxError" in err.splitlines()[-1]
    check(err)


def test_a_module_that_fails_in_the_worker_only(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        if not cloudfn.is_local():
            import nothing_like_this

        @app.local_entrypoint()
        def main():
            square.remote(1)
        """,
    )
    err = folder.run("app1.py", code=1)[1]
    check(err)
    assert "    import nothing_like_this\nModuleNotFoundError" in err
    assert f'File "{folder.path}/app1.py", line {place(folder, "import nothing")}, in <module>' in err
    assert "error: square: a worker could not start: ModuleNotFoundError" in err


def test_an_enter_that_fails_shows_its_place(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        @app.cls()
        class Model:
            @cloudfn.enter()
            def load(self):
                raise FileNotFoundError("weights.bin")

            @cloudfn.method()
            def run(self): ...
        """,
        before=EMPTY,
    )
    err = folder.run("app1.py::Model.run", code=1)[1]
    check(err)
    assert f'File "{folder.path}/app1.py", line {place(folder, "raise File")}, in load' in err
    assert "a worker could not start: FileNotFoundError: weights.bin" in err


def test_an_error_in_a_worker_has_the_users_frames_of_both_sides(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        @app.function()
        def fails():
            return {}["k"]

        @app.local_entrypoint()
        def main():
            fails.remote()
        """,
    )
    err = folder.run("app1.py", code=1)[1]
    check(err)
    trace = err[err.index("Traceback") :]
    assert re.findall(r"in (\w+)\n", trace) == ["main", "fails"]
    assert trace.endswith("KeyError: 'k'\n")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("f.remote({'a': [threading.Lock()]})", ["argument 1 of f(): ['a'][0] is a _thread.lock", "app1.py:11"]),
        ("f.remote(1, 2)", ["TypeError"]),
        ("f.remote(0)", ["ended the process", "exited with status 3"]),
    ],
)
def test_calls_that_cannot_work(folder: Folder, program: str, said: list[str]) -> None:
    folder.write(
        "app1.py",
        f"""
        import os, threading
        @app.function()
        def f(x):
            os._exit(3)

        @app.local_entrypoint()
        def main():
            {program}
        """,
        before=EMPTY,
    )
    err = folder.run("app1.py", code=1)[1]
    check(err)
    for words in said:
        assert words in err


def test_ctrl_c_while_an_image_is_built(folder: Folder, tmp_path: Path) -> None:
    """It ends at once and says so, and the next run builds the image whole."""
    flag = tmp_path / "go-on"
    folder.write(
        "app1.py",
        f"""
        import os, sys, time

        def slow():
            print("the build has begun", flush=True)
            while not os.path.exists({str(flag)!r}):
                time.sleep(0.01)

        image = cloudfn.Image.debian_slim().run_function(slow)

        @app.function(image=image)
        def f():
            return "built"
        """,
        before=EMPTY,
    )
    process = folder.start("app1.py")
    assert process.stderr is not None
    for line in process.stderr:
        if "the build has begun" in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted"
    check(err)
    flag.touch()
    assert folder.run("app1.py")[0] == "built\n"


def test_two_runs_at_once_build_one_image_and_both_work(folder: Folder, tmp_path: Path) -> None:
    folder.write(
        "app1.py",
        f"""
        def note():
            with open({str(tmp_path / "builds")!r}, "a") as file:
                file.write("x")

        @app.function(image=cloudfn.Image.debian_slim().uv_pip_install("six").run_function(note))
        def f():
            import six
            return six.__name__
        """,
        before=EMPTY,
    )
    runs = [folder.start("app1.py") for _ in range(2)]
    ended = [run.communicate(timeout=120) for run in runs]
    assert [(run.returncode, out) for run, (out, _) in zip(runs, ended, strict=True)] == [(0, "six\n")] * 2, ended
    assert (tmp_path / "builds").read_text() == "x"


@pytest.mark.parametrize(
    "cloud, says",
    [("aws", "There are no AWS credentials here"), ("gcp", "There are no Google credentials on this machine")],
)
def test_libraries_of_a_cloud_show_no_traceback(tmp_path: Path, cloud: str, says: str) -> None:
    folder = Folder(tmp_path)
    nowhere = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true"}
    _, err = folder.run("--app", "demo", "--cloud", cloud, command="down", code=1, **nowhere)
    assert says in err and "Traceback" not in err


def test_a_web_function_cannot_be_run(folder):
    web = """
        @app.function()
        @cloudfn.asgi_app()
        def page(): ...


        @app.cls()
        class Model:
            @cloudfn.wsgi_app()
            def old(self): ...
        """
    folder.write("web.py", web)
    assert "'page' of web.py is a web function" in folder.refused("web.py::page")
    assert "'Model.old' of web.py is a web function" in folder.refused("web.py::Model.old")
    folder.write("only.py", web, before='import cloudfn\n\napp = cloudfn.App("web")\n')
    assert "cloudfn serve only.py" in folder.refused("only.py")
    assert folder.run("web.py", "--x", "3")[0].strip() == "9"
