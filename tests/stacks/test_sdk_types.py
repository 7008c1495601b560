"""The checker of inputs finds what the real provider would refuse."""

from __future__ import annotations

import re
from typing import Any

import pytest

from stacks import sdk_types

GROUP = "aws:autoscaling/group:Group"
FUNCTION = {"role": "arn:aws:iam::123456789012:role/r", "runtime": "python3.12"}


@pytest.mark.parametrize(
    ("token", "inputs", "problem"),
    [
        (GROUP, {"minSize": 0, "maxSize": 1}, ""),
        (GROUP, {"minSize": 0.0, "maxSize": 1.0}, ""),
        (GROUP, {"minSize": 0, "maxSize": 1, "tags": [{"key": "k", "value": "v", "propagateAtLaunch": True}]}, ""),
        ("aws:lambda/function:Function", FUNCTION, ""),
        (GROUP, {"minSize": 0}, "maxSize"),
        (GROUP, {"minSize": 0, "maxSize": 1.5}, "1.5 is no int"),
        (GROUP, {"minSize": True, "maxSize": 1}, "True is no int"),
        (GROUP, {"minSize": 0, "maxSize": 1, "min_size": 0}, "'min_size'"),
        (GROUP, {"minSize": 0, "maxSize": 1, "suspendedProcesses": "AZRebalance"}, "no list"),
        (GROUP, {"minSize": 0, "maxSize": 1, "suspendedProcesses": [1]}, r"suspendedProcesses\[0\]"),
        (GROUP, {"minSize": 0, "maxSize": 1, "tags": [{"key": "k", "value": "v"}]}, "propagateAtLaunch"),
        (GROUP, {"minSize": 0, "maxSize": 1, "launchTemplate": {"id": "x", "nope": "y"}}, "'nope'"),
        ("aws:lambda/function:Function", {**FUNCTION, "runtime": "python9"}, "python9"),
        ("aws:s3/bucket:Bucket", {"tags": {"a": 1}}, "tags.a"),
        ("aws:s3/bucket:Basket", {}, "no such resource"),
        ("moon:s3/bucket:Bucket", {}, "no such resource"),
    ],
)
def test_problems(token: str, inputs: dict[str, Any], problem: str) -> None:
    found = sdk_types.problems(token, inputs)
    if problem:
        assert len(found) == 1
        assert re.search(problem, found[0]), found
    else:
        assert found == []


def test_taggable() -> None:
    assert sdk_types.taggable("aws:s3/bucket:Bucket")
    assert not sdk_types.taggable("aws:ec2/route:Route")
    assert sdk_types.taggable("gcp:storage/bucket:Bucket", "labels")
