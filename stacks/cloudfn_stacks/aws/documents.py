"""Policy documents of IAM, with what only the account knows filled in."""

from __future__ import annotations

import json
from typing import Any, Mapping

import pulumi

Words = Mapping[str, pulumi.Input[str]]
"""By placeholder ("account", "partition", "region", "bucket", "prefix"): what stands in its place."""


def filled(document: Mapping[str, Any], words: Words) -> pulumi.Output[str]:
    """The document as JSON. Only known placeholders are replaced: "${aws:userid}" is IAM's own to fill in."""
    text = json.dumps(document, sort_keys=True)
    return pulumi.Output.all(**words).apply(lambda known: _replaced(text, known))


def _replaced(text: str, known: Mapping[str, str]) -> str:
    for word, value in known.items():
        text = text.replace(f"{{{word}}}", value)
    return text


def trust(service: str, conditions: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Lets a service of AWS take a role."""
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": service},
    }
    if conditions:
        statement["Condition"] = conditions
    return {"Version": "2012-10-17", "Statement": [statement]}
