from __future__ import annotations

import warnings

import pytest

import cloudfn
from cloudfn import App
from cloudfn.exception import ConflictError, InvalidError, InvalidTypeError


@pytest.fixture
def app():
    return App("decorators")


def plain(x):
    return x


def test_missing_parentheses(app):
    for name, decorator in {
        "@app.function": app.function,
        "@app.cls": app.cls,
        "@app.local_entrypoint": app.local_entrypoint,
        "@method": cloudfn.method,
        "@enter": cloudfn.enter,
        "@exit": cloudfn.exit,
        "@concurrent": cloudfn.concurrent,
        "@batched": cloudfn.batched,
    }.items():
        with pytest.raises(InvalidTypeError, match=rf"`{name}` on 'plain' lacks its parentheses: write `{name}\(\)`"):
            decorator(plain)
        with pytest.raises(InvalidTypeError, match="keyword arguments only, not 3"):
            decorator(3)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"max_inputs": 0}, "max_inputs"),
        ({"max_inputs": 2, "target_inputs": 3}, "target_inputs=3 cannot be above max_inputs=2"),
        ({"max_inputs": 2, "target_inputs": 0}, "target_inputs"),
        ({"max_inputs": 2.5}, "max_inputs"),
        ({"max_inputs": True}, "max_inputs"),
        ({"target_inputs": 3}, "lacks its argument `max_inputs`"),
    ],
)
def test_concurrent_checks_its_arguments(arguments, wrong):
    with pytest.raises(InvalidError, match=wrong):
        cloudfn.concurrent(**arguments)


@pytest.mark.parametrize(
    ("size", "wait", "wrong"),
    [(0, 1, "max_batch_size"), (1001, 1, "max_batch_size"), (1, -1, "wait_ms"), (1, 600_001, "wait_ms")],
)
def test_batched_checks_its_arguments(size, wait, wrong):
    with pytest.raises(InvalidError, match=wrong):
        cloudfn.batched(max_batch_size=size, wait_ms=wait)
    with pytest.raises(InvalidError, match=wrong):
        App("x").function(serialized=True, name="f")(plain).with_batching(max_batch_size=size, wait_ms=wait)


def test_stacking_reaches_the_spec(app):
    @app.function(serialized=True)
    @cloudfn.concurrent(max_inputs=5, target_inputs=3)
    @cloudfn.batched(max_batch_size=4, wait_ms=20)
    async def both(xs):
        return xs

    spec = app.spec().functions[0]
    assert (spec.scaling.max_inputs, spec.scaling.target_inputs) == (5, 3)
    method = spec.method("")
    assert (method.max_batch_size, method.batch_wait_ms, method.is_async) == (4, 20, True)
    assert both.__cloudfn_definition__.target is both.get_raw_f()


def test_batched_methods(app):
    @app.cls(serialized=True)
    class Model:
        @cloudfn.batched(max_batch_size=4, wait_ms=20)
        def one(self, xs):
            return [x + 1 for x in xs]

        @cloudfn.method()
        @cloudfn.batched(max_batch_size=8, wait_ms=0)
        def two(self, xs):
            return xs

        @cloudfn.method(is_generator=True)
        def three(self):
            return iter(())

    methods = {m.name: m for m in app.spec().functions[0].methods}
    assert {name: (m.max_batch_size, m.batch_wait_ms, m.is_generator) for name, m in methods.items()} == {
        "one": (4, 20, False),
        "two": (8, 0, False),
        "three": (None, 0, True),
    }
    assert Model().one.local([1, 2]) == [2, 3]


def test_batched_refuses_what_cannot_be_batched():
    with pytest.raises(InvalidError, match="default arguments \\('y'\\)"):

        @cloudfn.batched(max_batch_size=1, wait_ms=1)
        def f(xs, y=1):
            return xs

    with pytest.raises(InvalidError, match="cannot be a generator"):

        @cloudfn.batched(max_batch_size=1, wait_ms=1)
        def g(xs):
            yield xs


def test_wrong_order(app):
    function = app.function()(plain)
    cls = app.cls(serialized=True)(type("Empty", (), {}))
    for decorate in (
        cloudfn.concurrent(max_inputs=2),
        cloudfn.batched(max_batch_size=2, wait_ms=1),
        cloudfn.method(),
        cloudfn.enter(),
    ):
        for thing in (function, cls):
            with pytest.raises(InvalidError, match="Swap them"):
                decorate(thing)


def test_hooks_and_methods_on_classes_are_refused():
    for decorate in (cloudfn.method(), cloudfn.enter(), cloudfn.exit(), cloudfn.batched(max_batch_size=1, wait_ms=1)):
        with pytest.raises(InvalidError, match="cannot stand on the class 'C'"):
            decorate(type("C", (), {}))


def test_combinations_that_contradict():
    with pytest.raises(ConflictError, match="cannot be all of @enter, @method"):
        cloudfn.method()(cloudfn.enter()(lambda self: None))
    with pytest.raises(ConflictError, match="@exit"):
        cloudfn.exit()(cloudfn.batched(max_batch_size=1, wait_ms=1)(lambda self, x: None))
    with pytest.raises(ConflictError, match="twice"):
        cloudfn.method()(cloudfn.method()(lambda self: None))
    with pytest.raises(InvalidError, match="needs a function, not int"):
        cloudfn.method()(3)


def test_concurrent_on_a_method_is_refused(app):
    with pytest.raises(InvalidError, match=r"'C\.f'[\s\S]*put it on the class"):

        @app.cls(serialized=True)
        class C:
            @cloudfn.method()
            @cloudfn.concurrent(max_inputs=2)
            def f(self):
                pass


def test_methods_outside_of_an_app_class():
    @cloudfn.method()
    def orphan(x):
        return x

    for use in (lambda: orphan(1), lambda: orphan.remote(1), lambda: orphan.map([1])):
        with pytest.raises(InvalidError, match=r"`@method\(\)` belongs on a method of a class.*@app\.cls"):
            use()

    @cloudfn.concurrent(max_inputs=2)
    def lonely(x):
        return x

    with pytest.raises(InvalidError, match=r"above `@concurrent\(\.\.\.\)` there must be `@app\.function\(\)`"):
        lonely.remote(1)

    class Bare:
        @cloudfn.method()
        def f(self, x):
            return x

    assert Bare().f(3) == 3 and Bare().f.local(4) == 4 and Bare().f.__name__ == "f"
    with pytest.raises(InvalidError, match=r"'Bare\.f' has no \.remote\(\): 'Bare' is not decorated"):
        Bare().f.remote(1)
    assert not hasattr(Bare().f, "something")
    assert not hasattr(orphan, "something")


def test_function_refuses_what_it_cannot_be_put_on(app):
    with pytest.raises(TypeError, match=r"class 'C'[\s\S]*@app\.cls"):
        app.function()(type("C", (), {}))
    with pytest.raises(InvalidError, match="decorated already"):
        app.function()(app.function()(plain))
    with pytest.raises(InvalidError, match="is for methods"):
        app.function()(cloudfn.method()(plain))
    with pytest.raises(InvalidTypeError, match="needs a function, not int"):
        app.function()(3)
    with pytest.raises(InvalidError, match=r"inside of .*test_function_refuses[\s\S]*serialized=True"):

        @app.function()
        def nested():
            pass

    with pytest.raises(InvalidError, match=r"method 'C\.f'"):

        class C:
            @app.function(serialized=True)
            def f(self):
                pass

    with pytest.raises(InvalidError, match=r"lambda[\s\S]*name"):
        app.function(serialized=True)(lambda x: x)
    assert app.function(serialized=True, name="f")(lambda x: x + 1).local(1) == 2
    entrypoint = app.local_entrypoint()(plain)
    with pytest.raises(InvalidError, match="local entrypoint 'plain'"):
        app.function(name="other")(entrypoint)


def test_cls_refuses_what_is_no_class(app):
    with pytest.raises(InvalidTypeError, match="needs a class, not function"):
        app.cls()(plain)
    with pytest.raises(InvalidError, match="decorated with `@app.cls\\(\\)` twice"):
        app.cls()(app.cls(serialized=True)(type("C", (), {})))


@pytest.mark.parametrize(
    ("old", "new", "value", "field"),
    [
        ("concurrency_limit", "max_containers", 3, "max_containers"),
        ("keep_warm", "min_containers", 2, "min_containers"),
        ("container_idle_timeout", "scaledown_window", 30, "scaledown_window"),
        ("allow_concurrent_inputs", "@concurrent", 7, "max_inputs"),
        ("max_inputs", "single_use_containers", 1, "single_use"),
    ],
)
def test_old_names_still_work_and_say_the_new_one(app, old, new, value, field):
    with pytest.warns(cloudfn.exception.DeprecationError, match=new) as noted:
        decorate = app.function(**{old: value})
    assert noted[0].filename == __file__ and old in str(noted[0].message)
    with pytest.warns(cloudfn.exception.DeprecationError, match=new) as noted:
        app.cls(**{old: value})
    assert noted[0].filename == __file__
    decorate(plain)
    assert getattr(app.spec().functions[0].scaling, field) == value


def test_new_names_do_not_warn(app):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        app.function(max_containers=1, min_containers=1, scaledown_window=2, single_use_containers=True)


def test_concurrency_said_twice(app):
    with pytest.warns(cloudfn.exception.DeprecationError), pytest.raises(ConflictError, match="@concurrent"):
        app.function(allow_concurrent_inputs=3)(cloudfn.concurrent(max_inputs=2)(plain))
