"""Which kind of session this process opens: one with spans where they are wanted and can be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudfn import tracing

if TYPE_CHECKING:
    from cloudfn.client.deployed import DeployedSession
    from cloudfn.client.session import Session


def session_class(app: str) -> type[Session]:
    """`app`: the app's name."""
    if tracing.is_wanted() and tracing.tracer(app) is not None:
        from cloudfn.client.traced import TracedSession

        return TracedSession
    from cloudfn.client.session import Session

    return Session


def deployed_session_class(app: str) -> type[DeployedSession]:
    """The same for calls of a deployed app."""
    if tracing.is_wanted() and tracing.tracer(app) is not None:
        from cloudfn.client.traced import TracedDeployedSession

        return TracedDeployedSession
    from cloudfn.client.deployed import DeployedSession

    return DeployedSession
