"""What an image is before its local files are read: steps, and how they become an `ImageSpec`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Collection, Mapping, Sequence, TypeVar, cast

from cloudfn import image_arguments as arguments
from cloudfn.exception import InvalidError, NotFoundError
from cloudfn.image_arguments import Read
from cloudfn.provider import LocalFile, Materials
from cloudfn.record import dataclass
from cloudfn.spec import ImageSpec, ImageStep

if TYPE_CHECKING:
    from cloudfn.secret import Secret, Store

Self = TypeVar("Self", bound="Recipe")


@dataclass(frozen=True)
class _Step:
    """A step before its local files are read.

    Attributes:
        layered: laid over the built image when a worker starts, so that a change of it builds nothing.
    """

    kind: str
    args: Mapping[str, Any]
    reads: tuple[Read, ...] = ()
    secrets: tuple[Secret, ...] = ()
    layered: bool = False


class Recipe:
    """An immutable list of steps on a base."""

    def __init__(self) -> None:
        self._python_version: str | None = None
        self._steps: tuple[_Step, ...] = ()
        self._resolved: tuple[ImageSpec, Materials] | None = None

    def __repr__(self) -> str:
        steps = "".join(f".{step.kind}" for step in self._steps)
        return f"<Image python={self._python_version or 'local'}{steps}>"

    @property
    def spec(self) -> ImageSpec:
        """The description. Local files are read at the first use, and not again by the same object.

        Raises:
            NotFoundError: a local file, folder or module that a step names is not there.
            SerializationError: a function of `run_function` cannot be pickled.
        """
        return self._resolve()[0]

    def materials(self, store: Store | None = None) -> Materials:
        """What `spec` names by digest, for the provider's `build`.

        Args:
            store: where named secrets of build steps are looked up; None where there is none.

        Raises:
            NotFoundError: a secret or one of its required keys is not there.
        """
        found = self._resolve()[1]
        secrets: dict[int, dict[str, str]] = {}
        for index, step in enumerate(self._steps):
            for secret in step.secrets:
                if secret.spec.name and store is None:
                    raise NotFoundError(f"Image.{step.kind}: there is no store to look up {secret!r} in.")
                # An unnamed secret does not ask the store.
                secrets.setdefault(index, {}).update(secret.resolve(cast("Store", store)))
        return replace(found, secrets=secrets)

    @property
    def recipe(self) -> str:
        """`ImageSpec.recipe()` of this image; reads no local file."""
        return ImageSpec(self._python_version, tuple(ImageStep(s.kind, s.args) for s in self._steps)).recipe()

    def _resolve(self) -> tuple[ImageSpec, Materials]:
        if self._resolved is None:
            payloads: dict[str, bytes] = {}
            trees: dict[str, Mapping[str, LocalFile]] = {}
            steps = []
            for step in self._steps:
                content = []
                for read in step.reads:
                    digest, value = arguments.read(step.kind, read)
                    content.append(digest)
                    if isinstance(value, bytes):
                        payloads[digest] = value
                    else:
                        trees[digest] = value
                steps.append(ImageStep(step.kind, step.args, tuple(content)))
            self._resolved = ImageSpec(self._python_version, tuple(steps)), Materials(payloads, trees)
        return self._resolved

    def _with(
        self: Self,
        kind: str,
        args: Mapping[str, Any],
        reads: Sequence[Read] = (),
        secrets: Collection[Secret] | None = None,
        layered: bool = False,
    ) -> Self:
        """The same and one step more. Arguments as in `_Step`, with defaults left out of `args`."""
        if not layered and any(step.layered for step in self._steps):
            raise InvalidError(
                f"Image.{kind} comes after local files that are only added when a worker starts.",
                hint="Put add_local_* last, or give it copy=True so that later build steps see the files.",
            )
        image = type(self)()
        image._python_version = self._python_version
        # What has its default value is left out: a new argument must not change the digest of old images.
        given = {name: value for name, value in args.items() if value not in (None, False, "", [], {}, ())}
        image._steps = (*self._steps, _Step(kind, given, tuple(reads), tuple(secrets or ()), layered))
        return image
