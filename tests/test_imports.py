"""Who imports whom, and what `import cloudfn` costs a worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What is loaded beyond an empty interpreter, as "name origin" lines.
LOADED = """
import sys
before = set(sys.modules)
{program}
for name in sorted(set(sys.modules) - before):
    print(name, getattr(sys.modules[name], "__file__", None))
"""


def loaded_by(program: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(program=program)], capture_output=True, text=True, timeout=60, check=True
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def third_party(modules: dict[str, str]) -> set[str]:
    found = {name.partition(".")[0] for name, file in modules.items() if "site-packages" in file}
    return found - {"cloudfn", "cloudfn_local", "cloudfn_agent"}


def test_the_rules_on_imports_are_kept() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout


def test_importing_cloudfn_loads_almost_nothing() -> None:
    modules = loaded_by("import cloudfn")
    assert third_party(modules) == set()
    heavy = {"asyncio", "subprocess", "inspect", "json", "threading", "socket", "ssl", "logging", "dataclasses"}
    assert not heavy & set(modules)


def test_the_public_names_need_only_cloudpickle() -> None:
    modules = loaded_by("import cloudfn\nfor name in cloudfn.__all__:\n    getattr(cloudfn, name)")
    assert third_party(modules) <= {"cloudpickle"}
    assert "asyncio" not in modules


def test_a_users_file_needs_only_cloudpickle() -> None:
    modules = loaded_by(
        "import cloudfn\n"
        "app = cloudfn.App('x')\n"
        "image = cloudfn.Image.debian_slim().uv_pip_install('numpy').env({'A': 'b'})\n"
        "secrets = [cloudfn.Secret.from_name('s')]\n"
        "app.function(image=image, gpu='T4', retries=2, secrets=secrets, serialized=True, name='f')(lambda x: x)\n"
    )
    assert third_party(modules) <= {"cloudpickle"}
    assert not {"asyncio", "subprocess", "rich", "click"} & set(modules)


def test_the_agent_is_started_by_a_client_that_has_loaded_little() -> None:
    """All that comes before the agent's start delays the first result; the rest is imported beside it."""
    modules = loaded_by(
        "import cloudfn\ncloudfn.App('x').function(name='f', serialized=True)(lambda x: x)\n"
        "from cloudfn.client import current\ncurrent.provider()\n"
        "import cloudfn_local.machine, cloudfn_local.runtime_path"
    )
    late = {"asyncio", "concurrent.futures", "logging", "ssl", "importlib.metadata", "tempfile", "shutil", "secrets"}
    assert not late & set(modules)
    assert not {"cloudpickle", "platformdirs"} & third_party(modules)
    assert {name for name in modules if name.startswith("cloudfn_agent.")} == {"cloudfn_agent.environment"}


def test_the_agent_forks_its_first_zygote_before_it_loads_what_only_one_of_them_needs() -> None:
    modules = set(loaded_by("import cloudfn_agent.main"))
    assert "cloudfn.spec" in modules
    assert not {"asyncio", "ssl", "logging", "cloudfn_agent.agent", "cloudfn_agent.zygote", "cloudfn.source"} & modules


def test_the_agent_loads_nothing_that_only_workers_need() -> None:
    modules = set(
        loaded_by("from cloudfn_agent.main import _import_asyncio\n_import_asyncio()\nimport cloudfn_agent.agent")
    )
    workers = {"cloudfn.source", "cloudfn.serialization", "cloudfn_agent.zygote", "cloudfn_agent.serial", "cloudfn.app"}
    assert not (workers | {"ssl", "_ssl", "cloudpickle"}) & modules


def test_the_command_line_is_not_needed_to_run_an_app() -> None:
    modules = loaded_by("import cloudfn.app, cloudfn.app_run, cloudfn.output, cloudfn.events, cloudfn.runs")
    assert not {"click", "rich", "platformdirs"} & set(modules)
