"""Which functions the agent's clients have registered, and the pools of their workers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Mapping

from cloudfn.spec import FunctionSpec, digest
from cloudfn.spec_json import function_from_json, function_to_json
from cloudfn_agent.channel import Message
from cloudfn_agent.pool import Function, Pool
from cloudfn_agent.sessions import scoped


class Functions:
    """Attributes:
    by_key: functions, by their key in this agent.
    pools: by key and parameters.
    """

    def __init__(self) -> None:
        self.by_key: dict[str, Function] = {}
        self.pools: dict[tuple[str, bytes], Pool] = {}
        self._elsewhere: dict[str, dict[str, str]] = {}  # by session
        self._far: dict[str, list[dict[str, Any]]] = {}  # likewise: key and spec of the same functions

    def register(self, session: str, app: str, message: Message) -> Function:
        """Take a function; registering the same again changes nothing."""
        spec = _alone(function_from_json(message["spec"]))
        runtime, code, environment = message["runtime"], message["code"], message["environment"]
        volumes: list[dict[str, Any]] = message.get("volumes", [])
        function = Function(
            key=scoped(session, message["key"]),
            name=message["key"],
            session=session,
            app=app,
            spec=spec,
            runtime=runtime,
            code=code,
            environment=environment,
            zygote=digest([session, runtime, code["bundle"], environment, volumes]),
            volumes=tuple(volumes),
        )
        self.by_key[function.key] = function
        return function

    def derive(
        self, session: str, base: str, key: str, spec: dict[str, Any], environment: dict[str, str] | None
    ) -> None:
        """A variant of a registered function with another spec, for `with_options` in a worker."""
        function = self.by_key[scoped(session, base)]
        environment = function.environment if environment is None else environment
        zygote = digest([session, function.runtime, function.code["bundle"], environment, list(function.volumes)])
        whole = scoped(session, key)
        self.by_key[whole] = replace(
            function, key=whole, name=key, spec=_alone(function_from_json(spec)), environment=environment, zygote=zygote
        )

    def note_elsewhere(self, session: str, functions: Mapping[str, str], far: list[dict[str, Any]]) -> None:
        """Functions of a session's app that run on other machines only: tag -> where, in words.

        Args:
            far: key and spec of those that workers here may call all the same, by way of the session's client.
        """
        self._elsewhere[session] = {str(tag): str(where) for tag, where in functions.items()}
        self._far[session] = far

    def has_elsewhere(self, session: str) -> bool:
        """Whether a call of one of its workers may run on another machine."""
        return bool(self._far.get(session))

    def known_to(self, session: str) -> dict[str, Any]:
        """What a worker may know of its app."""
        elsewhere, far = self._elsewhere.get(session, {}), self._far.get(session, [])
        return {"functions": self.describe(session), "elsewhere": elsewhere, "far": far}

    def describe(self, session: str) -> list[dict[str, Any]]:
        """A session's functions; their secrets are for their own workers alone."""
        return [
            {"key": function.name, "spec": function_to_json(function.spec)}
            for function in self.by_key.values()
            if function.session == session
        ]

    def pool(self, key: str, parameters: bytes) -> Pool:
        """The pool of a function that is registered, made when missing."""
        if (key, parameters) not in self.pools:
            self.pools[key, parameters] = Pool(self.by_key[key], parameters)
        return self.pools[key, parameters]

    def forget(self, session: str) -> list[Pool]:
        """A session is over; returns the pools that it had."""
        self._elsewhere.pop(session, None)
        self._far.pop(session, None)
        for key in [key for key, function in self.by_key.items() if function.session == session]:
            del self.by_key[key]
        gone = [key for key, pool in self.pools.items() if pool.function.session == session]
        return [self.pools.pop(key) for key in gone]


def _alone(spec: FunctionSpec) -> FunctionSpec:
    """As registered; but a web server gets one worker at most, because all would want the same port of this machine."""
    if not any(method.web and method.web.port for method in spec.methods):
        return spec
    scaling = replace(spec.scaling, max_containers=1, min_containers=min(spec.scaling.min_containers, 1))
    return replace(spec, scaling=scaling)
