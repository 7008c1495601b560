"""Names, kinds and defaults of the public API are Modal's."""

from __future__ import annotations

import inspect
from typing import Any

import modal
import pytest

import cloudfn

LEGACY = {"concurrency_limit", "keep_warm", "container_idle_timeout", "allow_concurrent_inputs"}
"""Arguments that Modal answers with an error, and that still work here."""

COMPARED = [
    "App.__init__",
    "App.function",
    "App.cls",
    "App.local_entrypoint",
    "App.run",
    "App.include",
    "App.lookup",
    "App.deploy",
    "Cls.from_name",
    "Cls.with_options",
    "Cls.with_concurrency",
    "Cls.with_batching",
    "Function.get_web_url",
    "Function.remote",
    "Function.local",
    "Function.map",
    "Function.starmap",
    "Function.for_each",
    "Function.remote_gen",
    "Function.spawn",
    "Function.spawn_map",
    "Function.with_options",
    "Function.with_concurrency",
    "Function.with_batching",
    "Function.from_name",
    "FunctionCall.get",
    "FunctionCall.gather",
    "FunctionCall.cancel",
    "FunctionCall.from_id",
    "FunctionCall.num_inputs",
    "FunctionCall.iter",
    *[f"Dict.{n}" for n in ("from_name", "from_id", "ephemeral", "hydrate", "info", "get", "contains", "len", "put")],
    *[f"Dict.{n}" for n in ("update", "pop", "clear", "keys", "values", "items")],
    *[f"Dict.objects.{n}" for n in ("create", "list", "delete")],
    *[f"Queue.{n}" for n in ("from_name", "from_id", "ephemeral", "hydrate", "info", "get", "get_many", "put")],
    *[f"Queue.{n}" for n in ("put_many", "len", "clear", "iterate", "validate_partition_key")],
    *[f"Queue.objects.{n}" for n in ("create", "list", "delete")],
    *[f"Volume.{n}" for n in ("from_name", "from_id", "ephemeral", "hydrate", "info", "read_only", "commit", "reload")],
    *[f"Volume.{n}" for n in ("with_mount_options", "iterdir", "listdir", "read_file", "read_file_into_fileobj")],
    *[f"Volume.{n}" for n in ("remove_file", "copy_files", "batch_upload", "rename")],
    *[f"Volume.objects.{n}" for n in ("create", "list", "delete")],
    "CloudBucketMount",
    "batched",
    "concurrent",
    "enter",
    "exit",
    "method",
    "asgi_app",
    "fastapi_endpoint",
    "web_server",
    "wsgi_app",
    "parameter",
    "is_local",
    "current_input_id",
    "current_function_call_id",
]
EXTRA = {"App.function": LEGACY, "App.cls": LEGACY}


def find(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part)
    return module


def shape(function: Any) -> dict[str, tuple[Any, Any]]:
    """Parameters by name: kind and default. Whether `self` may be named tells nothing to a user."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: (p.kind, _default(p.default)) for p in parameters if p.name not in ("self", "cls")}


def _default(value: Any) -> Any:
    # Sentinels differ by identity, but both stand for "no default".
    if isinstance(value, str):
        return value
    return "sentinel" if "default" in repr(value).lower() or repr(value) == "..." else value


@pytest.mark.parametrize("path", COMPARED)
def test_signature(path):
    ours, theirs = shape(find(cloudfn, path)), shape(find(modal, path))
    extra = EXTRA.get(path, set())
    assert {name: ours[name] for name in ours if name not in extra} == theirs
    assert extra <= set(ours)
    assert all(ours[name][1] is None for name in extra)


@pytest.mark.parametrize(
    "path",
    [
        f"Function.{n}"
        for n in ("remote", "map", "starmap", "for_each", "remote_gen", "spawn", "spawn_map", "get_web_url")
    ]
    + [f"FunctionCall.{n}" for n in ("get", "cancel", "num_inputs", "iter")]
    + [f"Dict.{n}" for n in ("get", "put", "update", "pop", "len", "contains", "clear", "keys", "values", "items")]
    + [f"Queue.{n}" for n in ("get", "put", "get_many", "put_many", "len", "clear", "iterate")]
    + [f"Volume.{n}" for n in ("commit", "reload", "iterdir", "listdir", "read_file", "remove_file", "copy_files")],
)
def test_asynchronous_twins_take_the_same(path):
    dual = find(cloudfn, path)
    assert shape(dual._aio) == shape(dual._blocking)


def test_every_name_of_modal_is_here_or_says_that_it_is_not():
    for name in modal.__all__:
        try:
            getattr(cloudfn, name)
        except cloudfn.exception.UnimplementedError:
            assert name not in cloudfn.__all__


def test_exceptions_have_modals_bases():
    for name in ("Error", "TimeoutError", "FunctionTimeoutError", "NotFoundError", "InvalidError", "RemoteError"):
        ours, theirs = getattr(cloudfn.exception, name), getattr(modal.exception, name)
        assert [c.__name__ for c in theirs.__mro__ if c.__module__ == "modal.exception" and c.__name__[0] != "_"] == [
            c.__name__ for c in ours.__mro__ if c.__module__ == "cloudfn.exception"
        ]
