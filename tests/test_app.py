from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_session import FakeSession, running

import cloudfn
from cloudfn import App, Image, Retries, Secret
from cloudfn.client import current
from cloudfn.client.target import FunctionPayload, apply_overrides
from cloudfn.collect import collect
from cloudfn.exception import ConflictError, InvalidError, InvalidTypeError, NotFoundError, UnimplementedError
from cloudfn.spec import GPUSpec, RetryPolicy


def work(x=1):
    return x


@pytest.fixture
def app():
    return App("test-app")


def spec_of(app, **options):
    app.function(**options)(work)
    return app.spec().functions[0]


def test_every_option_reaches_the_spec(app):
    image = Image.debian_slim(python_version="3.11")
    spec = spec_of(
        app,
        image=image,
        env={"A": "1", "B": None},
        secrets=[Secret.from_name("named", required_keys=["KEY"])],
        gpu=["H100:8", "any"],
        cpu=(1, 2),
        memory=(128, 256),
        ephemeral_disk=1000,
        min_containers=1,
        max_containers=5,
        buffer_containers=2,
        scaledown_window=30,
        retries=Retries(max_retries=2, initial_delay=0.0),
        timeout=60,
        cloud="aws",
        region=["eu-west-1", "us-east-1"],
        nonpreemptible=True,
        single_use_containers=True,
        schedule=cloudfn.Cron("0 9 * * *"),
        name="renamed",
    )
    assert spec.tag == "renamed" and spec.code.module == __name__ and spec.code.qualname == "work"
    assert spec.code.bundle and not spec.code.value and not spec.code.python
    assert spec.image == image.spec
    assert spec.env == {"A": "1"}
    assert [s.name for s in spec.secrets] == ["named"] and spec.secrets[0].required_keys == ("KEY",)
    resources = spec.resources
    assert resources.gpus == (GPUSpec("H100", 8), GPUSpec("any"))
    assert (resources.cpu, resources.cpu_limit, resources.memory, resources.memory_limit) == (1, 2, 128, 256)
    assert resources.ephemeral_disk == 1000
    scaling = spec.scaling
    assert (scaling.min_containers, scaling.max_containers, scaling.buffer_containers) == (1, 5, 2)
    assert (scaling.scaledown_window, scaling.single_use) == (30, True)
    assert spec.retries == RetryPolicy(2, 2.0, 0.0, 60.0)
    assert (spec.timeout, spec.startup_timeout) == (60, 60)
    assert (spec.cloud, spec.region, spec.nonpreemptible) == ("aws", ("eu-west-1", "us-east-1"), True)
    assert spec.schedule.cron == "0 9 * * *"


def test_defaults(app):
    spec = spec_of(app)
    assert spec.tag == "work" and spec.image == Image.debian_slim().spec
    assert (spec.timeout, spec.startup_timeout, spec.scaling.scaledown_window) == (300, 300, 60)
    assert spec_of(App("other"), startup_timeout=7).startup_timeout == 7


def test_defaults_of_the_app():
    image = Image.debian_slim().pip_install("numpy")
    app = App("defaults", image=image, secrets=[Secret.from_dict({"A": "app", "B": "app"})], include_source=False)
    app.function(secrets=[Secret.from_dict({"B": "function", "C": "function"})], env={"C": "env"})(work)
    (payload,) = collect(app)
    assert payload.environment == {"A": "app", "B": "function", "C": "env"}
    assert payload.spec.image == image.spec and payload.bundle is None and payload.spec.code.bundle == ""
    assert "function" not in repr(payload)


def test_named_secrets_come_from_the_store(app):
    class Store:
        options = ""

        def get(self, name):
            return {"KEY": f"value of {name}"}

    app.function(secrets=[Secret.from_name("mine", required_keys=["KEY"])])(work)
    assert collect(app, Store())[0].environment == {"KEY": "value of mine"}
    with pytest.raises(NotFoundError, match="no store"):
        collect(app)
    assert app.spec().functions[0].secrets[0].name == "mine"


def test_functions_of_one_module_share_a_bundle(app):
    app.function()(work)
    app.function(name="second")(work)
    first, second = collect(app)
    assert first.bundle is second.bundle
    assert "test_app.py" in [file.path for file in first.bundle.files]


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": -5}, "timeout"),
        ({"timeout": None}, "timeout=None"),
        ({"timeout": 86401}, "24 hours"),
        ({"timeout": "5"}, "timeout"),
        ({"startup_timeout": 0}, "startup_timeout"),
        ({"min_containers": -1}, "min_containers"),
        ({"min_containers": 1.5}, "min_containers"),
        ({"max_containers": 0}, "max_containers"),
        ({"min_containers": 3, "max_containers": 2}, "min_containers=3 cannot be above max_containers=2"),
        ({"buffer_containers": -1}, "buffer_containers"),
        ({"scaledown_window": 1}, "scaledown_window"),
        ({"scaledown_window": 3601}, "scaledown_window"),
        ({"memory": -1}, "memory"),
        ({"cpu": 0}, "cpu"),
        ({"gpu": "nope"}, "nope"),
        ({"retries": -1}, "retries"),
        ({"retries": "many"}, "retries"),
        ({"env": {"A=B": "x"}}, "A=B"),
        ({"env": {"A": 3}}, "'A' must be a string"),
        ({"env": ["A"]}, "dict of strings"),
        ({"secrets": [3]}, "list of cloudfn.Secret"),
        ({"secrets": Secret.from_dict({})}, r"secrets=\[secret\]"),
        ({"image": "debian"}, "cloudfn.Image, not str"),
        ({"region": 3}, "region=3"),
        ({"cloud": 3}, "cloud=3"),
        ({"schedule": "daily"}, "Cron or a Period"),
        ({"name": "a b"}, "no name for a function"),
        ({"name": "x" * 65}, "64"),
        ({"name": 3}, "must be a string, not int"),
        ({"max_inputs": 2}, "only 1"),
    ],
)
def test_bad_options_are_told_where_they_are_written(app, options, wrong):
    with pytest.raises(InvalidError, match=wrong):
        app.function(**options)
    if "name" not in options and "schedule" not in options:
        with pytest.raises(InvalidError, match=wrong):
            app.cls(**options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("network_file_systems", {"/nfs": object()}),
        ("proxy", object()),
        ("routing_region", "eu"),
        ("enable_memory_snapshot", True),
        ("block_network", True),
        ("restrict_modal_access", True),
        ("i6pn", True),
        ("experimental_options", {"a": 1}),
        ("_experimental_restrict_output", True),
    ],
)
def test_what_is_not_available_says_which(app, option, value):
    for decorator in (app.function, app.cls):
        with pytest.raises(UnimplementedError, match=rf"{option}=[\s\S]*Leave {option} out"):
            decorator(**{option: value})


def test_old_and_new_names_together(app):
    for old, new in (
        ("concurrency_limit", "max_containers"),
        ("keep_warm", "min_containers"),
        ("container_idle_timeout", "scaledown_window"),
    ):
        with pytest.raises(ConflictError, match=f"{old}=5 and {new}=6"):
            app.cls(**{old: 5, new: 6})


def other():
    pass


def test_two_functions_of_one_name_name_both_places(app):
    app.function()(work)
    with pytest.raises(InvalidError) as caught:
        app.function(name="work")(other)
    first, second = work.__code__.co_firstlineno, other.__code__.co_firstlineno
    assert f"{__file__}:{first} and {__file__}:{second}" in str(caught.value)
    with pytest.raises(InvalidError, match=r"called 'work': .*test_app\.py:\d+ and .*test_app\.py"):
        app.cls(serialized=True)(type("work", (), {"f": cloudfn.method()(lambda self: None)}))

    assert list(app.registered_functions) == ["work"] and not app.registered_classes


def test_a_notebook_may_define_a_function_again(app, monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>>", raising=False)
    app.function()(work)
    again = app.function(name="work", cpu=3)(other)
    assert app.registered_functions == {"work": again}


def test_generators_and_schedules(app):
    def gen():
        yield 1

    with pytest.raises(InvalidError, match="cannot be retried"):
        app.function(serialized=True, retries=1)(gen)

    def needs(x):
        return x

    with pytest.raises(InvalidError, match="callable without arguments"):
        app.function(serialized=True, schedule=cloudfn.Period(days=1))(needs)


def test_names_of_apps():
    assert App("a.b-c_1").name == "a.b-c_1"
    unnamed = App()
    assert unnamed.name is None and unnamed.label == "test_app" and unnamed.spec().name == "test_app"
    for bad in ("", "a b", "x" * 65, "ä"):
        with pytest.raises(InvalidError, match="no name for a app|is no name"):
            App(bad)
    with pytest.raises(InvalidError, match="must be a string"):
        App(3)
    with pytest.raises(InvalidError, match="object at /x is no Volume"):
        App(volumes={"/x": object()})
    with pytest.raises(InvalidError, match="Image"):
        App(image=3)


def test_include(app):
    part = App("part", tags={"a": "part", "b": "part"})
    function = part.function()(work)

    @part.cls(serialized=True)
    class Model:
        @cloudfn.method()
        def f(self):
            pass

    app.tags = {"a": "own"}
    assert app.include(part) is app
    assert app.registered_functions == {"work": function} and app.registered_classes == {"Model": Model}
    assert app.tags == {"a": "own", "b": "part"}
    assert [spec.tag for spec in app.spec().functions] == ["work", "Model"]
    app.include(part)  # the same things again are no conflict
    third = App("third")
    third.function(name="work")(other)
    with pytest.raises(InvalidError, match="called 'work'"):
        app.include(third)
    with pytest.raises(InvalidTypeError):
        app.include("part")


class RecordingSession(FakeSession):
    made: list[RecordingSession] = []
    fail_open: BaseException | None = None

    def __init__(self, app_name, provider, *, report, machine=None, events=None):
        super().__init__()
        self.app_name, self.provider, self.report, self.events = app_name, provider, report, events
        self.machine = machine
        self.closed = 0
        RecordingSession.made.append(self)

    def open(self, collect):
        self.payloads = collect()
        if self.fail_open:
            raise self.fail_open

    def close(self):
        self.closed += 1


@pytest.fixture
def sessions(monkeypatch):
    """`app.run()` with a session that does nothing."""
    module = importlib.import_module("cloudfn.client.session")
    monkeypatch.setattr(module, "Session", RecordingSession)
    monkeypatch.setattr(type(current.provider()), "starts_at_once", False)
    monkeypatch.setattr(RecordingSession, "made", [])
    return RecordingSession.made


def test_run_opens_and_closes_a_session(app, sessions):
    part = App("part")
    included = part.function()(work)
    app.include(part)
    with app.run() as entered:
        assert entered is app
        included.remote(1)
        with pytest.raises(InvalidError, match="already running"), app.run():
            pass
    (session,) = sessions
    assert session.app_name == "test-app" and [p.spec.tag for p in session.payloads] == ["work"]
    assert [call[0] for call in session.calls] == ["call"] and session.closed == 1
    assert app.sessions == [] and part.sessions == []
    with pytest.raises(cloudfn.exception.ExecutionError, match="not running"):
        included.remote(1)
    with app.run(name="again"):
        pass
    assert sessions[1].app_name == "again"


def test_async_run(app, sessions):
    function = app.function()(work)

    async def main():
        async with app.run() as entered:
            assert entered is app
            return await function.remote.aio(2)

    assert asyncio.run(main()) == ("async result", (2,), {})
    assert sessions[0].closed == 1


@pytest.mark.parametrize("error", [NotFoundError("x"), KeyboardInterrupt()])
def test_run_closes_what_failed_to_open(app, sessions, monkeypatch, error):
    monkeypatch.setattr(RecordingSession, "fail_open", error)
    with pytest.raises(type(error)), app.run():
        pass
    assert sessions[0].closed == 1 and app.sessions == []


class EarlyMachine:
    closed = 0

    def close(self):
        self.closed += 1


def test_a_machine_that_costs_nothing_starts_before_the_app_is_looked_at(app, sessions, monkeypatch):
    machine = EarlyMachine()
    monkeypatch.setattr(type(current.provider()), "starts_at_once", True)
    monkeypatch.setattr(type(current.provider()), "start", lambda self, name, report: machine)
    with app.run():
        assert sessions[0].machine is machine
    assert machine.closed == 0  # by the session, once it has one


def test_a_machine_that_no_session_took_is_closed(app, sessions, monkeypatch):
    machine = EarlyMachine()
    monkeypatch.setattr(type(current.provider()), "starts_at_once", True)
    monkeypatch.setattr(type(current.provider()), "start", lambda self, name, report: machine)
    monkeypatch.setitem(sys.modules, "cloudfn.client.session", None)  # its import fails, as by Ctrl-C
    with pytest.raises(ImportError), app.run():
        pass
    assert machine.closed == 1


def test_run_reports_to_the_shown_output(app, sessions, capsys):
    with app.run():
        sessions[0].report("unseen")
    with cloudfn.enable_output(), app.run():
        assert sessions[1].events is not None
        sessions[1].report("building")
    captured = capsys.readouterr()
    assert "building" in captured.err and "unseen" not in captured.err


def test_run_in_a_worker_is_refused(app, monkeypatch):
    monkeypatch.setattr(cloudfn.execution, "in_worker", True)
    with pytest.raises(InvalidError, match=r"__main__"), app.run():
        pass


def test_not_available_yet(app):
    for use in (
        lambda: app.deploy(environment_name="other"),
        lambda: App.lookup("x", create_if_missing=True),
        lambda: app.run(detach=True),
        lambda: app.run(client=object()),
    ):
        with pytest.raises(UnimplementedError):
            use()
    with pytest.raises(UnimplementedError, match="Sandbox is not available"):
        cloudfn.Sandbox  # noqa: B018
    with pytest.raises(UnimplementedError, match="Tunnel"):
        from cloudfn import Tunnel  # noqa: F401
    with pytest.raises(AttributeError, match="nonsense"):
        cloudfn.nonsense  # noqa: B018


def test_local_entrypoints(app):
    @app.local_entrypoint()
    def main(x: int = 2):
        "Start."
        return x * 2

    assert main(3) == 6 and main.__doc__ == "Start."
    assert main.info.raw_f(1) == 2 and main.info.module_name == __name__
    assert list(app.registered_entrypoints.values()) == [main]
    named = app.local_entrypoint(name="other")(lambda: None)
    assert app.registered_entrypoints["other"] is named
    with pytest.raises(InvalidError, match=r"Two local entrypoints .* called 'other'"):
        app.local_entrypoint(name="other")(work)
    with pytest.raises(InvalidError, match="plain function"):
        app.local_entrypoint(name="third")(app.function()(work))


def test_overrides_make_a_variant_of_the_payload(app):
    app.function(cpu=1, memory=512, env={"A": "1"}, max_containers=4)(work)
    (base,) = collect(app)
    function = app.registered_functions["work"]
    variant = (
        function.with_options(
            cpu=2, gpu="T4", retries=1, region="eu", env={"B": "2"}, secrets=[Secret.from_dict({"C": "3"})]
        )
        .with_concurrency(max_inputs=3)
        .with_batching(max_batch_size=2, wait_ms=1)
    )
    made = apply_overrides(base, variant._target.overrides)
    assert made.environment == {"B": "2", "C": "3"} and made.spec.env == {"B": "2"} and len(made.spec.secrets) == 1
    assert (made.spec.resources.cpu, made.spec.resources.memory) == (2.0, 512)
    assert made.spec.resources.gpus == (GPUSpec("T4"),)
    assert (made.spec.scaling.max_inputs, made.spec.scaling.max_containers) == (3, 4)
    assert made.spec.retries == RetryPolicy(1) and made.spec.region == ("eu",)
    assert made.spec.method("").max_batch_size == 2
    assert (made.bundle, made.spec.code) == (base.bundle, base.spec.code)
    assert apply_overrides(base, None) is base
    assert isinstance(made, FunctionPayload)


def test_a_variants_named_secrets_come_from_the_apps_stack(app, monkeypatch):
    class Store:
        options = ""

        def get(self, name):
            return {"KEY": f"value of {name}"}

    asked = []
    place = SimpleNamespace(stack_secrets=lambda label: asked.append(label) or Store())
    monkeypatch.setattr(current, "provider", lambda: place)
    app.function()(work)
    variant = app.registered_functions["work"].with_options(secrets=[Secret.from_name("mine")])
    assert variant._target.overrides["environment"] == {"KEY": "value of mine"} and asked == [app.label]


def test_a_machines_worker_looks_up_no_secret(app, monkeypatch):
    def provider():
        raise ModuleNotFoundError("No module named 'cloudfn_local'")

    monkeypatch.setattr(current, "provider", provider)
    app.function()(work)
    with pytest.raises(UnimplementedError, match="worker on a machine of a cloud"):
        app.registered_functions["work"].with_options(secrets=[Secret.from_name("mine")])


def test_import_as_modal_runs_a_common_program(tmp_path):
    program = """
    import cloudfn as modal

    image = modal.Image.debian_slim().pip_install("requests").env({"A": "1"})
    app = modal.App("example", image=image)

    @app.function(gpu="A100-80GB:2", retries=modal.Retries(max_retries=2), secrets=[modal.Secret.from_dict({"X": "y"})])
    @modal.concurrent(max_inputs=3)
    def f(x: int) -> int:
        return x * x

    @app.cls(scaledown_window=20)
    class Model:
        name: str = modal.parameter(default="m")

        @modal.enter()
        def load(self):
            self.ready = True

        @modal.method()
        def predict(self, x):
            return x, self.name, self.ready

        @modal.exit()
        def unload(self):
            pass

    @app.local_entrypoint()
    def main():
        print(f.local(3), Model(name="n").predict.local(1), modal.is_local())

    if __name__ == "__main__":
        print(sorted(spec.tag for spec in app.spec().functions))
        main()
    """
    file = tmp_path / "example.py"
    file.write_text(textwrap.dedent(program))
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert done.stdout == "['Model', 'f']\n9 (1, 'n', True) True\n", done.stderr


def test_star_import_and_dir():
    code = "from cloudfn import *; print(App, parameter, exception.Error); import cloudfn; assert 'App' in dir(cloudfn)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_app_runs_with_the_running_helper(app):
    function = app.function()(work)
    with running(app) as session:
        function.remote()
    assert len(session.calls) == 1 and Path(__file__).name == "test_app.py"
