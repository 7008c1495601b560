"""Machine images by kind, as launch templates name them."""

from __future__ import annotations

from typing import Mapping

from cloudfn.exception import InvalidError

# AWS resolves a public parameter at each launch to the newest image of the region. The GPU ones are the "Deep Learning
# Base OSS Nvidia Driver GPU AMI" (driver, CUDA, Docker); the others Ubuntu's own. Both bring the agent of Systems
# Manager.
# https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html
# https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/
DEFAULTS = {
    "gpu-x86_64": "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id",
    "gpu-arm64": "/aws/service/deeplearning/ami/arm64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id",
    "cpu-x86_64": "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
    "cpu-arm64": "/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id",
}


def image_id(kind: str, own: Mapping[str, str]) -> str:
    """What a launch template names.

    Args:
        kind: as in `Group.image`.
        own: `Settings.images`: SSM parameters or IDs of images, by kind.

    Raises:
        InvalidError: neither the user nor we know an image of that kind.
    """
    name = own.get(kind) or DEFAULTS.get(kind)
    if name is None:
        raise InvalidError(
            f"There is no machine image of the kind {kind!r}.", hint=f'Name one in cloudfn.toml: images.{kind} = "/..."'
        )
    return name if name.startswith("ami-") else f"resolve:ssm:{name}"
