"""What moto lacks and these tests rely on: IAM's policy simulator, quotas of EC2, conditions in a bucket's policy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from moto.core.responses import ActionResult
from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.iam.responses import IamResponse
from moto.s3.models import FakeBucket
from moto.servicequotas.models import ServiceQuotasBackend


class Overlay:
    """What a test decides. `denied` are actions that the simulator denies; `quotas` are values by code."""

    def __init__(self) -> None:
        self.denied: set[str] = set()
        self.quotas: dict[str, float] = {}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        known = ServiceQuotasBackend.get_service_quota

        def simulate(response: Any) -> ActionResult:
            actions = response._get_param("ActionNames", [])
            decisions = [
                {
                    "EvalActionName": action,
                    "EvalResourceName": "*",
                    "EvalDecision": "implicitDeny" if action in self.denied else "allowed",
                }
                for action in actions
            ]
            return ActionResult({"EvaluationResults": decisions, "IsTruncated": False})

        def quota(backend: Any, service_code: str, quota_code: str) -> Any:
            if service_code == "ec2" and quota_code in self.quotas:
                return {"ServiceCode": "ec2", "QuotaCode": quota_code, "Value": self.quotas[quota_code]}
            return known(backend, service_code, quota_code)

        monkeypatch.setattr(IamResponse, "simulate_principal_policy", simulate, raising=False)
        monkeypatch.setattr(ServiceQuotasBackend, "get_service_quota", quota)
        monkeypatch.setattr(FakeBucket, "get_permission", _permission)


def _permission(bucket: FakeBucket, action: str, resource: str) -> Any:
    """As moto's own, but for what denies all but TLS: moto looks at no condition, and here all counts as TLS."""
    policy = json.loads(bucket.policy or b'{"Statement": []}')
    tls_only = {"Bool": {"aws:SecureTransport": "false"}}
    policy["Statement"] = [one for one in policy["Statement"] if one.get("Condition") != tls_only]
    if not policy["Statement"]:
        return PermissionResult.NEUTRAL
    return IAMPolicy(policy).is_action_permitted(action, resource)
