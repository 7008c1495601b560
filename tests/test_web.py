"""Decorators of web functions: what they refuse, and what they say of a function."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cloudfn
from cloudfn import App, spec_json, web_label
from cloudfn.exception import ConflictError, InvalidError, InvalidTypeError, UnimplementedError
from cloudfn.spec import WebSpec


@pytest.fixture
def app():
    return App("My App".replace(" ", "-"))


def hello():
    return {}


def test_what_a_spec_says(app):
    made = app.function(serialized=True)(
        cloudfn.fastapi_endpoint(method="post", label="hi", docs=True, requires_proxy_auth=True)(hello)
    )
    (spec,) = app.spec().functions
    assert spec.methods[0].web == WebSpec("fastapi", "POST", "hi", True, True)
    assert spec.is_web
    assert spec_json.function_from_json(spec_json.function_to_json(spec)) == spec
    assert made.local() == {}
    assert made.get_web_url() is None
    app.web_urls = {"hello": "http://hi.localhost:8000"}
    assert made.get_web_url() == "http://hi.localhost:8000"
    with pytest.warns(cloudfn.exception.DeprecationError, match="get_web_url"):
        assert made.web_url == "http://hi.localhost:8000"


def test_the_old_name_warns_and_works(app):
    with pytest.warns(cloudfn.exception.DeprecationError, match="@web_endpoint is deprecated: use @fastapi_endpoint"):
        decorator = cloudfn.web_endpoint(method="POST")
    app.function()(decorator(hello))
    assert app.spec().functions[0].methods[0].web == WebSpec("fastapi", "POST")


@pytest.mark.parametrize("name", ["fastapi_endpoint", "web_endpoint", "asgi_app", "wsgi_app"])
def test_missing_parentheses(name):
    with pytest.raises(InvalidTypeError, match=rf"`@{name}` on 'hello' lacks its parentheses"):
        getattr(cloudfn, name)(hello)


@pytest.mark.parametrize(
    ("decorate", "match"),
    [
        (lambda: cloudfn.fastapi_endpoint(method="FETCH"), "method='FETCH': it must be one of GET, POST"),
        (lambda: cloudfn.fastapi_endpoint(label="No"), "label='No' cannot be part of a URL"),
        (lambda: cloudfn.asgi_app(label="-a"), "cannot be part of a URL"),
        (lambda: cloudfn.wsgi_app(label="a" * 64), "1 to 63"),
        (lambda: cloudfn.asgi_app(label="a.b"), "cannot be part of a URL"),
        (lambda: cloudfn.asgi_app(label=""), "cannot be part of a URL"),
        (lambda: cloudfn.asgi_app(requires_proxy_auth=1), "must be True or False"),
        (lambda: cloudfn.web_server(0), "port must be between 1 and 65535"),
        (lambda: cloudfn.web_server(65536), "port must be between"),
        (lambda: cloudfn.web_server("8000"), "must be an integer"),
        (lambda: cloudfn.web_server(8000, startup_timeout=0), "startup_timeout must be above 0"),
        (lambda: cloudfn.web_server(hello), "lacks its port"),
    ],
)
def test_arguments_that_can_never_work(decorate, match):
    with pytest.raises(InvalidError, match=match):
        decorate()


def test_custom_domains_are_not_there():
    with pytest.raises(UnimplementedError, match="custom_domains"):
        cloudfn.asgi_app(custom_domains=["example.test"])


def generator():
    yield 1


async def coroutine(): ...


def needy(x): ...


@pytest.mark.parametrize(
    ("decorator", "function", "match"),
    [
        (cloudfn.fastapi_endpoint(), generator, "StreamingResponse"),
        (cloudfn.asgi_app(), generator, "another kind"),
        (cloudfn.asgi_app(), coroutine, "a plain function that returns the ASGI app"),
        (cloudfn.wsgi_app(), needy, "without arguments that returns the WSGI app; 'needy' takes x"),
        (cloudfn.web_server(8000), needy, "that starts a server"),
        (cloudfn.asgi_app(), object, "cannot stand on the class"),
        (cloudfn.asgi_app(), 7, "needs a function"),
    ],
)
def test_functions_that_cannot_be(decorator, function, match):
    with pytest.raises(InvalidError, match=match):
        decorator(function)


def test_what_excludes_each_other(app):
    web, batched = cloudfn.asgi_app(), cloudfn.batched(max_batch_size=2, wait_ms=1)
    for lower in (cloudfn.method(), cloudfn.enter(), batched, cloudfn.wsgi_app()):
        with pytest.raises(ConflictError):
            web(lower(hello))
    for upper in (cloudfn.method(), cloudfn.enter(), batched, cloudfn.asgi_app()):
        with pytest.raises(ConflictError):
            upper(web(hello))
    with pytest.raises(InvalidError, match="stands above the `@app` decorator"):
        web(app.function()(hello))
    with pytest.raises(InvalidError, match="cannot be retried"):
        app.function(retries=1)(web(hello))
    with pytest.raises(InvalidError, match="cannot have a schedule"):
        app.function(schedule=cloudfn.Period(hours=1))(web(hello))
    with pytest.raises(InvalidError, match="cannot be a generator"):
        app.function(is_generator=True)(web(hello))
    with pytest.raises(InvalidError, match="there must be `@app.function\\(\\)`"):
        web(hello)()


def test_concurrent_stands_on_either_side(app):
    app.function()(cloudfn.concurrent(max_inputs=3)(cloudfn.asgi_app()(hello)))
    app.function(name="other")(cloudfn.asgi_app()(cloudfn.concurrent(max_inputs=3)(hello)))
    assert [f.scaling.max_inputs for f in app.spec().functions] == [3, 3]


def test_two_labels_that_are_equal(app):
    app.function()(cloudfn.asgi_app(label="same")(hello))
    app.function(name="other")(cloudfn.asgi_app(label="same")(hello))
    with pytest.raises(InvalidError, match="label 'same': 'hello' and 'other'"):
        app.spec()


def test_labels_of_an_app(app):
    @app.cls(serialized=True)
    class Model:
        @cloudfn.asgi_app()
        def one(self): ...

        @cloudfn.wsgi_app(label="two")
        def two(self): ...

        @cloudfn.method()
        def three(self): ...

    found = web_label.labels("app", app.spec().functions)
    assert {label: web.name for label, web in found.items()} == {"app-model-one": "Model.one", "two": "Model.two"}


@given(st.text(min_size=1, max_size=100), st.text(min_size=1, max_size=100))
def test_default_labels_can_be_part_of_a_url(app_name, name):
    assert web_label.check(web_label.default(app_name, name))


def test_a_method_without_self(app):
    with warnings.catch_warnings(), pytest.raises(InvalidError, match="lacks `self`"):

        @app.cls(serialized=True)
        class Model:
            @cloudfn.asgi_app()
            def web(): ...


def test_a_class_that_needs_arguments(app):
    with pytest.raises(InvalidError, match=r"Web functions of 'Model' cannot answer: .*\(size\)"):

        @app.cls(serialized=True)
        class Model:
            size: int = cloudfn.parameter()

            @cloudfn.asgi_app()
            def web(self): ...

    with pytest.raises(InvalidError, match="'Other' cannot answer: .*'size'"):

        @app.cls(serialized=True)
        class Other:
            def __init__(self, size): ...

            @cloudfn.asgi_app()
            def web(self): ...
