"""What an agent is told of a function, once its image and its code are on the machine."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from cloudfn import tracing
from cloudfn.client.call import relocations
from cloudfn.client.target import check_python
from cloudfn.provider import NO_MATERIALS
from cloudfn.spec_json import function_to_json

if TYPE_CHECKING:
    from cloudfn.client.control import Message
    from cloudfn.client.target import FunctionPayload
    from cloudfn.provider import Report, Runtime, Workshop
    from cloudfn.spec import FunctionSpec


class Registrar:
    """Builds and ships on one machine: each image once, however many functions share it. For any thread."""

    def __init__(self, workshop: Workshop, report: Report) -> None:
        self._workshop = workshop
        self._report = report
        self._runtimes: dict[str, Runtime] = {}  # by digest of the image
        self._lock = threading.Lock()

    def prepare(
        self, key: str, payload: FunctionPayload, *, scope: str = "", spec: FunctionSpec | None = None
    ) -> Message:
        """Build and ship; what the agent is to be told then.

        Args:
            key: names the function at the agent.
            scope: see `docs/wire.md`; "" for the functions of an agent's only app.
            spec: what the agent sees of the function, where that differs from the payload's.

        Raises what the workshop raises, and VersionError for code that the image cannot run.
        """
        runtime = self._build(payload)
        written = payload.spec.code
        check_python(payload.spec, runtime.version)
        code = {"module": written.module, "qualname": written.qualname, "value": "", "path": "", "bundle": ""}
        if payload.bundle is not None:
            code["bundle"] = self._workshop.ship(payload.bundle.digest, payload.bundle)
            code["bundle_digest"] = payload.bundle.digest
            relocations[code["bundle"]] = str(payload.bundle.root)
        if payload.value is not None:
            code["value"] = hashlib.sha256(payload.value).hexdigest()
            code["path"] = self._workshop.ship(code["value"], payload.value)
        return {
            "op": "register",
            "key": key,
            "scope": scope,
            "spec": function_to_json(spec or payload.spec),
            "runtime": runtime.to_json(),
            "code": code,
            "environment": dict(payload.environment),
            "volumes": [dict(volume) for volume in payload.volumes],
        }

    def _build(self, payload: FunctionPayload) -> Runtime:
        image = payload.spec.image
        name = image.digest()
        with self._lock:
            if name not in self._runtimes:
                with tracing.span("build image", image=name):
                    made = self._workshop.build(image, self._report, payload.materials or NO_MATERIALS)
                self._runtimes[name] = made
            return self._runtimes[name]
