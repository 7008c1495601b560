"""Which web function a request is for, and who may not ask."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from cloudfn.client.target import Target
from cloudfn.exception import AlreadyExistsError, InvalidError
from cloudfn.gateway.request import RequestHeaders
from cloudfn.gateway.routes import Endpoint, Found, Refused, Routes, endpoints
from cloudfn.spec import CodeSpec, FunctionSpec, MethodSpec, WebSpec


class NoBackend:
    def using(self) -> Any:
        return nullcontext(None)


def web(tag: str, label: str = "", method: str = "") -> FunctionSpec:
    spec = MethodSpec(method, web=WebSpec("asgi", label=label))
    return FunctionSpec(tag, CodeSpec(), is_class=bool(method), methods=(spec,))


def endpoint(app: str, name: str, label: str) -> Endpoint:
    return Endpoint(app, name, label, "asgi", False, Target(app, name))


@pytest.fixture
def routes() -> Routes:
    made = Routes(["https://ours.example"])
    made.set("shop", [endpoint("shop", "pay", "shop-pay"), endpoint("shop", "cart", "cart")], NoBackend())
    return made


def find(routes: Routes, host: str | None, path: str = "/", **headers: str) -> Found | Refused:
    pairs = [(b"host", host.encode())] if host is not None else []
    pairs += [(name.encode(), value.encode()) for name, value in headers.items()]
    return routes.find(RequestHeaders(pairs), path.encode())


@pytest.mark.parametrize(
    ("host", "path", "name", "prefix"),
    [
        ("shop-pay.localhost:8400", "/a", "pay", ""),
        ("SHOP-PAY.localhost", "/cart", "pay", ""),
        ("127.0.0.1:8400", "/cart", "cart", "/cart"),
        ("localhost:9000", "/cart/", "cart", "/cart"),  # the port of an SSH tunnel
        ("[::1]:8400", "/shop-pay/x/../y", "pay", "/shop-pay"),
    ],
)
def test_found(routes: Routes, host: str, path: str, name: str, prefix: str) -> None:
    found = find(routes, host, path)
    assert isinstance(found, Found)
    assert (found.endpoint.name, found.prefix) == (name, prefix)


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        (None, "/cart", 400),
        ("", "/cart", 421),
        ("evil.example:8400", "/cart", 421),  # a name that was made to resolve to 127.0.0.1
        ("127.0.0.1.evil.example", "/cart", 421),
        ("cart.localhost.evil.example", "/", 421),
        ("evil.cart.localhost", "/", 421),
        ("127.0.0.1@evil.example", "/cart", 421),
        ("127.0.0.1:8400:1", "/cart", 421),
        ("192.168.0.7:8400", "/cart", 421),
        ("0.0.0.0:8400", "/cart", 421),
        ("other.localhost", "/", 404),
        ("localhost", "/", 404),
        ("localhost", "/other", 404),
        ("localhost", "/cart%2fx", 404),
        ("localhost", "/../cart", 404),
        ("localhost", "//cart", 404),
        ("localhost", "/CART", 404),
        ("localhost", "/cart.localhost", 404),
        ("localhost", "/cart\n", 404),
    ],
)
def test_refused(routes: Routes, host: str | None, path: str, status: int) -> None:
    found = find(routes, host, path)
    assert isinstance(found, Refused)
    assert found.status == status
    assert host is None or "cart" not in found.text  # it tells nobody what there is


def test_two_hosts_are_refused(routes: Routes) -> None:
    pairs = [(b"host", b"localhost"), (b"host", b"cart.localhost")]
    assert routes.find(RequestHeaders(pairs), b"/cart")[0] == 400


@pytest.mark.parametrize(
    ("origin", "may"),
    [
        ("http://localhost:3000", True),
        ("http://cart.localhost:8400", True),
        ("https://127.0.0.1", True),
        ("http://[::1]:3000", True),
        ("https://ours.example", True),
        ("https://ours.example.evil.example", False),
        ("http://evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://evil.example#.localhost", False),
        ("null", False),
        ("", False),
    ],
)
def test_pages_of_other_hosts_are_refused(routes: Routes, origin: str, may: bool) -> None:
    found = find(routes, "cart.localhost", origin=origin)
    assert isinstance(found, Found) == may
    assert may or found[0] == 403


def test_a_label_of_another_app_is_refused_by_its_holders_name(routes: Routes) -> None:
    with pytest.raises(AlreadyExistsError, match="'cart' of basket belongs to the function cart of the app 'shop'"):
        routes.set("other", [endpoint("other", "basket", "cart")], NoBackend())
    assert not routes.of("other")
    routes.set("shop", [endpoint("shop", "pay", "shop-pay")], NoBackend())  # gives it up
    routes.set("other", [endpoint("other", "basket", "cart")], NoBackend())
    assert [e.label for e in routes.of("shop")] == ["shop-pay"]


def test_labels() -> None:
    made = endpoints("My_App", [web("hello_World"), web("own", "mine"), web("Model", method="predict")], "-dev")
    found = {e.name: e.label for e in made}
    assert found == {
        "hello_World": "my-app-hello-world-dev",
        "own": "mine-dev",
        "Model.predict": "my-app-model-predict-dev",
    }
    assert made[2].target == Target("My_App", "Model", "predict")


def test_a_long_label_stays_one(routes: Routes) -> None:
    one, two = endpoints("a" * 60, [web("f" * 50 + "1"), web("f" * 50 + "2")], "-dev")
    assert len(one.label) <= 63 and one.label != two.label and one.label.endswith("-dev")


def test_one_label_for_two_functions_is_refused() -> None:
    with pytest.raises(InvalidError, match="same label|have the label"):
        endpoints("shop", [web("a", "x"), web("b", "x")])
