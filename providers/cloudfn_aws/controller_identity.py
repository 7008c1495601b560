"""Who calls the controller. Packed with it; the standard library only.

AWS has checked the request's signature before the function runs, and says whose it was. EC2 names the session of an
instance's role after the instance, and nobody else may take that role, so a machine cannot claim to be another one.
A machine's hello also carries its identity document, whose claims are held against what EC2 says of that machine now.
"""

from __future__ import annotations

import json
import re
from typing import Any, Mapping

from cloudfn.controller_requests import Caller, Rejected

_SESSION = re.compile(r"arn:[a-z-]+:sts::(\d{12}):assumed-role/([\w+=,.@-]+)/(i-[0-9a-f]{8,17})")


def caller(event: Mapping[str, Any], prefix: str) -> Caller:
    """Who signed an HTTP request, as the function's URL passes it on.

    Raises:
        Rejected: AWS does not say.
    """
    context = event.get("requestContext")
    authorizer = context.get("authorizer") if isinstance(context, dict) else None
    iam = authorizer.get("iam") if isinstance(authorizer, dict) else None
    user = iam.get("userId") if isinstance(iam, dict) else None
    arn = iam.get("userArn") if isinstance(iam, dict) else None
    if not isinstance(user, str) or not user:
        raise Rejected("Unauthenticated", "AWS does not say who signed this request.")
    found = _SESSION.fullmatch(arn) if isinstance(arn, str) else None
    if found and found.group(2) == f"{prefix}-machine":
        if user.partition(":")[2] != found.group(3):
            raise Rejected("Unauthenticated", f"{user} and {arn} name different machines.")
        return Caller(user, found.group(3))
    return Caller(user)


def claims(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the identity document of a hello says.

    Raises:
        Rejected: it is none.
    """
    document = request.get("identity_document")
    try:
        said = json.loads(document) if isinstance(document, str) and len(document) < 10_000 else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Rejected("InvalidRequest", "'identity_document' must be the instance's identity document, as it is.")
    return said


def check(said: Mapping[str, Any], machine: str, account: str, instance: Mapping[str, Any], region: str) -> None:
    """Hold a document's claims against what EC2 says.

    Args:
        said: the document.
        account: ours.
        instance: of EC2's DescribeInstances.
        region: where EC2 says that it is.

    Raises:
        Rejected: they differ.
    """
    expected = {
        "instanceId": machine,
        "accountId": account,
        "region": region,
        "instanceType": instance.get("InstanceType"),
        "imageId": instance.get("ImageId"),
        "privateIp": instance.get("PrivateIpAddress"),
    }
    for name, value in expected.items():
        if value is not None and said.get(name) != value:
            raise Rejected("Forbidden", f"The identity document's {name} is not that of {machine}.")
