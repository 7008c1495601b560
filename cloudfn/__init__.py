"""Modal's Python API on your own cloud account, and on your own machine.

The names of this module are loaded when they are first used, so that `import cloudfn` costs almost nothing in a worker.
A name of Modal that cloudfn does not have (yet) raises `UnimplementedError`, which says so. It is no AttributeError on
purpose: `from cloudfn import Volume` would turn that into an ImportError without a reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cloudfn import exception as exception
    from cloudfn.app import App as App
    from cloudfn.cloud_bucket_mount import CloudBucketMount as CloudBucketMount
    from cloudfn.cls import Cls as Cls
    from cloudfn.dict import Dict as Dict
    from cloudfn.exception import Error as Error
    from cloudfn.execution import (
        current_function_call_id as current_function_call_id,
    )
    from cloudfn.execution import (
        current_input_id as current_input_id,
    )
    from cloudfn.execution import (
        is_local as is_local,
    )
    from cloudfn.function import Function as Function
    from cloudfn.function_call import FunctionCall as FunctionCall
    from cloudfn.image import Image as Image
    from cloudfn.output import enable_output as enable_output
    from cloudfn.parameters import parameter as parameter
    from cloudfn.partial_function import (
        batched as batched,
    )
    from cloudfn.partial_function import (
        concurrent as concurrent,
    )
    from cloudfn.partial_function import (
        enter as enter,
    )
    from cloudfn.partial_function import (
        exit as exit,
    )
    from cloudfn.partial_function import (
        method as method,
    )
    from cloudfn.queue import Queue as Queue
    from cloudfn.retries import Retries as Retries
    from cloudfn.schedule import Cron as Cron
    from cloudfn.schedule import Period as Period
    from cloudfn.secret import Secret as Secret
    from cloudfn.volume import Volume as Volume
    from cloudfn.web import asgi_app as asgi_app
    from cloudfn.web import fastapi_endpoint as fastapi_endpoint
    from cloudfn.web import web_endpoint as web_endpoint
    from cloudfn.web import web_server as web_server
    from cloudfn.web import wsgi_app as wsgi_app

_HOMES = {
    "App": "app",
    "CloudBucketMount": "cloud_bucket_mount",
    "Cls": "cls",
    "Cron": "schedule",
    "Dict": "dict",
    "Error": "exception",
    "Function": "function",
    "FunctionCall": "function_call",
    "Image": "image",
    "Period": "schedule",
    "Queue": "queue",
    "Retries": "retries",
    "Secret": "secret",
    "Volume": "volume",
    "asgi_app": "web",
    "batched": "partial_function",
    "concurrent": "partial_function",
    "current_function_call_id": "execution",
    "current_input_id": "execution",
    "enable_output": "output",
    "enter": "partial_function",
    "exit": "partial_function",
    "fastapi_endpoint": "web",
    "is_local": "execution",
    "method": "partial_function",
    "parameter": "parameters",
    "web_endpoint": "web",
    "web_server": "web",
    "wsgi_app": "web",
}

_MODULES = frozenset(("exception",))

_NOT_YET = frozenset(
    (
        "Client",
        "Cluster",
        "Environment",
        "FilePatternMatcher",
        "NetworkFileSystem",
        "Probe",
        "Proxy",
        "Sandbox",
        "SandboxSnapshot",
        "SchedulerPlacement",
        "Server",
        "Tunnel",
        "Workspace",
        "billing",
        "clustered",
        "experimental",
        "forward",
        "interact",
        "sessioned",
        "types",
    )
)

__all__ = ["__version__", *_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        value = getattr(import_module(f"cloudfn.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"cloudfn.{name}")
    elif name in _NOT_YET:
        from cloudfn.exception import UnimplementedError

        raise UnimplementedError(
            f"cloudfn.{name} is not available yet.",
            hint="The README lists what is; everything else of Modal is to come.",
        )
    else:
        raise AttributeError(f"module 'cloudfn' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
