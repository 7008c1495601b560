"""`volumes={"/data": ...}`: checked where the user wrote it, and as a place to run is told of it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Mapping

from cloudfn.exception import InvalidError, NotFoundError
from cloudfn.spec import BucketMountSpec, VolumeMountSpec

if TYPE_CHECKING:
    from cloudfn.cloud_bucket_mount import CloudBucketMount
    from cloudfn.secret_store import SecretStore
    from cloudfn.volume import Volume

_RESERVED = ("/proc", "/sys", "/dev")


def check(volumes: Any, where: str) -> dict[str, Volume | CloudBucketMount]:
    """Volumes and buckets by normalised path.

    Raises:
        InvalidError: a path that nothing can be mounted on, two things on one path, or a volume in two places.
    """
    if not volumes:
        return {}
    if not isinstance(volumes, Mapping):
        raise InvalidError(f"{where}: volumes is a dict of paths, such as {{'/data': volume}}.")
    from cloudfn.cloud_bucket_mount import CloudBucketMount
    from cloudfn.volume import Volume

    found: dict[str, Volume | CloudBucketMount] = {}
    places: dict[tuple[str, str], str] = {}
    for given, what in volumes.items():
        path = _path(given, where)
        if path in found:
            raise InvalidError(f"{where}: two volumes are mounted on {path}.")
        if not isinstance(what, (Volume, CloudBucketMount)):
            raise InvalidError(f"{where}: {type(what).__name__} at {path} is no Volume and no CloudBucketMount.")
        if isinstance(what, Volume):
            other = places.setdefault((what._name, what._id), path)
            if other != path:
                raise InvalidError(
                    f"{where}: {what!r} is mounted on {other} and on {path}; it can be on one path only."
                )
        found[path] = what
    return found


def _path(given: Any, where: str) -> str:
    if not isinstance(given, (str, PurePosixPath)):
        raise InvalidError(f"{where}: a path to mount on is a string, not {type(given).__name__}.")
    text = str(given)
    path = PurePosixPath(text)
    if not path.is_absolute() or "\0" in text:
        raise InvalidError(f"{where}: the path {text!r} must be absolute.", hint='Such as "/data".')
    if ".." in path.parts:
        raise InvalidError(f"{where}: the path {text!r} holds '..'.")
    parts = [part for part in path.parts if part.strip("/")]
    if not parts:
        raise InvalidError(f'{where}: nothing can be mounted on "/" itself.', hint='Name a folder, such as "/data".')
    clean = "/" + "/".join(parts)
    if any(clean == taken or clean.startswith(f"{taken}/") for taken in _RESERVED):
        raise InvalidError(f"{where}: nothing can be mounted on {clean}: {', '.join(_RESERVED)} belong to the kernel.")
    return clean


def specs(
    volumes: Mapping[str, Volume | CloudBucketMount],
) -> tuple[tuple[VolumeMountSpec, ...], tuple[BucketMountSpec, ...]]:
    """As plain data; asks nobody."""
    from cloudfn.volume import Volume

    kept = tuple(
        VolumeMountSpec(path, volume.name or "", volume._id, volume.mount_read_only, volume.mount_sub_path)
        for path, volume in volumes.items()
        if isinstance(volume, Volume)
    )
    return kept, tuple(bucket.spec(path) for path, bucket in volumes.items() if not isinstance(bucket, Volume))


def resolve(volumes: Mapping[str, Volume | CloudBucketMount], store: SecretStore | None) -> tuple[dict[str, Any], ...]:
    """As an agent is told of them, with the credentials of buckets. Makes volumes that are to be created.

    Raises:
        NotFoundError: a volume, or a secret, is not there.
        InvalidError: a secret lacks a key; one volume is mounted twice under two handles.
    """
    from cloudfn.volume import Volume

    told: list[dict[str, Any]] = []
    ids: dict[str, str] = {}
    for path, what in volumes.items():
        if isinstance(what, Volume):
            id = what.object_id
            if ids.setdefault(id, path) != path:
                raise InvalidError(f"One Volume is mounted on {ids[id]} and on {path}; it can be on one path only.")
            told.append(
                {
                    "kind": "volume",
                    "target": path,
                    "id": id,
                    "read_only": what.mount_read_only,
                    "sub_path": what.mount_sub_path,
                }
            )
            continue
        if what.secret is not None and what.secret.spec.name and store is None:
            raise NotFoundError(f"There is no store to look up {what.secret!r} in.")
        values = what.secret.resolve(store) if what.secret is not None else {}  # type: ignore[arg-type]  # see above
        told.append(
            {
                "kind": "bucket",
                "target": path,
                "bucket": what.bucket_name,
                "prefix": what.key_prefix or "",
                "remote": what.remote(values),
                "read_only": bool(what.read_only),
            }
        )
    return tuple(told)
