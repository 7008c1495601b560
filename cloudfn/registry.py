"""The installed providers, found by the entry-point group `cloudfn.providers`."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from cloudfn.exception import NotFoundError
from cloudfn.provider import Provider

GROUP = "cloudfn.providers"
_OWN = {"local": ("cloudfn_local.provider", "LocalProvider")}  # to read all entry points costs more than to import it


def provider(name: str = "local") -> Provider:
    """The provider of this name: one object for each process.

    Raises:
        NotFoundError: none of this name is installed, or what it needs is not.
    """
    return _load(name)


@cache
def _load(name: str) -> Provider:
    if name in _OWN:
        module, attribute = _OWN[name]
        own: Provider = getattr(import_module(module), attribute)()
        return own
    from importlib.metadata import entry_points

    installed = {point.name: point for point in entry_points(group=GROUP)}
    if name not in installed:
        known = ", ".join(sorted(installed)) or "none"
        raise NotFoundError(f"There is no provider {name!r}. Installed: {known}.")
    try:
        cls = installed[name].load()
    except (ImportError, AttributeError) as error:  # AttributeError: the class is not in its module
        raise NotFoundError(
            f"The provider {name!r} cannot be loaded: {error}.", hint=f"Install it: pip install 'cloudfn[{name}]'"
        ) from error
    made: Provider = cls()
    return made
