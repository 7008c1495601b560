"""The machine image of a group, by family, so that new machines come with what was fixed since.

Ubuntu 24.04 in every kind. Canonical's accelerator images bring the NVIDIA driver with a signed kernel module, so
Secure Boot stays on; they have the open kernel modules, which know GPUs from Turing on. For the V100 there is Google's
Deep Learning image, whose module is not signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

from cloudfn.exception import InvalidError
from cloudfn.plan_spec import Group


@dataclass(frozen=True)
class Image:
    """A machine image, and whether it boots under Secure Boot."""

    link: str
    secure_boot: bool = True


DEFAULTS: Mapping[str, Image] = {
    "cpu-x86_64": Image("projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"),
    "cpu-arm64": Image("projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-arm64"),
    "gpu-x86_64": Image(
        "projects/ubuntu-os-accelerator-images/global/images/family/ubuntu-accelerator-2404-amd64-with-nvidia-580"
    ),
}
VOLTA = Image(
    "projects/deeplearning-platform-release/global/images/family/common-cu129-ubuntu-2204-nvidia-580", secure_boot=False
)


def choose(group: Group, own: Mapping[str, str]) -> Image:
    """The image for a group's machines; the user's own are taken to be made for Secure Boot, as the default ones are.

    Raises:
        InvalidError: there is none of that kind.
    """
    if group.image in own:
        return Image(own[group.image])
    if group.machine.gpu == "V100":
        return VOLTA
    if group.image not in DEFAULTS:
        raise InvalidError(
            f"{group.name}: there is no machine image of the kind {group.image!r} for Google Cloud.",
            hint=f"Name your own one in the settings under `images`. There are: {', '.join(DEFAULTS)}.",
        )
    return DEFAULTS[group.image]
