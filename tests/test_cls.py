from __future__ import annotations

import asyncio
import dataclasses
import pickle
import subprocess
import sys
import textwrap

import pytest
from fake_session import running

import cloudfn
from cloudfn import App, Cls
from cloudfn.exception import (
    ExecutionError,
    InvalidError,
    InvalidTypeError,
    SerializationError,
    UnimplementedError,
)

app = App("classes")


class Base:
    log: list[str]

    @cloudfn.enter()
    def base_enter(self):
        self.log = ["base enter"]

    @cloudfn.method()
    def shared(self):
        return "base"

    @cloudfn.method()
    def overridden(self):
        return "base"

    @cloudfn.exit()
    def base_exit(self):
        pass


@app.cls(cpu=2)
@cloudfn.concurrent(max_inputs=4, target_inputs=2)
class Model(Base):
    """A model."""

    KIND = "static"
    size: int = cloudfn.parameter(default=3)
    label: str = cloudfn.parameter()
    scratch: list = cloudfn.parameter(init=False)

    @cloudfn.enter()
    def zz_first(self):
        self.log.append("first")

    @cloudfn.enter()
    def aa_second(self):
        self.log.append("second")

    @cloudfn.method()
    def predict(self, x):
        return x * self.size, self.label

    @cloudfn.method()
    def outer(self, x):
        return self.predict(x), self.predict.local(x)

    @cloudfn.method()
    def stream(self, n):
        yield from range(n)

    @cloudfn.method()
    async def later(self, x):
        return x, self.log

    @cloudfn.method()
    async def stream_later(self, n):
        for i in range(n):
            yield i, len(self.log)

    def overridden(self):
        return "not callable from outside any more"

    def plain(self):
        return "plain"


@app.cls()
class Plain:
    @cloudfn.method()
    def f(self):
        return 1


@app.cls()
class Own:
    def __init__(self, a, b=2, *rest, **more):
        self.values = (a, b, rest, more)

    @cloudfn.method()
    def get(self):
        return self.values

    @cloudfn.method()
    def call_other(self):
        return self.get.remote()


def test_construction_names_what_is_wrong():
    Model(label="x")
    with pytest.raises(InvalidTypeError, match="'label'.*str.*missing"):
        Model()
    with pytest.raises(TypeError, match=r"no parameter 'lable'.*size, label"):
        Model(lable="x")
    with pytest.raises(InvalidError, match=r"no positional[\s\S]*Model\(size=\.\.\., label=\.\.\.\)"):
        Model(3)
    with pytest.raises(InvalidTypeError, match="'size' must be int, not str"):
        Model(size="3", label="x")
    with pytest.raises(InvalidTypeError, match=r"Own\(\): missing a required argument: 'a'"):
        Own()
    with pytest.raises(InvalidTypeError, match=r"Plain\(\): too many positional"):
        Plain(1)
    with pytest.raises(SerializationError, match="Own"):
        Own(a=(i for i in range(3)))


def test_methods_are_functions_with_the_instance_in_the_target():
    with running(app) as session:
        assert Model(label="x").predict.remote(1) == ("result", (1,), {})
        assert list(Model(label="x").stream.remote_gen(1)) == [1]
    target = session.calls[0][1]
    assert (target.app, target.tag, target.method, target.is_generator) == ("classes", "Model", "predict", False)
    assert pickle.loads(target.parameters) == ((), {"label": "x", "size": 3})
    assert session.calls[1][1].is_generator
    assert Plain().f._target.parameters == b""


def test_equal_parameters_give_equal_bytes():
    text = "ab" * 50
    equal = [
        (Model(label=text), Model(size=3, label="".join(["ab"] * 50)), Model(label=text, size=3)),
        (Own(1, k=text, j=text), Own(a=1, j="".join(["ab"] * 50), k="ab" * 50)),
        (Own((1, [text, text])), Own((1, ["ab" * 50, text]))),
    ]
    for same in equal:
        assert len({obj._packed for obj in same}) == 1
    assert Model(label="a")._packed != Model(label="b")._packed
    assert Own(1)._packed != Own(True)._packed


def test_local_runs_enter_hooks_once_bases_first():
    model = Model(label="x")
    assert model.predict.local(2) == (6, "x")
    assert model.outer.local(2) == ((6, "x"), (6, "x"))
    assert model.log == ["base enter", "first", "second"]
    assert list(model.stream.local(2)) == [0, 1]
    assert asyncio.run(model.later.local(1)) == (1, ["base enter", "first", "second"])
    assert model.shared.local() == "base"


def test_local_async_methods_enter_first():
    async def collect():
        return [item async for item in Model(label="x").stream_later.local(2)]

    assert asyncio.run(collect()) == [(0, 3), (1, 3)]
    assert asyncio.run(Model(label="y").later.local(1))[1] == ["base enter", "first", "second"]


def test_attributes():
    model = Model(label="x", size=5)
    assert model.size == 5 and model.label == "x" and model.KIND == "static"
    assert model.plain() == "plain" and model.overridden() == "not callable from outside any more"
    with pytest.raises(AttributeError, match="nothing"):
        model.nothing  # noqa: B018
    with pytest.raises(AttributeError, match="scratch"):
        model.scratch  # noqa: B018
    assert Model.KIND == "static" and Model.__name__ == "Model" and Model.__doc__ == "A model."
    with pytest.raises(AttributeError):
        Model.nothing  # noqa: B018
    for wrong in (lambda: Model.predict.remote(1), lambda: Model.predict(1), lambda: Model.predict.local(1)):
        with pytest.raises(InvalidError, match=r"Model\(\)\.predict\.remote"):
            wrong()


def test_own_constructor_with_any_arguments():
    assert Own(1, 2, 3, x=4).get.local() == (1, 2, (3,), {"x": 4})
    with running(app) as session:
        Own(1, 2, 3, x=4).get.remote()
        instance = Own.get_user_cls()(1, b=7)
        assert instance.get() == (1, 7, (), {})
        instance.call_other()
    assert session.calls[1][1] == Own(1, 7).get._target
    assert pickle.loads(session.calls[0][1].parameters) == ((1, 2, 3), {"x": 4})


def test_a_real_instance_calls_its_own_methods_remotely():
    instance = Model.get_user_cls()(label="z")
    with running(app) as session:
        instance.predict.remote(1)
    assert session.calls[0][1] == Model(label="z").predict._target
    with pytest.raises(InvalidTypeError):
        Model.get_user_cls()()


def test_a_base_keeps_its_arguments_apart():
    @app.cls(serialized=True)
    class Parent:
        def __init__(self, a):
            self.a = a

    @app.cls(serialized=True)
    class Child(Parent):
        def __init__(self, b):
            super().__init__(b + 1)

        @cloudfn.method()
        def f(self):
            return self.a

    assert Child(1).f.local() == 2
    with running(app) as session:
        Child.get_user_cls()(1).f.remote()
    assert session.calls[0][1] == Child(1).f._target


def test_decorated_classes_can_be_subclassed_and_asked_for():
    class Sub(Model):
        @cloudfn.method()
        def more(self):
            return "more"

    assert issubclass(Sub, Base) and Sub(label="x").predict(1) == (3, "x")
    with pytest.raises(InvalidError, match="'Sub' is not decorated"):
        Sub(label="x").more.remote()
    made = app.cls(serialized=True)(Sub)
    assert set(made._methods) == {"shared", "predict", "outer", "stream", "later", "stream_later", "more"}
    assert isinstance(Model(label="x"), Model) and not isinstance(Plain(), Model)
    assert isinstance(Model.get_user_cls()(label="x"), Model) and not isinstance(3, Model)


def test_dataclasses_work():
    @app.cls(serialized=True)
    @dataclasses.dataclass
    class Data:
        x: int
        y: int = 2

        @cloudfn.method()
        def total(self):
            return self.x + self.y

    assert Data(1).total.local() == 3
    assert Data(1)._packed == Data(x=1)._packed


def test_definition():
    definition = Model.__cloudfn_definition__
    assert set(definition.methods) == {"shared", "predict", "outer", "stream", "later", "stream_later"}
    instance = definition.target(label="q")
    for hook in definition.enter:
        hook(instance)
    assert instance.log == ["base enter", "first", "second"]
    assert definition.methods["predict"](instance, 2) == (6, "q")
    assert [hook.__name__ for hook in definition.exit] == ["base_exit"]


def test_variants():
    big = Model.with_options(gpu="H100").with_concurrency(max_inputs=8).with_batching(max_batch_size=2, wait_ms=5)
    target = big(label="x").predict._target
    assert target.overrides["scaling"]["max_inputs"] == 8
    assert target.overrides["methods"] == {"max_batch_size": 2, "batch_wait_ms": 5}
    assert target.overrides["resources"]["gpus"][0]["type"] == "H100"
    assert Model(label="x").predict._target.overrides is None
    assert Model(label="x").predict.with_options(timeout=5)._target.overrides == {"timeout": 5.0}
    assert pickle.loads(pickle.dumps(big(label="x"))).predict._target == target


def test_pickled_handles_where_the_app_is():
    assert pickle.loads(pickle.dumps(Model)) is Model
    again = pickle.loads(pickle.dumps(Model(label="x")))
    assert again.predict.local(1) == (3, "x")
    assert pickle.loads(pickle.dumps(Model(label="x").predict))._target == Model(label="x").predict._target


def test_references_in_another_process():
    data = pickle.dumps((Model, Model(label="x"), Model(label="x").stream, Model(label="x")._packed))
    code = textwrap.dedent(
        """
        import pickle, sys
        from cloudfn import execution
        from cloudfn.client import current
        from cloudfn.exception import ExecutionError, InvalidTypeError
        execution.in_worker = True
        class Session:
            def call(self, target, args, kwargs):
                return target.tag, target.method, target.parameters
            def generate(self, target, args, kwargs):
                return iter([target.method])
        current.install(Session)
        Model, model, stream, packed = pickle.loads(sys.stdin.buffer.read())
        assert Model(label="x").predict.remote(1) == model.predict.remote(1) == ("Model", "predict", packed)
        assert list(stream.remote_gen(1)) == ["stream"]
        assert pickle.loads(pickle.dumps(model)).predict.remote(1) == model.predict.remote(1)
        for wrong, kind in ((lambda: model.predict.local(1), ExecutionError), (lambda: model.size, ExecutionError),
                            (lambda: Model.KIND, AttributeError), (lambda: Model(), InvalidTypeError)):
            try:
                wrong()
            except kind:
                continue
            raise AssertionError(kind)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


SCRIPT = """
import cloudfn, sys, pickle
app = cloudfn.App("script")

@app.function()
def helper(x):
    return x

@app.cls()
class Counter:
    start: int = cloudfn.parameter(default=1)

    @cloudfn.enter()
    def enter(self):
        self.value = self.start

    @cloudfn.method()
    def add(self, x):
        return helper.remote(self.value + x), Counter(start=5).add._target.tag, self.add.remote(1)

@app.cls()
class Own:
    def __init__(self, a): self.a = a
    @cloudfn.method()
    def get(self): return self.a, super().__thisclass__.__name__, self.get.remote()

if __name__ == "__main__":
    from cloudfn.collect import collect
    payloads = {p.spec.tag: p for p in collect(app)}
    assert payloads["Counter"].spec.code.value and payloads["Counter"].spec.code.python
    sys.stdout.buffer.write(pickle.dumps([payloads[tag].value for tag in ("helper", "Counter", "Own")]))
"""

WORKER = """
import pickle, sys
from cloudfn import execution
from cloudfn.client import current
execution.in_worker = True
class Session:
    def call(self, target, args, kwargs):
        return target.app, target.tag, target.method, pickle.loads(target.parameters or b"N."), args
current.install(Session)
helper, counter, own = map(pickle.loads, pickle.loads(sys.stdin.buffer.read()))
assert helper.methods[""](3) == 3
instance = counter.target(start=2)
for hook in counter.enter:
    hook(instance)
value = counter.methods["add"].__get__(instance)(10)
assert value == (
    ("script", "helper", "", None, (12,)), "Counter", ("script", "Counter", "add", ((), {"start": 2}), (1,))
), value
made = own.target(7)
assert own.methods["get"](made) == (7, "Own", ("script", "Own", "get", ((7,), {}), ())), own.methods["get"](made)
"""


def test_classes_of_a_script_go_by_value(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    shipped = subprocess.run([sys.executable, str(script)], capture_output=True, check=False)
    assert shipped.returncode == 0, shipped.stderr.decode()
    done = subprocess.run([sys.executable, "-c", WORKER], input=shipped.stdout, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


EXIT = """
import asyncio, cloudfn
app = cloudfn.App("x")

@app.cls()
class M:
    @cloudfn.enter()
    async def up(self):
        print("up", flush=True)

    @cloudfn.method()
    def f(self):
        print("f", flush=True)

    @cloudfn.exit()
    def down(self):
        print("down", flush=True)

    @cloudfn.exit()
    async def later(self):
        print("down later", flush=True)

model = M()
model.f.local()
model.f.local()
print("end", flush=True)
"""


def test_local_exit_hooks_run_when_the_process_ends():
    done = subprocess.run([sys.executable, "-c", EXIT], capture_output=True, check=True, text=True)
    assert done.stdout.split("\n")[:-1] == ["up", "f", "f", "end", "down", "down later"]


def test_a_failed_enter_hook_runs_again():
    tries = []

    @app.cls(serialized=True)
    class Fails:
        @cloudfn.enter()
        def up(self):
            tries.append(1)
            if len(tries) == 1:
                raise OSError("once")

        @cloudfn.method()
        def f(self):
            return len(tries)

    handle = Fails()
    with pytest.raises(OSError, match="once"):
        handle.f.local()
    assert handle.f.local() == 2


def test_async_hook_for_a_blocking_local_inside_of_a_loop():
    @app.cls(serialized=True)
    class Later:
        @cloudfn.enter()
        async def up(self):
            self.ready = True

        @cloudfn.method()
        def f(self):
            return self.ready

        @cloudfn.method()
        async def g(self):
            return self.ready

    async def inside():
        return Later().f.local()

    with pytest.raises(InvalidError, match="async hook"):
        asyncio.run(inside())
    assert Later().f.local() is True
    assert asyncio.run(Later().g.local()) is True


def test_not_available_and_unknown_code():
    with pytest.raises(UnimplementedError, match="version"):
        Cls.from_name("app", "Model", version=1)
    reference = Cls(app, "Gone", methods={"f": False}, schema={})
    with pytest.raises(ExecutionError, match="only a reference"):
        reference.get_user_cls()


def test_parameters_are_checked_when_decorated():
    with pytest.raises(InvalidError, match=r"Untyped\.x has no type"):

        @app.cls(serialized=True)
        class Untyped:
            x = cloudfn.parameter()

    with pytest.raises(InvalidError, match=r"list is no type.*str, int, bytes, bool, float"):

        @app.cls(serialized=True)
        class WrongType:
            x: list = cloudfn.parameter()

    with pytest.raises(InvalidTypeError, match="'x' must be int, not str"):

        @app.cls(serialized=True)
        class WrongDefault:
            x: int = cloudfn.parameter(default="1")

    with pytest.raises(InvalidError, match="both parameter"):

        @app.cls(serialized=True)
        class Both:
            x: int = cloudfn.parameter()

            def __init__(self):
                pass


def test_parameter_types_and_inheritance():
    class Parent:
        a: int = cloudfn.parameter(default=1)
        gone: int = cloudfn.parameter(default=1)

    @app.cls(serialized=True)
    class Kid(Parent):
        gone = 5
        b: float = cloudfn.parameter(default=1)
        c: bytes = cloudfn.parameter(default=b"x")
        d: bool = cloudfn.parameter(default=True)

        @cloudfn.method()
        def all(self):
            return self.a, self.gone, self.b, self.c, self.d

    assert Kid(a=2, b=3).all.local() == (2, 5, 3.0, b"x", True)
    assert Kid(b=3)._packed == Kid(b=3.0)._packed
    with pytest.raises(InvalidTypeError, match="no parameter 'gone'"):
        Kid(gone=1)
