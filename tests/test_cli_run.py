"""`cloudfn run`, from the command line to the result, in processes as a user starts them."""

from __future__ import annotations

import json
import signal

import pytest
from project_folder import Folder

# What runs


def test_the_only_entrypoint_runs_with_typed_arguments(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        @app.local_entrypoint()
        def main(count: int = 2, *, loud: bool = False):
            print(repr(count), loud, __name__)
        """,
    )
    assert folder.run("app1.py")[0] == "2 False app1\n"
    assert folder.run("app1.py", "--count", "5", "--loud")[0] == "5 True app1\n"


def test_an_entrypoint_calls_a_worker(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        @app.local_entrypoint()
        def main():
            print(square.remote(7), sum(square.map(range(4))))
        """,
    )
    assert folder.run("app1.py")[0] == "49 14\n"


def test_an_async_entrypoint(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        import asyncio

        @app.local_entrypoint()
        async def main(n: int):
            await asyncio.sleep(0)
            print(n + 1)
        """,
    )
    assert folder.run("app1.py", "--n", "1")[0] == "2\n"


def test_star_args_pass_through(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        @app.local_entrypoint()
        def main(*args):
            print(args)
        """,
    )
    assert folder.run("app1.py", "a", "--b=1", "-c")[0] == "('a', '--b=1', '-c')\n"


def test_a_function_runs_in_a_worker_and_its_result_is_printed(folder: Folder) -> None:
    folder.write("app1.py", "")
    assert folder.run("app1.py", "--x", "6")[0] == "36\n"
    assert folder.run("app1.py::square", "--x", "7")[0] == "49\n"


def test_a_generator_prints_what_it_yields(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        @app.function()
        def count(n: int):
            yield from range(n)
        """,
    )
    assert folder.run("app1.py::count", "--n", "3")[0] == "0\n1\n2\n"
    assert json.loads(folder.run("--json", "app1.py::count", "--n", "3")[0])["result"] == [0, 1, 2]


def test_a_method_gets_the_options_of_its_class_too(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        @app.cls()
        class Greeter:
            greeting: str = cloudfn.parameter(default="Hello")
            times: int = cloudfn.parameter()

            @cloudfn.method()
            def greet(self, name: str) -> str:
                "Say it."
                return " ".join([self.greeting] * self.times + [name])
        """,
    )
    assert folder.run("app1.py::Greeter.greet", "--times", "2", "--name", "Ada")[0] == "Hello Hello Ada\n"
    assert folder.run("app1.py::Greeter", "--times", "1", "--name", "A", "--greeting", "Oi")[0] == "Oi A\n"
    assert "Missing option '--times'" in folder.refused("app1.py::Greeter.greet", "--name", "A")


def test_a_module_runs(folder: Folder) -> None:
    folder.write("pkg/__init__.py", "", before="")
    folder.write("pkg/values.py", "X = 5", before="")
    folder.write(
        "pkg/app1.py",
        """
        from .values import X

        @app.local_entrypoint()
        def main():
            print(__name__, square.remote(X))
        """,
    )
    assert folder.run("-m", "pkg.app1")[0] == "pkg.app1 25\n"
    assert folder.run("-m", "pkg.app1::main")[0] == "pkg.app1 25\n"
    assert folder.run("pkg/app1.py")[0] == "pkg.app1 25\n"


def test_an_app_is_chosen_by_its_variable(folder: Folder) -> None:
    text = """
    import cloudfn
    first, second = cloudfn.App("one"), cloudfn.App("two")

    @first.local_entrypoint()
    def main():
        print("first")

    @second.local_entrypoint(name="main")
    def other():
        print("second")
    """
    folder.write("apps.py", text, before="")
    err = folder.refused("apps.py")
    assert "several apps in apps.py: first, second" in err
    assert "cloudfn run apps.py::first" in err
    assert folder.run("apps.py::second")[0] == "second\n"
    assert folder.run("apps.py::first.main")[0] == "first\n"
    folder.write("default.py", text.replace("second", "app"), before="")
    assert folder.run("default.py")[0] == "app\n"


def test_help_shows_the_options_of_what_would_run(folder: Folder) -> None:
    folder.write(
        "app1.py",
        '''
        print("imported")

        @app.local_entrypoint()
        def main(count: int = 2):
            """Count things.

            And show them."""
        ''',
    )
    out, _ = folder.run("app1.py", "--help")
    assert "Usage: cloudfn run app1.py [OPTIONS]" in out
    assert "Count things." in out
    assert "--count INTEGER  [default: 2]" in out
    out, _ = folder.run("app1.py::square", "--help")
    assert "Multiply a number by itself." in out
    assert "--x INTEGER" in out


# What cannot run


def test_errors_list_what_there_is(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        @app.function()
        def cube(x: int): ...

        @app.cls()
        class Model:
            @cloudfn.method()
            def predict(self): ...
            @cloudfn.method()
            def train(self): ...
        """,
    )
    err = folder.refused("app1.py")
    assert "app1.py has several functions and no local entrypoint." in err
    assert "app1.py::square, app1.py::cube, app1.py::Model.predict, app1.py::Model.train" in err
    err = folder.refused("app1.py::cub")
    assert "There is no 'cub' in app1.py." in err
    assert "Did you mean app1.py::cube?" in err
    assert "There are: square, cube, Model.predict, Model.train" in err
    err = folder.refused("app1.py::Model")
    assert "It has: Model.predict, Model.train" in err


def test_several_entrypoints(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        @app.local_entrypoint()
        def one(): ...

        @app.local_entrypoint()
        def two(): print("two")
        """,
    )
    assert "app1.py::one, app1.py::two" in folder.refused("app1.py")
    assert folder.run("app1.py::two")[0] == "two\n"


def test_no_app_and_nothing_to_run(folder: Folder) -> None:
    folder.write("none.py", "x = 1", before="")
    assert "There is no App in none.py" in folder.refused("none.py")
    folder.write("empty.py", "import cloudfn\napp = cloudfn.App('x')", before="")
    assert "nothing to run" in folder.refused("empty.py")


def test_a_file_that_is_not_there(folder: Folder) -> None:
    folder.write("app1.py", "")
    err = folder.refused("ap1.py", code=1)
    assert err == "error: There is no file ap1.py.\nDid you mean app1.py?\n"


def test_unknown_options_are_refused_before_anything_starts(folder: Folder) -> None:
    folder.write("app1.py", "")
    err = folder.refused("app1.py", "--y", "3")
    assert "No such option" in err
    assert "--y" in err
    assert "'x' is not a valid integer" in folder.refused("app1.py", "--x", "x")


def test_own_options_after_the_file_are_explained(folder: Folder) -> None:
    folder.write("app1.py", "")
    assert "--json is an option of `cloudfn run`: put it before app1.py" in folder.refused("app1.py", "--json")


# Errors of user code


def test_a_syntax_error_shows_the_place(folder: Folder) -> None:
    folder.write("broken.py", "import cloudfn\n\nx = (1 +\n", before="")
    err = folder.refused("broken.py", code=1)
    lines = err.splitlines()
    assert lines[0].strip() == f'File "{folder.path}/broken.py", line 3'
    assert "^" in err
    assert lines[-1].startswith("SyntaxError: ")


def test_an_import_error_has_the_users_frames_alone(folder: Folder) -> None:
    folder.write("helper.py", "import no_such_module\n", before="")
    folder.write("app1.py", "import helper", before="")
    _, err = folder.run("app1.py", code=1)
    files = [line.split('"')[1] for line in err.splitlines() if line.startswith("  File ")]
    assert files == [str(folder.path / "app1.py"), str(folder.path / "helper.py")]
    assert err.endswith("ModuleNotFoundError: No module named 'no_such_module'\n")


@pytest.mark.parametrize("kind", ["", "async "])
def test_an_exception_of_an_entrypoint_has_the_users_frames_alone(folder: Folder, kind: str) -> None:
    folder.write(
        "app1.py",
        f"""
        @app.local_entrypoint()
        {kind}def main():
            print("before")
            json.loads("{{")

        import json
        """,
    )
    out, err = folder.run("app1.py", code=1)
    assert out == "before\n"
    files = [line.split('"')[1] for line in err.splitlines() if line.startswith("  File ")]
    assert files[0] == str(folder.path / "app1.py")
    assert not [file for file in files if "/click/" in file or "/cloudfn/" in file or "asyncio" in file]
    assert any(file.endswith("json/decoder.py") for file in files)
    assert "JSONDecodeError" in err.splitlines()[-1]
    _, everything = folder.run("app1.py", code=1, CLOUDFN_TRACEBACK="1")
    assert "cloudfn/cli/run.py" in everything


def test_an_exception_of_a_worker_keeps_its_type_and_its_line(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        @app.function()
        def fails(x: int):
            raise LookupError(f"no {x}")
        """,
    )
    _, err = folder.run("app1.py::fails", "--x", "3", code=1)
    assert "LookupError: no 3" in err
    assert 'raise LookupError(f"no {x}")' in err or "in fails" in err


def test_our_errors_have_no_stack(folder: Folder) -> None:
    folder.write("app1.py", "@app.function(gpu='Z9')\ndef f(): ...\n")
    err = folder.refused("app1.py", code=1)
    assert err.startswith("error: ")
    assert "Z9" in err
    assert f"  at {folder.path}/app1.py:11" in err


def test_exit_codes_of_user_code_are_kept(folder: Folder) -> None:
    folder.write("app1.py", "@app.local_entrypoint()\ndef main():\n    import sys\n    sys.exit(7)\n")
    folder.run("app1.py", code=7)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_after_clean_up(folder: Folder, number: signal.Signals) -> None:
    folder.write(
        "app1.py",
        """
        @app.local_entrypoint()
        def main():
            import time
            try:
                print("ready", flush=True)
                time.sleep(60)
            finally:
                print("cleaned up", flush=True)
        """,
    )
    process = folder.start("app1.py")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out == "cleaned up\n"
    assert "Traceback" not in err


# What is printed


def test_json_is_one_document_and_all_else_goes_to_stderr(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        import atexit, os, subprocess
        atexit.register(print, "at exit")
        print("imported")

        @app.local_entrypoint()
        def main():
            print("local")
            os.write(1, b"native\\n")
            subprocess.run(["echo", "child"])
            return {"squares": list(square.map([1, 2, 3]))}
        """,
    )
    out, err = folder.run("--json", "app1.py")
    document = json.loads(out)
    assert document["result"] == {"squares": [1, 4, 9]}
    assert document["calls"]["square"] == {"done": 3, "failed": 0}
    assert 0 < document["seconds"] < 120
    for line in ("imported", "local", "native", "child", "at exit"):
        assert line in err.splitlines()


def test_json_of_a_result_that_is_none(folder: Folder) -> None:
    folder.write("app1.py", "@app.local_entrypoint()\ndef main():\n    return {1, }\n")
    assert json.loads(folder.run("--json", "app1.py")[0])["result_repr"] == "{1}"
    folder.write("app2.py", "@app.local_entrypoint()\ndef main():\n    return float('nan')\n")
    assert json.loads(folder.run("--json", "app2.py")[0])["result_repr"] == "nan"


def test_json_of_a_failure(folder: Folder) -> None:
    folder.write("app1.py", "@app.local_entrypoint()\ndef main():\n    raise KeyError('k')\n")
    out, err = folder.run("--json", "app1.py", code=1)
    assert json.loads(out)["error"] == {"type": "KeyError", "message": "'k'"}
    assert "Traceback" in err


def test_output_of_workers_is_shown(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        import sys

        @app.function()
        def speak():
            print("to stdout")
            print("to stderr", file=sys.stderr)
        """,
    )
    out, err = folder.run("app1.py::speak")
    assert out == "to stdout\n"
    assert "to stderr\n" in err
    assert folder.run("-q", "app1.py::speak") == ("to stdout\n", "to stderr\n")
