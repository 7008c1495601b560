"""May this one do that? The policies that moto stores, judged as IAM does, for what the parts of a stack do.

It knows identity policies with wildcards, variables such as `${aws:userid}`, and the conditions that ours have. A
condition that it does not know denies, so that nothing is let through by mistake.
"""

from __future__ import annotations

import fnmatch
import io
import json
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from moto.autoscaling.models import autoscaling_backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.iam.models import iam_backends
from moto.secretsmanager.models import secretsmanager_backends

from machine_room.identity import Principal

_S3 = {
    ("GET", True): "s3:GetObject",
    ("HEAD", True): "s3:GetObject",
    ("PUT", True): "s3:PutObject",
    ("POST", True): "s3:PutObject",
    ("DELETE", True): "s3:DeleteObject",
    ("GET", False): "s3:ListBucket",
    ("HEAD", False): "s3:ListBucket",
}
_FREE = ("sts:GetCallerIdentity",)


@dataclass(frozen=True)
class Denied:
    """A decision against."""

    who: str
    action: str
    resource: str

    def __str__(self) -> str:
        return (
            f"User: {self.who} is not authorized to perform: {self.action} on resource: {self.resource} because no "
            "identity-based policy allows the action"
        )


def denied(
    principal: Principal, service: str, action: str, form: Mapping[str, str], environ: Mapping[str, Any]
) -> Denied | None:
    """Whether a request to an API may not be; None: it may."""
    region = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")[2:3]
    context = {"aws:userid": principal.user_id, "aws:requestedregion": region[0] if region else ""}
    if service == "s3":
        method, path = environ["REQUEST_METHOD"], urllib.parse.unquote(environ.get("PATH_INFO", "/")).lstrip("/")
        bucket, _, key = path.partition("/")
        query = dict(urllib.parse.parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        name = _S3.get((method, bool(key)), f"s3:{method}")
        if method == "DELETE" and "uploadId" in query:
            name = "s3:AbortMultipartUpload"
        context["s3:prefix"] = query.get("prefix", "")
        resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"
    else:
        name = f"{service}:{action}"
        resource = _resource(service, form, environ, context)
    return judge(principal, name, resource, context)


def judge(principal: Principal, action: str, resource: str, context: Mapping[str, str]) -> Denied | None:
    """The decision itself; `context` has the keys of conditions in lower case."""
    if action in _FREE:
        return None
    allowed = False
    for statement in _statements(principal):
        if not _applies(statement, action, resource, context):
            continue
        if statement["Effect"] == "Deny":
            return Denied(principal.arn, action, resource)
        allowed = True
    return None if allowed else Denied(principal.arn, action, resource)


def _resource(service: str, form: Mapping[str, str], environ: Any, context: dict[str, str]) -> str:
    """What it is about, where a policy may name it; else "*", which only a policy for all resources allows."""
    if service == "autoscaling":
        for backend in autoscaling_backends[DEFAULT_ACCOUNT_ID].values():
            for group in backend.autoscaling_groups.values():
                members = [state.instance_id for state in group.instance_states]
                if form.get("AutoScalingGroupName") == group.name or form.get("InstanceId") in members:
                    context.update({f"aws:resourcetag/{tag['Key']}".lower(): tag["Value"] for tag in group.tags})
                    return str(group.arn) if not form.get("Action", "").startswith("Describe") else "*"
    if service == "secretsmanager":
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        wanted = json.loads(body or b"{}").get("SecretId", "")
        for backend in secretsmanager_backends[DEFAULT_ACCOUNT_ID].values():
            for secret in backend.secrets.values():
                if wanted in (secret.name, secret.arn):
                    return str(secret.arn)
    return "*"


def _statements(principal: Principal) -> Iterable[dict[str, Any]]:
    iam = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    documents: list[Any] = []
    if principal.role:
        role = iam.get_role(principal.role)
        documents += list(role.policies.values())
        documents += [_text(policy) for policy in role.managed_policies.values()]
    else:
        user = iam.get_user(principal.user)
        documents += list(user.policies.values())
        documents += [_text(policy) for policy in user.managed_policies.values()]
    for document in documents:
        parsed = json.loads(document) if isinstance(document, str) else document
        yield from _listed(parsed["Statement"])


def _text(policy: Any) -> str:
    """Of the version that holds."""
    (version,) = (found for found in policy.versions if found.version_id == policy.default_version_id)
    return str(version.document)


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    if not any(_like(action.lower(), pattern.lower()) for pattern in _listed(statement.get("Action", []))):
        return False
    patterns = [_filled(pattern, context) for pattern in _listed(statement.get("Resource", "*"))]
    if not any(_like(resource, pattern) for pattern in patterns):
        return False
    for operator, tests in (statement.get("Condition") or {}).items():
        for key, values in tests.items():
            wanted = [_filled(value, context) if isinstance(value, str) else value for value in _listed(values)]
            if not _holds(operator, context.get(key.lower()), wanted):
                return False
    return True


def _holds(operator: str, value: str | None, wanted: list[Any]) -> bool:
    if operator.endswith("IfExists"):
        if value is None:
            return True
        operator = operator.removesuffix("IfExists")
    if value is None:
        return False
    texts = [str(item).lower() if isinstance(item, bool) else str(item) for item in wanted]
    if operator in ("StringEquals", "Bool", "ArnEquals"):
        return value in texts
    if operator in ("StringLike", "ArnLike"):
        return any(_like(value, text) for text in texts)
    return False


def _filled(pattern: str, context: Mapping[str, str]) -> str:
    return re.sub(r"\$\{([^}]+)\}", lambda found: context.get(found.group(1).lower(), "\0"), pattern)


def _like(value: str, pattern: str) -> bool:
    # IAM knows * and ?, not the brackets of a shell.
    return fnmatch.fnmatchcase(value, pattern.replace("[", "[[]"))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
