"""Specs to and from JSON values, for the wire and for files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cloudfn.spec import (
    BucketMountSpec,
    CodeSpec,
    FunctionSpec,
    GPUSpec,
    ImageSpec,
    ImageStep,
    MethodSpec,
    Resources,
    RetryPolicy,
    Scaling,
    ScheduleSpec,
    SecretSpec,
    VolumeMountSpec,
    WebSpec,
)


def function_to_json(spec: FunctionSpec) -> dict[str, Any]:
    return asdict(spec)


def function_from_json(data: dict[str, Any]) -> FunctionSpec:
    """The inverse of `function_to_json`. Raises KeyError or TypeError on anything else."""
    resources = data["resources"]
    return FunctionSpec(
        **{
            **data,
            "code": CodeSpec(**data["code"]),
            "methods": tuple(_method(method) for method in data["methods"]),
            "image": image_from_json(data["image"]),
            "secrets": tuple(SecretSpec(s["name"], s["id"], tuple(s["required_keys"])) for s in data["secrets"]),
            "resources": Resources(**{**resources, "gpus": tuple(GPUSpec(**gpu) for gpu in resources["gpus"])}),
            "scaling": Scaling(**data["scaling"]),
            "retries": RetryPolicy(**data["retries"]) if data["retries"] else None,
            "schedule": ScheduleSpec(**data["schedule"]) if data["schedule"] else None,
            "region": tuple(data["region"]),
            "volumes": tuple(VolumeMountSpec(**volume) for volume in data.get("volumes", ())),
            "buckets": tuple(_bucket(bucket) for bucket in data.get("buckets", ())),
        }
    )


def _method(data: dict[str, Any]) -> MethodSpec:
    web = data.get("web")
    return MethodSpec(**{**data, "web": WebSpec(**web) if web else None})


def image_to_json(spec: ImageSpec) -> dict[str, Any]:
    return asdict(spec)


def image_from_json(data: dict[str, Any]) -> ImageSpec:
    """The inverse of `image_to_json`. Raises KeyError or TypeError on anything else."""
    steps = tuple(ImageStep(step["kind"], step["args"], tuple(step["content"])) for step in data["steps"])
    return ImageSpec(data["python_version"], steps)


def _bucket(data: dict[str, Any]) -> BucketMountSpec:
    secret = data["secret"]
    made = SecretSpec(secret["name"], secret["id"], tuple(secret["required_keys"])) if secret else None
    return BucketMountSpec(**{**data, "secret": made})
