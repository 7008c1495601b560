from __future__ import annotations

from typing import Iterator

import boto3
import pytest
from moto import mock_aws

from cloudfn.settings import Settings


@pytest.fixture
def settings() -> Settings:
    return Settings(provider="aws", regions=("us-east-1",))


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    """An account of moto's."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    # Not those that moto brings: what a test changes of them would be put back after moto has taken them away.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a session")
    with mock_aws(config={"core": {"mock_credentials": False}}):
        yield boto3.Session(region_name="us-east-1")
