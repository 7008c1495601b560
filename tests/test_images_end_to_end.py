"""Images as a user writes them, seen from inside of the workers that run in them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cloudfn_local import interpreters
from project_folder import Folder

EMPTY = 'import cloudfn\napp = cloudfn.App("demo")\n'
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
OTHERS = sorted(
    {
        interpreters.minor(found.version)
        for found in interpreters.everything()
        if interpreters.minor(found.version) in ("3.10", "3.11", "3.12", "3.13")
    }
    - {OWN}
)


def result(folder: Folder, image: str, body: str, *, before: str = "", options: str = "") -> Any:
    """What a function of this body returns in a worker of this image; `image` and `body` are Python."""
    indented = "\n".join("    " + line for line in body.splitlines())
    program = f"{before}\nimage = {image}\n@app.function(image=image{options})\ndef f():\n{indented}\n"
    folder.write("app1.py", program, before=EMPTY)
    return json.loads(folder.run("--json", "app1.py")[0])["result"]


def test_a_package_that_this_interpreter_does_not_have(folder: Folder) -> None:
    """From two methods of `Image`, in one image, without the caller's own packages."""
    found = result(
        folder,
        "cloudfn.Image.debian_slim().uv_pip_install('six==1.16.0').pip_install('iniconfig')",
        "import importlib.util, iniconfig, six\n"
        "return [six.__version__, iniconfig.__name__, importlib.util.find_spec('pytest') is None]",
    )
    assert found == ["1.16.0", "iniconfig", True]


def test_another_python(folder: Folder) -> None:
    version = (OTHERS or ["3.13" if OWN != "3.13" else "3.12"])[-1]
    image = f"cloudfn.Image.debian_slim(python_version='{version}')"
    if OTHERS:
        body = "import sys\nreturn '.'.join(map(str, sys.version_info[:2]))"
        assert result(folder, image, body) == version
    else:
        folder.write("app1.py", f"@app.function(image={image})\ndef f(): ...\n", before=EMPTY)
        err = folder.run("app1.py", code=1)[1]
        assert f"Python {version}" in err
        assert "Traceback" not in err


def test_code_by_value_for_another_python_is_refused_before_the_call(folder: Folder) -> None:
    version = (OTHERS or ["3.13" if OWN != "3.13" else "3.12"])[-1]
    folder.write(
        "app1.py",
        f"""
        @app.function(image=cloudfn.Image.debian_slim(python_version="{version}"), serialized=True)
        def f(): ...

        @app.local_entrypoint()
        def main():
            print("reached")
        """,
        before=EMPTY,
    )
    process = folder.start("app1.py")
    out, err = process.communicate(timeout=120)
    assert process.returncode in (1, 2)
    assert out == ""
    assert f"Python {version}" in err
    assert not OTHERS or f"f goes by value from Python {OWN}" in err
    assert "Traceback" not in err


def test_environment_and_working_folder(folder: Folder) -> None:
    found = result(
        folder,
        "cloudfn.Image.debian_slim().env({'COLOUR': 'green', 'EMPTY': ''}).workdir('/work-here')",
        "import os\nopen('made', 'w').close()\n"
        "return [os.environ['COLOUR'], os.environ['EMPTY'], os.getcwd(), os.listdir()]",
    )
    assert found == ["green", "", "/work-here", ["made"]]
    assert not Path("/work-here").exists()


def test_files_are_at_their_paths_in_the_worker_only(folder: Folder) -> None:
    (folder.path / "data" / "deep").mkdir(parents=True)
    (folder.path / "data" / "deep" / "a.txt").write_text("from the folder")
    (folder.path / "b.txt").write_text("the file")
    found = result(
        folder,
        "cloudfn.Image.debian_slim().add_local_dir('data', '/models/data')"
        ".add_local_file('b.txt', '/etc/cloudfn-b.txt')",
        "from pathlib import Path\n"
        "return [Path('/models/data/deep/a.txt').read_text(), Path('/etc/cloudfn-b.txt').read_text(),\n"
        "        Path('/etc/passwd').exists()]",
    )
    assert found == ["from the folder", "the file", True]
    assert not Path("/models").exists()
    assert not Path("/etc/cloudfn-b.txt").exists()


def test_packages_of_the_users_own(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "own_package").mkdir()
    (elsewhere / "own_package" / "__init__.py").write_text("from .part import VALUE\n")
    (elsewhere / "own_package" / "part.py").write_text("VALUE = 'own'\n")
    found = result(
        folder,
        "cloudfn.Image.debian_slim().uv_pip_install('six').add_local_python_source('own_package')",
        "import own_package\nreturn [own_package.VALUE, own_package.__file__]",
        before=f"import sys\nif cloudfn.is_local():\n    sys.path.append({str(elsewhere)!r})",
    )
    assert found[0] == "own"
    assert not found[1].startswith(str(elsewhere))


def test_what_a_function_leaves_in_the_image(folder: Folder, tmp_path: Path) -> None:
    found = result(
        folder,
        "cloudfn.Image.debian_slim().env({'GREETING': 'hi'}).run_function(prepare, args=(3,))",
        "import prepared\nreturn prepared.TEXT",
        before="def prepare(times):\n    import os, pathlib, sysconfig\n"
        "    place = pathlib.Path(sysconfig.get_path('purelib'), 'prepared.py')\n"
        "    place.write_text(f'TEXT = {os.environ[\"GREETING\"] * times!r}')\n",
    )
    assert found == "hihihi"


def test_packages_listed_in_files(folder: Folder) -> None:
    (folder.path / "wanted.txt").write_text("# a comment\nsix==1.16.0\n")
    (folder.path / "pyproject.toml").write_text(
        "[project]\nname = 'x'\nversion = '1'\ndependencies = ['iniconfig']\n"
        "[project.optional-dependencies]\nmore = ['packaging']\n"
    )
    found = result(
        folder,
        "cloudfn.Image.debian_slim().pip_install_from_requirements('wanted.txt')"
        ".pip_install_from_pyproject('pyproject.toml', optional_dependencies=['more'])",
        "import iniconfig, packaging, six\nreturn six.__version__",
    )
    assert found == "1.16.0"


def test_imports_of_the_image_are_there_in_the_worker(folder: Folder) -> None:
    found = result(
        folder,
        "cloudfn.Image.debian_slim().uv_pip_install('six==1.16.0')\nwith image.imports():\n    import six as wanted",
        "return wanted.__version__",
    )
    assert found == "1.16.0"


def test_functions_of_one_app_in_several_images(folder: Folder) -> None:
    """And one calls the other across them, with a value that only one of the images could make."""
    folder.write(
        "app1.py",
        """
        with_six = cloudfn.Image.debian_slim().uv_pip_install("six==1.16.0")

        @app.function(image=with_six)
        def version():
            import six
            return six.__version__

        @app.function()
        def asks():
            return version.remote()

        @app.local_entrypoint()
        def main():
            print(asks.remote(), version.remote())
        """,
        before=EMPTY,
    )
    assert folder.run("app1.py")[0] == "1.16.0 1.16.0\n"


def test_an_image_is_built_ahead(folder: Folder) -> None:
    folder.write(
        "app1.py",
        """
        image = cloudfn.Image.debian_slim().uv_pip_install("six==1.16.0")

        @app.local_entrypoint()
        def main():
            print(image.build(app) is image)
        """,
        before=EMPTY,
    )
    assert folder.run("app1.py")[0] == "True\n"
