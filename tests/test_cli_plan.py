"""`cloudfn plan`: what it prints and how it ends."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Callable

import jsonschema
import pytest
from fake_cloud import FakeAccount, FakeCloud

from cloudfn import clouds, plan_json
from cloudfn.cli import plan_lines, plan_markdown, plan_sections, plan_table
from cloudfn.cli.main import _run
from cloudfn.cli.plan_sections import dollars
from cloudfn.exception import AuthError
from cloudfn.plan import make
from cloudfn.plan_diff import diff
from cloudfn.plan_spec import Finding, Plan
from cloudfn.settings import Caps, Settings
from cloudfn.spec import AppSpec, CodeSpec, FunctionSpec, GPUSpec, Resources, Scaling

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((ROOT / "docs" / "plan.schema.json").read_text())
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
CLOUDS = ("aws", "gcp")

APP = """
import cloudfn
print("hello from the top of the file")
app = cloudfn.App("demo")

@app.function(gpu=["T4", "B200"], max_containers=3)
def train(x): return x

@app.function()
def prepare(x): return x
"""
CONFIG = 'provider = "fake"\nregions = ["west"]\nowner = "me"\n'


@pytest.fixture(autouse=True)
def fake_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "cloud", lambda name: FakeCloud())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project; modules that it imports are forgotten afterwards, since the next test's has the same name."""
    (tmp_path / "planned_app.py").write_text(APP)
    (tmp_path / "cloudfn.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "planned_app", raising=False)
    return tmp_path


def run(*arguments: str) -> int:
    sys.modules.pop("planned_app", None)
    return _run(["plan", *arguments])


def sample(**given: object) -> Plan:
    functions = (
        FunctionSpec(
            "train",
            CodeSpec("m", "train"),
            resources=Resources(gpus=(GPUSpec("T4"), GPUSpec("B200"))),
            scaling=Scaling(max_containers=3),
        ),
        FunctionSpec("prepare", CodeSpec("m", "prepare")),
    )
    plan = make(AppSpec("demo", functions), Settings("fake", regions=("west",), owner="me"), FakeCloud())
    return replace(plan, **given)  # type: ignore[arg-type]


def lines_of(plan: Plan, *, explain: bool = False, policies: bool = False) -> str:
    return plan_lines.render(plan_sections.of(plan, None, explain=explain, policies=policies))


# -- the command -----------------------------------------------------------------------------------------------------


def test_a_pipe_gets_plain_lines_and_the_plan_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("planned_app.py") == 0
    out, err = capsys.readouterr()
    assert out.startswith("demo in main on fake, west\n")
    assert "hello from the top" in err
    assert "hello from the top" not in out
    assert "\x1b[" not in out
    (row,) = (line for line in out.splitlines() if line.startswith("  g-t4-west "))
    assert row.split("T4)")[1].split() == ["on-demand", "west", "3", "$0.519", "$1.556", "train"]
    assert "train: first g-t4-west, then g-b200x8-west" in out
    assert "no inbound port is open" in out
    assert "how callers reach machines: the fake tunnel" in out


def test_json_is_the_published_form_without_candidates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("planned_app.py", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    jsonschema.validate(data, SCHEMA)
    plan = plan_json.from_json(data)
    assert [group.name for group in plan.groups] == ["g-t4-west", "g-b200x8-west", "c-small-west"]
    assert all(not function.candidates for function in plan.functions)
    assert plan.roles[0].policy
    assert run("planned_app.py", "--format", "json", "--explain") == 0
    explained = plan_json.from_json(json.loads(capsys.readouterr().out))
    assert all(function.candidates for function in explained.functions)


def test_a_broken_cap_is_exit_code_3_in_every_format(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cloudfn.toml").write_text(CONFIG + "[caps]\nhourly = 5\n")
    for form in ("table", "markdown", "json"):
        assert run("planned_app.py", "--format", form) == 3
        out, err = capsys.readouterr()
        assert "a price in it is unknown" in out
        assert "error: cap: caps.hourly" in err


def test_an_environment_of_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cloudfn.toml").write_text(CONFIG + '[environments.prod]\nregions = ["east"]\n')
    (folder / "planned_app.py").write_text(APP.replace('["T4", "B200"]', '"L4"'))
    assert run("planned_app.py", "--env", "prod", "--json") == 0
    plan = plan_json.from_json(json.loads(capsys.readouterr().out))
    assert (plan.environment, plan.stack, plan.settings.regions) == ("prod", "demo.prod", ("east",))


def test_against_a_saved_plan(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("planned_app.py", "--json") == 0
    (folder / "old.json").write_text(capsys.readouterr().out)
    assert run("planned_app.py", "--against", "old.json") == 0
    assert "Changes\n  none\n  against old.json" in capsys.readouterr().out
    (folder / "planned_app.py").write_text(APP.replace("max_containers=3", "max_containers=5"))
    assert run("planned_app.py", "--against", "old.json") == 0
    out = capsys.readouterr().out
    assert "machines at most: 3 -> 5" in out
    assert "+$1.037" in out
    assert run("planned_app.py", "--against", "old.json", "--json") == 0
    both = json.loads(capsys.readouterr().out)
    assert both["difference"]["changes"][0]["action"] == "update"
    (folder / "both.json").write_text(json.dumps(both))
    assert run("planned_app.py", "--against", "both.json") == 0
    assert "Changes\n  none" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, message",
    [(None, "There is no file old.json"), ("{", "cannot be read as JSON"), ("{}", "old.json: This is no plan")],
)
def test_a_saved_plan_that_is_none(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    if text is not None:
        (folder / "old.json").write_text(text)
    assert run("planned_app.py", "--against", "old.json") in (1, 2)
    assert message in capsys.readouterr().err


# -- against what is deployed ---------------------------------------------------------------------------------------


def deploy(folder: Path, plan: object, outputs: object = None, *, packed: bool = False) -> Path:
    """Writes the file that the engine would keep."""
    outputs = {"plan": plan} if outputs is None else outputs
    stack = {"type": "pulumi:pulumi:Stack", "urn": "urn:pulumi:demo.main::cloudfn::s::t", "outputs": outputs}
    content = json.dumps({"version": 3, "checkpoint": {"latest": {"resources": [stack]}}}).encode()
    path = folder / ".pulumi/stacks/cloudfn" / ("demo.main.json.gz" if packed else "demo.main.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


@pytest.fixture
def state(folder: Path) -> Path:
    (folder / "cloudfn.toml").write_text(f'{CONFIG}[state]\nurl = "{(folder / "a state").as_uri()}"\n')
    return folder / "a state"


def changes_of(out: str) -> str:
    return out.split("\nChanges\n")[1].split("\n\n")[0]


@pytest.mark.parametrize("packed", [False, True])
def test_the_deployed_state_in_a_folder_is_compared(
    folder: Path, state: Path, capsys: pytest.CaptureFixture[str], packed: bool
) -> None:
    assert run("planned_app.py") == 0
    out = capsys.readouterr().out
    assert changes_of(out) == "  nothing of demo.main is deployed yet: all of it is new"
    assert "Change of cost" in out
    assert run("planned_app.py", "--json", "--no-diff") == 0
    deploy(state, json.loads(capsys.readouterr().out), packed=packed)
    assert run("planned_app.py") == 0
    assert changes_of(capsys.readouterr().out) == "  none\n  against what is deployed"
    text = APP.replace('["T4", "B200"]', '["L4", "B200"]').replace("@app.function()", "@app.function(max_containers=3)")
    (folder / "planned_app.py").write_text(text)
    assert run("planned_app.py") == 0
    out = capsys.readouterr().out
    rows = [line.split()[:3] for line in changes_of(out).splitlines()]
    assert ["create", "group", "g-l4-west"] in rows
    assert ["update", "group", "c-small-west"] in rows
    assert ["delete", "group", "g-t4-west"] in rows
    assert "c-small-west, hour at max" in out and "-$0.618" in out
    assert run("planned_app.py", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    jsonschema.validate(data, SCHEMA)
    assert {change["action"] for change in data["difference"]["changes"]} >= {"create", "update", "delete"}


@pytest.mark.parametrize("option", ["--no-diff", "--offline"])
def test_it_is_not_looked_at_where_nobody_wants_it(
    folder: Path, state: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    deploy(state, "broken")
    assert run("planned_app.py", option) == 0
    assert "Changes" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "plan, outputs, says",
    [
        (None, {}, "its last `up` did not come to its end"),
        ({"version": 99}, None, "This plan has version 99"),
        ({}, None, "there is no version in it"),
        ("{", None, "cannot be read"),
        (None, "odd", "The file of the state cannot be read"),
    ],
)
def test_a_state_that_tells_nothing_is_said_in_one_line(
    folder: Path, state: Path, capsys: pytest.CaptureFixture[str], plan: object, outputs: object, says: str
) -> None:
    deploy(state, plan, outputs)
    assert run("planned_app.py") == 0
    (line,) = changes_of(capsys.readouterr().out).splitlines()
    assert line.startswith("  not compared with what is deployed: ") and says in line
    assert run("planned_app.py", "--json") == 0
    out, err = capsys.readouterr()
    assert "difference" not in json.loads(out)
    assert "not compared with what is deployed: " in err


class Bank(FakeAccount):
    """An account whose state is read as the test says."""

    def __init__(self, read: Callable[[str], bytes | None]) -> None:
        self._read = read

    def read_state(self, settings: Settings, path: str) -> bytes | None:
        return self._read(path)


def test_a_bucket_is_read_through_the_account(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("planned_app.py", "--json", "--no-diff") == 0
    path = deploy(tmp_path, json.loads(capsys.readouterr().out))
    asked: list[str] = []

    def read(name: str) -> bytes | None:
        asked.append(name)
        return path.read_bytes() if name == ".pulumi/stacks/cloudfn/demo.main.json" else None

    monkeypatch.setattr(clouds, "account", lambda name: Bank(read))
    assert run("planned_app.py") == 0
    assert changes_of(capsys.readouterr().out) == "  none\n  against what is deployed"
    monkeypatch.setattr(clouds, "account", lambda name: Bank(lambda name: None))
    assert run("planned_app.py") == 0
    assert "nothing of demo.main is deployed yet" in capsys.readouterr().out
    monkeypatch.setattr(FakeCloud, "has_credentials", lambda self: False)
    asked.clear()
    assert run("planned_app.py") == 0
    assert "there are no credentials of Fake Cloud on this machine" in capsys.readouterr().out
    assert asked == []


def test_a_cloud_that_refuses_is_said_and_one_that_hangs_is_not_waited_for(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> bytes | None:
        raise AuthError("The credentials have expired.\nMore of it.", hint="log in")

    monkeypatch.setattr(clouds, "account", lambda name: Bank(refuse))
    assert run("planned_app.py") == 0
    assert changes_of(capsys.readouterr().out).endswith("what is deployed: The credentials have expired")
    end = threading.Event()

    def hang(name: str) -> bytes | None:
        end.wait(60)
        return None

    monkeypatch.setattr(clouds, "account", lambda name: Bank(hang))
    assert run("planned_app.py") == 0
    assert "Fake Cloud gave no answer within 1.2 s" in capsys.readouterr().out
    end.set()


def test_pulumi_cloud_is_for_the_engine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cloudfn.toml").write_text(f'{CONFIG}[state]\nbackend = "pulumi"\n')
    assert run("planned_app.py") == 0
    assert "the state is in Pulumi Cloud" in capsys.readouterr().out


def test_several_apps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = APP + '\nother = cloudfn.App("second")\n@other.function()\ndef f(): pass\n'
    (folder / "planned_app.py").write_text(second)
    for option in (["--app", "second"], ["--app", "other"]):
        assert run("planned_app.py", *option, "--json") == 0
        assert json.loads(capsys.readouterr().out)["app"] == "second"
    assert run("planned_app.py::other", "--json") == 0
    assert json.loads(capsys.readouterr().out)["app"] == "second"
    assert run("planned_app.py", "--app", "third") == 2
    assert "It has: demo, second." in capsys.readouterr().err
    assert run("planned_app.py::train") == 2
    assert "'train' is no app" in capsys.readouterr().err


def test_a_module(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-m", "planned_app", "--json") == 0
    assert json.loads(capsys.readouterr().out)["app"] == "demo"


def test_this_machine_needs_no_plan(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cloudfn.toml").unlink()
    assert run("planned_app.py") == 2
    err = capsys.readouterr().err
    assert "nothing would be created" in err
    assert "--cloud" in err


def test_an_error_of_the_users_file_is_the_users(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "planned_app.py").write_text("1 / 0\n")
    assert run("planned_app.py") == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err
    assert "fault of cloudfn" not in err


# -- how it looks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "usd, text",
    [
        (None, "unknown"),
        (0.0, "$0"),
        (0.00123, "$0.0012"),
        (0.526, "$0.526"),
        (12.3456, "$12.35"),
        (12345.6, "$12,345.60"),
        (-2.0, "-$2.000"),
    ],
)
def test_dollars(usd: float | None, text: str) -> None:
    assert dollars(usd) == text


def test_dollars_with_a_sign() -> None:
    assert [dollars(usd, sign=True) for usd in (2.0, -2.0, 0.0)] == ["+$2.000", "-$2.000", "$0"]


def test_unknown_prices_show_as_unknown() -> None:
    text = lines_of(sample())
    assert "at most unknown an hour, unknown a month" in text
    assert "$0 " not in text


def test_explain_says_why_not() -> None:
    text = lines_of(sample(), explain=True)
    assert "Weighed for train" in text
    assert "4 GPUs, 1 asked: dearer than g.t4" in text
    assert "100 GiB x 0.1 USD / 730 h" in text
    assert "Weighed for" not in lines_of(sample())


def test_policies_are_the_clouds_own_documents() -> None:
    assert '"allow": [' in lines_of(sample(), policies=True)
    assert '"allow": [' not in lines_of(sample())


def test_findings_are_near_the_top() -> None:
    plan = sample(
        findings=(Finding("cap", "error", "caps.hourly", "too dear"), Finding("tag", "warning", "owner", "who?"))
    )
    titles = [section.title for section in plan_sections.of(plan, None, explain=False, policies=False)]
    assert titles[1:3] == ["Forbidden", "Warnings"]


def test_caps_say_whether_they_hold() -> None:
    plan = sample()
    settings = replace(plan.settings, caps=Caps(1.0, None))
    assert "unknown" in lines_of(replace(plan, settings=settings)).split("Caps")[1].split("\n\n")[0]
    known = replace(plan.costs, worst_hour=0.5)
    text = lines_of(replace(plan, settings=settings, costs=known)).split("Caps")[1].split("\n\n")[0]
    assert text.split()[-1] == "holds"


def test_the_terminal_shows_everything_that_lines_show() -> None:
    from rich.console import Console

    sections = plan_sections.of(sample(), None, explain=True, policies=True)
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(plan_table.render(sections))
    shown = console.export_text()
    for section in sections:
        for text in (section.title, *section.columns, *(cell for row in section.rows for cell in row), *section.lines):
            assert text.strip() in shown


def test_a_narrow_terminal_loses_nothing() -> None:
    from rich.console import Console

    console = Console(width=60, record=True, file=io.StringIO())
    console.print(plan_table.render(plan_sections.of(sample(), None, explain=False, policies=False)))
    assert "\N{HORIZONTAL ELLIPSIS}" not in console.export_text()


def test_markdown_tables_have_one_cell_for_each_column() -> None:
    sections = plan_sections.of(sample(), diff(None, sample()), explain=True, policies=True)
    page = plan_markdown.render(sections)
    assert page.startswith(plan_markdown.MARKER + "\n\n## demo in main on fake, west")
    assert page.count("<details>") == page.count("</details>") == sum(section.folded for section in sections)
    tables = [block for block in page.split("\n\n") if block.startswith("|")]
    assert len(tables) == sum(bool(section.rows) for section in sections)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_nothing_in_a_name_acts_in_markdown() -> None:
    evil = 'a|b <img src="https://x.test/y"> @team [l](javascript:1) `c`\n## *h* ~~s~~ #1 http://x.test'
    page = plan_markdown.render(plan_sections.of(sample(notes=(evil,)), None, explain=False, policies=False))
    (line,) = (line for line in page.splitlines() if "javascript" in line)
    text = line.removeprefix("- ")
    assert not set("|<>@`*[]~!") & set(text)
    assert "://" not in text
    assert "#" not in text.replace("&#", "")


# -- real clouds -----------------------------------------------------------------------------------------------------

PLAN_ALL = """
import contextlib, io, json, sys
from cloudfn.cli.main import _run
found = {}
for cloud in sys.argv[2:]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = _run(["plan", sys.argv[1], "--cloud", cloud, "--json", "--explain"])
    found[cloud] = [code, out.getvalue()]
print(json.dumps({"plans": found, "modules": sorted(sys.modules)}))
"""
HEAVY = {
    "pulumi",
    "pulumi_aws",
    "pulumi_gcp",
    "boto3",
    "botocore",
    "google",
    "googleapiclient",
    "grpc",
    "rich",
}


NOWHERE = {("llm_server.py", "gcp"): "gcp has it nowhere"}  # it wants an A10G


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_has_a_plan_on_both_clouds(example: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLAN_ALL, f"examples/{example}", *CLOUDS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        # Whoever runs this may have credentials, and something deployed.
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    for cloud in CLOUDS:
        code, text = answer["plans"][cloud]
        if (example, cloud) in NOWHERE:
            assert code == 2 and NOWHERE[example, cloud] in done.stderr
            continue
        assert code == 0, done.stderr
        data = json.loads(text)
        jsonschema.validate(data, SCHEMA)
        plan = plan_json.from_json(data)
        assert plan.cloud == cloud
        assert plan.costs.worst_month is not None
        assert plan.costs.worst_month > 0
        assert [finding for finding in plan.findings if finding.level == "error"] == []
        assert all(plan_sections.of(plan, None, explain=True, policies=True))
    # Offline and fast: what talks to a cloud, or draws, is not even imported.
    assert not {name.partition(".")[0] for name in answer["modules"]} & HEAVY
